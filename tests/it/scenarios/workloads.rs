//! Workloads and their pods: stateful sets, deployments, jobs, commands in containers, logs.

use serde_json::{Value, json};

use super::Scenario;
use crate::{
    client::Client,
    lab::{Place, has},
};

pub const SCENARIOS: &[Scenario] = &[
    ("a stateful set makes its pods one after the other, and its claims stay", stateful_set),
    ("a deployment replaces its pods", deployment),
    ("a job ends", job),
    ("a daemon has a pod on the node", daemon_set),
    ("a command in a container has its input, outputs and code", exec),
    ("kubectl works", kubectl),
];

const APPS: &str = "/apis/apps/v1/namespaces/default";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn client(place: &Place) -> Client {
    Client::new(&place.access.kubeconfig)
}

fn fresh(client: &Client, path: &str) {
    client.delete_with(path, &json!({"propagationPolicy": "Foreground"}));
    client.gone(path);
}

/// A template whose container runs a shell command.
fn template(app: &str, command: &str, more: &Value) -> Value {
    let mut container = json!({"name": "main", "image": "busybox", "command": ["sh", "-c", command]});
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    })
}

fn stateful_set(place: &Place) {
    let client = client(place);
    let path = format!("{APPS}/statefulsets/ordered");
    fresh(&client, &path);
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn",
        "resources": {"requests": {"storage": "16Mi"}}}});
    let mounts = json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let spec = json!({"replicas": 2, "serviceName": "ordered", "selector": {"matchLabels": {"app": "ordered"}},
        "template": template("ordered", "echo $HOSTNAME >>/data/names; sleep 600", &mounts), "volumeClaimTemplates": [claim]});
    let (code, made) =
        client.post(&format!("{APPS}/statefulsets"), &json!({"metadata": {"name": "ordered"}, "spec": spec}));
    assert_eq!(code, 201, "{made:#}");
    let ready = client.wait(&path, "ready", |_, set| set["status"]["readyReplicas"] == 2);
    assert_eq!(
        (&ready["status"]["replicas"], &ready["status"]["observedGeneration"]),
        (&json!(2), &json!(1)),
        "{ready:#}"
    );
    assert_eq!(ready["status"]["currentRevision"], ready["status"]["updateRevision"]);
    let (first, second) = (client.get(&format!("{PODS}/ordered-0")).1, client.get(&format!("{PODS}/ordered-1")).1);
    let made = |pod: &Value| pod["metadata"]["creationTimestamp"].as_str().unwrap().to_owned();
    assert!(made(&first) <= made(&second));
    assert_eq!(first["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"], "ordered-0");
    assert_eq!(first["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "0");
    assert_eq!(first["metadata"]["ownerReferences"][0]["kind"], "StatefulSet");
    assert_eq!(first["spec"]["hostname"], "ordered-0");
    let volumes = first["spec"]["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|v| v["persistentVolumeClaim"]["claimName"] == "data-ordered-0"), "{first:#}");

    let (code, _) = client.merge(&format!("{path}/scale"), &json!({"spec": {"replicas": 0}}));
    assert_eq!(code, 200);
    client.gone(&format!("{PODS}/ordered-1"));
    client.gone(&format!("{PODS}/ordered-0"));
    client.wait(&path, "empty", |_, set| set["status"]["replicas"] == 0);
    fresh(&client, &path);
    for claim in ["data-ordered-0", "data-ordered-1"] {
        let path = format!("/api/v1/namespaces/default/persistentvolumeclaims/{claim}");
        assert_eq!(client.get(&path).1["status"]["phase"], "Bound", "claims outlive their set");
        client.delete(&path);
        client.gone(&path);
    }
}

fn deployment(place: &Place) {
    let client = client(place);
    let path = format!("{APPS}/deployments/rolled");
    fresh(&client, &path);
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": "rolled"}}, "template": template("rolled", "sleep 600", &json!({}))});
    client.post(&format!("{APPS}/deployments"), &json!({"metadata": {"name": "rolled"}, "spec": spec}));
    let available = |set: &Value| {
        let conditions = set["status"]["conditions"].as_array().cloned().unwrap_or_default();
        set["status"]["observedGeneration"] == set["metadata"]["generation"]
            && set["status"]["updatedReplicas"] == 1
            && set["status"]["replicas"] == 1
            && conditions.iter().any(|c| c["type"] == "Available" && c["status"] == "True")
    };
    client.wait(&path, "available", |_, set| available(set));
    let pods = || client.get(&format!("{PODS}?labelSelector=app%3Drolled")).1["items"].as_array().unwrap().clone();
    let before = pods()[0]["metadata"]["name"].clone();
    client.merge(&path, &json!({"spec": {"template": {"metadata": {"annotations": {"turn": "2"}}}}}));
    client.wait(&path, "available again", |_, set| set["metadata"]["generation"] == 2 && available(set));
    client.gone(&format!("{PODS}/{}", before.as_str().unwrap()));
    let after = pods();
    assert_eq!(after.len(), 1, "{after:#?}");
    assert_eq!(after[0]["metadata"]["ownerReferences"][0]["kind"], "ReplicaSet");
    let sets = client.get(&format!("{APPS}/replicasets?labelSelector=app%3Drolled")).1;
    assert_eq!(sets["items"].as_array().map(Vec::len), Some(2), "the old one stays, empty");
    fresh(&client, &path);
    client.wait(&format!("{PODS}?labelSelector=app%3Drolled"), "empty", |_, list| list["items"] == json!([]));
}

fn job(place: &Place) {
    let client = client(place);
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    for (name, command, condition) in [("good", "exit 0", "Complete"), ("bad", "exit 3", "Failed")] {
        let path = format!("{jobs}/{name}");
        fresh(&client, &path);
        let mut pod = template(name, command, &json!({}));
        pod["spec"]["restartPolicy"] = json!("Never");
        client.post(jobs, &json!({"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": pod}}));
        let ended = client.wait(&path, condition, |_, job| {
            let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == condition && c["status"] == "True")
        });
        let counted = if name == "good" { &ended["status"]["succeeded"] } else { &ended["status"]["failed"] };
        assert_eq!(*counted, 1, "{ended:#}");
        let pods = client.get(&format!("{PODS}?labelSelector=batch.kubernetes.io/job-name%3D{name}")).1;
        let state = &pods["items"][0]["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(state["exitCode"], if name == "good" { 0 } else { 3 }, "{pods:#}");
        fresh(&client, &path);
    }
}

fn daemon_set(place: &Place) {
    let client = client(place);
    let path = format!("{APPS}/daemonsets/everywhere");
    fresh(&client, &path);
    let spec = json!({"selector": {"matchLabels": {"app": "everywhere"}}, "template": template("everywhere", "sleep 600", &json!({}))});
    client.post(&format!("{APPS}/daemonsets"), &json!({"metadata": {"name": "everywhere"}, "spec": spec}));
    let ready = client.wait(&path, "ready", |_, set| set["status"]["numberReady"] == 1);
    assert_eq!(ready["status"]["desiredNumberScheduled"], 1, "{ready:#}");
    fresh(&client, &path);
}

fn exec(place: &Place) {
    let client = client(place);
    let pod = format!("{PODS}/commanded");
    client.delete_with(&pod, &json!({"gracePeriodSeconds": 0}));
    client.gone(&pod);
    let made = template("commanded", "echo started; echo trouble >&2; sleep 600", &json!({}));
    client.post(PODS, &json!({"metadata": {"name": "commanded"}, "spec": made["spec"]}));
    client.wait(&pod, "running", |_, pod| pod["status"]["phase"] == "Running");
    let script = r#"
        let pod = "commanded";
        let result = kube::exec(pod, ["sh", "-c", "cat; echo trouble >&2"], #{ stdin: "some input" });
        print(`out ${result.stdout} err ${result.stderr} code ${result.code}`);
        let result = kube::exec(pod, ["sh", "-c", "exit 7"]);
        print(`code ${result.code}`);
        let many = kube::exec(pod, ["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"]);
        print(`${many.stdout.len()} bytes`);
        print(kube::logs(pod));
    "#;
    place
        .script(script)
        .success()
        .says("out some input err trouble")
        .says("code 0")
        .says("code 7")
        .says("300000 bytes")
        .says("started");
    place.script(r#"kube::exec("commanded", ["true"], #{ container: "none" });"#).failure().says("none");
    client.delete(&pod);
    client.gone(&pod);
    place.script(r#"kube::exec("commanded", ["true"]);"#).failure().says("commanded");
}

fn kubectl(place: &Place) {
    if has("kubectl") {
        crate::kubectl::transcript(place);
    }
}
