//! Claims and volumes: who gets whom, and what happens when one goes.

use serde_json::{Value, json};

use super::Scenario;
use crate::{client::Client, lab::Place};

pub const SCENARIOS: &[Scenario] = &[
    ("a claim that names its volume gets it", by_name),
    ("a volume that names its claim waits for it", reserved),
    ("a claim waits for the volume that it names", waits),
    ("a claim is told that its binding is decided, and nobody else of its name", decided),
    ("a claim of a class finds a volume that fits", by_fit),
    ("a volume whose claim is gone is released, and bound again when it is cleared", released),
    ("a claim whose volume is gone is lost", lost),
    ("a claim in use stays until its pod is gone", in_use),
    ("a claim of Longhorn's class gets a volume, and takes it along", provisioned),
];

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";

fn volume(name: &str, size: &str, more: &Value) -> Value {
    let mut spec = json!({
        "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "by-hand", "csi": {"driver": "driver.longhorn.io", "volumeHandle": name, "fsType": "ext4"},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
}

fn claim(name: &str, size: &str, more: &Value) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "by-hand", "resources": {"requests": {"storage": size}}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec})
}

/// Both names, free.
fn fresh(place: &Place, names: &[&str]) -> Client {
    let client = Client::new(&place.access.kubeconfig);
    for name in names {
        for path in [format!("{CLAIMS}/{name}"), format!("{VOLUMES}/{name}")] {
            client.delete(&path);
            client.gone(&path);
        }
    }
    client
}

fn phase(client: &Client, path: &str, wanted: &str) -> Value {
    client.wait(path, wanted, |_, object| object["status"]["phase"] == wanted)
}

fn clean(client: &Client, names: &[&str]) {
    for name in names {
        client.delete(&format!("{CLAIMS}/{name}"));
        client.delete(&format!("{VOLUMES}/{name}"));
    }
}

fn by_name(place: &Place) {
    let client = fresh(place, &["named", "other"]);
    client.post(VOLUMES, &volume("other", "1Gi", &json!({})));
    client.post(VOLUMES, &volume("named", "2Gi", &json!({})));
    phase(&client, &format!("{VOLUMES}/named"), "Available");
    let (code, made) = client.post(CLAIMS, &claim("named", "1Gi", &json!({"volumeName": "named"})));
    assert_eq!((code, &made["status"]["phase"]), (201, &json!("Pending")), "{made:#}");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    assert_eq!(made["spec"]["volumeMode"], "Filesystem");
    let bound = phase(&client, &format!("{CLAIMS}/named"), "Bound");
    assert_eq!(bound["status"]["capacity"]["storage"], "2Gi", "what the volume has, not what was asked for");
    assert_eq!(bound["status"]["accessModes"], json!(["ReadWriteOnce"]));
    assert_eq!(bound["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"], "yes");
    assert!(bound["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"].is_null(), "{bound:#}");
    let volume = phase(&client, &format!("{VOLUMES}/named"), "Bound");
    let reference = &volume["spec"]["claimRef"];
    assert_eq!((&reference["name"], &reference["uid"]), (&json!("named"), &bound["metadata"]["uid"]));
    assert_eq!(volume["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"], "yes");
    assert_eq!(volume["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
    clean(&client, &["named", "other"]);
}

fn reserved(place: &Place) {
    let client = fresh(place, &["kept", "taker"]);
    let reference = json!({"claimRef": {"namespace": "default", "name": "kept"}});
    client.post(VOLUMES, &volume("kept", "1Gi", &reference));
    phase(&client, &format!("{VOLUMES}/kept"), "Available");
    client.post(CLAIMS, &claim("taker", "1Gi", &json!({})));
    client.post(CLAIMS, &claim("kept", "1Gi", &json!({})));
    let bound = phase(&client, &format!("{CLAIMS}/kept"), "Bound");
    assert_eq!(bound["spec"]["volumeName"], "kept");
    assert_eq!(client.get(&format!("{CLAIMS}/taker")).1["status"]["phase"], "Pending");
    clean(&client, &["kept", "taker"]);
}

fn waits(place: &Place) {
    let client = fresh(place, &["early"]);
    client.post(CLAIMS, &claim("early", "1Gi", &json!({"volumeName": "early"})));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(client.get(&format!("{CLAIMS}/early")).1["status"]["phase"], "Pending");
    let uid = client.get(&format!("{CLAIMS}/early")).1["metadata"]["uid"].clone();
    let reference = json!({"claimRef": {"namespace": "default", "name": "early", "uid": uid}});
    client.post(VOLUMES, &volume("early", "1Gi", &reference));
    // The real binder may leave a claim that it has looked at alone for a while; a touch wakes it.
    client.merge(&format!("{CLAIMS}/early"), &json!({"metadata": {"labels": {"touched": "yes"}}}));
    phase(&client, &format!("{CLAIMS}/early"), "Bound");
    clean(&client, &["early"]);
}

fn decided(place: &Place) {
    let client = fresh(place, &["decided"]);
    let (_, made) = client.post(CLAIMS, &claim("decided", "1Gi", &json!({"volumeName": "decided"})));
    let uid = &made["metadata"]["uid"];
    let reference = json!({"claimRef": {"namespace": "default", "name": "decided", "uid": uid}});
    client.post(VOLUMES, &volume("decided", "2Gi", &reference));
    phase(&client, &format!("{VOLUMES}/decided"), "Bound");
    // Nobody else of that name is meant.
    let completed =
        |uid: &Value| json!({"metadata": {"uid": uid, "annotations": {"pv.kubernetes.io/bind-completed": "yes"}}});
    assert_eq!(client.merge(&format!("{CLAIMS}/decided"), &completed(&json!("another"))).0, 422);
    assert_eq!(client.merge(&format!("{CLAIMS}/decided"), &completed(uid)).0, 200);
    let bound = phase(&client, &format!("{CLAIMS}/decided"), "Bound");
    assert_eq!(bound["status"]["capacity"]["storage"], "2Gi");
    assert!(bound["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"].is_null(), "{bound:#}");
    clean(&client, &["decided"]);
}

fn by_fit(place: &Place) {
    let client = fresh(place, &["fit-small", "fit-large", "fit-claim"]);
    client.post(VOLUMES, &volume("fit-large", "8Gi", &json!({})));
    client.post(VOLUMES, &volume("fit-small", "3Gi", &json!({})));
    phase(&client, &format!("{VOLUMES}/fit-small"), "Available");
    phase(&client, &format!("{VOLUMES}/fit-large"), "Available");
    client.post(CLAIMS, &claim("fit-claim", "2Gi", &json!({})));
    let bound = phase(&client, &format!("{CLAIMS}/fit-claim"), "Bound");
    assert_eq!(bound["spec"]["volumeName"], "fit-small", "the smallest that is large enough");
    assert_eq!(bound["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"], "yes");
    clean(&client, &["fit-small", "fit-large", "fit-claim"]);
}

fn released(place: &Place) {
    let client = fresh(place, &["left"]);
    client.post(VOLUMES, &volume("left", "1Gi", &json!({})));
    client.post(CLAIMS, &claim("left", "1Gi", &json!({"volumeName": "left"})));
    phase(&client, &format!("{CLAIMS}/left"), "Bound");
    client.delete(&format!("{CLAIMS}/left"));
    client.gone(&format!("{CLAIMS}/left"));
    phase(&client, &format!("{VOLUMES}/left"), "Released");
    client.post(CLAIMS, &claim("left", "1Gi", &json!({"volumeName": "left"})));
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(client.get(&format!("{CLAIMS}/left")).1["status"]["phase"], "Pending", "it is still the old claim's");
    let (code, cleared) =
        client.patch(&format!("{VOLUMES}/left"), &json!([{"op": "remove", "path": "/spec/claimRef"}]));
    assert_eq!(code, 200, "{cleared:#}");
    phase(&client, &format!("{CLAIMS}/left"), "Bound");
    clean(&client, &["left"]);
}

fn lost(place: &Place) {
    let client = fresh(place, &["losing"]);
    client.post(VOLUMES, &volume("losing", "1Gi", &json!({})));
    client.post(CLAIMS, &claim("losing", "1Gi", &json!({"volumeName": "losing"})));
    phase(&client, &format!("{CLAIMS}/losing"), "Bound");
    let path = format!("{VOLUMES}/losing");
    client.delete(&path);
    let held = client.get(&path).1;
    assert!(held["metadata"]["deletionTimestamp"].is_string(), "a bound volume is protected: {held:#}");
    client.merge(&path, &json!({"metadata": {"finalizers": null}}));
    client.gone(&path);
    phase(&client, &format!("{CLAIMS}/losing"), "Lost");
    clean(&client, &["losing"]);
}

fn in_use(place: &Place) {
    let client = fresh(place, &["used"]);
    let pod = "/api/v1/namespaces/default/pods/user";
    client.delete_with(pod, &json!({"gracePeriodSeconds": 0}));
    client.gone(pod);
    client.post(CLAIMS, &claim("used", "16Mi", &json!({"storageClassName": "longhorn"})));
    phase(&client, &format!("{CLAIMS}/used"), "Bound");
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "busybox", "command": ["sleep", "600"], "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "used"}}],
    });
    client.post("/api/v1/namespaces/default/pods", &json!({"metadata": {"name": "user"}, "spec": spec}));
    phase(&client, pod, "Running");
    client.delete(&format!("{CLAIMS}/used"));
    std::thread::sleep(std::time::Duration::from_secs(1));
    let held = client.get(&format!("{CLAIMS}/used")).1;
    assert!(held["metadata"]["deletionTimestamp"].is_string(), "{held:#}");
    assert_eq!(held["status"]["phase"], "Bound");
    client.delete(pod);
    client.gone(pod);
    client.gone(&format!("{CLAIMS}/used"));
}

fn provisioned(place: &Place) {
    let client = fresh(place, &["wished"]);
    let longhorn = "/apis/longhorn.io/v1beta2/namespaces/longhorn-system/volumes";
    let (code, made) = client.post(
        CLAIMS,
        &json!({"metadata": {"name": "wished"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "20Mi"}}}}),
    );
    assert_eq!((code, &made["spec"]["storageClassName"]), (201, &json!("longhorn")), "the default class: {made:#}");
    let bound = phase(&client, &format!("{CLAIMS}/wished"), "Bound");
    let name = format!("pvc-{}", bound["metadata"]["uid"].as_str().unwrap());
    assert_eq!(bound["spec"]["volumeName"], name.as_str());
    assert_eq!(bound["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"], "driver.longhorn.io");
    let volume = client.get(&format!("{VOLUMES}/{name}")).1;
    assert_eq!(volume["spec"]["persistentVolumeReclaimPolicy"], "Delete");
    assert_eq!(client.get(&format!("{longhorn}/{name}")).1["spec"]["size"], "20971520");
    client.delete(&format!("{CLAIMS}/wished"));
    for path in [format!("{CLAIMS}/wished"), format!("{VOLUMES}/{name}"), format!("{longhorn}/{name}")] {
        client.gone(&path);
    }
}
