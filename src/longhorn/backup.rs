//! Taking a backup of one volume: a snapshot, then a backup of it.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    API_VERSION, BACKUP, Backup, Longhorn, OnProgress, Progress, SNAPSHOT, VOLUME, Volume, backups::ACCESS_MODE_LABEL,
    fields, rest,
};
use crate::{Error, Kind, Result, backupstore::claim::KUBERNETES_STATUS, cluster::Observer};

/// What to back up.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    /// The volume.
    pub volume: String,
    /// Name of snapshot and backup; `None` makes one up. With a name, a repetition finds the backup made before.
    pub name: Option<String>,
    /// Labels to store with the backup.
    pub labels: BTreeMap<String, String>,
    /// Upload every block again, even those the store has; only this heals damaged blocks.
    pub full: bool,
    /// Longest time for all of it.
    pub limit: Duration,
}

impl Longhorn {
    /// Backs a volume up and waits until the backup can be restored.
    ///
    /// The claim that uses the volume is recorded with the backup (`KubernetesStatus`), which Longhorn itself does not
    /// do for backups made as objects. A detached volume is attached by Longhorn for the time and detached again.
    ///
    /// Tells as well whether the backup is new: with a name, it may have been made before.
    ///
    /// Errors: `refused` for a volume that cannot be backed up now, `failed` with Longhorn's reason, `timeout` with
    /// what it was waiting for.
    pub async fn backup(&self, request: &BackupRequest, tell: OnProgress<'_>) -> Result<(Backup, bool)> {
        let start = Instant::now();
        let object = self.cluster.get(&self.object(VOLUME, &request.volume)?).await?;
        let volume = Volume::read(&object);
        let name = match &request.name {
            Some(name) => name.clone(),
            None => generated_name()?,
        };
        let reference = self.object(BACKUP, &name)?;
        let existing = self.cluster.find(&reference).await?;
        if let Some(found) = existing.as_ref().map(Backup::read)
            && found.volume != request.volume
        {
            let message = format!("a backup named {name} exists already, of the volume {}", found.volume);
            return Err(Error::new(Kind::Conflict, message).object(reference.to_string()));
        }
        if existing.is_none() {
            self.check_can_be_backed_up(&volume).await?;
            tell(Progress { percent: Some(0), note: "taking a snapshot".to_string() });
            self.snapshot(&volume.name, &name, rest(request.limit, start)).await?;
            self.cluster.create_missing(&self.backup_object(&object, &name, request)).await?;
        }
        let backup = self.wait_backup(&name, &volume.name, rest(request.limit, start), tell).await?;
        if volume.state == "detached" {
            self.wait_detached(&volume.name, rest(request.limit, start)).await?;
        }
        Ok((backup, existing.is_none()))
    }

    async fn check_can_be_backed_up(&self, volume: &Volume) -> Result<()> {
        let refuse = |why: &str, hint: &str| {
            let message = format!("the volume {} cannot be backed up: {why}", volume.name);
            Err(Error::new(Kind::Refused, message).object(format!("{VOLUME}/{}", volume.name)).hint(hint))
        };
        if volume.restoring {
            return refuse("it is being restored", "wait until the restore has ended");
        }
        if volume.standby {
            return refuse("it is a standby volume", "back up the volume it follows, or activate it");
        }
        if volume.robustness == "faulted" {
            return refuse("it is faulted", "salvage a replica first, in Longhorn's UI");
        }
        let target = self.target(&volume.target).await?;
        if !target.available {
            let why = target.message.as_deref().unwrap_or("no reason given").trim().to_string();
            return refuse(
                &format!("its backup target {} is not available: {why}", target.name),
                "configure the target: longhorn::configure_target(#{url: …, secret: …})",
            );
        }
        Ok(())
    }

    /// Takes a snapshot and waits until it is ready.
    async fn snapshot(&self, volume: &str, name: &str, limit: Duration) -> Result<()> {
        let object = json!({"apiVersion": API_VERSION, "kind": "Snapshot",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"volume": volume, "createSnapshot": true}});
        self.cluster.create_missing(&object).await?;
        let reference = self.object(SNAPSHOT, name)?;
        let doing = format!("waiting for the snapshot {name} of the volume {volume}");
        let check = |observer: &Observer| {
            let Some(snapshot) = observer.object(0) else {
                return Ok(ControlFlow::Continue("it is not there".to_string()));
            };
            if fields::flag(snapshot, "/status/readyToUse") {
                return Ok(ControlFlow::Break(()));
            }
            // An error is not final: attaching a detached volume passes through one. Only this one is.
            let error = fields::text(snapshot, "/status/error");
            if error.contains("lost track") {
                return Err(Error::new(Kind::Failed, format!("the snapshot {name} is gone: {error}")));
            }
            Ok(ControlFlow::Continue(if error.is_empty() { "not ready yet".to_string() } else { error.to_string() }))
        };
        let waited = self.cluster.watch(&[self.cluster.query(&reference).await?], limit, &doing, check).await;
        match waited {
            Err(error) if error.kind() == Kind::Timeout => {
                Err(self.cluster.with_events(error, &self.object(VOLUME, volume)?).await)
            }
            other => other,
        }
    }

    fn backup_object(&self, volume: &Value, name: &str, request: &BackupRequest) -> Value {
        let read = Volume::read(volume);
        let mut labels = request.labels.clone();
        labels.insert(ACCESS_MODE_LABEL.to_string(), read.access_mode.clone());
        if let Some(status) = volume.pointer("/status/kubernetesStatus")
            && fields::some(status, "/pvcName").is_some()
        {
            labels.insert(KUBERNETES_STATUS.to_string(), status.to_string());
        }
        json!({"apiVersion": API_VERSION, "kind": "Backup",
            "metadata": {"name": name, "namespace": self.namespace,
                // Longhorn's webhook reads these bare keys; the documented ones with a domain are not seen.
                "labels": {"backup-volume": read.name, "backup-target": read.target}},
            "spec": {"snapshotName": name, "labels": labels,
                "backupMode": if request.full { "full" } else { "incremental" }}})
    }

    async fn wait_backup(&self, name: &str, volume: &str, limit: Duration, tell: OnProgress<'_>) -> Result<Backup> {
        let reference = self.object(BACKUP, name)?;
        let doing = format!("waiting for the backup {name} of the volume {volume}");
        let check = |observer: &Observer| {
            let Some(object) = observer.object(0) else {
                return Err(Error::new(Kind::Failed, format!("the backup {name} was deleted while it was made")));
            };
            let backup = Backup::read(object);
            if backup.complete {
                return Ok(ControlFlow::Break(backup));
            }
            let messages = fields::map(object, "/status/messages");
            let info = messages.get("info").cloned().unwrap_or_default();
            if matches!(backup.state.as_str(), "Error" | "Unknown" | "Deleting") {
                return Err(failed(&backup, volume, &info));
            }
            tell(Progress { percent: u8::try_from(backup.progress.min(100)).ok(), note: "uploading".to_string() });
            Ok(ControlFlow::Continue(match (backup.state.as_str(), info.is_empty()) {
                ("", true) => "Longhorn has not begun".to_string(),
                (state, true) => format!("{state}, {} %", backup.progress),
                (state, false) => format!("{state}: {info}"),
            }))
        };
        let waited = self.cluster.watch(&[self.cluster.query(&reference).await?], limit, &doing, check).await;
        match waited {
            Err(error) if error.kind() == Kind::Timeout => {
                Err(self.cluster.with_events(error, &self.object(VOLUME, volume)?).await)
            }
            Err(error) => Err(error.object(reference.to_string())),
            done => done,
        }
    }

    /// A backup is complete while its volume is still being detached; what comes next must not find it like that.
    async fn wait_detached(&self, volume: &str, limit: Duration) -> Result<()> {
        let reference = self.object(VOLUME, volume)?;
        let doing = format!("waiting for the volume {volume} to be detached again");
        let check = |observer: &Observer| {
            // Deleted, or taken by a workload: nothing to wait for any more.
            let state = observer.object(0).map_or("detached", |volume| fields::text(volume, "/status/state"));
            let used = observer
                .object(0)
                .is_some_and(|volume| fields::some(volume, "/spec/nodeID").is_some() && state == "attached");
            Ok(if state == "detached" || used {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(format!("it is {state}"))
            })
        };
        self.cluster.watch(&[self.cluster.query(&reference).await?], limit, &doing, check).await
    }
}

fn failed(backup: &Backup, volume: &str, info: &str) -> Error {
    let why = backup.error.as_deref().filter(|why| !why.is_empty()).or(Some(info).filter(|info| !info.is_empty()));
    let message = format!(
        "the backup {} of the volume {volume} ended as {}: {}",
        backup.name,
        backup.state,
        why.unwrap_or("Longhorn gives no reason").trim()
    );
    let error = Error::new(Kind::Failed, message);
    match (backup.state.as_str(), backup.progress) {
        ("Unknown", _) => error.hint("a workload took the volume to another node meanwhile; make the backup again"),
        (_, 95..) => error
            .hint("it failed while its configuration was written: does the S3 server take this Longhorn's checksums?"),
        _ => {
            error.hint("see the events of the volume and the logs of its instance-manager; then make the backup again")
        }
    }
}

/// A name nobody else has, sorted by time: `lhrun-20261122-191833-3f0c9a1b`.
fn generated_name() -> Result<String> {
    let mut bytes = [0; 4];
    let random = SystemRandom::new().fill(&mut bytes);
    random.map_err(|_| Error::new(Kind::Failed, "the system gives no random numbers"))?;
    let suffix = u32::from_be_bytes(bytes);
    Ok(format!("lhrun-{}-{suffix:08x}", Timestamp::now().strftime("%Y%m%d-%H%M%S")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_differ_and_are_valid() {
        let (a, b) = (generated_name().unwrap(), generated_name().unwrap());
        assert_ne!(a, b);
        assert!(a.len() <= 63 && a.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{a}");
    }

    #[test]
    fn a_failure_says_why_and_what_next() {
        let object = json!({"metadata": {"name": "b"}, "status": {"state": "Error", "error": "timeout uploading", "progress": 95}});
        let error = failed(&Backup::read(&object), "v", "");
        assert_eq!(error.message(), "the backup b of the volume v ended as Error: timeout uploading");
        assert!(error.hint_text().unwrap().contains("checksums"));
        let object = json!({"metadata": {"name": "b"}, "status": {"state": "Unknown"}});
        assert!(failed(&Backup::read(&object), "v", "").message().ends_with("Longhorn gives no reason"));
    }
}
