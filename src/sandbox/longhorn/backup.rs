//! Backups: made from a snapshot here, or found in the bucket (`backup_controller`).

mod upload;

use std::time::Duration;

use kube::{ResourceExt, core::DynamicObject};
use serde_json::{Value, json};

use super::{
    backup_volume,
    cache::Object,
    context::Context,
    names,
    queue::Again,
    resource::{Fields, Meta, Resource},
    store::{self, LOCK_SETTLE, Target},
    target, volume,
};
use crate::{
    Kind, Result,
    backupstore::{BackupRef, Catalog, delete},
};

/// How soon something that stands in the way is looked at again.
const BLOCKED: Duration = Duration::from_millis(500);

pub(super) async fn reconcile(context: &Context, name: &str) -> Result<Again> {
    let Some(backup) = context.get(Resource::Backup, name) else { return Ok(None) };
    if backup.deleting() {
        return remove(context, &backup).await;
    }
    if is_pending(&backup) {
        return upload::run(context, &backup).await;
    }
    if !backup.text("/spec/snapshotName").is_empty() {
        let volume = backup.label(names::LABEL_BACKUP_VOLUME);
        volume::remove_ticket(context, volume, names::TICKET_BACKUP, name).await?;
    }
    inspect(context, &backup).await?;
    Ok(None)
}

/// Whether it is to be made here and has not come to an end.
pub(super) fn is_pending(backup: &DynamicObject) -> bool {
    !backup.text("/spec/snapshotName").is_empty()
        && backup.text("/status/lastSyncedAt").is_empty()
        && !matches!(backup.text("/status/state"), "Completed" | "Error" | "Unknown")
}

/// Fills the status from the bucket, for backups that were made elsewhere or have to be looked at again.
async fn inspect(context: &Context, backup: &DynamicObject) -> Result<()> {
    let last = backup.text("/status/lastSyncedAt");
    if matches!(backup.text("/status/state"), "Error" | "Unknown")
        || !last.is_empty() && names::seconds(backup.text("/spec/syncRequestedAt")) <= names::seconds(last)
    {
        return Ok(());
    }
    let Ok(target) = store::open_available(context, backup.label(names::LABEL_TARGET)) else { return Ok(()) };
    match inspected(context, backup, &target).await {
        Ok(status) => context.set_status(Resource::Backup, backup, status).await.map(drop),
        // Gone from the bucket, or of no use: the object stays without a state until the next sync.
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Invalid) => {
            let status = json!({"messages": {"error": error.to_string()}});
            context.set_status(Resource::Backup, backup, status).await.map(drop)
        }
        Err(error) => Err(error),
    }
}

/// What the bucket says about a backup. One that was never finished has no state and no URL.
async fn inspected(context: &Context, backup: &DynamicObject, target: &Target) -> Result<Value> {
    let of = BackupRef::new(backup.label(names::LABEL_BACKUP_VOLUME), backup.name_any())?;
    let catalog = Catalog::new(target.store.clone());
    let config = catalog.backup(&of.volume, &of.backup).await?;
    if config.is_incomplete() {
        return Ok(json!({"ownerID": context.options.node}));
    }
    let volume = catalog.volume(&of.volume).await?;
    Ok(json!({
        "ownerID": context.options.node,
        "state": "Completed",
        "progress": 100,
        "error": "",
        "messages": null,
        "url": of.encode(&target.url),
        "snapshotName": config.snapshot_name,
        "snapshotCreatedAt": config.snapshot_created_at,
        "backupCreatedAt": config.created_time,
        "size": config.size.to_string(),
        "labels": config.labels,
        "volumeName": of.volume,
        // The size as the bucket has it now; it is not looked at again when the volume grows.
        "volumeSize": volume.size.to_string(),
        "volumeCreated": volume.created_time,
        "volumeBackingImageName": volume.backing_image_name,
        "compressionMethod": config.compression_method,
        "newlyUploadDataSize": config.newly_uploaded_data_size.to_string(),
        "reUploadedDataSize": config.re_uploaded_data_size.to_string(),
        "backupTargetName": target.name,
        "lastSyncedAt": names::now(),
    }))
}

/// Deletes a backup in the bucket, unless only the object was meant or the target cannot be reached now.
async fn remove(context: &Context, backup: &Object) -> Result<Again> {
    let (name, volume) = (backup.name_any(), backup.label(names::LABEL_BACKUP_VOLUME).to_owned());
    volume::remove_ticket(context, &volume, names::TICKET_BACKUP, &name).await?;
    let target_name = backup.label(names::LABEL_TARGET);
    let wanted = backup.label(names::LABEL_ONLY_OBJECT).is_empty();
    if wanted && let Ok(target) = store::open_available(context, target_name) {
        if is_being_restored(context, &volume) {
            return Ok(Some(BLOCKED));
        }
        let backup = context.set_status(Resource::Backup, backup, json!({"state": "Deleting"})).await?;
        match delete::backup(&target.store, &BackupRef::new(volume.as_str(), name.as_str())?, LOCK_SETTLE).await {
            Err(error) if error.kind() != Kind::NotFound => {
                let status = json!({"state": "Error", "messages": {"error": error.to_string()}});
                context.set_status(Resource::Backup, &backup, status).await?;
                return Err(error);
            }
            _ => {}
        }
        if context.setting("auto-cleanup-when-delete-backup") == "true" {
            remove_snapshot(context, &backup).await?;
        }
        look_again(context, target_name, &volume).await?;
    }
    context.release(Resource::Backup, backup).await?;
    Ok(None)
}

fn is_being_restored(context: &Context, volume: &str) -> bool {
    context.list(Resource::Volume).iter().any(|restoring| {
        restoring.flag("/status/restoreRequired")
            && restoring.text("/status/robustness") != "faulted"
            && restoring.label(names::LABEL_BACKUP_VOLUME) == volume
            && !restoring.deleting()
    })
}

async fn remove_snapshot(context: &Context, backup: &DynamicObject) -> Result<()> {
    match context.get(Resource::Snapshot, backup.text("/spec/snapshotName")) {
        Some(snapshot) => context.delete(Resource::Snapshot, &snapshot).await,
        None => Ok(()),
    }
}

/// Has the volume's part of the bucket looked through again, or all of it when the volume is new there.
async fn look_again(context: &Context, target_name: &str, volume: &str) -> Result<()> {
    if let Some(known) = backup_volume::find(context, target_name, volume) {
        return target::request_sync(context, Resource::BackupVolume, &known).await;
    }
    match context.get(Resource::BackupTarget, target_name) {
        Some(known) => target::request_sync(context, Resource::BackupTarget, &known).await,
        None => Ok(()),
    }
}
