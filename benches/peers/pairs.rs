//! Making and binding pairs of a PersistentVolume and a claim.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Setup, beside,
    client::Client,
    cost::{self, Cost},
    lhrun, not_measured, on_path,
    real::{
        control_plane::{ControlPlane, install_definitions},
        server::Binaries,
    },
    script,
    table::Table,
};

/// Namespace of the claims.
const NAMESPACE: &str = "bench";
const CLAIMS: &str = "/api/v1/namespaces/bench/persistentvolumeclaims";
const PVS: &str = "/api/v1/persistentvolumes";
const VOLUMES: &str = "/apis/longhorn.io/v1beta2/namespaces/longhorn-system/volumes";

/// As good as no limits.
const UNTHROTTLED: [&str; 2] = ["--kube-api-qps=10000", "--kube-api-burst=10000"];
/// In which the binder has its 30 requests again after whatever it did.
const REST: Duration = Duration::from_millis(2500);
/// More than this for three pairs is a stall.
const STALL: f64 = 3.0;

/// A running control plane, and what its clients need.
struct Lab<'a> {
    folder: &'a Path,
    plane: ControlPlane,
    client: Client,
    python: Result<PathBuf, String>,
}

/// The clients that bind: how `--skip` names them, and how the table does.
const ROWS: [(&str, &str); 6] = [
    ("lhrun", "lhrun"),
    ("ansible-loop", "Ansible, a task for each object"),
    ("ansible-file", "Ansible, one task with one file"),
    ("kubectl", "kubectl apply + wait"),
    ("kubectl-tuned", "kubectl apply --validate=false + poll"),
    ("python", "Python client, serial"),
];

/// Measures all of it; one table for each setting of the limits and number of pairs.
pub fn measure(setup: &Setup, folder: &TempDir, binaries: &Binaries) -> Vec<Table> {
    let mut tables = Vec::new();
    if setup.pairs.is_empty() && setup.stalls == 0 {
        return tables;
    }
    let most = setup.pairs.iter().copied().chain([3]).max().unwrap_or(3);
    let python = script("benches/peers/install");
    for limits in &setup.limits {
        let throttled = limits == "default";
        let mut lab = Lab::start(folder.path(), binaries, throttled, most, python.clone());
        for &count in &setup.pairs {
            let floor = throttled.then(|| (2.0 * count as f64 - 30.0).max(0.0) / 20.0);
            let how = if throttled { "default limits" } else { "no limits" };
            let mut table = Table::new(format!("{count} pairs, {how} of the controllers"), floor);
            for round in 1..=setup.rounds {
                for (row, name) in ROWS.into_iter().filter(|(row, _)| setup.wants(row)) {
                    eprintln!("{count} pairs, {how}, round {round}: {name}");
                    match lab.bind(row, count) {
                        Ok(cost) => table.add(name, cost),
                        Err(why) => not_measured(&format!("{name}, {count} pairs"), &why),
                    }
                    lab.clear();
                }
            }
            tables.push(table);
        }
        if throttled && setup.stalls > 0 {
            tables.push(lab.stalls(setup.stalls));
        }
        lab.plane.wipe();
    }
    tables
}

impl<'a> Lab<'a> {
    /// With Longhorn's definitions and that many of its volumes.
    fn start(
        folder: &'a Path,
        binaries: &Binaries,
        throttled: bool,
        most: usize,
        python: Result<PathBuf, String>,
    ) -> Self {
        let mut plane = ControlPlane::prepare(folder);
        plane.start_with(binaries, if throttled { &[] } else { &UNTHROTTLED });
        let client = Client::new(&plane.kubeconfig());
        install_definitions(&client, &binaries.reproduced());
        for namespace in ["longhorn-system", NAMESPACE] {
            client.post("/api/v1/namespaces", &json!({"metadata": {"name": namespace}}));
        }
        for index in 1..=most {
            let (code, answer) = client.post(
                VOLUMES,
                &json!({"apiVersion": "longhorn.io/v1beta2", "kind": "Volume",
                    "metadata": {"name": format!("volume-{index}")},
                    "spec": {"size": "1073741824", "numberOfReplicas": 1, "accessMode": "rwo"}}),
            );
            assert_eq!(code, 201, "{answer:#}");
        }
        let lab = Self { folder, plane, client, python };
        // Clients keep what they learnt of a server's kinds; everybody's first time is not measured.
        let _ = lab.ready(Command::new("kubectl").args(["get", "namespaces"])).output();
        lab
    }

    /// Has one client make and bind that many pairs.
    fn bind(&self, row: &str, count: usize) -> Result<Cost, String> {
        let (number, file) = (count.to_string(), self.folder.join("pairs.yaml"));
        fs::write(&file, pairs(count)).map_err(|error| format!("{}: {error}", file.display()))?;
        let python = |program: &str| self.python.clone().map(|folder| folder.join("bin").join(program));
        let playbook = |name: &str| {
            let mut command = Command::new(python("ansible-playbook")?);
            command.args(["--inventory", "localhost,", "--connection", "local"]).arg(beside(name));
            command.args(["-e", &format!("count={count}"), "-e", &format!("file={}", file.display())]);
            command.args(["-e", "ansible_python_interpreter={{ ansible_playbook_python }}"]);
            Ok::<_, String>(command)
        };
        let kubectl = |name: &str| {
            on_path("kubectl")?;
            let mut command = Command::new(beside(name));
            command.arg(&file).args([NAMESPACE, &number]);
            Ok::<_, String>(command)
        };
        let mut command = match row {
            "lhrun" => {
                let mut command = lhrun(self.folder);
                command.arg("run").arg(beside("bind.rhai")).args(["--set", &format!("count={count}")]);
                command
            }
            "ansible-loop" => playbook("loop.yml")?,
            "ansible-file" => playbook("file.yml")?,
            "kubectl" => kubectl("apply-wait")?,
            "kubectl-tuned" => kubectl("apply-poll")?,
            _ => {
                let mut command = Command::new(python("python")?);
                command.arg(beside("serial.py")).arg(&file).args([NAMESPACE, &number]);
                command
            }
        };
        self.ready(&mut command);
        let servers: Vec<u32> = self.plane.pids().into_iter().filter_map(|pid| pid.try_into().ok()).collect();
        let cost = cost::of(command, self.folder, &servers)?;
        let bound = self.list(CLAIMS).iter().filter(|claim| claim["status"]["phase"] == "Bound").count();
        if bound == count { Ok(cost) } else { Err(format!("{bound} of {count} claims are bound")) }
    }

    /// Lets a client find the cluster, and nothing of this machine's user.
    fn ready<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("KUBECONFIG", self.plane.kubeconfig()).env("HOME", self.folder).current_dir(self.folder)
    }

    fn list(&self, path: &str) -> Vec<Value> {
        let (code, mut answer) = self.client.get(path);
        assert_eq!(code, 200, "{answer:#}");
        answer["items"].as_array_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Deletes all pairs and waits until the binder has nothing to do.
    fn clear(&self) {
        self.client.delete(CLAIMS);
        self.client.delete(PVS);
        for path in [CLAIMS, PVS] {
            self.client.wait(path, "empty", |_, list| list["items"].as_array().is_some_and(Vec::is_empty));
        }
        thread::sleep(REST);
    }

    /// Three pairs, over and over.
    fn stalls(&mut self, times: usize) -> Table {
        let mut table = Table::new(format!("3 pairs, {times} times"), None);
        let mut slow = 0;
        for time in 1..=times {
            match self.bind("lhrun", 3) {
                Ok(cost) => {
                    slow += usize::from(cost.seconds > STALL);
                    table.add("lhrun", cost);
                }
                Err(why) => not_measured(&format!("3 pairs, time {time}"), &why),
            }
            self.clear();
        }
        table.note(format!("{slow} stalls, which is more than {STALL} s"));
        table
    }
}

/// The pairs as a file for clients that apply one: the PersistentVolume, then the claim that names it.
fn pairs(count: usize) -> String {
    (1..=count).fold(String::new(), |mut text, index| {
        let spec = "  accessModes: [ReadWriteOnce]\n  volumeMode: Filesystem\n  storageClassName: longhorn\n";
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: PersistentVolume\nmetadata:\n  name: volume-{index}\nspec:\n{spec}  capacity:\n    storage: 1Gi\n  \
             persistentVolumeReclaimPolicy: Retain\n  csi:\n    driver: driver.longhorn.io\n    fsType: ext4\n    volumeHandle: volume-{index}\n\
             ---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: data-{index}\n  namespace: {NAMESPACE}\nspec:\n{spec}  \
             volumeName: volume-{index}\n  resources:\n    requests:\n      storage: 1Gi\n"
        );
        text
    })
}
