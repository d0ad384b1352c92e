//! `BackupVolume`s: the backups of one volume as the bucket has them (`backup_volume_controller`).

use std::collections::BTreeSet;

use kube::{ResourceExt, core::DynamicObject};
use serde_json::json;

use super::{
    context::Context,
    names,
    queue::Again,
    resource::{Fields, Meta, Resource},
    store::{self, LOCK_SETTLE, Target},
};
use crate::{
    Kind, Result,
    backupstore::{Catalog, config::BackupConfig, delete},
};

pub(super) async fn reconcile(context: &Context, name: &str) -> Result<Again> {
    let Some(volume) = context.get(Resource::BackupVolume, name) else { return Ok(None) };
    if volume.deleting() {
        remove(context, &volume).await?;
        return Ok(None);
    }
    let last = volume.text("/status/lastSyncedAt");
    if !last.is_empty() && names::seconds(volume.text("/spec/syncRequestedAt")) <= names::seconds(last) {
        return Ok(None);
    }
    let Ok(target) = store::open_available(context, volume.text("/spec/backupTargetName")) else { return Ok(None) };
    let started = names::now();
    let name = volume.text("/spec/volumeName");
    sync_backups(context, &target, name).await?;
    let config = match Catalog::new(target.store).volume(name).await {
        Ok(config) => config,
        Err(error) => {
            // A folder without a readable volume.cfg stays unsynced, as in Longhorn; here the reason can be seen.
            let status = json!({"messages": {"error": error.to_string()}});
            context.set_status(Resource::BackupVolume, &volume, status).await?;
            return Ok(None);
        }
    };
    let status = json!({
        "ownerID": context.options.node,
        "lastModificationTime": started,
        "size": config.size.to_string(),
        "labels": config.labels,
        "createdAt": config.created_time,
        "lastBackupName": config.last_backup_name,
        "lastBackupAt": config.last_backup_at,
        "dataStored": (config.block_count * (2 << 20)).to_string(),
        "messages": null,
        "backingImageName": config.backing_image_name,
        "backingImageChecksum": config.backing_image_checksum,
        "storageClassName": config.storage_class_name,
        "lastSyncedAt": super::target::synced_at(&volume, &started),
    });
    context.set_status(Resource::BackupVolume, &volume, status).await?;
    Ok(None)
}

/// One Backup per configuration object in the bucket; those that are gone there go here, too.
async fn sync_backups(context: &Context, target: &Target, volume: &str) -> Result<()> {
    let catalog = Catalog::new(target.store.clone());
    let found: BTreeSet<String> = catalog.backup_names(volume).await?.into_iter().collect();
    for backup in of_volume(context, &target.name, volume) {
        // One that is being made here is not in the bucket yet.
        let pending = !backup.text("/spec/snapshotName").is_empty() && backup.text("/status/state") != "Completed";
        if !found.contains(&backup.name_any()) && !pending {
            context.forget(Resource::Backup, &backup).await?;
        }
    }
    for name in found.into_iter().filter(|name| names::is_valid_name(name)) {
        if context.get(Resource::Backup, &name).is_some() {
            continue;
        }
        let config = match catalog.backup(volume, &name).await {
            Ok(config) => Some(config),
            Err(error) if error.kind() == Kind::NotFound => continue,
            // A damaged one is an object that cannot be restored; the bucket itself is looked through to the end.
            Err(error) => {
                tracing::warn!(volume, backup = name, %error, "a backup in the bucket cannot be read");
                None
            }
        };
        let object = json!({
            "metadata": {
                "name": name,
                "labels": {names::LABEL_TARGET: target.name, names::LABEL_BACKUP_VOLUME: volume},
            },
            "spec": {"labels": access_mode(config.as_ref()), "backupBlockSize": block_size(config.as_ref())},
        });
        match context.create(Resource::Backup, object).await {
            // Backup names are shared by all targets: the first one has it.
            Err(error) if error.kind() == Kind::Conflict => {}
            other => drop(other?),
        }
    }
    Ok(())
}

fn access_mode(config: Option<&BackupConfig>) -> serde_json::Value {
    let mode = config.and_then(|config| config.labels.get(names::LABEL_ACCESS_MODE));
    mode.map_or_else(|| json!({}), |mode| json!({names::LABEL_ACCESS_MODE: mode}))
}

/// Longhorn reads the block size only where it reads the labels, so that a backup without labels has none.
fn block_size(config: Option<&BackupConfig>) -> String {
    match config {
        Some(config) if !config.labels.is_empty() => config.block_size().to_string(),
        _ => "-1".to_owned(),
    }
}

/// The Backup objects of a volume on a target.
pub(super) fn of_volume(context: &Context, target: &str, volume: &str) -> Vec<super::cache::Object> {
    let mut backups = super::target::of_target(context, Resource::Backup, target);
    backups.retain(|backup| backup.label(names::LABEL_BACKUP_VOLUME) == volume);
    backups
}

/// The BackupVolume object of a volume on a target. Its name depends on the version that made it: only the spec counts.
pub(super) fn find(context: &Context, target: &str, volume: &str) -> Option<super::cache::Object> {
    context
        .list(Resource::BackupVolume)
        .into_iter()
        .find(|object| object.text("/spec/backupTargetName") == target && object.text("/spec/volumeName") == volume)
}

/// Deleting the object deletes every backup of the volume in the bucket, unless only the object was meant.
async fn remove(context: &Context, volume: &DynamicObject) -> Result<()> {
    let target = volume.text("/spec/backupTargetName");
    let name = volume.text("/spec/volumeName");
    for backup in of_volume(context, target, name) {
        context.forget(Resource::Backup, &backup).await?;
    }
    if volume.label(names::LABEL_ONLY_OBJECT).is_empty()
        && let Ok(target) = store::open_available(context, target)
    {
        match delete::volume(&target.store, name, LOCK_SETTLE).await {
            Err(error) if error.kind() != Kind::NotFound => {
                let status = json!({"messages": {"error": error.to_string()}});
                context.set_status(Resource::BackupVolume, volume, status).await?;
                return Err(error);
            }
            _ => {}
        }
    }
    context.release(Resource::BackupVolume, volume).await
}
