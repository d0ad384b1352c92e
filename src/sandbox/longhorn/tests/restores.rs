//! What a fresh cluster finds in a bucket, and what it restores from it.

use futures::StreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

use super::*;
use crate::sandbox::longhorn::names;

fn sha256(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    names::hex(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref())
}

pub(super) async fn restore(lab: &Lab, name: &str, backup: &str, spec: Value) {
    let found = lab.wait(Resource::Backup, backup, |b| b["status"]["state"] == "Completed").await;
    let mut whole = json!({"size": "1", "frontend": "blockdev", "numberOfReplicas": 1,
        "fromBackup": found["status"]["url"], "backupBlockSize": "2097152"});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    lab.create(Resource::Volume, json!({"metadata": {"name": name}, "spec": whole})).await.unwrap();
}

#[tokio::test]
async fn a_fresh_cluster_finds_what_is_in_the_bucket() {
    let bucket = Bucket::with_fixtures().await;
    // A backup that was never finished.
    let cfg = bucket.path("backupstore/volumes/66/eb/pvc-empty/backups/backup_backup-crashed.cfg");
    std::fs::write(cfg, br#"{"Name":"backup-crashed","VolumeName":"pvc-empty","Size":"0","CreatedTime":""}"#).unwrap();
    let lab = Lab::start(bucket.options()).await;
    let legacy = lab.wait(Resource::Backup, "backup-0000000000001402", |b| b["status"]["url"].is_string()).await;
    assert_eq!(legacy["status"]["state"], "Completed");
    let url = "s3://backups@us-east-1/?backup=backup-0000000000001402&volume=pvc-legacy";
    assert_eq!(legacy["status"]["url"], url);
    assert_eq!(legacy["status"]["volumeSize"], "25165824");
    assert_eq!(legacy["status"]["backupTargetName"], "default");
    assert_eq!(legacy["metadata"]["labels"]["backup-volume"], "pvc-legacy");
    assert_eq!(legacy["spec"]["backupBlockSize"], "2097152");
    let volume = lab.api(Resource::BackupVolume).list(&ListParams::default().labels("backup-volume=pvc-legacy")).await;
    let volume = volume.unwrap().items.remove(0);
    let name = volume.metadata.name.clone().unwrap();
    assert!(name.starts_with("pvc-legacy-") && name.len() == "pvc-legacy-".len() + 8, "{name}");
    let volume = lab.wait(Resource::BackupVolume, &name, |v| v["status"]["lastSyncedAt"].is_string()).await;
    assert_eq!(volume["status"]["lastBackupName"], "backup-0000000000001403");
    assert_eq!(volume["status"]["size"], "25165824");
    // No labels in the bucket, no block size here; and no state for the unfinished one.
    let bare = lab.wait(Resource::Backup, "backup-0000000000001403", |b| b["status"]["state"] == "Completed").await;
    assert_eq!(bare["spec"]["backupBlockSize"], "-1");
    let crashed = lab.wait(Resource::Backup, "backup-crashed", |b| !b.is_null()).await;
    assert_eq!(crashed["status"]["state"], Value::Null);
    let spec = json!({"frontend": "blockdev", "size": "16777216",
        "fromBackup": "s3://backups@us-east-1/?backup=backup-crashed&volume=pvc-empty"});
    let refused = lab.create(Resource::Volume, json!({"metadata": {"name": "v"}, "spec": spec})).await.unwrap_err();
    assert_eq!(refused.code, 422);
    assert!(refused.message.contains("cannot get backup volume"), "{}", refused.message);

    // Gone from the bucket, gone here; the bucket itself is not touched by that.
    std::fs::remove_file(
        bucket.path("backupstore/volumes/7e/d3/pvc-legacy/backups/backup_backup-0000000000001401.cfg"),
    )
    .unwrap();
    lab.sync().await;
    lab.wait(Resource::Backup, "backup-0000000000001401", Value::is_null).await;
    lab.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_target_is_available_before_it_has_been_looked_through() {
    let bucket = Bucket::with_fixtures().await;
    let mut options = bucket.options();
    let right = options.target.as_mut().unwrap().credentials.insert("AWS_SECRET_ACCESS_KEY".to_owned(), "wrong".into());
    let lab = Lab::start(options).await;
    let refused = lab.wait(Resource::BackupTarget, "default", |t| t["status"]["available"] == false).await;
    assert_eq!(refused["status"]["lastSyncedAt"], Value::Null);
    assert_eq!(refused["status"]["conditions"][0]["type"], "Unavailable");
    assert_eq!(refused["status"]["conditions"][0]["status"], "True");
    let said = refused["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(said.contains("s3://backups@us-east-1/"), "{said}");
    let mut events = lab.api(Resource::BackupTarget).watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let right = secrecy::ExposeSecret::expose_secret(&right.unwrap()).to_owned();
    lab.patch(Resource::Secret, "s3-keys", json!({"stringData": {"AWS_SECRET_ACCESS_KEY": right}})).await.unwrap();
    let mut before = false;
    loop {
        let event = tokio::time::timeout(LIMIT, events.next()).await.unwrap().unwrap().unwrap();
        let (WatchEvent::Added(t) | WatchEvent::Modified(t)) = event else { continue };
        let status = &t.data["status"];
        before |= status["available"] == true && status["lastSyncedAt"].is_null();
        if status["lastSyncedAt"].is_string() {
            break;
        }
    }
    assert!(before, "available, and not yet synced");
    lab.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_restored_volume_is_the_recorded_image() {
    let bucket = Bucket::with_fixtures().await;
    let manifest = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/longhorn/manifest.json"));
    let manifest: Value = serde_json::from_slice(&manifest.unwrap()).unwrap();
    let lab = Lab::start(bucket.options()).await;
    for entry in manifest["backups"].as_array().unwrap() {
        let (volume, backup) = (entry["volume"].as_str().unwrap(), entry["backup"].as_str().unwrap());
        // Without its backing image, which is no matter here, Longhorn refuses the volume.
        if volume == "pvc-backed" {
            continue;
        }
        let name = format!("r-{}", &backup[backup.len() - 4..]);
        restore(&lab, &name, backup, json!({})).await;
        let done = |v: &Value| {
            let status = &v["status"];
            status["restoreInitiated"] == true && status["restoreRequired"] == false && status["state"] == "detached"
        };
        let restored = lab.wait(Resource::Volume, &name, done).await;
        assert_ne!(restored["status"]["robustness"], "faulted");
        assert_eq!(restored["spec"]["size"].as_str().unwrap(), entry["longhorn_restored_size"].to_string());
        assert_eq!(
            sha256(&lab.disk.image(&name).unwrap()),
            entry["longhorn_restored_sha256"].as_str().unwrap(),
            "{backup}"
        );
        let engine = lab.get(Resource::Engine, &format!("{name}-e-0")).await;
        assert_eq!(engine["status"]["lastRestoredBackup"], backup);
    }
    let past = lab.get(Resource::Volume, "r-00f0").await;
    assert_eq!(past["status"]["kubernetesStatus"]["pvcName"], "data-postgres-0");
    assert_eq!(past["status"]["kubernetesStatus"]["pvName"], "");
    assert_ne!(past["status"]["kubernetesStatus"]["lastPVCRefAt"], "");
    lab.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_damaged_block_ends_in_a_faulted_volume_that_names_it() {
    let bucket = Bucket::with_fixtures().await;
    let block = "4f2ef65de73cdb064cd382eca1a2d61c1756e0bf9d90b4a569dfd484f638eedb";
    let path = bucket.path(&format!("backupstore/volumes/7e/d3/pvc-legacy/blocks/4f/2e/{block}.blk"));
    std::fs::remove_file(path).unwrap();
    let lab = Lab::start(bucket.options()).await;
    let mut hit = 0;
    for backup in ["backup-0000000000001401", "backup-0000000000001402", "backup-0000000000001403"] {
        let cfg = bucket.path(&format!("backupstore/volumes/7e/d3/pvc-legacy/backups/backup_{backup}.cfg"));
        if !std::fs::read_to_string(cfg).unwrap().contains(block) {
            continue;
        }
        hit += 1;
        let name = format!("r-{}", &backup[backup.len() - 4..]);
        restore(&lab, &name, backup, json!({"numberOfReplicas": 2})).await;
        let faulted = |v: &Value| v["status"]["robustness"] == "faulted" && v["status"]["state"] == "detached";
        let volume = lab.wait(Resource::Volume, &name, faulted).await;
        assert_eq!(volume["status"]["restoreRequired"], true, "it stays");
        let conditions = volume["status"]["conditions"].as_array().unwrap();
        let restore = conditions.iter().find(|c| c["type"] == "Restore").unwrap();
        assert_eq!((restore["status"].as_str(), restore["reason"].as_str()), (Some("False"), Some("RestoreFailure")));
        let engine = lab.get(Resource::Engine, &format!("{name}-e-0")).await;
        let replicas = engine["status"]["restoreStatus"].as_object().unwrap();
        assert_eq!(replicas.len(), 2);
        assert!(replicas.values().all(|r| r["error"].as_str().unwrap().contains(block)), "{replicas:?}");
        assert!(!lab.disk.image(&name).unwrap().exists());
    }
    assert!(hit > 0);
    lab.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_restore_limit_of_zero_lets_none_begin() {
    let bucket = Bucket::with_fixtures().await;
    let lab = Lab::start(bucket.options()).await;
    let limit = "concurrent-volume-backup-restore-per-node-limit";
    lab.patch(Resource::Setting, limit, json!({"value": "0"})).await.unwrap();
    restore(&lab, "r1", "backup-0000000000001402", json!({})).await;
    lab.wait(Resource::Volume, "r1", |v| v["status"]["state"] == "attached").await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let engine = lab.get(Resource::Engine, "r1-e-0").await;
    assert_eq!(engine["status"]["restoreStatus"], Value::Null, "attached, nothing happens, no error");
    lab.patch(Resource::Setting, limit, json!({"value": "5"})).await.unwrap();
    lab.wait(Resource::Volume, "r1", |v| v["status"]["state"] == "detached" && v["status"]["restoreRequired"] == false)
        .await;
    lab.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_standby_volume_follows_and_is_activated() {
    let bucket = Bucket::with_fixtures().await;
    let lab = Lab::start(bucket.options()).await;
    restore(&lab, "dr", "backup-0000000000001401", json!({"Standby": true, "frontend": ""})).await;
    lab.wait(Resource::Engine, "dr-e-0", |e| e["status"]["lastRestoredBackup"] == "backup-0000000000001403").await;
    let standby = lab.get(Resource::Volume, "dr").await;
    assert_eq!(standby["status"]["isStandby"], true);
    assert_eq!(standby["status"]["restoreRequired"], true);
    let change = json!({"spec": {"backupTargetURL": "s3://other@us-east-1/"}});
    let refused = lab.patch(Resource::BackupTarget, "default", change).await.unwrap_err();
    assert!(refused.message.contains("existing standby volumes"), "{}", refused.message);
    lab.patch(Resource::Volume, "dr", json!({"spec": {"Standby": false, "frontend": "blockdev"}})).await.unwrap();
    let active = |v: &Value| {
        let status = &v["status"];
        status["isStandby"] == false && status["restoreRequired"] == false && status["state"] == "detached"
    };
    lab.wait(Resource::Volume, "dr", active).await;
    lab.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_deletion_lock_holds_a_restore_back() {
    let bucket = Bucket::with_fixtures().await;
    let lab = Lab::start(bucket.options()).await;
    let lock = bucket.path("backupstore/volumes/7e/d3/pvc-legacy/locks/lock-0123456789abcdef.lck");
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    std::fs::write(&lock, br#"{"Name":"lock-0123456789abcdef","Type":2,"Acquired":true}"#).unwrap();
    restore(&lab, "r1", "backup-0000000000001402", json!({})).await;
    let held = lab.wait(Resource::Engine, "r1-e-0", |e| {
        let replicas = e["status"]["restoreStatus"].as_object();
        replicas.is_some_and(|all| all.values().any(|r| r["error"].as_str().unwrap().contains("lock")))
    });
    held.await;
    assert_ne!(lab.get(Resource::Volume, "r1").await["status"]["robustness"], "faulted", "it is tried again");
    std::fs::remove_file(lock).unwrap();
    lab.wait(Resource::Volume, "r1", |v| v["status"]["state"] == "detached" && v["status"]["restoreRequired"] == false)
        .await;
    lab.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_pod_gets_a_restored_volume_only_after_its_restore() {
    let bucket = Bucket::with_fixtures().await;
    let lab = Lab::start(bucket.options()).await;
    let limit = "concurrent-volume-backup-restore-per-node-limit";
    lab.patch(Resource::Setting, limit, json!({"value": "0"})).await.unwrap();
    restore(&lab, "r1", "backup-0000000000001402", json!({})).await;
    lab.wait(Resource::Volume, "r1", |v| v["status"]["state"] == "attached").await;
    let id = "csi-0";
    let ticket = json!({"id": id, "type": "csi-attacher", "nodeID": crate::sandbox::NODE,
        "parameters": {"disableFrontend": "false"}, "generation": 0});
    lab.patch(Resource::VolumeAttachment, "r1", json!({"spec": {"attachmentTickets": {id: ticket}}})).await.unwrap();
    let asked =
        lab.wait(Resource::VolumeAttachment, "r1", |a| !a["status"]["attachmentTicketStatuses"][id].is_null()).await;
    assert_eq!(asked["status"]["attachmentTicketStatuses"][id]["satisfied"], false);
    assert_eq!(lab.get(Resource::Volume, "r1").await["status"]["frontendDisabled"], true);
    lab.patch(Resource::Setting, limit, json!({"value": "5"})).await.unwrap();
    let usable = |v: &Value| {
        let status = &v["status"];
        status["state"] == "attached" && status["frontendDisabled"] == false && status["restoreRequired"] == false
    };
    lab.wait(Resource::Volume, "r1", usable).await;
    lab.wait(Resource::VolumeAttachment, "r1", |a| a["status"]["attachmentTicketStatuses"][id]["satisfied"] == true)
        .await;
    lab.stop().await;
    bucket.stop().await;
}

/// With the whole archive the small fixtures are taken from, when `LHRUN_FIXTURES` names its folder.
#[tokio::test]
async fn the_whole_archive_is_found_and_one_of_it_restored() {
    let Some(folder) = std::env::var_os("LHRUN_FIXTURES") else { return };
    let bucket = Bucket::start().await;
    let archive = Path::new(&folder).join("longhorn-backupstore.tar.zst");
    let mut unpack = std::process::Command::new("tar");
    let unpacked = unpack.arg("--zstd").arg("-xf").arg(&archive).arg("-C").arg(bucket.path("")).status().unwrap();
    assert!(unpacked.success());
    let manifest = std::fs::read(Path::new(&folder).join("longhorn-backupstore.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let lab = Lab::start(bucket.options()).await;
    for entry in manifest["backups"].as_array().unwrap() {
        let backup = entry["backup"].as_str().unwrap();
        lab.wait(Resource::Backup, backup, |b| b["status"]["state"] == "Completed").await;
        if entry["volume"] == "pvc-ext4-gzip" {
            let name = format!("r-{}", &backup[backup.len() - 4..]);
            restore(&lab, &name, backup, json!({})).await;
            let done = |v: &Value| {
                let status = &v["status"];
                status["restoreInitiated"] == true
                    && status["restoreRequired"] == false
                    && status["state"] == "detached"
            };
            lab.wait(Resource::Volume, &name, done).await;
            let image = lab.disk.image(&name).unwrap();
            assert_eq!(sha256(&image), entry["longhorn_restored_sha256"].as_str().unwrap());
            let data = lab.disk.mount(&name).await.unwrap();
            assert!(std::fs::read_dir(data).unwrap().next().is_some(), "files of a file system made elsewhere");
        }
    }
    lab.stop().await;
    bucket.stop().await;
}
