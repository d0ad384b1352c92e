//! A volume with `spec.fromBackup`: attached for its restore, watched, and let go when it is done or has failed.

use kube::{ResourceExt, core::DynamicObject};
use serde_json::json;

use super::{attachment, claim};
use crate::{
    Error, Kind, Result,
    backupstore::BackupRef,
    sandbox::longhorn::{
        backup_volume,
        cache::Object,
        context::Context,
        names,
        queue::Task,
        resource::{Fields, Resource, with_condition},
    },
};

/// Marks a new volume as one that has to be restored.
pub(super) async fn begin(context: &Context, volume: &Object) -> Result<Object> {
    let url = volume.text("/spec/fromBackup");
    if url.is_empty() || volume.flag("/status/restoreInitiated") {
        return Ok(volume.clone());
    }
    let of = backup_of(url)?;
    let backup = context
        .get(Resource::Backup, &of.backup)
        .ok_or_else(|| Error::new(Kind::NotFound, format!("cannot get backup {}", of.backup)))?;
    let mut status = json!({
        "restoreRequired": true, "restoreInitiated": true, "isStandby": volume.flag("/spec/Standby"),
        "actualSize": backup.number("/status/size"),
    });
    let past = claim::historic(backup.field("/status/labels"), backup.text("/status/snapshotCreatedAt"));
    if let Some(past) = past {
        status["kubernetesStatus"] = past;
    }
    context.set_status(Resource::Volume, volume, status).await
}

/// Follows a restore that has begun.
pub(super) async fn follow(context: &Context, volume: &DynamicObject, engine: &DynamicObject) -> Result<()> {
    let name = volume.name_any();
    if !volume.flag("/status/restoreRequired") {
        return attachment::remove_ticket(context, &name, names::TICKET_RESTORE, &name).await;
    }
    if volume.text("/status/robustness") == "faulted" {
        return attachment::remove_ticket(context, &name, names::TICKET_RESTORE, &name).await;
    }
    attachment::add_ticket(context, &name, names::TICKET_RESTORE, &name).await?;
    if volume.text("/status/state") != "attached" {
        return Ok(());
    }
    let of = backup_of(volume.text("/spec/fromBackup"))?;
    let target = volume.text("/spec/backupTargetName");
    let backups = backup_volume::find(context, target, &of.volume);
    // A standby volume follows the newest backup; all others have one.
    let wanted = match &backups {
        Some(backups) if volume.flag("/status/isStandby") => backups.text("/status/lastBackupName").to_owned(),
        _ => of.backup.clone(),
    };
    let spec = json!({"requestedBackupRestore": wanted,
        "backupVolume": backups.map(|backups| backups.name_any()).unwrap_or_default()});
    let engine = context.merge(Resource::Engine, engine, json!({"spec": spec})).await?;
    if engine.text("/status/lastRestoredBackup") == wanted {
        return done(context, volume).await;
    }
    if let Some(reason) = super::engine::restore_failure(&engine) {
        return failed(context, volume, &reason).await;
    }
    let conditions = with_condition(volume.field("/status/conditions"), "Restore", true, "RestoreInProgress", "");
    context.set_status(Resource::Volume, volume, json!({"conditions": conditions})).await?;
    context.queue.add(Task::Engine(name));
    Ok(())
}

async fn done(context: &Context, volume: &DynamicObject) -> Result<()> {
    if volume.flag("/status/isStandby") {
        if volume.flag("/spec/Standby") {
            return Ok(());
        }
        context.set_status(Resource::Volume, volume, json!({"isStandby": false})).await?;
        return Ok(());
    }
    let conditions = with_condition(volume.field("/status/conditions"), "Restore", false, "", "");
    let status = json!({"restoreRequired": false, "conditions": conditions});
    context.set_status(Resource::Volume, volume, status).await.map(drop)
}

/// No replica could be restored: the volume is of no use. `restoreRequired` stays, nothing is tried again.
async fn failed(context: &Context, volume: &DynamicObject, reason: &str) -> Result<()> {
    for (_, replica) in super::engine::replica_addresses(context, &volume.name_any()) {
        let message = format!("replica {replica} failed the restore: {reason}");
        context.event((Resource::Volume, volume), true, "FailedRestore", &message).await;
    }
    let message = "All replica restore failed and the volume became Faulted";
    let conditions = with_condition(volume.field("/status/conditions"), "Restore", false, "RestoreFailure", message);
    let status = json!({"robustness": "faulted", "conditions": conditions});
    context.set_status(Resource::Volume, volume, status).await.map(drop)
}

fn backup_of(url: &str) -> Result<BackupRef> {
    Ok(BackupRef::decode(url)?.1)
}
