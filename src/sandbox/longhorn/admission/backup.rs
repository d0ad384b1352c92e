//! Backups: which volume and target they belong to.

use serde_json::{Value, json};

use super::{Cluster, invalid, label, name_of, set_label, unfit};
use crate::sandbox::{
    api::admission::Refusal,
    longhorn::{
        names,
        resource::{Fields, Resource},
    },
};

pub(super) fn create(backup: &mut Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    mutate(backup, cluster)?;
    validate(backup, cluster)
}

fn mutate(backup: &mut Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    let snapshot_name = backup.text("/spec/snapshotName").to_owned();
    let volume_name = match label(backup, names::LABEL_BACKUP_VOLUME) {
        Some(volume) => volume.to_owned(),
        // The real webhook ends in a nil pointer, and the API server sees the connection go away.
        None if snapshot_name.is_empty() => {
            return Err(Refusal {
                code: 500,
                message: format!(
                    "Internal error occurred: failed calling webhook \"mutator.longhorn.io\": failed to call webhook: \
                     Post \"https://longhorn-admission-webhook.{}.svc:9502/v1/webhook/mutation?timeout=10s\": EOF",
                    cluster.namespace
                ),
            });
        }
        None => {
            let snapshot = cluster.get(Resource::Snapshot, &snapshot_name);
            let snapshot =
                snapshot.map_err(|why| denied_500(&format!("failed to get the snapshot {snapshot_name}: {why}")))?;
            let volume = snapshot.text("/spec/volume").to_owned();
            set_label(backup, names::LABEL_BACKUP_VOLUME, &volume);
            volume
        }
    };
    let volume = cluster.get(Resource::Volume, &volume_name);
    if !backup["spec"]["labels"].is_object() {
        backup["spec"]["labels"] = json!({});
    }
    if backup["spec"]["labels"].get(names::LABEL_ACCESS_MODE).is_none() {
        let mode = volume.as_ref().map(|volume| volume.text("/spec/accessMode").to_owned()).unwrap_or_default();
        backup["spec"]["labels"][names::LABEL_ACCESS_MODE] = if mode.is_empty() { "rwo".into() } else { mode.into() };
    }
    if backup.text("/spec/backupMode").is_empty() {
        backup["spec"]["backupMode"] = "incremental".into();
    }
    if !snapshot_name.is_empty() {
        let volume = volume.as_ref().map_err(|why| {
            unfit(format!(
                "failed to get backup block size from the volume {volume_name} of backup {}: {why}",
                name_of(backup)
            ))
        })?;
        backup["spec"]["backupBlockSize"] = volume.text("/spec/backupBlockSize").into();
    }
    if label(backup, names::LABEL_TARGET).is_none() {
        let volume = volume.map_err(|why| {
            unfit(format!("failed to get the volume {volume_name} of backup {}: {why}", name_of(backup)))
        })?;
        set_label(backup, names::LABEL_TARGET, volume.text("/spec/backupTargetName"));
    }
    Ok(())
}

/// What a mutator gives back without a code of its own arrives as an internal error.
fn denied_500(message: &str) -> Refusal {
    super::denied("mutator", 500, message)
}

fn validate(backup: &Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    if !names::is_valid_name(name_of(backup)) {
        return Err(invalid(format!("invalid name {}", name_of(backup))));
    }
    let mode = backup.text("/spec/backupMode");
    if !matches!(mode, "full" | "incremental") {
        return Err(invalid(format!("BackupMode {mode} is not a valid option")));
    }
    let target_name = label(backup, names::LABEL_TARGET).unwrap_or_default();
    if target_name.is_empty() {
        return Err(invalid("missing backup target label on backup object"));
    }
    let target = cluster.get(Resource::BackupTarget, target_name);
    let target = target.map_err(|why| invalid(format!("failed to get backup target {target_name}: {why}")))?;
    let volume_name = label(backup, names::LABEL_BACKUP_VOLUME).unwrap_or_default();
    let block_size = backup.text("/spec/backupBlockSize");
    if !matches!(block_size, "" | "-1") {
        let size = cluster.get(Resource::Volume, volume_name).ok().map(|volume| volume.number("/spec/size"));
        super::volume::check_block_size(size, block_size).map_err(invalid)?;
    }
    if !target.flag("/status/available") {
        return Err(invalid(format!("backup target {target_name} is not available")));
    }
    let snapshot_name = backup.text("/spec/snapshotName");
    if snapshot_name.is_empty() {
        return Ok(());
    }
    let snapshot = cluster.get(Resource::Snapshot, snapshot_name);
    let snapshot = snapshot.map_err(|_| invalid(format!("snapshot {snapshot_name} is invalid")))?;
    let of = snapshot.text("/spec/volume");
    let volume = cluster.get(Resource::Volume, of).map_err(|_| invalid(format!("volume {of} is invalid")))?;
    if volume_name != of {
        return Err(invalid(format!("snapshot volume name {of} and label volume name {volume_name} does not match")));
    }
    let volume_target = volume.text("/spec/backupTargetName");
    if volume_target != target_name {
        return Err(invalid(format!(
            "volume backup target {volume_target} and label backup target {target_name} does not match"
        )));
    }
    Ok(())
}

pub(super) fn update(old: &Value, new: &Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    let (before, after) = (old.text("/spec/backupBlockSize"), new.text("/spec/backupBlockSize"));
    if before == after {
        return Ok(());
    }
    let volume = label(new, names::LABEL_BACKUP_VOLUME).unwrap_or_default();
    let size = cluster.get(Resource::Volume, volume).ok().map(|volume| volume.number("/spec/size"));
    if super::volume::check_block_size(size, before).is_ok() {
        return Err(invalid(format!(
            "changing backup block size for backup {} is not supported; only changing invalid backup block size is \
             supported",
            name_of(new)
        )));
    }
    super::volume::check_block_size(size, after)
        .map_err(|_| invalid(format!("invalid backup block size {after} for backup {}", name_of(new))))
}
