//! Pods on a cluster without Longhorn.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
    runtime::wait::{await_condition, conditions::is_deleted},
};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, time::timeout};

use super::{
    Workload, connect, objects,
    runtime::{Runtime, process::Processes},
};
use crate::sandbox::{
    api::{
        ApiConfig, ApiServer, Pki,
        admission::AdmitAll,
        pods::{ContainerRef, ExecStreams, LogRequest, Pods},
        write_kubeconfig,
    },
    longhorn::disk::{Disk, Freezer},
    programs::Programs,
};

const PATIENCE: Duration = Duration::from_mins(1);

struct Lab {
    _folder: tempfile::TempDir,
    processes: Arc<Processes>,
    runtime: Arc<Runtime>,
    client: kube::Client,
    api: ApiServer,
    workload: Workload,
}

impl Lab {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let processes = Processes::start(folder.path()).unwrap();
        let (pods, volumes) = (folder.path().join("pods"), folder.path().join("volumes"));
        std::fs::create_dir(&pods).unwrap();
        std::fs::create_dir(&volumes).unwrap();
        let runtime = Arc::new(Runtime::new(pods, Programs::find().unwrap(), processes.clone()));
        let pki = Pki::generate().unwrap();
        let token = secrecy::SecretString::from("token");
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = ApiConfig {
            listen,
            pki: pki.clone(),
            token: token.clone(),
            admission: Arc::new(AdmitAll),
            pods: runtime.clone(),
        };
        let api = ApiServer::start(config).await.unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        write_kubeconfig(&kubeconfig, "test", api.addr(), &pki, &token).unwrap();
        let client = connect(&kubeconfig).await.unwrap();
        let workload = Workload::start(client.clone(), Disk::new(volumes), runtime.clone()).await.unwrap();
        Self { _folder: folder, processes, runtime, client, api, workload }
    }

    async fn stop(self) {
        self.workload.stop().await;
        self.api.stop().await;
        self.processes.end();
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create(&self, name: &str, spec: Value) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
    }

    async fn until(&self, name: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
        let found = await_condition(self.pods(), name, |pod: Option<&Pod>| pod.is_some_and(&holds));
        let Ok(pod) = timeout(PATIENCE, found).await else {
            panic!("{name} never came to it: {:#?}", self.pods().get(name).await.map(|pod| pod.status))
        };
        pod.unwrap().unwrap()
    }

    async fn exec(&self, pod: &str, command: &[&str]) -> (i32, String, String) {
        let (out, mut out_end) = tokio::io::duplex(1 << 16);
        let (err, mut err_end) = tokio::io::duplex(1 << 16);
        let streams = ExecStreams { stdin: None, stdout: Box::new(out), stderr: Box::new(err) };
        let (mut text, mut errors) = (String::new(), String::new());
        let command = command.iter().map(ToString::to_string).collect();
        let run = self.runtime.exec(container(pod), command, streams);
        let (code, _, _) = tokio::join!(run, out_end.read_to_string(&mut text), err_end.read_to_string(&mut errors));
        (code.unwrap(), text, errors)
    }
}

fn container(pod: &str) -> ContainerRef {
    ContainerRef { namespace: "default".into(), pod: pod.into(), container: None }
}

fn shell(script: &str) -> Value {
    json!({"name": "main", "image": "busybox:1", "command": ["sh", "-c", script]})
}

/// States (`R`, `S`, `T`, …) of the processes whose working folder or command line names the text.
fn states_of(text: &str) -> Vec<char> {
    let names_it = |folder: &std::path::Path| {
        let cwd = std::fs::read_link(folder.join("cwd")).unwrap_or_default();
        let line = std::fs::read_to_string(folder.join("cmdline")).unwrap_or_default();
        cwd.to_string_lossy().contains(text) || line.contains(text)
    };
    let folders = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).filter(|path| names_it(path));
    let stats = folders.filter_map(|folder| std::fs::read_to_string(folder.join("stat")).ok());
    stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_becomes_ready_answers_and_ends_with_its_pod() {
    let lab = Lab::start().await;
    let env = json!([{"name": "POSTGRES_PASSWORD", "value": "x"}, {"name": "POSTGRES_DB", "value": "shop"}]);
    lab.create("db", json!({"containers": [{"name": "postgres", "image": "postgres:16", "env": env}]})).await;
    lab.until("db", objects::pod_ready).await;
    let (code, out, err) = lab.exec("db", &["psql", "-Atc", "select current_database(), 1"]).await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "shop|1\n", ""));

    // Stopped as a whole, backends included, and nothing new starts meanwhile.
    let uid = lab.pods().get("db").await.unwrap().metadata.uid.unwrap();
    lab.runtime.pod_uses("db", "vol");
    let frozen = lab.runtime.freeze("vol").unwrap();
    let states = states_of(&uid[..13]);
    assert!(states.len() > 4 && states.iter().all(|state| *state == 'T'), "{states:?}");
    {
        let select = lab.exec("db", &["psql", "-Atc", "select 2"]);
        tokio::pin!(select);
        assert!(timeout(Duration::from_millis(300), &mut select).await.is_err());
        drop(frozen);
        assert_eq!(select.await.1, "2\n");
    }
    drop(lab.runtime.freeze("other").unwrap());

    lab.pods().delete("db", &DeleteParams::default()).await.unwrap();
    timeout(PATIENCE, await_condition(lab.pods(), "db", is_deleted(&uid))).await.unwrap().unwrap();
    assert!(states_of(&uid[..13]).is_empty());
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_ends_as_its_containers_do_and_its_log_stays() {
    let lab = Lab::start().await;
    lab.create("good", json!({"restartPolicy": "Never", "containers": [shell("echo out; echo err >&2")]})).await;
    lab.create("bad", json!({"restartPolicy": "Never", "containers": [shell("exit 7")]})).await;
    lab.until("good", |pod| objects::pod_phase(pod) == "Succeeded").await;
    let bad = lab.until("bad", |pod| objects::pod_phase(pod) == "Failed").await;
    let status = serde_json::to_value(bad.status.unwrap()).unwrap();
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 7);
    let log = lab.runtime.logs(container("good"), LogRequest { follow: true, ..LogRequest::default() }).await.unwrap();
    let lines: Vec<bytes::Bytes> = futures::TryStreamExt::try_collect(log).await.unwrap();
    let mut lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    lines.sort();
    assert_eq!(lines, ["err\n", "out\n"]);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why() {
    let lab = Lab::start().await;
    lab.create("unknown", json!({"containers": [{"name": "main", "image": "nginx:1"}]})).await;
    let from = json!({"secretKeyRef": {"name": "keys", "key": "k"}});
    let env = json!([{"name": "K", "valueFrom": from}]);
    let mut waiting = shell("echo $K; sleep 60");
    waiting["env"] = env;
    lab.create("waiting", json!({"containers": [waiting]})).await;
    let state =
        |pod: &Pod| serde_json::to_value(&pod.status).unwrap()["containerStatuses"][0]["state"]["waiting"].clone();
    let unknown = lab.until("unknown", |pod| state(pod)["reason"] == "ErrImagePull").await;
    assert!(state(&unknown)["message"].as_str().unwrap().contains("postgres, busybox"));
    let pod = lab.until("waiting", |pod| state(pod)["reason"] == "CreateContainerConfigError").await;
    assert!(state(&pod)["message"].as_str().unwrap().contains("\"keys\" not found"));
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(lab.client.clone(), "default");
    let secret = json!({"metadata": {"name": "keys"}, "data": {"k": "dmFsdWU="}});
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    lab.until("waiting", objects::pod_ready).await;
    assert_eq!(lab.exec("waiting", &["sh", "-c", "echo $K"]).await.1, "value\n");
    lab.stop().await;
}
