//! What a server does not accept, and how it says so.

use serde_json::{Value, json};

use super::{Scenario, objects::config_map};
use crate::{client::Client, lab::Place};

pub const SCENARIOS: &[Scenario] = &[
    ("names follow their rules", names),
    ("what is fixed at creation stays", fixed),
    ("a running pod's spec stays", pod_spec),
    ("objects without what they need are invalid", incomplete),
    ("what is no object of the kind is a bad request", malformed),
    ("paths that nobody serves are not found", unknown_paths),
    ("Longhorn's schema refuses what it does not allow", longhorn_schema),
    ("custom resources have no strategic merge patch, and a replacement names its version", longhorn_writes),
    ("Longhorn's webhooks complete and refuse", longhorn_webhooks),
];

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LONGHORN: &str = "/apis/longhorn.io/v1beta2/namespaces/longhorn-system";

#[track_caller]
fn invalid((code, status): (u16, Value), field: &str) {
    assert_eq!((code, status["reason"].as_str()), (422, Some("Invalid")), "{field}: {status:#}");
    let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    assert!(causes.iter().any(|cause| cause["field"] == field), "{field} is not among {status:#}");
}

fn names(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    for name in ["Upper", "under_score", "-start", "end-", "a..b", &"a".repeat(254)] {
        let (code, status) = client.post(MAPS, &config_map(name, &json!({})));
        assert_eq!(
            (code, status["details"]["causes"][0]["field"].as_str()),
            (422, Some("metadata.name")),
            "{status:#}"
        );
        assert!(
            status["message"]
                .as_str()
                .unwrap()
                .starts_with(&format!("ConfigMap \"{name}\" is invalid: metadata.name: "))
        );
    }
    invalid(client.post(MAPS, &json!({"metadata": {}})), "metadata.name");
    let (code, made) = client.post(MAPS, &json!({"metadata": {"generateName": "made-"}}));
    let name = made["metadata"]["name"].as_str().unwrap();
    assert_eq!((code, name.len(), name.starts_with("made-")), (201, 10, true), "{made:#}");
    client.delete(&format!("{MAPS}/{name}"));
    invalid(client.post("/api/v1/namespaces", &json!({"metadata": {"name": "a.b"}})), "metadata.name");
    for labels in [json!({"bad key": "x"}), json!({"key": "bad value"})] {
        invalid(client.post(MAPS, &json!({"metadata": {"name": "labelled", "labels": labels}})), "metadata.labels");
    }
    invalid(client.post(MAPS, &json!({"metadata": {"name": "x"}, "data": {"a/b": "1"}})), "data[a/b]");
}

fn fixed(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    let secret = "/api/v1/namespaces/default/secrets/fixed";
    client.delete(secret);
    client.post(
        "/api/v1/namespaces/default/secrets",
        &json!({"metadata": {"name": "fixed"}, "immutable": true, "data": {"a": "MQ=="}}),
    );
    invalid(client.merge(secret, &json!({"data": {"a": "Mg=="}})), "data");
    invalid(client.merge(secret, &json!({"type": "other"})), "type");
    client.delete(secret);

    let class = "/apis/storage.k8s.io/v1/storageclasses/longhorn";
    invalid(client.merge(class, &json!({"parameters": {"numberOfReplicas": "7"}})), "parameters");
    assert_eq!(client.merge(class, &json!({"provisioner": "other"})).0, 422);
    assert_eq!(client.merge(class, &json!({"reclaimPolicy": "Retain"})).0, 422);

    let sets = "/apis/apps/v1/namespaces/default/statefulsets";
    let set = format!("{sets}/fixed");
    client.delete(&set);
    client.gone(&set);
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}});
    let spec =
        json!({"replicas": 0, "serviceName": "one", "selector": {"matchLabels": {"a": "b"}}, "template": template});
    client.post(sets, &json!({"metadata": {"name": "fixed"}, "spec": spec}));
    invalid(client.merge(&set, &json!({"spec": {"serviceName": "two"}})), "spec");
    assert_eq!(
        client.merge(&set, &json!({"spec": {"replicas": 0, "template": {"metadata": {"labels": {"c": "d"}}}}})).0,
        200
    );
    client.delete(&set);

    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = format!("{claims}/fixed");
    client.delete(&claim);
    client.gone(&claim);
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}}});
    client.post(claims, &json!({"metadata": {"name": "fixed"}, "spec": spec}));
    invalid(client.merge(&claim, &json!({"spec": {"storageClassName": "other"}})), "spec");
    client.delete(&claim);
}

fn pod_spec(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    let pods = "/api/v1/namespaces/default/pods";
    let pod = format!("{pods}/fixed");
    client.delete_with(&pod, &json!({"gracePeriodSeconds": 0}));
    client.gone(&pod);
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "busybox", "command": ["sleep", "600"]}]});
    let (code, made) = client.post(pods, &json!({"metadata": {"name": "fixed"}, "spec": spec}));
    assert_eq!(code, 201, "{made:#}");
    client.wait(&pod, "on a node", |_, pod| pod["spec"]["nodeName"].is_string());
    invalid(client.merge(&pod, &json!({"spec": {"nodeName": "elsewhere"}})), "spec");
    invalid(client.merge(&pod, &json!({"spec": {"hostname": "other"}})), "spec");
    let binding = json!({"metadata": {"name": "fixed"}, "target": {"kind": "Node", "name": "elsewhere"}});
    let (code, refused) = client.post(&format!("{pod}/binding"), &binding);
    assert_eq!((code, refused["reason"].as_str()), (409, Some("Conflict")), "{refused:#}");
    let (code, kept) =
        client.merge(&pod, &json!({"metadata": {"labels": {"a": "b"}}, "spec": {"activeDeadlineSeconds": 900}}));
    assert_eq!((code, &kept["metadata"]["labels"]["a"]), (200, &json!("b")), "{kept:#}");
    client.delete_with(&pod, &json!({"gracePeriodSeconds": 0}));
    client.gone(&pod);
}

fn incomplete(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    let named = |spec: Value| json!({"metadata": {"name": "incomplete"}, "spec": spec});
    invalid(client.post("/api/v1/namespaces/default/pods", &named(json!({"containers": []}))), "spec.containers");
    let nameless = json!({"containers": [{"image": "busybox"}]});
    invalid(client.post("/api/v1/namespaces/default/pods", &named(nameless)), "spec.containers[0].name");
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let without_modes = json!({"resources": {"requests": {"storage": "1Gi"}}});
    invalid(client.post(claims, &named(without_modes)), "spec.accessModes");
    invalid(client.post(claims, &named(json!({"accessModes": ["ReadWriteOnce"]}))), "spec.resources[storage]");
    let volumes = "/api/v1/persistentvolumes";
    let csi = json!({"driver": "driver.longhorn.io", "volumeHandle": "v"});
    invalid(client.post(volumes, &named(json!({"accessModes": ["ReadWriteOnce"], "csi": csi}))), "spec.capacity");
    let capacity = json!({"storage": "1Gi"});
    invalid(client.post(volumes, &named(json!({"capacity": capacity, "csi": csi}))), "spec.accessModes");
    invalid(client.post(volumes, &named(json!({"capacity": capacity, "accessModes": ["ReadWriteOnce"]}))), "spec");
    let sets = "/apis/apps/v1/namespaces/default/deployments";
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}});
    invalid(client.post(sets, &named(json!({"template": template}))), "spec.selector");
    let other = json!({"selector": {"matchLabels": {"a": "c"}}, "template": template});
    invalid(client.post(sets, &named(other)), "spec.template.metadata.labels");
    invalid(
        client.post("/apis/storage.k8s.io/v1/storageclasses", &json!({"metadata": {"name": "incomplete"}})),
        "provisioner",
    );
}

fn malformed(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    for body in ["", "{", "[]", "3", r#"{"metadata": {"name": "x"}, "data": {"a": 1}}"#, r#"{"metadata": "x"}"#] {
        let (code, refused) = client.send("POST", MAPS, "application/json", body);
        assert_eq!((code, refused["reason"].as_str()), (400, Some("BadRequest")), "{body}: {refused:#}");
    }
    let (code, refused) = client.post(MAPS, &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}));
    assert_eq!((code, refused["reason"].as_str()), (400, Some("BadRequest")), "{refused:#}");
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "other"}});
    let (code, refused) = client.post(MAPS, &other);
    assert_eq!((code, refused["reason"].as_str()), (400, Some("BadRequest")), "{refused:#}");
    let unknown = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "strict"}, "dada": {}});
    let (code, refused) = client.post(&format!("{MAPS}?fieldValidation=Strict"), &unknown);
    assert_eq!((code, refused["reason"].as_str()), (400, Some("BadRequest")), "{refused:#}");
    assert!(refused["message"].as_str().unwrap().contains("unknown field \"dada\""), "{refused:#}");
    let (code, made) = client.post(MAPS, &unknown);
    assert_eq!((code, &made["dada"]), (201, &Value::Null), "without being strict it is left out: {made:#}");
    client.delete(&format!("{MAPS}/strict"));
}

fn unknown_paths(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    for path in [
        "/apis/example.org/v1/things",
        "/api/v1/namespaces/default/things",
        "/api/v1/namespaces/default/nodes",
        "/apis/apps/v1beta1/deployments",
        "/nothing",
    ] {
        assert_eq!(client.get(path).0, 404, "{path}");
    }
    let (code, refused) = client.send("PUT", MAPS, "application/json", "{}");
    assert_eq!((code, refused["reason"].as_str()), (405, Some("MethodNotAllowed")), "{refused:#}");
    let (code, version) = client.get("/version");
    assert_eq!((code, version["major"].as_str()), (200, Some("1")), "{version:#}");
    let (code, groups) = client.get("/apis");
    let groups = groups["groups"].as_array().unwrap();
    for name in ["apps", "batch", "storage.k8s.io", "longhorn.io", "rbac.authorization.k8s.io"] {
        assert!(groups.iter().any(|group| group["name"] == name), "{name}");
    }
    assert_eq!(code, 200);
    let (_, resources) = client.get("/apis/longhorn.io/v1beta2");
    let resources = resources["resources"].as_array().unwrap();
    let volumes = resources.iter().find(|resource| resource["name"] == "volumes").unwrap();
    assert_eq!(
        (&volumes["kind"], &volumes["namespaced"], &volumes["shortNames"]),
        (&json!("Volume"), &json!(true), &json!(["lhv"]))
    );
    assert!(resources.iter().any(|resource| resource["name"] == "volumes/status"));
}

fn longhorn_schema(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    let volume = |spec: Value| {
        let mut whole = json!({"size": "16777216", "frontend": "blockdev", "numberOfReplicas": 1});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "metadata": {"name": "schema"}, "spec": whole})
    };
    for (field, spec) in [
        ("spec.backupBlockSize", json!({"backupBlockSize": "4194304"})),
        ("spec.accessMode", json!({"accessMode": "rwy"})),
        ("spec.backupCompressionMethod", json!({"backupCompressionMethod": "zip"})),
    ] {
        let (code, refused) = client.post(&format!("{LONGHORN}/volumes"), &volume(spec));
        assert_eq!((code, refused["reason"].as_str()), (422, Some("Invalid")), "{refused:#}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.starts_with("Volume.longhorn.io \"schema\" is invalid: "), "{message}");
        assert!(message.contains(&format!("{field}: Unsupported value: ")), "{message}");
    }
    let (code, refused) = client.post(&format!("{LONGHORN}/volumes"), &volume(json!({"numberOfReplicas": "one"})));
    assert_eq!(code, 422, "{refused:#}");
}

/// What needs Longhorn's own schemas, which the embedded cluster does not have: it keeps fields that nobody knows.
pub fn longhorn_fields(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    let spec = json!({"size": "16777216", "frontend": "blockdev", "numberOfReplicas": 1, "flavour": "x"});
    let unknown =
        json!({"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "metadata": {"name": "fields"}, "spec": spec});
    let named = format!("{LONGHORN}/volumes/fields");
    let (code, refused) = client.post(&format!("{LONGHORN}/volumes?fieldValidation=Strict"), &unknown);
    assert_eq!((code, refused["reason"].as_str()), (400, Some("BadRequest")), "{refused:#}");
    assert!(refused["message"].as_str().unwrap().contains("unknown field \"spec.flavour\""), "{refused:#}");
    let (code, made) = client.post(&format!("{LONGHORN}/volumes"), &unknown);
    assert_eq!((code, &made["spec"]["flavour"]), (201, &Value::Null), "{made:#}");
    client.delete(&named);
    client.gone(&named);
}

fn longhorn_writes(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    let named = format!("{LONGHORN}/settings/default-replica-count");
    let (code, refused) = client.strategic(&named, &json!({"spec": {}}));
    assert_eq!((code, refused["reason"].as_str()), (415, Some("UnsupportedMediaType")), "{refused:#}");
    let mut whole = client.get(&named).1;
    whole["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let (code, refused) = client.put(&named, &whole);
    assert_eq!((code, refused["reason"].as_str()), (422, Some("Invalid")), "{refused:#}");
    assert!(refused["message"].as_str().unwrap().contains("metadata.resourceVersion"), "{refused:#}");
}

fn longhorn_webhooks(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    let volume = |spec: Value| json!({"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "metadata": {"name": "hooked"}, "spec": spec});
    let volumes = format!("{LONGHORN}/volumes");
    let (code, refused) = client.post(&volumes, &volume(json!({"frontend": "blockdev", "numberOfReplicas": 1})));
    assert_eq!(code, 422, "{refused:#}");
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains(
            "admission webhook \"validator.longhorn.io\" denied the request: BUG: missing required field size"
        ),
        "{message}"
    );
    let from = "s3://backups@us-east-1/?backup=backup-none&volume=none";
    let (code, refused) =
        client.post(&volumes, &volume(json!({"frontend": "blockdev", "numberOfReplicas": 1, "fromBackup": from})));
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("admission webhook \"mutator.longhorn.io\" denied the request: "), "{message}");
    assert_eq!(code, 422, "{refused:#}");
    let (code, made) =
        client.post(&volumes, &volume(json!({"size": "1", "frontend": "blockdev", "numberOfReplicas": 1})));
    assert_eq!((code, &made["spec"]["size"]), (201, &json!("2097152")), "{made:#}");
    assert_eq!(made["metadata"]["finalizers"], json!(["longhorn.io"]));
    let named = format!("{volumes}/hooked");
    client.wait(&named, "detached", |_, volume| volume["status"]["state"] == "detached");
    let (code, refused) = client.merge(&named, &json!({"spec": {"size": "0"}}));
    assert_eq!(code, 422, "{refused:#}");
    assert!(refused["message"].as_str().unwrap().contains("shrinking volume hooked size"), "{refused:#}");
    let (code, refused) = client.delete(&format!("{LONGHORN}/backuptargets/default"));
    assert_eq!(code, 422, "{refused:#}");
    assert!(
        refused["message"].as_str().unwrap().contains("deleting default backup target is not allowed"),
        "{refused:#}"
    );
    client.delete(&named);
    client.gone(&named);
}
