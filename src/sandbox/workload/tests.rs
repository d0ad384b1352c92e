//! Pods on a cluster without Longhorn.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
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
    programs::{self, Programs},
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
async fn a_volume_of_a_former_claim_is_kept_from_the_next_until_somebody_frees_it() {
    let lab = Lab::start().await;
    let volumes: Api<PersistentVolume> = Api::all(lab.client.clone());
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(lab.client.clone(), "default");
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "static", "volumeName": "vol",
        "resources": {"requests": {"storage": "1Gi"}}});
    let claim: PersistentVolumeClaim =
        serde_json::from_value(json!({"metadata": {"name": "data"}, "spec": spec})).unwrap();
    let volume = json!({"metadata": {"name": "vol"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "static", "capacity": {"storage": "1Gi"},
        "persistentVolumeReclaimPolicy": "Retain", "csi": {"driver": "driver.longhorn.io", "volumeHandle": "vol"}}});
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    claims.create(&PostParams::default(), &claim).await.unwrap();
    reaches(&claims, "data", "Bound").await;
    let bound = reaches(&volumes, "vol", "Bound").await;
    assert_eq!(bound["spec"]["claimRef"]["name"], "data");

    let uid = claims.get("data").await.unwrap().metadata.uid.unwrap();
    claims.delete("data", &DeleteParams::default()).await.unwrap();
    timeout(PATIENCE, await_condition(claims.clone(), "data", is_deleted(&uid))).await.unwrap().unwrap();
    reaches(&volumes, "vol", "Released").await;
    claims.create(&PostParams::default(), &claim).await.unwrap();
    let events: Api<Event> = Api::namespaced(lab.client.clone(), "default");
    let refused = |event: &Event| event.reason.as_deref() == Some("FailedBinding");
    let begun = std::time::Instant::now();
    while !events.list(&ListParams::default()).await.unwrap().items.iter().any(refused) {
        assert!(begun.elapsed() < PATIENCE, "nobody said why");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(claims.get("data").await.unwrap().status.unwrap().phase.as_deref(), Some("Pending"));
    let free = json!({"spec": {"claimRef": {"uid": null, "resourceVersion": null}}});
    volumes.patch("vol", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    reaches(&claims, "data", "Bound").await;

    // A claim whose volume vanishes has lost its data, and is told so.
    let gone = json!({"metadata": {"finalizers": null}});
    volumes.delete("vol", &DeleteParams::default()).await.unwrap();
    volumes.patch("vol", &PatchParams::default(), &Patch::Merge(gone)).await.unwrap();
    reaches(&claims, "data", "Lost").await;
    lab.stop().await;
}

async fn reaches<K>(api: &Api<K>, name: &str, phase: &str) -> Value
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::Serialize + serde::de::DeserializeOwned + 'static,
{
    let value = |object: &K| serde_json::to_value(object).unwrap();
    let found =
        await_condition(api.clone(), name, |o: Option<&K>| o.is_some_and(|o| value(o)["status"]["phase"] == phase));
    let Ok(found) = timeout(PATIENCE, found).await else {
        panic!("{name} never became {phase}: {:#}", value(&api.get(name).await.unwrap()))
    };
    value(&found.unwrap().unwrap())
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
    assert!(state(&unknown)["message"].as_str().unwrap().contains("postgres, mariadb"));
    let pod = lab.until("waiting", |pod| state(pod)["reason"] == "CreateContainerConfigError").await;
    assert!(state(&pod)["message"].as_str().unwrap().contains("\"keys\" not found"));
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(lab.client.clone(), "default");
    let secret = json!({"metadata": {"name": "keys"}, "data": {"k": "dmFsdWU="}});
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    lab.until("waiting", objects::pod_ready).await;
    assert_eq!(lab.exec("waiting", &["sh", "-c", "echo $K"]).await.1, "value\n");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_start_together_do_not_meet_in_a_temporary_folder() {
    if !["mariadbd", "mariadb", "mariadb-install-db"].into_iter().all(|program| programs::find(program).is_some()) {
        eprintln!("WARNING: MariaDB is not installed: its pods were NOT started");
        return;
    }
    let lab = Lab::start().await;
    let env = json!([{"name": "MARIADB_ROOT_PASSWORD", "value": "of-no-worth"}]);
    let names = ["first", "second", "third"];
    for name in names {
        lab.create(name, json!({"containers": [{"name": "main", "image": "mariadb:10.11", "env": env}]})).await;
    }
    let mut folders = std::collections::BTreeSet::new();
    for name in names {
        let pod = lab.until(name, objects::pod_ready).await;
        assert_eq!(pod.status.unwrap().container_statuses.unwrap()[0].restart_count, 0, "{name}");
        let ask = ["sh", "-c", "MYSQL_PWD=$MARIADB_ROOT_PASSWORD mariadb -uroot -Ne 'SELECT @@tmpdir'"];
        let (code, folder, errors) = lab.exec(name, &ask).await;
        assert_eq!((code, errors.as_str()), (0, ""));
        folders.insert(folder);
    }
    assert_eq!(folders.len(), names.len(), "{folders:?}");
    lab.stop().await;
}
