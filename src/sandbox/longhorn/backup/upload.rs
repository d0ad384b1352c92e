//! Making a backup: wait for volume and snapshot, upload the snapshot's image, look at what is in the bucket then.

use std::time::Duration;

use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{BLOCKED, inspect, look_again, remove_snapshot};
use crate::{
    Kind, Result,
    backupstore::{
        BackupRef, Compression, Mode, Progress,
        config::Labels,
        write::{self, BackupRequest},
    },
    sandbox::longhorn::{
        backup_volume,
        cache::Object,
        context::Context,
        names,
        queue::Again,
        resource::{Fields, Meta, Resource},
        store::{self, LOCK_SETTLE},
        volume,
    },
};

/// How long engine and snapshot may take to be ready.
const PATIENCE: i64 = 30;
/// How often progress is written at most.
const TELL: Duration = Duration::from_millis(100);

pub(super) async fn run(context: &Context, backup: &Object) -> Result<Again> {
    let name = backup.name_any();
    let volume_name = backup.label(names::LABEL_BACKUP_VOLUME);
    let Some(volume) = context.get(Resource::Volume, volume_name).filter(|volume| !volume.deleting()) else {
        return fail(context, backup, "cannot find the corresponding volume").await;
    };
    let backup = &context.set_status(Resource::Backup, backup, json!({"ownerID": context.options.node})).await?;
    if let Some(other) = being_deleted(context, backup) {
        return pending(context, backup, &format!("Wait for backup {other} to be deleted")).await;
    }
    volume::add_ticket(context, volume_name, names::TICKET_BACKUP, &name).await?;
    let engine = names::engine_name(volume_name);
    let snapshot_name = backup.text("/spec/snapshotName");
    let snapshot = context.get(Resource::Snapshot, snapshot_name);
    let waiting_for = if volume.text("/status/state") != "attached" || volume.flag("/status/restoreRequired") {
        Some(format!("the engine {engine}"))
    } else if !snapshot.is_some_and(|snapshot| snapshot.flag("/status/readyToUse")) {
        Some(format!("the snapshot {snapshot_name}"))
    } else {
        None
    };
    if let Some(what) = waiting_for {
        let waited = jiff::Timestamp::now().as_second() - names::seconds(&backup.created());
        if waited > PATIENCE {
            return fail(context, backup, &format!("Failed waiting for {what} to be ready")).await;
        }
        return pending(context, backup, &format!("Waiting for {what} to be ready")).await;
    }
    upload(context, backup, &volume).await
}

/// Another backup of the volume on its way out keeps this one waiting.
fn being_deleted(context: &Context, backup: &Object) -> Option<String> {
    let others =
        backup_volume::of_volume(context, backup.label(names::LABEL_TARGET), backup.label(names::LABEL_BACKUP_VOLUME));
    others
        .iter()
        .find(|other| other.deleting() && other.text("/status/state") == "Deleting")
        .map(|other| other.name_any())
}

async fn upload(context: &Context, backup: &Object, volume: &Object) -> Result<Again> {
    let target = match store::open_available(context, backup.label(names::LABEL_TARGET)) {
        Ok(target) => target,
        Err(error) => return fail(context, backup, &error.to_string()).await,
    };
    let volume_name = volume.name_any();
    let of = BackupRef::new(volume_name.as_str(), backup.name_any())?;
    let snapshot = backup.text("/spec/snapshotName");
    let image = context.disk.snapshot_image(&volume_name, snapshot)?;
    let (sender, progress) = watch::channel(0);
    let mut request = BackupRequest::new(of, snapshot, volume.number("/spec/size"));
    request.labels = labels(backup);
    request.mode = if backup.text("/spec/backupMode") == "full" { Mode::Full } else { Mode::Incremental };
    request.compression = match volume.text("/spec/backupCompressionMethod") {
        "none" => Compression::None,
        "gzip" => Compression::Gzip,
        _ => Compression::Lz4,
    };
    request.block_size = volume.number("/spec/backupBlockSize");
    request.storage_class = storage_class(context, &volume_name);
    request.settle = LOCK_SETTLE;
    // The last part of the bar is the configuration object, as in Longhorn.
    request.progress = Some(Progress::new(move |done, total| {
        sender.send_replace(done.saturating_mul(95) / total.max(1));
    }));
    let status = json!({"state": "InProgress", "progress": 0, "messages": null, "snapshotName": snapshot,
        "volumeName": volume_name, "replicaAddress": "tcp://127.0.0.1:10000"});
    let backup = &context.set_status(Resource::Backup, backup, status).await?;
    let permit = context.data_jobs.acquire().await;
    let mut writing = Box::pin(write::backup_file(&target.store, &image, request));
    let mut shown = 0;
    let mut tick = tokio::time::interval(TELL);
    let written = loop {
        tokio::select! {
            written = &mut writing => break written,
            _ = tick.tick() => {
                let percent = *progress.borrow();
                if percent != shown {
                    shown = percent;
                    context.set_status(Resource::Backup, backup, json!({"progress": percent})).await?;
                }
            }
        }
    };
    drop(permit);
    match written {
        Ok(_) => done(context, backup, &volume_name).await,
        // A deletion holds the lock of the volume: again, later.
        Err(error) if error.kind() == Kind::Conflict && is_locked(&error) => {
            pending(context, backup, &error.to_string()).await
        }
        Err(error) => fail(context, backup, &error.to_string()).await,
    }
}

fn is_locked(error: &crate::Error) -> bool {
    error.message().contains("lock")
}

async fn done(context: &Context, backup: &Object, volume_name: &str) -> Result<Again> {
    // Completed comes first; URL, labels and the rest follow once the bucket has been looked at.
    let status = json!({"state": "Completed", "progress": 100});
    let backup = &context.set_status(Resource::Backup, backup, status).await?;
    inspect(context, backup).await?;
    look_again(context, backup.label(names::LABEL_TARGET), volume_name).await?;
    if context.setting("auto-cleanup-snapshot-after-on-demand-backup-completed") == "true" {
        remove_snapshot(context, backup).await?;
    }
    volume::remove_ticket(context, volume_name, names::TICKET_BACKUP, &backup.name_any()).await?;
    Ok(None)
}

async fn pending(context: &Context, backup: &Object, why: &str) -> Result<Again> {
    let status = json!({"state": "Pending", "messages": {"info": why}});
    context.set_status(Resource::Backup, backup, status).await?;
    Ok(Some(BLOCKED))
}

async fn fail(context: &Context, backup: &Object, why: &str) -> Result<Again> {
    let status = json!({"state": "Error", "error": why, "messages": null, "lastSyncedAt": names::now()});
    let backup = context.set_status(Resource::Backup, backup, status).await?;
    context.event((Resource::Backup, &backup), true, "Failed", why).await;
    let volume = backup.label(names::LABEL_BACKUP_VOLUME);
    volume::remove_ticket(context, volume, names::TICKET_BACKUP, &backup.name_any()).await?;
    Ok(None)
}

/// The labels as they were asked for; nothing is added, in particular not what claim the volume belongs to.
fn labels(backup: &Object) -> Labels {
    let asked = backup.field("/spec/labels").as_object();
    asked.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn storage_class(context: &Context, volume: &str) -> String {
    let all = context.list(Resource::PersistentVolume);
    let found = all.iter().find(|object| {
        object.text("/spec/csi/driver") == names::DRIVER && object.text("/spec/csi/volumeHandle") == volume
    });
    found.map(|object| object.field("/spec/storageClassName")).and_then(Value::as_str).unwrap_or_default().to_owned()
}
