//! Volumes, snapshots and provisioning.

use futures::StreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

use super::*;
use crate::sandbox::NODE;

#[tokio::test]
async fn an_installation_has_what_clients_look_for() {
    let lab = Lab::start(LonghornOptions::default()).await;
    let version = lab.get(Resource::Setting, "current-longhorn-version").await;
    assert_eq!(version["value"], "v1.10.2");
    let class = lab.get(Resource::StorageClass, "longhorn").await;
    assert_eq!(class["provisioner"], "driver.longhorn.io");
    assert_eq!(class["reclaimPolicy"], "Delete");
    // Without a URL the target says so.
    let target = lab.wait(Resource::BackupTarget, "default", |t| t["status"]["available"] == false).await;
    assert_eq!(target["status"]["conditions"][0]["message"], "backup target URL is empty");
    assert_eq!(target["status"]["conditions"][0]["status"], "True");
    install(lab.client.clone(), &LonghornOptions::default()).await.expect("a second time changes nothing");
    lab.stop().await;
}

#[tokio::test]
async fn a_volume_passes_through_every_state_in_order() {
    let lab = Lab::start(LonghornOptions::default()).await;
    let api = lab.api(Resource::Volume);
    let mut events = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let created = lab
        .create(
            Resource::Volume,
            json!({"metadata": {"name": "v1"}, "spec": {
        "size": "16000000", "frontend": "blockdev", "numberOfReplicas": 2}}),
        )
        .await
        .unwrap();
    assert_eq!(created["status"], Value::Null, "no state at first");
    assert_eq!(created["spec"]["size"], "16777216", "rounded up");
    lab.wait(Resource::Volume, "v1", |v| v["status"]["state"] == "detached").await;
    lab.attach("v1").await;
    let attached = lab.get(Resource::Volume, "v1").await;
    assert_eq!(attached["status"]["robustness"], "healthy");
    assert_eq!(attached["status"]["currentNodeID"], NODE);
    assert_eq!(attached["metadata"]["labels"]["recurring-job-group.longhorn.io/default"], "enabled");
    let tickets = lab.wait(Resource::VolumeAttachment, "v1", |a| {
        a["status"]["attachmentTicketStatuses"].as_object().is_some_and(|t| t.values().all(|t| t["satisfied"] == true))
    });
    tickets.await;
    let replicas = lab.api(Resource::Replica).list(&ListParams::default()).await.unwrap();
    assert_eq!(replicas.items.len(), 2);
    let engine = lab.get(Resource::Engine, "v1-e-0").await;
    assert_eq!(engine["metadata"]["labels"]["longhornvolume"], "v1");
    assert_eq!(engine["status"]["currentState"], "running");
    lab.detach("v1").await;
    lab.delete(Resource::Volume, "v1").await.unwrap();
    lab.wait(Resource::Volume, "v1", Value::is_null).await;
    lab.wait(Resource::Engine, "v1-e-0", Value::is_null).await;
    lab.wait(Resource::VolumeAttachment, "v1", Value::is_null).await;
    assert!(!lab.disk.root().join("v1").exists(), "its data is gone");

    let mut states: Vec<String> = Vec::new();
    loop {
        let event = tokio::time::timeout(LIMIT, events.next()).await.expect("an event").unwrap().unwrap();
        match event {
            WatchEvent::Added(v) | WatchEvent::Modified(v) => {
                let state = v.data["status"]["state"].as_str().unwrap_or_default().to_owned();
                if states.last() != Some(&state) {
                    states.push(state);
                }
            }
            WatchEvent::Deleted(_) => break,
            _ => {}
        }
    }
    assert_eq!(states, ["", "creating", "detached", "attaching", "attached", "detaching", "detached", "deleting"]);
    lab.stop().await;
}

/// A claim as the binder leaves it when no volume fits.
async fn claim(lab: &Lab, name: &str, size: &str) -> Value {
    let claim = json!({
        "metadata": {"name": name, "namespace": "default",
            "annotations": {"volume.kubernetes.io/storage-provisioner": "driver.longhorn.io"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn",
            "resources": {"requests": {"storage": size}}},
    });
    lab.create(Resource::Claim, claim).await.unwrap()
}

#[tokio::test]
async fn a_claim_gets_a_volume_and_grows() {
    let lab = Lab::start(LonghornOptions::default()).await;
    let claim = claim(&lab, "data", "20Mi").await;
    let uid = claim["metadata"]["uid"].as_str().unwrap().to_owned();
    let name = format!("pvc-{uid}");
    let bound = lab.wait(Resource::PersistentVolume, &name, |pv| !pv.is_null()).await;
    assert_eq!(bound["spec"]["claimRef"]["uid"], uid);
    assert_eq!(bound["spec"]["csi"]["volumeHandle"], name);
    assert_eq!(bound["spec"]["capacity"]["storage"], "20Mi");
    assert_eq!(bound["spec"]["persistentVolumeReclaimPolicy"], "Delete");
    assert_eq!(bound["spec"]["csi"]["volumeAttributes"]["numberOfReplicas"], "1");
    assert_eq!(bound["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"], "driver.longhorn.io");

    // What the binder does.
    lab.patch(Resource::Claim, "data", json!({"spec": {"volumeName": name}})).await.unwrap();
    let status = Patch::Merge(json!({"status": {"phase": "Bound"}}));
    lab.api(Resource::PersistentVolume).patch_status(&name, &PatchParams::default(), &status).await.unwrap();
    let used = lab.wait(Resource::Volume, &name, |v| v["status"]["kubernetesStatus"]["pvStatus"] == "Bound").await;
    assert_eq!(used["status"]["kubernetesStatus"]["pvcName"], "data");
    assert_eq!(used["status"]["kubernetesStatus"]["namespace"], "default");
    assert_eq!(used["status"]["kubernetesStatus"]["lastPVCRefAt"], "");

    lab.patch(Resource::Claim, "data", json!({"spec": {"resources": {"requests": {"storage": "40Mi"}}}}))
        .await
        .unwrap();
    lab.wait(Resource::Volume, &name, |v| v["spec"]["size"] == "41943040").await;
    lab.wait(Resource::Claim, "data", |c| c["status"]["capacity"]["storage"] == "40Mi").await;
    lab.wait(Resource::Engine, &format!("{name}-e-0"), |e| e["status"]["currentSize"] == "41943040").await;

    lab.delete(Resource::Claim, "data").await.unwrap();
    // And this, once no pod uses it.
    lab.patch(Resource::Claim, "data", json!({"metadata": {"finalizers": null}})).await.unwrap();
    let past = lab.wait(Resource::Volume, &name, |v| v["status"]["kubernetesStatus"]["lastPVCRefAt"] != "").await;
    assert_eq!(past["status"]["kubernetesStatus"]["pvcName"], "data", "its name is history, not forgotten");
    lab.stop().await;
}

#[tokio::test]
async fn a_snapshot_of_a_detached_volume_attaches_it_and_lets_it_go() {
    let lab = Lab::start(LonghornOptions::default()).await;
    lab.volume("v1", json!({})).await;
    let data = lab.disk.mount("v1").await.unwrap();
    std::fs::write(data.join("file"), b"content").unwrap();
    let mut events = lab.api(Resource::Snapshot).watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let snapshot = json!({"metadata": {"name": "s1"}, "spec": {"volume": "v1", "createSnapshot": true}});
    lab.create(Resource::Snapshot, snapshot).await.unwrap();
    let ready = lab.wait(Resource::Snapshot, "s1", |s| s["status"]["readyToUse"] == true).await;
    assert_eq!(ready["status"]["error"], "");
    assert_eq!(ready["status"]["restoreSize"], 16_777_216);
    assert!(ready["status"]["size"].as_u64().unwrap() > 0);
    assert_eq!(ready["metadata"]["labels"]["longhornvolume"], "v1");
    lab.wait(Resource::Volume, "v1", |v| v["status"]["state"] == "detached").await;
    let mut transient = false;
    while let Ok(Some(Ok(event))) = tokio::time::timeout(Duration::from_millis(200), events.next()).await {
        if let WatchEvent::Modified(s) = event {
            let error = s.data["status"]["error"].as_str().unwrap_or_default().to_owned();
            transient |= error.contains("is not running. Waiting for the volume to be attached");
        }
    }
    assert!(transient, "the error that is none");
    let image = lab.disk.snapshot_image("v1", "s1").unwrap();
    assert!(image.exists());
    lab.delete(Resource::Snapshot, "s1").await.unwrap();
    lab.wait(Resource::Snapshot, "s1", Value::is_null).await;
    assert!(!image.exists());
    lab.stop().await;
}
