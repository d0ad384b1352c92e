//! System backups and system restores: Longhorn's own bundle of settings, volumes, PersistentVolumes and claims.
//!
//! A system restore that ends as `Completed` proves little: volumes whose backup is missing and claims whose namespace
//! is missing are left out without a word. Whoever calls it compares the result with what was expected.

use std::{collections::BTreeSet, ops::ControlFlow, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    API_VERSION, DEFAULT_TARGET, Longhorn, OnProgress, Progress, SYSTEM_BACKUP, SYSTEM_RESTORE, VOLUME, fields,
    outcome, rest,
};
use crate::{
    Error, Kind, Result,
    backupstore::catalog::Catalog,
    cluster::{ApplyOptions, DeleteOptions, Observer, Query},
    objectstore::Store,
};

/// Longest time until a stopped system restore is gone.
const STOPPED: Duration = Duration::from_mins(2);

/// A system backup as Longhorn knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemBackup {
    /// Name.
    pub name: String,
    /// `Ready`, `Error`, or a step on the way.
    pub state: String,
    /// Version of Longhorn that made it.
    pub version: Option<String>,
    /// When, RFC 3339.
    pub created_at: Option<String>,
    /// What was done about backups of the volumes: `disabled`, `if-not-present`, `always`.
    pub policy: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What a system restore left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemRestored {
    /// Name of the SystemRestore object.
    pub name: String,
    /// `Completed`, or `Stopped` when it could not have come to an end.
    pub state: String,
    /// Warnings among its events: often the only trace of a volume that was left out.
    pub warnings: Vec<String>,
}

impl SystemBackup {
    pub(super) fn read(object: &Value) -> Self {
        Self {
            name: fields::name(object).to_string(),
            state: fields::text(object, "/status/state").to_string(),
            version: fields::owned(object, "/status/version"),
            created_at: fields::owned(object, "/status/createdAt"),
            policy: fields::owned(object, "/spec/volumeBackupPolicy"),
            error: error_of(object),
        }
    }
}

impl Longhorn {
    /// All system backups, newest first.
    pub async fn system_backups(&self) -> Result<Vec<SystemBackup>> {
        let mut backups: Vec<_> =
            self.cluster.list(SYSTEM_BACKUP, &self.all()).await?.iter().map(SystemBackup::read).collect();
        backups.sort_by(|a, b| (&b.created_at, &b.name).cmp(&(&a.created_at, &a.name)));
        Ok(backups)
    }

    /// Makes a system backup and waits until it is in the store.
    ///
    /// `policy` is what Longhorn does about the volumes first: `disabled` (nothing; take the backups before),
    /// `if-not-present`, `always`.
    ///
    /// Errors: `conflict` when the name is taken, in the cluster or in the store: Longhorn would show the old one and
    /// make none; `failed` with Longhorn's reason.
    pub async fn system_backup(
        &self,
        name: &str,
        policy: &str,
        store: &Store,
        limit: Duration,
        tell: OnProgress<'_>,
    ) -> Result<SystemBackup> {
        let start = Instant::now();
        let policies = ["disabled", "if-not-present", "always"];
        if !policies.contains(&policy) {
            return Err(Error::new(Kind::Usage, format!("{policy:?} is no policy of system backups"))
                .hint(format!("choose one of {}", policies.join(", "))));
        }
        let reference = self.object(SYSTEM_BACKUP, name)?;
        let in_store = Catalog::new(store.clone()).system_backups().await?.iter().any(|entry| entry.name == name);
        if in_store || self.cluster.exists(&reference).await? {
            return Err(Error::new(Kind::Conflict, format!("there is a system backup {name:?} already"))
                .object(reference.to_string())
                .hint("choose a new name, for example with the date and time in it"));
        }
        let target = self.target(DEFAULT_TARGET).await?;
        if !target.available {
            let why = target.message.as_deref().unwrap_or("no reason given").trim().to_string();
            return Err(Error::new(
                Kind::Refused,
                format!("the backup target {DEFAULT_TARGET} is not available: {why}"),
            )
            .hint("configure it first: longhorn::configure_target(#{url: …, secret: …})"));
        }
        let object = json!({"apiVersion": API_VERSION, "kind": "SystemBackup",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": {"volumeBackupPolicy": policy}});
        self.cluster.apply(&object, ApplyOptions::default()).await?;
        let check = |observer: &Observer| {
            let Some(object) = observer.object(0) else {
                return Err(Error::new(
                    Kind::Failed,
                    format!("the system backup {name} was deleted while it was made"),
                ));
            };
            let backup = SystemBackup::read(object);
            match backup.state.as_str() {
                "Ready" => Ok(ControlFlow::Break(backup)),
                "Error" => {
                    let why = backup.error.as_deref().unwrap_or("Longhorn gives no reason");
                    Err(Error::new(Kind::Failed, format!("the system backup {name} failed: {why}")))
                }
                state => {
                    let note = if state.is_empty() { "not begun" } else { state }.to_string();
                    tell(Progress { percent: None, note: note.clone() });
                    Ok(ControlFlow::Continue(note))
                }
            }
        };
        let doing = format!("waiting for the system backup {name}");
        let queries = [self.cluster.query(&reference).await?];
        match self.cluster.watch(&queries, rest(limit, start), &doing, check).await {
            Err(error) if error.kind() == Kind::Timeout => Err(self.cluster.with_events(error, &reference).await),
            Err(error) => Err(error.object(reference.to_string())),
            done => done,
        }
    }

    /// Has Longhorn restore a system backup and waits for its end. See the module's documentation on what it proves.
    ///
    /// One volume whose data cannot be restored would keep it waiting for a day, and so would a claim whose volume was
    /// left out. Such a restore is stopped, as is one that takes longer than `limit`; what it has made stays.
    ///
    /// Errors: `not-found` for the system backup, `refused` while a volume is attached or when it is of another minor
    /// release, `failed` with the collected reasons.
    pub async fn system_restore(&self, bundle: &str, limit: Duration, tell: OnProgress<'_>) -> Result<SystemRestored> {
        let start = Instant::now();
        let reference = self.object(SYSTEM_BACKUP, bundle)?;
        let backup = SystemBackup::read(&self.cluster.get(&reference).await?);
        self.check_can_be_restored(&backup).await?;
        let name = format!("{bundle}-{}", Timestamp::now().strftime("%Y%m%d-%H%M%S"));
        let object = json!({"apiVersion": API_VERSION, "kind": "SystemRestore",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": {"systemBackup": bundle}});
        self.cluster.apply(&object, ApplyOptions::default()).await?;
        let reference = self.object(SYSTEM_RESTORE, &name)?;
        let check = |observer: &Observer| {
            let Some(object) = observer.object(0) else {
                return Err(Error::new(Kind::Failed, format!("the system restore {name} was deleted while it ran")));
            };
            match fields::text(object, "/status/state") {
                "Completed" => Ok(ControlFlow::Break(None)),
                "Error" => {
                    let why = error_of(object).unwrap_or_else(|| "Longhorn gives no reason".to_string());
                    Err(Error::new(Kind::Failed, format!("the system restore {name} failed: {why}")).hint(format!(
                        "kubectl -n {} logs --selector=job-name=longhorn-system-rollout-{name} has the details",
                        self.namespace
                    )))
                }
                state => {
                    if let Some(why) = stuck(observer.objects(1)) {
                        return Ok(ControlFlow::Break(Some(why)));
                    }
                    let note = if state.is_empty() { "not begun" } else { state }.to_string();
                    tell(Progress { percent: None, note: note.clone() });
                    Ok(ControlFlow::Continue(note))
                }
            }
        };
        let doing = format!("waiting for the system restore {name} of {bundle}");
        let queries = [self.cluster.query(&reference).await?, Query::list(VOLUME, self.all())];
        let stopped = match self.cluster.watch(&queries, rest(limit, start), &doing, check).await {
            Ok(stuck) => stuck,
            Err(error) if error.kind() == Kind::Timeout => Some(error.message().to_string()),
            Err(error) => return Err(error.object(reference.to_string())),
        };
        let events = self.cluster.events(&reference).await?;
        let warnings: BTreeSet<_> = events
            .iter()
            .filter(|event| event.severity == "Warning")
            .map(|e| format!("{}: {}", e.reason, e.message))
            .collect();
        let mut warnings: Vec<_> = warnings.into_iter().collect();
        let state = if stopped.is_some() { "Stopped" } else { "Completed" };
        if let Some(why) = stopped {
            let wait = Some(STOPPED);
            self.cluster.delete(&reference, DeleteOptions { wait, ..DeleteOptions::default() }).await?;
            warnings.insert(0, why);
        }
        Ok(SystemRestored { name, state: state.to_string(), warnings })
    }

    async fn check_can_be_restored(&self, backup: &SystemBackup) -> Result<()> {
        let refuse = |why: String, hint: &str| {
            let message = format!("the system backup {} cannot be restored: {why}", backup.name);
            Err(Error::new(Kind::Refused, message).object(format!("{SYSTEM_BACKUP}/{}", backup.name)).hint(hint))
        };
        if backup.state != "Ready" {
            let why = format!("it is {}", if backup.state.is_empty() { "not read yet" } else { &backup.state });
            return refuse(why, "synchronise first: longhorn::sync()");
        }
        let version = self.version().await?;
        if let Some(made_by) = backup.version.as_deref().and_then(super::Version::parse)
            && !made_by.same_release(&version)
        {
            let why = format!("it was made by {made_by}, this is {version}");
            return refuse(why, "restore volume by volume, or install the release that made it");
        }
        let attached = self.attached().await?;
        if !attached.is_empty() {
            let names: Vec<_> = attached
                .iter()
                .map(|volume| {
                    volume.claim.as_ref().map_or(volume.name.clone(), |claim| format!("{} ({claim})", volume.name))
                })
                .collect();
            return refuse(
                format!("volumes are attached: {}", names.join(", ")),
                "scale down what uses them, or restore volume by volume",
            );
        }
        Ok(())
    }
}

/// Why the restore cannot end any more: a volume has failed for good, and no other is still being restored.
fn stuck<'a>(volumes: impl Iterator<Item = &'a Value>) -> Option<String> {
    let (failed, others): (Vec<_>, Vec<_>) = volumes.partition(|volume| outcome::has_failed(volume));
    let running = |volume: &&Value| fields::some(volume, "/spec/fromBackup").is_some() && !outcome::is_restored(volume);
    if failed.is_empty() || others.iter().any(running) {
        return None;
    }
    let names: Vec<_> = failed.into_iter().map(fields::name).collect();
    Some(format!("it would wait for ever for the volumes whose restore has failed: {}", names.join(", ")))
}

/// Why a system backup or restore failed: its condition of type Error.
fn error_of(object: &Value) -> Option<String> {
    let condition = fields::condition(object, "Error").filter(|condition| condition["status"] == "True")?;
    Some(fields::why(condition)).filter(|why| !why.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_is_stuck_when_a_volume_has_failed_and_the_others_are_done() {
        let volume = |name: &str, required: bool, robustness: &str| {
            json!({"metadata": {"name": name}, "spec": {"fromBackup": "s3://b@r/?backup=b&volume=v"}, "status": {
                "restoreInitiated": true, "restoreRequired": required, "robustness": robustness}})
        };
        let (done, running, failed) =
            (volume("a", false, "unknown"), volume("b", true, "healthy"), volume("c", true, "faulted"));
        assert_eq!(stuck([&done, &running].into_iter()), None);
        assert_eq!(stuck([&running, &failed].into_iter()), None);
        assert!(stuck([&done, &failed].into_iter()).unwrap().ends_with("has failed: c"));
    }

    #[test]
    fn a_failed_one_tells_why() {
        let mut object = json!({"metadata": {"name": "sb"}, "spec": {"volumeBackupPolicy": "disabled"}, "status": {
            "state": "Error", "version": "v1.10.2", "conditions": [{"type": "Error", "status": "True", "reason": "Upload",
                "message": "connection refused"}]}});
        let backup = SystemBackup::read(&object);
        assert_eq!(backup.error.as_deref(), Some("Upload: connection refused"));
        assert_eq!((backup.policy.as_deref(), backup.version.as_deref()), (Some("disabled"), Some("v1.10.2")));
        object["status"]["conditions"] = Value::Null;
        assert_eq!(SystemBackup::read(&object).error, None);
    }
}
