//! System backups and restores.

use serde_json::{Value, json};

use super::{Cluster, default_to, denied, invalid, label};
use crate::sandbox::{
    api::admission::Refusal,
    longhorn::{
        names,
        resource::{Fields, Resource},
    },
};

pub(super) fn create_backup(backup: &mut Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    let target = cluster.get(Resource::BackupTarget, names::DEFAULT_TARGET);
    let target = target.map_err(|why| denied("validator", 400, &why))?;
    default_to(backup, "volumeBackupPolicy", "if-not-present");
    backup["metadata"]["ownerReferences"] = json!([{"apiVersion": "longhorn.io/v1beta2", "kind": "BackupTarget",
        "name": names::DEFAULT_TARGET, "uid": target["metadata"]["uid"]}]);
    let policy = backup.text("/spec/volumeBackupPolicy");
    if !matches!(policy, "if-not-present" | "always" | "disabled") {
        return Err(invalid(format!("invalid volume backup policy {policy}")));
    }
    if !target.flag("/status/available") {
        return Err(invalid(format!("backup target {} is not available", names::DEFAULT_TARGET)));
    }
    if target.text("/spec/credentialSecret").is_empty() {
        return Err(denied("validator", 400, "cannot access s3 without credential secret"));
    }
    Ok(())
}

pub(super) fn create_restore(restore: &Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    if cluster.list(Resource::Volume).iter().any(|volume| volume.text("/status/state") != "detached") {
        return Err(invalid("all volumes need to be detached before creating SystemRestore"));
    }
    let running = cluster.list(Resource::SystemRestore);
    let running =
        running.iter().filter(|other| label(other, names::LABEL_SYSTEM_RESTORE) == Some("InProgress")).count();
    if running > 0 {
        return Err(invalid(format!("found {running} SystemRestore in progress")));
    }
    // Only that it is there: its state is not looked at.
    cluster.get(Resource::SystemBackup, restore.text("/spec/systemBackup")).map(drop).map_err(invalid)
}
