//! Backups: made from a snapshot here, or found in the bucket (`backup_controller`).

use kube::{ResourceExt, core::DynamicObject};
use serde_json::{Value, json};

use super::{
    context::Context,
    names,
    queue::Again,
    resource::{Fields, Meta, Resource},
    store::{self, Target},
};
use crate::{
    Kind, Result,
    backupstore::{BackupRef, Catalog},
};

pub(super) async fn reconcile(context: &Context, name: &str) -> Result<Again> {
    let Some(backup) = context.get(Resource::Backup, name) else { return Ok(None) };
    if backup.deleting() {
        context.release(Resource::Backup, &backup).await?;
        return Ok(None);
    }
    if !is_pending(&backup) {
        inspect(context, &backup).await?;
    }
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
