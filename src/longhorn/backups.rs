//! Backups that exist, and which of them to restore.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{BACKUP, Longhorn, fields};
use crate::{Error, Kind, Result, backupstore::claim::KubernetesStatus, cluster::ListOptions};

/// Key of the access mode among a backup's labels.
pub(super) const ACCESS_MODE_LABEL: &str = "longhorn.io/volume-access-mode";

/// A backup of one volume.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backup {
    /// Name, unique in the cluster.
    pub name: String,
    /// The volume it is of.
    pub volume: String,
    /// Backup target it is in.
    pub target: String,
    /// `Completed`, `InProgress`, `Pending`, `Error`, `Unknown`, `Deleting`, or empty: not read yet or never finished.
    pub state: String,
    /// Whether it can be restored.
    pub complete: bool,
    /// What a volume names as its source.
    pub url: String,
    /// Bytes of its blocks.
    pub size: u64,
    /// Bytes of the volume at the latest backup.
    pub volume_size: u64,
    /// Moment of its data, RFC 3339.
    pub snapshot_time: Option<String>,
    /// When it was finished, RFC 3339.
    pub created: Option<String>,
    /// Snapshot it was made from.
    pub snapshot: Option<String>,
    /// Percent done while it is made.
    pub progress: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// Labels stored with it.
    pub labels: BTreeMap<String, String>,
    /// `rwo`, `rwx` or `rwop`, when it is recorded.
    pub access_mode: Option<String>,
    /// Block size in bytes as text; `-1` when it could not be read.
    pub block_size: String,
    /// `namespace/name` of the claim that used the volume, when it is recorded.
    pub claim: Option<String>,
    /// All that is recorded of the claim.
    #[serde(skip)]
    pub claim_info: Option<ClaimInfo>,
}

/// Which claim a backup's volume belonged to: the label `KubernetesStatus`, which backups made through Longhorn's own
/// API carry, and those made here, and no others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimInfo {
    /// Namespace of the claim.
    pub namespace: String,
    /// Name of the claim.
    pub name: String,
    /// Its persistent volume, if it had one then.
    pub pv: Option<String>,
    /// Whether the claim used the volume when the backup was made; else it was the last one that did.
    pub current: bool,
    /// `Kind/name` of what ran on it.
    pub workloads: Vec<String>,
}

impl ClaimInfo {
    /// Reads the label. `None` when it is missing or names no claim.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        let status = KubernetesStatus::from_labels(labels)?;
        if status.namespace.is_empty() || status.pvc_name.is_empty() {
            return None;
        }
        let mut workloads: Vec<_> = status
            .workloads_status
            .iter()
            .map(|workload| match workload.workload_type.as_str() {
                "" => format!("Pod/{}", workload.pod_name),
                kind => format!("{kind}/{}", workload.workload_name),
            })
            .collect();
        workloads.sort();
        workloads.dedup();
        Some(Self {
            namespace: status.namespace,
            name: status.pvc_name,
            pv: Some(status.pv_name).filter(|name| !name.is_empty()),
            current: status.last_pvc_ref_at.is_empty(),
            workloads,
        })
    }
}

impl Backup {
    pub(super) fn read(object: &Value) -> Self {
        // What the backup was asked to carry, until what is stored with it has been read.
        let mut labels = fields::map(object, "/spec/labels");
        labels.extend(fields::map(object, "/status/labels"));
        let volume = fields::some(object, "/status/volumeName")
            .unwrap_or(fields::text(object, "/metadata/labels/backup-volume"));
        let target =
            ["/status/backupTargetName", "/metadata/labels/backup-target"].iter().find_map(|p| fields::some(object, p));
        let state = fields::text(object, "/status/state");
        let url = fields::text(object, "/status/url");
        let messages = fields::map(object, "/status/messages");
        let claim_info = ClaimInfo::of_labels(&labels);
        Self {
            name: fields::name(object).to_string(),
            volume: volume.to_string(),
            target: target.unwrap_or(super::DEFAULT_TARGET).to_string(),
            state: state.to_string(),
            // The state alone comes before the details, and details without it are of a backup that is being deleted.
            complete: state == "Completed" && !url.is_empty() && fields::some(object, "/status/lastSyncedAt").is_some(),
            url: url.to_string(),
            size: fields::number(object, "/status/size").unwrap_or(0),
            volume_size: fields::number(object, "/status/volumeSize").unwrap_or(0),
            snapshot_time: fields::owned(object, "/status/snapshotCreatedAt")
                .or_else(|| fields::owned(object, "/status/backupCreatedAt")),
            created: fields::owned(object, "/status/backupCreatedAt"),
            snapshot: fields::owned(object, "/status/snapshotName")
                .or_else(|| fields::owned(object, "/spec/snapshotName")),
            progress: fields::number(object, "/status/progress").unwrap_or(0),
            error: fields::owned(object, "/status/error").or_else(|| messages.get("error").cloned()),
            access_mode: labels.get(ACCESS_MODE_LABEL).cloned(),
            claim: claim_info.as_ref().map(|info| format!("{}/{}", info.namespace, info.name)),
            claim_info,
            labels,
            block_size: fields::text(object, "/spec/backupBlockSize").to_string(),
        }
    }

    /// Moment of its data.
    pub fn data_moment(&self) -> Option<Timestamp> {
        self.snapshot_time.as_deref()?.parse().ok()
    }
}

/// The newest backup of the volume that can be restored, whose data are not younger than `as_of`.
pub fn newest<'a>(
    backups: impl IntoIterator<Item = &'a Backup>,
    volume: &str,
    as_of: Option<Timestamp>,
) -> Option<&'a Backup> {
    backups
        .into_iter()
        .filter(|backup| backup.complete && backup.volume == volume)
        .filter(|backup| as_of.is_none_or(|limit| backup.data_moment().is_some_and(|moment| moment <= limit)))
        .max_by_key(|backup| (backup.data_moment(), backup.name.clone()))
}

impl Longhorn {
    /// One backup. Errors: `not-found`.
    pub async fn find_backup(&self, name: &str) -> Result<Backup> {
        Ok(Backup::read(&self.cluster.get(&self.object(BACKUP, name)?).await?))
    }

    /// The backups of a volume, or of all, newest data first.
    pub async fn backups(&self, volume: Option<&str>) -> Result<Vec<Backup>> {
        let options: ListOptions = match volume {
            Some(volume) => self.all().selector(format!("backup-volume={volume}")),
            None => self.all(),
        };
        let mut backups: Vec<_> = self.cluster.list(BACKUP, &options).await?.iter().map(Backup::read).collect();
        backups.sort_by_cached_key(|backup| std::cmp::Reverse((backup.data_moment(), backup.name.clone())));
        Ok(backups)
    }

    /// The newest backup of the volume that can be restored, at `as_of` if given.
    ///
    /// Errors: `not-found`, telling what there is instead.
    pub async fn latest_backup(&self, volume: &str, as_of: Option<Timestamp>) -> Result<Backup> {
        let backups = self.backups(Some(volume)).await?;
        if let Some(found) = newest(&backups, volume, as_of) {
            return Ok(found.clone());
        }
        let usable: Vec<_> = backups.iter().filter(|backup| backup.complete).collect();
        let message = match (as_of, usable.last().and_then(|oldest| oldest.snapshot_time.as_deref())) {
            (Some(limit), Some(oldest)) => {
                format!(
                    "the volume {volume} has no backup from before {}; the oldest is of {oldest}",
                    fields::seconds(limit)
                )
            }
            _ if !backups.is_empty() => {
                format!("the volume {volume} has {} backups, none of them complete", backups.len())
            }
            _ => format!("the volume {volume} has no backup that Longhorn knows of"),
        };
        Err(Error::new(Kind::NotFound, message)
            .object(format!("{BACKUP}/{volume}"))
            .hint("if the store has it, synchronise first: longhorn::sync()"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn backup(name: &str, at: &str, state: &str) -> Value {
        json!({"metadata": {"name": name, "labels": {"backup-volume": "v", "backup-target": "default"}},
            "spec": {"backupBlockSize": "2097152"},
            "status": {"state": state, "url": format!("s3://b@r/?backup={name}&volume=v"), "volumeName": "v",
                "snapshotCreatedAt": at, "backupCreatedAt": at, "lastSyncedAt": "2026-11-22T00:00:00Z", "size": "44040192",
                "volumeSize": "1073741824", "labels": null}})
    }

    #[test]
    fn the_newest_complete_one_is_chosen() {
        let list: Vec<_> = [
            backup("old", "2026-11-20T02:00:00Z", "Completed"),
            backup("new", "2026-11-21T02:00:00Z", "Completed"),
            backup("failed", "2026-11-22T02:00:00Z", "Error"),
            backup("running", "2026-11-22T03:00:00Z", "InProgress"),
        ]
        .iter()
        .map(Backup::read)
        .collect();
        assert_eq!(newest(&list, "v", None).unwrap().name, "new");
        let at = |text: &str| Some(text.parse().unwrap());
        assert_eq!(newest(&list, "v", at("2026-11-21T01:59:59Z")).unwrap().name, "old");
        assert_eq!(newest(&list, "v", at("2026-11-21T02:00:00Z")).unwrap().name, "new");
        assert_eq!(newest(&list, "v", at("2026-11-19T00:00:00Z")), None);
        assert_eq!(newest(&list, "other", None), None);
    }

    #[test]
    fn completed_without_details_is_not_complete() {
        let mut object = backup("b", "2026-11-20T02:00:00Z", "Completed");
        assert!(Backup::read(&object).complete);
        object["status"]["lastSyncedAt"] = Value::Null;
        assert!(!Backup::read(&object).complete);
        let empty =
            Backup::read(&json!({"metadata": {"name": "crashed", "labels": {"backup-volume": "v"}}, "status": {}}));
        assert_eq!((empty.complete, empty.volume.as_str(), empty.snapshot_time), (false, "v", None));
    }

    #[test]
    fn the_claim_is_read_from_what_is_stored_with_the_backup() {
        let mut object = backup("b", "2026-11-20T02:00:00Z", "Completed");
        assert_eq!(Backup::read(&object).claim, None);
        let status = json!({"pvName": "pvc-1", "pvStatus": "Bound", "namespace": "prod", "pvcName": "data-postgres-0",
            "lastPVCRefAt": "", "workloadsStatus": [{"podName": "postgres-0", "podStatus": "Running",
            "workloadName": "postgres", "workloadType": "StatefulSet"}], "lastPodRefAt": ""});
        object["status"]["labels"] = json!({"KubernetesStatus": status.to_string(), "team": "db",
            "longhorn.io/volume-access-mode": "rwx"});
        let read = Backup::read(&object);
        assert_eq!(read.claim.as_deref(), Some("prod/data-postgres-0"));
        let claim = read.claim_info.clone().unwrap();
        assert_eq!((claim.namespace.as_str(), claim.name.as_str(), claim.current), ("prod", "data-postgres-0", true));
        assert_eq!(claim.workloads, ["StatefulSet/postgres"]);
        assert_eq!(read.access_mode.as_deref(), Some("rwx"));
        object["status"]["labels"]["KubernetesStatus"] = "{broken".into();
        assert_eq!(Backup::read(&object).claim, None);
    }
}
