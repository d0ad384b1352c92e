//! The whole sandbox, with an application on it.

use std::{path::Path, process::Command};

use serde_json::Value;

use super::{Sandbox, SandboxOptions};
use crate::Kind;

const APPLICATION: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: shop}
stringData: {password: secret}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  serviceName: db
  replicas: 1
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers:
      - name: postgres
        image: postgres:16
        env:
        - {name: POSTGRES_DB, value: shop}
        - {name: PGDATA, value: /var/lib/postgresql/data/pgdata}
        - {name: POSTGRES_PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
        volumeMounts: [{name: data, mountPath: /var/lib/postgresql/data}]
        readinessProbe: {exec: {command: [pg_isready]}, periodSeconds: 1}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      storageClassName: longhorn
      resources: {requests: {storage: 256Mi}}
";

fn kubectl(sandbox: &Sandbox, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(sandbox.kubeconfig()).args(arguments);
    let file = tempfile::NamedTempFile::new().unwrap();
    if let Some(input) = input {
        std::fs::write(file.path(), input).unwrap();
        command.arg("-f").arg(file.path());
    }
    let output = command.output().expect("kubectl runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn sql(sandbox: &Sandbox, statement: &str) -> String {
    kubectl(sandbox, &["exec", "-n", "shop", "db-0", "--", "psql", "-Atqc", statement], None).unwrap()
}

fn deployed(sandbox: &Sandbox) {
    kubectl(sandbox, &["apply"], Some(APPLICATION)).unwrap();
    let done = kubectl(sandbox, &["rollout", "status", "-n", "shop", "sts/db", "--timeout=60s"], None);
    if let Err(why) = done {
        let all = kubectl(sandbox, &["describe", "-n", "shop", "pod,pvc,sts"], None);
        panic!("{why}\n{}", all.unwrap_or_else(|error| error));
    }
}

/// Processes whose working folder is below that path.
fn processes_below(folder: &Path) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_keeps_its_data_over_its_pod_and_goes_with_its_cluster() {
    let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
    let run = sandbox.folder_of_run().to_owned();
    deployed(&sandbox);
    sql(&sandbox, "create table t as select generate_series(1, 1000) as n");
    kubectl(&sandbox, &["delete", "pod", "-n", "shop", "db-0"], None).unwrap();
    deployed(&sandbox);
    assert_eq!(sql(&sandbox, "select count(*), sum(n) from t"), "1000|500500\n");
    assert!(processes_below(&run) > 0);

    let server = kubectl(&sandbox, &["config", "view", "--minify", "-o", "jsonpath={..server}"], None).unwrap();
    sandbox.teardown().await.unwrap();
    assert_eq!(processes_below(&run), 0);
    assert!(kubectl(&sandbox, &["get", "ns", "--request-timeout=5s"], None).is_err());
    sandbox.rebuild().await.unwrap();
    assert_eq!(kubectl(&sandbox, &["config", "view", "--minify", "-o", "jsonpath={..server}"], None).unwrap(), server);
    assert!(kubectl(&sandbox, &["get", "ns", "shop"], None).unwrap_err().contains("not found"));
    let target: Value = serde_json::from_str(
        &kubectl(
            &sandbox,
            &["get", "-n", "longhorn-system", "backuptargets.longhorn.io", "default", "-o", "json"],
            None,
        )
        .unwrap(),
    )
    .unwrap();
    assert_eq!(target["spec"]["backupTargetURL"], sandbox.s3().target_url());
    sandbox.stop().await.unwrap();
    assert!(!run.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sandbox_is_refused_on_the_same_folder_and_on_the_same_port() {
    let folder = tempfile::tempdir().unwrap();
    let options = SandboxOptions { folder: Some(folder.path().to_owned()), ..SandboxOptions::default() };
    let first = Sandbox::start(options.clone()).await.unwrap();
    let keys = first.s3().access_key.clone();
    let error = Sandbox::start(options.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    let port = |text: &str| text.rsplit(':').next().unwrap().parse().unwrap();
    let taken = SandboxOptions { s3_port: port(&first.s3().endpoint), ..SandboxOptions::default() };
    assert_eq!(Sandbox::start(taken).await.unwrap_err().kind(), Kind::Refused);
    first.stop().await.unwrap();
    drop(first);
    let again = Sandbox::start(options).await.unwrap();
    assert_eq!(again.s3().access_key, keys);
    let run = again.folder_of_run().to_owned();
    drop(again);
    assert!(!run.exists(), "what is temporary goes, even without a stop");
}
