//! Volumes: defaults, what a restore overwrites, and the many ways to be refused.

use serde_json::{Value, json};

use super::{Cluster, default_to, denied, invalid, name_of, set_label, unfit};
use crate::{
    backupstore::BackupRef,
    sandbox::{
        api::admission::Refusal,
        longhorn::{
            names,
            resource::{Fields, Resource},
        },
    },
};

/// Longer names are cut and get a checksum.
const MAX_NAME: usize = 40;
const ROUND: u64 = 2 << 20;

pub(super) fn create(volume: &mut Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    check_schema(volume)?;
    mutate(volume, cluster)?;
    validate(volume, cluster)
}

/// What the kind's schema allows; the API server itself refuses it.
fn check_schema(volume: &Value) -> Result<(), Refusal> {
    let allowed: [(&str, &[&str]); 3] = [
        ("backupBlockSize", &["2097152", "16777216"]),
        ("accessMode", &["rwo", "rwx"]),
        ("backupCompressionMethod", &["none", "lz4", "gzip"]),
    ];
    for (field, values) in allowed {
        let value = &volume["spec"][field];
        let absent = value.is_null() || value == "" && field != "backupBlockSize";
        if !absent && value.as_str().is_none_or(|value| !values.contains(&value)) {
            let supported = values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
            return Err(Refusal {
                code: 422,
                message: format!(
                    "Volume.longhorn.io \"{}\" is invalid: spec.{field}: Unsupported value: {value}: supported values: \
                     {supported}",
                    name_of(volume)
                ),
            });
        }
    }
    Ok(())
}

fn mutate(volume: &mut Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    let name = names::corrected_name(name_of(volume), MAX_NAME);
    volume["metadata"]["name"] = name.clone().into();
    default_to(volume, "dataEngine", "v1");
    let count = cluster.setting("default-replica-count");
    default_to(volume, "numberOfReplicas", count.parse::<u32>().unwrap_or(3));
    default_to(volume, "dataLocality", cluster.setting("default-data-locality"));
    let restored = restored_from(volume, cluster)?;
    let mode = restored.as_ref().map_or("", |restored| restored.access_mode.as_str());
    default_to(volume, "accessMode", if mode.is_empty() { "rwo" } else { mode });
    let mut size = volume.number("/spec/size");
    if let Some(restored) = restored {
        volume["spec"]["backupTargetName"] = restored.target.into();
        set_label(volume, names::LABEL_BACKUP_VOLUME, &restored.volume);
        // Whatever size was asked for.
        size = restored.size;
        if volume.flag("/spec/Standby") {
            default_to(volume, "backupBlockSize", restored.block_size);
        }
    }
    default_to(volume, "backupTargetName", names::DEFAULT_TARGET);
    let target = volume.text("/spec/backupTargetName").to_owned();
    set_label(volume, names::LABEL_TARGET, &target);
    set_label(volume, names::LABEL_VOLUME, &name);
    volume["spec"]["size"] = (size.div_ceil(ROUND) * ROUND).to_string().into();
    volume["spec"]["image"] = cluster.setting("default-engine-image").into();
    default_to(volume, "backupCompressionMethod", cluster.setting("backup-compression-method"));
    default_to(volume, "snapshotMaxCount", cluster.setting("snapshot-max-count").parse::<u32>().unwrap_or(250));
    let mib = cluster.setting("default-backup-block-size").parse::<u64>().unwrap_or(2);
    default_to(volume, "backupBlockSize", (mib << 20).to_string());
    for field in [
        "freezeFilesystemForSnapshot",
        "offlineRebuilding",
        "replicaAutoBalance",
        "replicaDiskSoftAntiAffinity",
        "replicaSoftAntiAffinity",
        "replicaZoneSoftAntiAffinity",
        "restoreVolumeRecurringJob",
        "snapshotDataIntegrity",
        "unmapMarkSnapChainRemoved",
    ] {
        default_to(volume, field, "ignored");
    }
    for field in ["diskSelector", "nodeSelector"] {
        default_to(volume, field, json!([]));
    }
    for field in ["backingImage", "dataSource", "fromBackup", "lastAttachedBy", "migrationNodeID", "nodeID"] {
        default_to(volume, field, "");
    }
    for field in ["Standby", "disableFrontend", "encrypted", "migratable", "revisionCounterDisabled"] {
        default_to(volume, field, false);
    }
    Ok(())
}

/// What the backup decides about the volume restored from it.
struct Restored {
    volume: String,
    target: String,
    size: u64,
    access_mode: String,
    block_size: String,
}

fn restored_from(volume: &mut Value, cluster: &Cluster<'_>) -> Result<Option<Restored>, Refusal> {
    let url = volume.text("/spec/fromBackup");
    if url.is_empty() {
        return Ok(None);
    }
    let (_, of) = BackupRef::decode(url)
        .map_err(|why| unfit(format!("cannot get backup and volume name from backup URL {url}: {why}")))?;
    let backup = cluster.get(Resource::Backup, &of.backup);
    let backup = backup.map_err(|why| unfit(format!("cannot get backup {}: {why}", of.backup)))?;
    let target = backup.text("/status/backupTargetName").to_owned();
    let known = cluster
        .list(Resource::BackupVolume)
        .into_iter()
        .find(|known| known.text("/spec/backupTargetName") == target && known.text("/spec/volumeName") == of.volume);
    let Some(known) = known else {
        // Also what a backup that was never finished meets: it has no target in its status.
        return Err(unfit(format!(
            "cannot get backup volume for backup target {target} and volume {}: backupvolume.longhorn.io not found",
            of.volume
        )));
    };
    let image = backup.text("/status/volumeBackingImageName");
    if !image.is_empty() {
        let of_volume = known.text("/status/backingImageName");
        if image != of_volume {
            return Err(denied(
                "mutator",
                403,
                &format!(
                    "backup volume's backing image {of_volume} does not match backup's backing image {image}. The backup \
                     volume resource is being updated and please retry later"
                ),
            ));
        }
        default_to(volume, "backingImage", image);
    }
    Ok(Some(Restored {
        volume: of.volume,
        target,
        size: backup.number("/status/volumeSize"),
        access_mode: backup.field("/status/labels")[names::LABEL_ACCESS_MODE].as_str().unwrap_or_default().to_owned(),
        block_size: backup.text("/spec/backupBlockSize").to_owned(),
    }))
}

fn validate(volume: &Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    let name = name_of(volume);
    if !names::is_valid_name(name) {
        return Err(invalid(format!("invalid name {name}")));
    }
    let replicas = volume.number("/spec/numberOfReplicas");
    if !(1..=20).contains(&replicas) {
        return Err(invalid(format!("number of replicas value must between 1 to 20, got {replicas}")));
    }
    let locality = volume.text("/spec/dataLocality");
    if !matches!(locality, "disabled" | "best-effort" | "strict-local") {
        return Err(invalid(format!("invalid data locality: {locality}")));
    }
    if locality == "strict-local" && replicas != 1 {
        return Err(invalid(format!("number of replica should be 1 if data locality is {locality}")));
    }
    let size = volume.number("/spec/size");
    check_block_size(Some(size), volume.text("/spec/backupBlockSize")).map_err(invalid)?;
    let image = volume.text("/spec/backingImage");
    if !image.is_empty() && cluster.objects.get(names::GROUP, "backingimages", Some(cluster.namespace), image).is_none()
    {
        return Err(invalid(format!(
            "failed to get backing image {image}: backingimage.longhorn.io \"{image}\" not found"
        )));
    }
    let (frontend, engine) = (volume.text("/spec/frontend"), volume.text("/spec/dataEngine"));
    if engine != "v1" {
        return Err(denied("validator", 403, "v2-data-engine data engine is not enabled"));
    }
    if !volume.flag("/spec/Standby") && !matches!(frontend, "blockdev" | "iscsi") {
        return Err(invalid(format!("invalid volume frontend specified: {frontend} for data engine {engine} ")));
    }
    if volume.flag("/spec/migratable") && volume.text("/spec/accessMode") != "rwx" {
        return Err(invalid("migratable volumes are only supported in ReadWriteMany (rwx) access mode"));
    }
    if size == 0 {
        return Err(invalid(format!("BUG: missing required field size of volume {name}")));
    }
    if volume.flag("/spec/encrypted") && size <= 16 << 20 {
        return Err(invalid(format!(
            "invalid volume size {size}, need to be bigger than 16MiB, default LUKS2 header size for encryption"
        )));
    }
    if !names::is_dns_label(name) {
        return Err(invalid(format!(
            "invalid volume name: [a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
             and must start and end with an alphanumeric character]: {name}"
        )));
    }
    let snapshots = volume.number("/spec/snapshotMaxCount");
    if !(2..=250).contains(&snapshots) {
        return Err(invalid(format!("snapshotMaxCount should be between 2 and 250, got {snapshots}")));
    }
    let target = volume.text("/spec/backupTargetName");
    cluster
        .get(Resource::BackupTarget, target)
        .map(drop)
        .map_err(|why| invalid(format!("failed to get backup target {target}: {why}")))
}

/// Only two sizes exist, and a volume is made of whole blocks.
pub(super) fn check_block_size(volume_size: Option<u64>, block_size: &str) -> Result<(), String> {
    let Some(block) = block_size.parse::<u64>().ok().filter(|size| matches!(size >> 20, 2 | 16) && size % ROUND == 0)
    else {
        return Err(format!("unsupported BackupBlockSize: {block_size}"));
    };
    match volume_size {
        Some(size) if !size.is_multiple_of(block) => {
            Err(format!("volume size {size} must be an integer multiple of the backup block size {block}"))
        }
        _ => Ok(()),
    }
}

pub(super) fn update(old: &Value, new: &mut Value) -> Result<(), Refusal> {
    let name = name_of(new).to_owned();
    let (before, after) = (old.number("/spec/size"), new.number("/spec/size"));
    if after < before {
        return Err(invalid(format!("shrinking volume {name} size from {before} to {after} is not supported")));
    }
    if after > before && (old.flag("/status/restoreRequired") || old.text("/status/robustness") == "faulted") {
        // A restore itself may grow its volume to what the bucket says.
        if old.text("/status/robustness") == "faulted" || old.text("/status/state") != "attached" {
            return Err(invalid(format!("volume expansion is not allowed: volume {name} is not ready")));
        }
    }
    if after != before {
        let rounded = after.div_ceil(ROUND) * ROUND;
        check_block_size(Some(rounded), old.text("/spec/backupBlockSize")).map_err(invalid)?;
        new["spec"]["size"] = rounded.to_string().into();
    }
    for (field, words) in [
        ("backupBlockSize", "backup block size"),
        ("backupCompressionMethod", "backup compression method"),
        ("dataEngine", "data engine"),
        ("dataSource", "data source"),
    ] {
        let was = &old["spec"][field];
        if !was.is_null() && *was != new["spec"][field] {
            return Err(invalid(format!("changing {words} for volume {name} is not supported")));
        }
    }
    Ok(())
}
