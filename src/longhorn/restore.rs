//! Restoring one backup into one volume.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    API_VERSION, BACKUP, BACKUP_VOLUME, Backup, ENGINE, GONE, Longhorn, OnProgress, Progress, VOLUME, Volume, fields,
    outcome::{self, Outcome},
    rest,
};
use crate::{
    Error, Kind, Result,
    backupstore::layout::BackupRef,
    cluster::{ApplyOptions, DeleteOptions, Observer, Query},
};

/// The block size of every backup that records none, in bytes.
const USUAL_BLOCK_SIZE: &str = "2097152";
/// The other block size there is.
const LARGE_BLOCK_SIZE: &str = "16777216";
/// Longest name of a volume; Longhorn shortens longer ones to another name.
const LONGEST_NAME: usize = 40;
/// Longest time for a backup's details to be read again.
const REFRESH: Duration = Duration::from_mins(2);

/// What to restore.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// Name of the new volume.
    pub volume: String,
    /// The backup.
    pub backup: String,
    /// Copies to keep; `None` takes those of `spec`, else Longhorn's setting.
    pub replicas: Option<u32>,
    /// Further fields of the volume's spec, as a backup does not record them: of the volume in a system backup, for
    /// example. What decides the source, the size and the node is not taken from it.
    pub spec: Option<Value>,
    /// Labels of the new volume; those of recurring jobs count from its first moment only.
    pub labels: BTreeMap<String, String>,
    /// Longest time for all of it.
    pub limit: Duration,
}

/// A restored volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The volume now.
    #[serde(flatten)]
    pub volume: Volume,
    /// False when it had been restored from this backup before and was left alone.
    pub changed: bool,
}

/// What a volume is found to be before a restore.
enum Existing {
    Absent,
    Restored,
    Restoring,
}

impl Longhorn {
    /// Restores a backup into a new volume and waits until its data are there and it is detached.
    ///
    /// A volume of that name that was made from the same backup is left alone, or waited for while it is restoring; one
    /// whose restore failed is deleted and restored again.
    ///
    /// Errors: `not-found` or `invalid` for a backup that cannot be restored, `conflict` for a volume of that name from
    /// elsewhere, `damaged` when blocks are missing or altered, `failed` with Longhorn's reason, `timeout` with what
    /// holds it up.
    pub async fn restore(&self, request: &RestoreRequest, tell: OnProgress<'_>) -> Result<Restored> {
        let start = Instant::now();
        check_name(&request.volume)?;
        let backup = self.find_backup(&request.backup).await.map_err(|error| match error.kind() {
            Kind::NotFound => error.hint("if the store has it, synchronise first: longhorn::sync()"),
            _ => error,
        })?;
        if !backup.complete {
            let state = if backup.state.is_empty() { "never finished, or not read yet" } else { backup.state.as_str() };
            let message = format!("the backup {} of {} cannot be restored: it is {state}", backup.name, backup.volume);
            return Err(Error::new(Kind::Invalid, message)
                .object(format!("{BACKUP}/{}", backup.name))
                .hint("synchronise first (longhorn::sync()), or choose another: longhorn::latest_backup(volume)"));
        }
        let existing = self.existing(&request.volume, &backup).await?;
        if let Existing::Restored = existing {
            return Ok(Restored { volume: self.volume(&request.volume).await?, changed: false });
        }
        if let Existing::Absent = existing {
            self.check_restores_run().await?;
            self.check_block_size(&backup).await?;
            let backup = self.refreshed(backup.clone()).await?;
            let object = self.volume_object(&backup, request).await?;
            self.cluster.apply(&object, ApplyOptions::default()).await?;
        }
        self.wait_restored(&request.volume, &backup, rest(request.limit, start), tell).await?;
        Ok(Restored { volume: self.volume(&request.volume).await?, changed: true })
    }

    async fn existing(&self, name: &str, backup: &Backup) -> Result<Existing> {
        let reference = self.object(VOLUME, name)?;
        let Some(object) = self.cluster.find(&reference).await? else { return Ok(Existing::Absent) };
        let of =
            fields::some(&object, "/spec/fromBackup").and_then(|url| BackupRef::decode(url).ok()).map(|(_, of)| of);
        let same = of.as_ref().is_some_and(|source| source.volume == backup.volume && source.backup == backup.name);
        // What never got its data is of no use, whichever backup it was to be. What is being deleted has to be gone first.
        let failed = outcome::has_failed(&object) && of.as_ref().is_some_and(|source| source.volume == backup.volume);
        if failed || fields::is_going(&object) {
            let wait = Some(GONE);
            self.cluster.delete(&reference, DeleteOptions { wait, ..DeleteOptions::default() }).await?;
            return Ok(Existing::Absent);
        }
        if !same {
            let from = fields::some(&object, "/spec/fromBackup")
                .map_or("was made empty".to_string(), |url| format!("is from {url}"));
            let message = format!("the volume {name} exists and {from}, not from the backup {}", backup.name);
            return Err(Error::new(Kind::Conflict, message)
                .object(reference.to_string())
                .hint("restore under another name, or delete the volume first if its data are not needed"));
        }
        Ok(if outcome::is_restored(&object) { Existing::Restored } else { Existing::Restoring })
    }

    /// Errors: `invalid` for a backup whose blocks this version would misread: before 1.10 a restore from blocks of 16 MiB ends
    /// well and leaves a corrupt file system.
    async fn check_block_size(&self, backup: &Backup) -> Result<()> {
        if backup.block_size == LARGE_BLOCK_SIZE && !self.version().await?.at_least(1, 10) {
            let message =
                format!("the backup {} is made of blocks of 16 MiB, which this Longhorn misreads", backup.name);
            return Err(Error::new(Kind::Invalid, message).hint("install Longhorn 1.10 or newer"));
        }
        Ok(())
    }

    /// Errors: `refused` when Longhorn's limit of restores is 0, which does not mean "no limit": no restore ever runs.
    pub async fn check_restores_run(&self) -> Result<()> {
        let name = "concurrent-volume-backup-restore-per-node-limit";
        if self.setting(name).await?.as_deref() == Some("0") {
            return Err(Error::new(
                Kind::Refused,
                format!("restores are switched off by Longhorn's setting {name}: it is 0"),
            )
            .object(format!("{}/{name}", super::SETTING))
            .hint("set it to 5, its default"));
        }
        Ok(())
    }

    /// The backup with its present size: a volume that has grown since the object was read restores badly.
    async fn refreshed(&self, backup: Backup) -> Result<Backup> {
        let volumes = self.cluster.list(BACKUP_VOLUME, &self.all()).await?;
        let size = volumes
            .iter()
            .filter(|volume| {
                let of = |spec: &str, label: &str| {
                    fields::some(volume, spec).unwrap_or(fields::text(volume, label)).to_string()
                };
                of("/spec/volumeName", "/metadata/labels/backup-volume") == backup.volume
                    && of("/spec/backupTargetName", "/metadata/labels/backup-target") == backup.target
            })
            .find_map(|volume| fields::number(volume, "/status/size"));
        let Some(size) = size.filter(|size| *size != backup.volume_size && *size > 0) else { return Ok(backup) };
        let reference = self.object(BACKUP, &backup.name)?;
        let asked = json!({"spec": {"syncRequestedAt": fields::seconds(Timestamp::now())}});
        self.cluster.merge(&reference, &asked).await?;
        let doing =
            format!("waiting for the backup {} to be read again: its volume has grown to {size} bytes", backup.name);
        let check = |observer: &Observer| {
            let Some(read) = observer.object(0).map(Backup::read) else {
                return Err(Error::new(Kind::NotFound, format!("the backup {} was deleted", backup.name)));
            };
            Ok(if read.volume_size == size && read.complete {
                ControlFlow::Break(read)
            } else {
                ControlFlow::Continue(format!("{} bytes", read.volume_size))
            })
        };
        self.cluster.watch(&[self.cluster.query(&reference).await?], REFRESH, &doing, check).await
    }

    async fn volume_object(&self, backup: &Backup, request: &RestoreRequest) -> Result<Value> {
        let version = self.version().await?;
        let mut spec = carried_over(request.spec.as_ref());
        let mut set = |key: &str, value: Value| spec.insert(key.to_string(), value);
        set("size", backup.volume_size.to_string().into());
        set("fromBackup", backup.url.clone().into());
        set("Standby", false.into());
        if let Some(replicas) = request.replicas {
            set("numberOfReplicas", replicas.into());
        }
        if version.at_least(1, 8) {
            set("backupTargetName", backup.target.clone().into());
        }
        // Longhorn's default block size may not divide the volume's size, and "-1" is no valid one.
        if version.at_least(1, 10) {
            let known = [USUAL_BLOCK_SIZE, LARGE_BLOCK_SIZE].contains(&backup.block_size.as_str());
            set("backupBlockSize", if known { backup.block_size.clone() } else { USUAL_BLOCK_SIZE.to_string() }.into());
        }
        for (key, value) in [
            ("accessMode", json!(backup.access_mode.as_deref().unwrap_or("rwo"))),
            ("frontend", json!("blockdev")),
            ("dataEngine", json!("v1")),
            ("staleReplicaTimeout", json!(30)),
            ("restoreVolumeRecurringJob", json!("ignored")),
        ] {
            spec.entry(key).or_insert(value);
        }
        Ok(json!({"apiVersion": API_VERSION, "kind": "Volume",
            "metadata": {"name": request.volume, "namespace": self.namespace, "labels": request.labels}, "spec": spec}))
    }

    async fn wait_restored(&self, name: &str, backup: &Backup, limit: Duration, tell: OnProgress<'_>) -> Result<()> {
        let reference = self.object(VOLUME, name)?;
        let source = format!("the backup {} of {}", backup.name, backup.volume);
        let doing = format!("waiting for the volume {name} to be restored from {source}");
        let queries = [
            self.cluster.query(&reference).await?,
            Query::list(ENGINE, self.all().selector(format!("longhornvolume={name}"))),
        ];
        let mut trouble = String::new();
        let check = |observer: &Observer| {
            let Some(volume) = observer.object(0) else {
                return Err(Error::new(Kind::Failed, format!("the volume {name} was deleted while it was restored")));
            };
            let engines: Vec<_> = observer.objects(1).collect();
            match outcome::judge(volume, &engines, &source) {
                Outcome::Done => Ok(ControlFlow::Break(())),
                Outcome::Failed(error) => Err(error),
                Outcome::Running(percent, note) => {
                    tell(Progress { percent, note: note.clone() });
                    if let Some(error) = outcome::replica_errors(&engines).pop_last() {
                        trouble = error;
                    }
                    let before = if trouble.is_empty() || note.contains(&trouble) {
                        String::new()
                    } else {
                        format!(", before: {trouble}")
                    };
                    Ok(ControlFlow::Continue(match percent {
                        Some(percent) => format!("{note}, {percent} %{before}"),
                        None => format!("{note}{before}"),
                    }))
                }
            }
        };
        match self.cluster.watch(&queries, limit, &doing, check).await {
            Err(error) if error.kind() == Kind::Timeout => Err(self.cluster.with_events(error, &reference).await),
            Err(error) => Err(error.object(reference.to_string())),
            done => done,
        }
    }
}

/// What of another volume's spec a restored one keeps.
fn carried_over(spec: Option<&Value>) -> serde_json::Map<String, Value> {
    const KEPT: [&str; 16] = [
        "accessMode",
        "backingImage",
        "dataEngine",
        "dataLocality",
        "diskSelector",
        "encrypted",
        "frontend",
        "migratable",
        "nodeSelector",
        "numberOfReplicas",
        "replicaAutoBalance",
        "replicaDiskSoftAntiAffinity",
        "replicaSoftAntiAffinity",
        "replicaZoneSoftAntiAffinity",
        "restoreVolumeRecurringJob",
        "staleReplicaTimeout",
    ];
    let Some(spec) = spec.and_then(Value::as_object) else { return serde_json::Map::new() };
    let kept = |(key, value): (&String, &Value)| {
        // Empty texts and lists say nothing; a standby volume's frontend is empty and would be refused.
        let said = !matches!(value, Value::Null) && value != "" && value.as_array().is_none_or(|list| !list.is_empty());
        (said && KEPT.contains(&key.as_str())).then(|| (key.clone(), value.clone()))
    };
    spec.iter().filter_map(kept).collect()
}

/// RFC 1123 label of at most 40 characters.
fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let valid = name.len() <= LONGEST_NAME
        && name.starts_with(fine)
        && name.ends_with(fine)
        && name.chars().all(|c| fine(c) || c == '-');
    if valid {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("{name:?} cannot be the name of a volume")).hint(format!(
        "a volume's name has at most {LONGEST_NAME} lower-case letters, digits and hyphens, none at its ends"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_longhorn_would_change_are_refused() {
        assert!(check_name("pvc-0b7a5b1e-5f6d-4ad0-8f0e-2f3c4d5e6f70").is_ok());
        for name in ["", "Data", "a_b", "-a", "a-", &"x".repeat(41)] {
            assert_eq!(check_name(name).unwrap_err().kind(), Kind::Usage, "{name}");
        }
    }

    #[test]
    fn only_what_a_backup_does_not_know_is_carried_over() {
        let spec = json!({"size": "1", "fromBackup": "s3://old", "nodeID": "n", "numberOfReplicas": 2, "frontend": "",
            "encrypted": true, "diskSelector": ["ssd"], "nodeSelector": [], "Standby": true, "image": "old"});
        let kept = carried_over(Some(&spec));
        assert_eq!(Value::Object(kept), json!({"numberOfReplicas": 2, "encrypted": true, "diskSelector": ["ssd"]}));
        assert!(carried_over(None).is_empty());
    }
}
