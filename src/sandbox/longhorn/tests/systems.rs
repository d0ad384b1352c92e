//! System backups and restores, with what they leave out.

use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use super::*;

impl Lab {
    pub(super) async fn namespace(&self, name: &str) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let object = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    pub(super) fn claims(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &Resource::Claim.api_resource())
    }

    /// A volume with a PersistentVolume and a bound claim, as an application has them.
    pub(super) async fn application(&self, volume: &str, pv: &str, namespace: &str, annotated: bool) {
        self.volume(volume, json!({})).await;
        let claim_ref = json!({"namespace": namespace, "name": "data"});
        self.create(
            Resource::PersistentVolume,
            json!({"metadata": {"name": pv}, "spec": {
            "capacity": {"storage": "16Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn-static",
            "persistentVolumeReclaimPolicy": "Retain", "claimRef": claim_ref,
            "csi": {"driver": "driver.longhorn.io", "fsType": "ext4", "volumeHandle": volume}}}),
        )
        .await
        .unwrap();
        let annotations = if annotated { json!({"pv.kubernetes.io/bind-completed": "yes"}) } else { json!({}) };
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": namespace, "annotations": annotations},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn-static", "volumeName": pv,
                "resources": {"requests": {"storage": "16Mi"}}}});
        let claim: DynamicObject = serde_json::from_value(claim).unwrap();
        self.claims(namespace).create(&PostParams::default(), &claim).await.unwrap();
    }

    pub(super) async fn system_backup(&self, name: &str, policy: &str) -> Value {
        let spec = json!({"volumeBackupPolicy": policy});
        self.create(Resource::SystemBackup, json!({"metadata": {"name": name}, "spec": spec})).await.unwrap();
        let done = |b: &Value| matches!(b["status"]["state"].as_str(), Some("Ready" | "Error"));
        let made = self.wait(Resource::SystemBackup, name, done).await;
        assert_eq!(made["status"]["state"], "Ready", "{made:#}");
        made
    }

    pub(super) async fn system_restore(&self, bundle: &str) {
        self.wait(Resource::SystemBackup, bundle, |b| b["status"]["state"] == "Ready").await;
        let object = json!({"metadata": {"name": "r"}, "spec": {"systemBackup": bundle}});
        self.create(Resource::SystemRestore, object).await.unwrap();
    }

    pub(super) async fn completed(&self) -> Value {
        self.wait(Resource::SystemRestore, "r", |r| r["status"]["state"] == "Completed").await
    }

    pub(super) async fn warnings(&self) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), "longhorn-system");
        let events = api.list(&ListParams::default()).await.unwrap().items;
        events.into_iter().filter(|e| e.type_.as_deref() == Some("Warning")).filter_map(|e| e.reason).collect()
    }
}

#[tokio::test]
async fn a_bundle_restores_what_was_newest_when_it_was_made() {
    let bucket = Bucket::start().await;
    let lab = Lab::start(bucket.options()).await;
    lab.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    lab.namespace("app").await;
    lab.application("v1", "v1", "app", true).await;
    lab.volume("empty", json!({})).await;
    lab.back_up("v1", "old", json!({})).await;
    lab.wait(Resource::Volume, "v1", |v| v["status"]["lastBackup"] == "old").await;
    let made = lab.system_backup("weekly", "disabled").await;
    assert_eq!(made["status"]["version"], "v1.10.2");
    lab.back_up("v1", "new", json!({})).await;
    // A name that the bucket knows is not backed up again.
    let only = json!({"metadata": {"labels": {"longhorn.io/delete-custom-resource-only": "true"}}});
    lab.patch(Resource::SystemBackup, "weekly", only).await.unwrap();
    lab.delete(Resource::SystemBackup, "weekly").await.unwrap();
    lab.wait(Resource::SystemBackup, "weekly", Value::is_null).await;
    let again = lab.system_backup("weekly", "disabled").await;
    assert_eq!(again["status"]["createdAt"], made["status"]["createdAt"], "the old one");
    lab.stop().await;

    let fresh = Lab::start(bucket.options()).await;
    fresh.wait(Resource::Backup, "old", |b| b["status"]["state"] == "Completed").await;
    fresh.namespace("app").await;
    fresh.system_restore("weekly").await;
    fresh.completed().await;
    let volume = fresh.get(Resource::Volume, "v1").await;
    let from = volume["spec"]["fromBackup"].as_str().unwrap();
    assert!(from.contains("backup=old"), "{from}");
    assert_eq!(volume["metadata"]["annotations"]["longhorn.io/last-system-restored-backup"], from);
    let empty = fresh.get(Resource::Volume, "empty").await;
    assert_eq!(empty["spec"]["fromBackup"], "", "without a backup it comes back, with nothing in it");
    let pv = fresh.get(Resource::PersistentVolume, "v1").await;
    assert_eq!(pv["spec"]["claimRef"], Value::Null);
    assert_eq!(pv["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    let claim = fresh.claims("app").get("data").await.unwrap();
    assert_eq!(claim.data["spec"]["volumeName"], "v1");
    fresh.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_pruned_backup_leaves_its_volume_out_and_the_restore_says_completed() {
    let bucket = Bucket::start().await;
    let lab = Lab::start(bucket.options()).await;
    lab.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    lab.namespace("app").await;
    lab.application("v1", "v1", "app", true).await;
    lab.back_up("v1", "old", json!({})).await;
    lab.wait(Resource::Volume, "v1", |v| v["status"]["lastBackup"] == "old").await;
    lab.system_backup("weekly", "disabled").await;
    lab.back_up("v1", "new", json!({})).await;
    lab.delete(Resource::Backup, "old").await.unwrap();
    lab.wait(Resource::Backup, "old", Value::is_null).await;
    lab.stop().await;

    let fresh = Lab::start(bucket.options()).await;
    fresh.wait(Resource::Backup, "new", |b| b["status"]["state"] == "Completed").await;
    fresh.namespace("app").await;
    fresh.system_restore("weekly").await;
    let done = fresh.completed().await;
    assert_eq!(done["status"]["conditions"], Value::Null);
    assert!(fresh.api(Resource::Volume).get_opt("v1").await.unwrap().is_none());
    assert!(fresh.api(Resource::PersistentVolume).get_opt("v1").await.unwrap().is_none());
    assert!(fresh.claims("app").get_opt("data").await.unwrap().is_none());
    let warnings = fresh.warnings().await;
    for reason in [
        "FailedCreating: Volume v1",
        "RolloutSkipped: PersistentVolume v1",
        "RolloutSkipped: PersistentVolumeClaim data",
    ] {
        assert!(warnings.iter().any(|warning| warning == reason), "{warnings:?}");
    }
    fresh.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_pruned_backup_of_a_volume_with_another_name_hangs_the_restore() {
    let bucket = Bucket::start().await;
    let lab = Lab::start(bucket.options()).await;
    lab.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    lab.namespace("app").await;
    lab.application("v1", "pv-of-v1", "app", true).await;
    lab.back_up("v1", "old", json!({})).await;
    lab.wait(Resource::Volume, "v1", |v| v["status"]["lastBackup"] == "old").await;
    lab.system_backup("weekly", "disabled").await;
    lab.delete(Resource::Backup, "old").await.unwrap();
    lab.wait(Resource::Backup, "old", Value::is_null).await;
    lab.stop().await;

    let fresh = Lab::start(bucket.options()).await;
    fresh.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    fresh.namespace("app").await;
    fresh.system_restore("weekly").await;
    fresh.wait(Resource::SystemRestore, "r", |r| r["status"]["state"] == "Restoring").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let still = fresh.get(Resource::SystemRestore, "r").await;
    assert_eq!(still["status"]["state"], "Restoring");
    let busy = json!({"metadata": {"name": "r2"}, "spec": {"systemBackup": "weekly"}});
    let refused = fresh.create(Resource::SystemRestore, busy).await.unwrap_err();
    assert!(refused.message.contains("found 1 SystemRestore in progress"), "{}", refused.message);
    fresh.delete(Resource::SystemRestore, "r").await.unwrap();
    fresh.wait(Resource::SystemRestore, "r", Value::is_null).await;
    fresh.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_claim_of_a_missing_namespace_is_left_out_in_silence() {
    let bucket = Bucket::start().await;
    let lab = Lab::start(bucket.options()).await;
    lab.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    for name in ["gone", "kept"] {
        lab.namespace(name).await;
    }
    lab.application("v1", "v1", "gone", true).await;
    lab.application("v2", "v2", "kept", true).await;
    // The policy backs up both, one after the other, without what claims they belong to.
    lab.system_backup("weekly", "if-not-present").await;
    let backups = lab.api(Resource::Backup).list(&ListParams::default()).await.unwrap().items;
    assert_eq!(backups.len(), 2);
    assert!(backups.iter().all(|b| b.data["status"]["labels"]["KubernetesStatus"].is_null()));
    lab.stop().await;

    let fresh = Lab::start(bucket.options()).await;
    for backup in &backups {
        let name = backup.metadata.name.as_deref().unwrap();
        fresh.wait(Resource::Backup, name, |b| b["status"]["state"] == "Completed").await;
    }
    fresh.namespace("kept").await;
    fresh.system_restore("weekly").await;
    fresh.completed().await;
    assert!(fresh.claims("kept").get_opt("data").await.unwrap().is_some());
    assert!(fresh.api(Resource::PersistentVolume).get_opt("v1").await.unwrap().is_some());
    assert!(fresh.api(Resource::Volume).get_opt("v1").await.unwrap().is_some());
    assert!(fresh.warnings().await.iter().all(|warning| !warning.contains("data")), "no event tells of it");
    fresh.stop().await;
    bucket.stop().await;
}
