//! Backups, system backups and recurring jobs, and what a fresh cluster makes of them.

use futures::StreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

use super::{restores::restore, *};
use crate::sandbox::longhorn::names;

impl Lab {
    /// A snapshot and a backup of it, as somebody with kubectl makes them.
    pub(super) async fn back_up(&self, volume: &str, name: &str, labels: Value) -> Value {
        let snapshot = json!({"metadata": {"name": name}, "spec": {"volume": volume, "createSnapshot": true}});
        self.create(Resource::Snapshot, snapshot).await.unwrap();
        self.wait(Resource::Snapshot, name, |s| s["status"]["readyToUse"] == true).await;
        let backup = json!({"metadata": {"name": name, "labels": {"backup-volume": volume}},
            "spec": {"snapshotName": name, "labels": labels}});
        self.create(Resource::Backup, backup).await.unwrap();
        let done = |b: &Value| b["status"]["state"] == "Completed" && b["status"]["lastSyncedAt"].is_string();
        self.wait(Resource::Backup, name, done).await
    }

    async fn write(&self, volume: &str, file: &str, content: &[u8]) {
        let data = self.disk.mount(volume).await.unwrap();
        std::fs::write(data.join(file), content).unwrap();
    }

    async fn states(&self, resource: Resource) -> tokio::task::JoinHandle<Vec<String>> {
        let mut events = self.api(resource).watch(&WatchParams::default(), "0").await.unwrap().boxed();
        tokio::spawn(async move {
            let mut states: Vec<String> = Vec::new();
            while let Some(Ok(event)) = events.next().await {
                let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
                let state = object.data["status"]["state"].as_str().unwrap_or_default().to_owned();
                if states.last() != Some(&state) {
                    states.push(state.clone());
                }
                if matches!(state.as_str(), "Completed" | "Ready" | "Error") {
                    break;
                }
            }
            states
        })
    }
}

/// Bytes that cannot be packed, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn sha256(path: &Path) -> String {
    names::hex(ring::digest::digest(&ring::digest::SHA256, &std::fs::read(path).unwrap()).as_ref())
}

#[tokio::test]
async fn a_backup_survives_its_cluster() {
    let bucket = Bucket::start().await;
    let lab = Lab::start(bucket.options()).await;
    lab.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    lab.volume("v1", json!({})).await;
    let content = noise(6 << 20);
    lab.write("v1", "file", &content).await;
    lab.write("v1", "small", b"old").await;
    let states = lab.states(Resource::Backup).await;
    let first = lab.back_up("v1", "b1", json!({"lhrun/run": "42"})).await;
    let mut states = states.await.unwrap();
    // The volume may still be attached for its snapshot; then there is nothing to wait for.
    states.retain(|state| state != "Pending");
    assert_eq!(states, ["", "InProgress", "Completed"]);
    assert_eq!(first["status"]["url"], "s3://backups@us-east-1/?backup=b1&volume=v1");
    assert_eq!(first["status"]["labels"]["lhrun/run"], "42");
    assert_eq!(first["status"]["labels"]["longhorn.io/volume-access-mode"], "rwo");
    assert_eq!(first["status"]["labels"]["KubernetesStatus"], Value::Null, "nobody adds it");
    assert_eq!(first["spec"]["backupBlockSize"], "2097152");
    assert_eq!(first["metadata"]["labels"]["backup-target"], "default");
    lab.wait(Resource::Volume, "v1", |v| v["status"]["lastBackup"] == "b1" && v["status"]["state"] == "detached").await;
    // The second uploads what is new only.
    lab.write("v1", "small", b"new").await;
    let second = lab.back_up("v1", "b2", json!({})).await;
    let uploaded = |b: &Value| b["status"]["newlyUploadDataSize"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(uploaded(&second) < uploaded(&first) / 2, "{} {}", uploaded(&second), uploaded(&first));
    let image = sha256(&lab.disk.snapshot_image("v1", "b2").unwrap());
    let refused = lab
        .create(
            Resource::Backup,
            json!({"metadata": {"name": "b3", "labels": {"backup-volume": "other"}},
        "spec": {"snapshotName": "b2"}}),
        )
        .await
        .unwrap_err();
    assert!(refused.message.contains("other"), "{}", refused.message);
    lab.stop().await;

    let fresh = Lab::start(bucket.options()).await;
    restore(&fresh, "v1", "b2", json!({})).await;
    fresh
        .wait(Resource::Volume, "v1", |v| {
            v["status"]["restoreInitiated"] == true
                && v["status"]["state"] == "detached"
                && v["status"]["restoreRequired"] == false
        })
        .await;
    assert_eq!(sha256(&fresh.disk.image("v1").unwrap()), image);
    let data = fresh.disk.mount("v1").await.unwrap();
    assert_eq!(std::fs::read(data.join("small")).unwrap(), b"new");
    assert_eq!(std::fs::read(data.join("file")).unwrap(), content);
    fresh.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn deleting_a_backup_deletes_its_data_unless_only_the_object_is_meant() {
    let bucket = Bucket::start().await;
    let lab = Lab::start(bucket.options()).await;
    lab.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    lab.volume("v1", json!({})).await;
    for name in ["b1", "b2", "b3"] {
        lab.write("v1", name, &vec![name.as_bytes()[1]; 1 << 20]).await;
        lab.back_up("v1", name, json!({})).await;
    }
    let cfg = |name: &str| bucket.find(&format!("backup_{name}.cfg"));
    lab.delete(Resource::Backup, "b3").await.unwrap();
    lab.wait(Resource::Backup, "b3", Value::is_null).await;
    assert!(cfg("b3").is_none());
    lab.wait(Resource::Volume, "v1", |v| v["status"]["lastBackup"] == "b2").await;
    let only = json!({"metadata": {"labels": {"longhorn.io/delete-custom-resource-only": "true"}}});
    lab.patch(Resource::Backup, "b2", only).await.unwrap();
    lab.delete(Resource::Backup, "b2").await.unwrap();
    lab.wait(Resource::Backup, "b2", Value::is_null).await;
    assert!(cfg("b2").is_some(), "its data stays");
    lab.sync().await;
    lab.wait(Resource::Backup, "b2", |b| b["status"]["state"] == "Completed").await;
    // A whole volume.
    let volume = lab.api(Resource::BackupVolume).list(&ListParams::default()).await.unwrap().items.remove(0);
    lab.delete(Resource::BackupVolume, &volume.metadata.name.unwrap()).await.unwrap();
    lab.wait(Resource::Backup, "b1", Value::is_null).await;
    let begun = tokio::time::Instant::now();
    while cfg("b1").is_some() || bucket.find("volume.cfg").is_some() {
        assert!(begun.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lab.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_backup_that_cannot_be_written_says_why() {
    let bucket = Bucket::start().await;
    let lab = Lab::start(bucket.options()).await;
    lab.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    lab.volume("v1", json!({})).await;
    lab.back_up("v1", "b1", json!({})).await;
    std::fs::write(bucket.find("volume.cfg").unwrap(), b"{cut").unwrap();
    let snapshot = json!({"metadata": {"name": "b2"}, "spec": {"volume": "v1", "createSnapshot": true}});
    lab.create(Resource::Snapshot, snapshot).await.unwrap();
    let backup = json!({"metadata": {"name": "b2", "labels": {"backup-volume": "v1"}}, "spec": {"snapshotName": "b2"}});
    lab.create(Resource::Backup, backup).await.unwrap();
    let failed = lab.wait(Resource::Backup, "b2", |b| b["status"]["state"] == "Error").await;
    assert!(failed["status"]["error"].as_str().unwrap().contains("volume.cfg"), "{failed:#}");
    lab.wait(Resource::Volume, "v1", |v| v["status"]["state"] == "detached").await;
    lab.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_recurring_job_backs_up_attached_volumes_and_keeps_some() {
    let bucket = Bucket::start().await;
    let lab = Lab::start(bucket.options()).await;
    lab.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    lab.volume("used", json!({})).await;
    lab.volume("idle", json!({})).await;
    lab.attach("used").await;
    let spec = json!({"task": "backup", "cron": "0 2 * * *", "retain": 2, "concurrency": 2, "groups": ["default"],
        "labels": {"owner": "lhrun"}});
    lab.create(Resource::RecurringJob, json!({"metadata": {"name": "nightly"}, "spec": spec})).await.unwrap();
    let cron = lab.wait(Resource::CronJob, "nightly", |c| !c.is_null()).await;
    assert_eq!(cron["spec"]["schedule"], "0 2 * * *");
    for run in 1..=3 {
        lab.write("used", &format!("file{run}"), &vec![run; 1 << 20]).await;
        // `kubectl create job --from=cronjob/nightly`
        let job = json!({"metadata": {"name": format!("now-{run}")}, "spec": cron["spec"]["jobTemplate"]["spec"]});
        lab.create(Resource::Job, job).await.unwrap();
        let done = |j: &Value| j["status"]["succeeded"] == 1;
        lab.wait(Resource::Job, &format!("now-{run}"), done).await;
    }
    let mine = || async {
        let all = lab.api(Resource::Backup).list(&ListParams::default()).await.unwrap().items;
        all.into_iter().filter(|b| b.metadata.deletion_timestamp.is_none()).collect::<Vec<_>>()
    };
    let begun = tokio::time::Instant::now();
    while mine().await.len() != 2 {
        assert!(begun.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for backup in mine().await {
        assert!(backup.metadata.name.unwrap().starts_with("nightly-"));
        assert_eq!(backup.data["status"]["volumeName"], "used", "the detached volume was passed over");
        let labels = &backup.data["status"]["labels"];
        assert_eq!(labels["RecurringJob"], "nightly");
        assert_eq!(labels["owner"], "lhrun");
        assert!(labels["KubernetesStatus"].as_str().unwrap().contains("pvcName"));
    }
    let job = lab.get(Resource::RecurringJob, "nightly").await;
    assert_eq!(job["status"]["executionCount"], 3);
    lab.delete(Resource::RecurringJob, "nightly").await.unwrap();
    lab.wait(Resource::CronJob, "nightly", Value::is_null).await;
    lab.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn an_older_backup_of_a_grown_volume_comes_back_in_the_new_size() {
    let bucket = Bucket::start().await;
    let lab = Lab::start(bucket.options()).await;
    lab.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    lab.volume("v1", json!({})).await;
    lab.write("v1", "file", b"content").await;
    lab.back_up("v1", "b1", json!({})).await;
    lab.patch(Resource::Volume, "v1", json!({"spec": {"size": "33554432"}})).await.unwrap();
    lab.wait(Resource::Engine, "v1-e-0", |e| e["status"]["currentSize"] == "33554432").await;
    let grown = lab.back_up("v1", "b2", json!({})).await;
    assert_eq!(grown["status"]["volumeSize"], "33554432");
    lab.wait(Resource::Volume, "v1", |v| v["status"]["lastBackup"] == "b2").await;
    let old = lab.get(Resource::Backup, "b1").await;
    assert_eq!(old["status"]["volumeSize"], "16777216", "nobody looked at it again");
    restore(&lab, "r1", "b1", json!({})).await;
    let done = |v: &Value| v["status"]["restoreRequired"] == false && v["status"]["restoreInitiated"] == true;
    let restored = lab.wait(Resource::Volume, "r1", done).await;
    assert_eq!(restored["spec"]["size"], "33554432");
    assert_eq!(std::fs::metadata(lab.disk.image("r1").unwrap()).unwrap().len(), 33_554_432);
    let data = lab.disk.mount("r1").await.unwrap();
    assert_eq!(std::fs::read(data.join("file")).unwrap(), b"content");
    lab.stop().await;
    bucket.stop().await;
}
