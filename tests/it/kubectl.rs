//! kubectl: what an operator types, from looking to deleting.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{
    client::Client,
    lab::{Lab, Place},
};

const NOTE: &str = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: note
  namespace: default
data:
  text: first
";

/// All of it, on a cluster where nothing of it is left from before.
pub fn transcript(lab: &Place) {
    looking(lab);
    changing(lab);
    a_database(lab);
}

#[test]
fn ctrl_c_ends_the_embedded_cluster_as_interrupted() {
    assert_eq!(Lab::up().down(), Some(130));
}

fn looking(lab: &Place) {
    lab.kubectl("api-resources")
        .success()
        .says("persistentvolumeclaims")
        .says("backups")
        .says("longhorn.io/v1beta2")
        .says("statefulsets");
    lab.kubectl("get -A pods,pvc,pv").success();
    lab.kubectl("get backuptargets.longhorn.io -n longhorn-system").success().says("default").says("s3://");
    lab.kubectl("get volumes.longhorn.io,backups.longhorn.io -n longhorn-system").success();
    lab.kubectl("get nosuchkind").failure().says("nosuchkind");
    lab.kubectl("get pod missing").failure().says("not found");
}

fn changing(lab: &Place) {
    lab.kubectl_with("apply -f -", NOTE).success().says("created");
    lab.kubectl_with("apply -f -", NOTE).success().says("unchanged");
    let changed = NOTE.replace("first", "second");
    lab.kubectl_with("diff -f -", &changed).code(1).says("+  text: second");
    lab.kubectl_with("diff -f -", NOTE).success();
    lab.kubectl_with("apply -f -", &changed).success().says("configured");

    // Server-side apply notices that another manager owns the field, and takes it over when told to.
    let theirs = NOTE.replace("first", "third");
    let other = "apply --server-side --field-manager=other";
    lab.kubectl_with(&format!("{other} -f -"), &theirs).failure().says("conflict");
    lab.kubectl_with(&format!("{other} --force-conflicts -f -"), &theirs).success().says("serverside-applied");
    lab.kubectl("get configmap note -o jsonpath={.data.text}").success().says("third");
    lab.kubectl_with("apply --server-side -f -", NOTE).failure().says("conflict with \"other\"");
    lab.kubectl_with("apply --server-side --force-conflicts -f -", NOTE).success().says("serverside-applied");
    // What kubectl applied on its own side before is its own.
    let mine = NOTE.replace("name: note", "name: mine");
    lab.kubectl_with("apply -f -", &mine).success();
    lab.kubectl_with("apply --server-side -f -", &mine.replace("first", "second")).success();
    lab.kubectl("delete configmap mine").success();

    lab.kubectl(r#"patch configmap note --type=merge -p {"data":{"more":"yes"}}"#).success().says("patched");
    lab.kubectl(r#"patch configmap note --type=json -p [{"op":"remove","path":"/data/nothing"}]"#).failure();
    lab.kubectl("label configmap note colour=blue").success().says("labeled");
    lab.kubectl("get configmap -l colour=blue -o name").success().says("configmap/note");
    lab.kubectl("get configmap -l colour=red -o name").success().never_says("configmap/note");
    lab.kubectl("delete configmap note").success().says("deleted");
    lab.kubectl("get configmap note").failure().says("not found");
    lab.kubectl_with("apply -f -", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}\n")
        .failure()
        .says("Bad_Name");
}

fn a_database(lab: &Place) {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/runbooks/apps/postgres-test.yaml");
    lab.kubectl(&format!("apply -f {manifest}")).success();
    lab.kubectl("rollout status statefulset/postgres-test -n postgres-test --timeout=60s").success();
    lab.kubectl("get -A pods,pvc,pv").success().says("postgres-test-0").says("Running").says("Bound").says("256Mi");
    lab.kubectl("get volumes.longhorn.io -n longhorn-system").success().says("attached").says("healthy");

    let psql = "exec -n postgres-test postgres-test-0 -- psql -U postgres -d app -At -c";
    lab.kubectl(&format!("{psql} NONSENSE")).code(1).says("syntax error");
    lab.kubectl_with("exec -i -n postgres-test postgres-test-0 -- psql -U postgres -d app -At", "SELECT 6 * 7;\n")
        .success()
        .says("42");
    lab.kubectl("exec -n postgres-test postgres-test-0 -- false").code(1);
    lab.kubectl("logs -n postgres-test postgres-test-0").success().says("ready to accept connections");

    // A watch sees the pod go, and wait sees it come.
    let mut watch = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(&lab.access.kubeconfig)
        .args(["get", "pods", "-n", "postgres-test", "-w", "--no-headers"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut seen = BufReader::new(watch.stdout.take().expect("its output")).lines();
    let first = seen.next().expect("a line").expect("text");
    assert!(first.contains("postgres-test-0"), "{first}");
    lab.kubectl("scale statefulset/postgres-test -n postgres-test --replicas=0").success().says("scaled");
    let next = seen.next().expect("another line").expect("text");
    assert!(next.contains("postgres-test-0"), "{next}");
    let _ = watch.kill();
    let _ = watch.wait();
    lab.kubectl("wait --for=delete pod/postgres-test-0 -n postgres-test --timeout=60s").success();
    lab.kubectl("scale statefulset/postgres-test -n postgres-test --replicas=1").success();
    lab.kubectl("rollout status statefulset/postgres-test -n postgres-test --timeout=60s").success();
    lab.kubectl("wait --for=condition=Ready pod/postgres-test-0 -n postgres-test --timeout=60s").success();
    lab.kubectl("wait --for=jsonpath={.status.phase}=Bound pvc/data-postgres-test-0 -n postgres-test --timeout=10s")
        .success();

    lab.kubectl("delete namespace postgres-test --timeout=60s").success();
    lab.kubectl("get namespace postgres-test").failure().says("not found");
    let volumes = "/apis/longhorn.io/v1beta2/namespaces/longhorn-system/volumes";
    Client::new(&lab.access.kubeconfig)
        .wait(volumes, "empty, as their class says", |_, list| list["items"] == json!([]));
}
