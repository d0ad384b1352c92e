//! Volumes, and which claim uses them.

use serde::Serialize;
use serde_json::Value;

use super::{CSI_DRIVER, Longhorn, VOLUME, fields};
use crate::{Error, Kind, Result, backupstore::layout::BackupRef, cluster::ObjectRef};

/// A Longhorn volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Name, usually `pvc-…`; not always that of its persistent volume.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// `creating`, `attached`, `detached`, `attaching`, `detaching`, `deleting`.
    pub state: String,
    /// `healthy`, `degraded`, `faulted`, or `unknown`, which is what a detached volume has.
    pub robustness: String,
    /// `namespace/name` of the claim that uses it now.
    pub claim: Option<String>,
    /// `namespace/name` of the claim that used it last.
    pub last_claim: Option<String>,
    /// Its persistent volume.
    pub pv: Option<String>,
    /// `rwo`, `rwx` or `rwop`.
    pub access_mode: String,
    /// Copies Longhorn keeps.
    pub replicas: u64,
    /// Node it is attached to.
    pub node: Option<String>,
    /// Name of the backup it was made from; empty for a volume that was made empty.
    pub from_backup: String,
    /// Name of the volume that backup is of.
    pub from_volume: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Whether a restore into it has begun and not ended.
    pub restoring: bool,
    /// Name of its newest backup.
    pub last_backup: Option<String>,
    /// When that was made, RFC 3339.
    pub last_backup_at: Option<String>,
    /// Backup target its backups go to.
    pub target: String,
    /// Whether its data are encrypted.
    pub encrypted: bool,
    /// Kept in step with backups of another cluster.
    pub standby: bool,
}

impl Volume {
    pub(super) fn read(object: &Value) -> Self {
        let status = |pointer: &str| fields::owned(object, &format!("/status/kubernetesStatus/{pointer}"));
        let claim = status("namespace").zip(status("pvcName")).map(|(namespace, name)| format!("{namespace}/{name}"));
        // The claim's name stays after the claim has gone; this field then says since when.
        let gone = status("lastPVCRefAt").is_some();
        let source = BackupRef::decode(fields::text(object, "/spec/fromBackup")).ok().map(|(_, source)| source);
        Self {
            name: fields::name(object).to_string(),
            size: fields::number(object, "/spec/size").unwrap_or(0),
            state: fields::text(object, "/status/state").to_string(),
            robustness: fields::text(object, "/status/robustness").to_string(),
            claim: claim.clone().filter(|_| !gone),
            last_claim: claim,
            pv: status("pvName"),
            access_mode: fields::some(object, "/spec/accessMode").unwrap_or("rwo").to_string(),
            replicas: fields::number(object, "/spec/numberOfReplicas").unwrap_or(0),
            node: fields::owned(object, "/status/currentNodeID"),
            from_backup: source.as_ref().map(|source| source.backup.clone()).unwrap_or_default(),
            from_volume: source.map(|source| source.volume).unwrap_or_default(),
            created: fields::text(object, "/metadata/creationTimestamp").to_string(),
            restoring: fields::flag(object, "/status/restoreRequired"),
            last_backup: fields::owned(object, "/status/lastBackup"),
            last_backup_at: fields::owned(object, "/status/lastBackupAt"),
            target: fields::some(object, "/spec/backupTargetName").unwrap_or(super::DEFAULT_TARGET).to_string(),
            encrypted: fields::flag(object, "/spec/encrypted"),
            standby: fields::flag(object, "/spec/Standby"),
        }
    }
}

impl Longhorn {
    /// A volume. Errors: `not-found`.
    pub async fn volume(&self, name: &str) -> Result<Volume> {
        Ok(Volume::read(&self.cluster.get(&self.object(VOLUME, name)?).await?))
    }

    /// All volumes, by name.
    pub async fn volumes(&self) -> Result<Vec<Volume>> {
        Ok(self.cluster.list(VOLUME, &self.all()).await?.iter().map(Volume::read).collect())
    }

    /// Volumes that are not detached. While there is one, Longhorn refuses a system restore.
    pub async fn attached(&self) -> Result<Vec<Volume>> {
        let mut volumes = self.volumes().await?;
        volumes.retain(|volume| volume.state != "detached");
        Ok(volumes)
    }

    /// The name of the volume behind a claim.
    ///
    /// Errors: `not-found` for the claim or its persistent volume, `failed` when it is not bound, `invalid` when
    /// something else than Longhorn provides it.
    pub async fn volume_of(&self, claim: &ObjectRef) -> Result<String> {
        let object = self.cluster.get(claim).await?;
        let Some(pv) = fields::some(&object, "/spec/volumeName") else {
            let phase = fields::some(&object, "/status/phase").unwrap_or("Pending");
            let error = Error::new(Kind::Failed, format!("the claim {claim} is {phase} and has no volume yet"));
            return Err(self.cluster.with_events(error, claim).await);
        };
        let pv = self.cluster.get(&ObjectRef::new("persistentvolumes", pv)?).await?;
        handle(&pv).map(str::to_string).ok_or_else(|| {
            Error::new(Kind::Invalid, format!("the claim {claim} is not on Longhorn"))
                .object(claim.to_string())
                .hint("only volumes of Longhorn are backed up and restored here")
        })
    }
}

/// The Longhorn volume of a persistent volume; its own name may be another.
pub(super) fn handle(pv: &Value) -> Option<&str> {
    (fields::text(pv, "/spec/csi/driver") == CSI_DRIVER).then(|| fields::some(pv, "/spec/csi/volumeHandle"))?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_that_has_gone_is_only_the_last_one() {
        let mut object = json!({"metadata": {"name": "pvc-1"}, "spec": {"size": "1073741824", "numberOfReplicas": 2,
            "Standby": false}, "status": {"state": "attached", "kubernetesStatus": {"pvName": "pvc-1",
            "namespace": "app", "pvcName": "data", "lastPVCRefAt": ""}}});
        let volume = Volume::read(&object);
        assert_eq!((volume.size, volume.replicas), (1 << 30, 2));
        assert_eq!(volume.claim.as_deref(), Some("app/data"));
        object["status"]["kubernetesStatus"]["lastPVCRefAt"] = "2026-11-22T00:00:00Z".into();
        let volume = Volume::read(&object);
        assert_eq!((volume.claim, volume.last_claim.as_deref()), (None, Some("app/data")));
    }

    #[test]
    fn a_new_volume_has_hardly_any_status() {
        let volume = Volume::read(&json!({"metadata": {"name": "v"}, "spec": {}, "status": {"conditions": null}}));
        assert_eq!((volume.state.as_str(), volume.restoring, volume.target.as_str()), ("", false, "default"));
    }

    #[test]
    fn only_longhorns_driver_counts() {
        let pv = json!({"spec": {"csi": {"driver": "driver.longhorn.io", "volumeHandle": "v"}}});
        assert_eq!(handle(&pv), Some("v"));
        assert_eq!(handle(&json!({"spec": {"csi": {"driver": "other", "volumeHandle": "v"}}})), None);
        assert_eq!(handle(&json!({"spec": {"hostPath": {"path": "/"}}})), None);
    }
}
