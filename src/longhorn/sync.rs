//! Having Longhorn read the store, and knowing when it really has.
//!
//! `available: true` is not that moment, and neither is the target's `lastSyncedAt`: after it, one object per volume
//! and per backup is still created and filled. What counts is that they equal what is in the store, which is listed
//! here independently.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    BACKUP, BACKUP_TARGET, BACKUP_VOLUME, DEFAULT_TARGET, Longhorn, OnProgress, Progress, SYSTEM_BACKUP, fields, rest,
};
use crate::{
    Error, Kind, Result,
    backupstore::catalog::Catalog,
    cluster::{Observer, Query},
    objectstore::Store,
};

/// Quiet time after which objects that are still missing are looked at in the store, and Longhorn is asked once more;
/// doubled with each request.
const QUIET: Duration = Duration::from_secs(2);
/// Volumes listed in the store at the same time.
const LISTINGS: usize = 8;
/// How many names a message lists.
const NAMES_TOLD: usize = 5;

/// What Longhorn knows after a sync.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Synced {
    /// Volumes that have backups.
    pub volumes: usize,
    /// Backups that can be restored.
    pub backups: usize,
    /// System backups.
    pub system_backups: usize,
    /// `volume/backup`s in the store that are not complete or not readable, and that nobody can restore.
    pub unusable: Vec<String>,
}

/// A backup by its names.
type Names = (String, String);

impl Longhorn {
    /// Has Longhorn read the backup target's store now, and waits until its objects equal the store's content.
    ///
    /// Errors: `timeout` that names what is missing; what [`Longhorn::configure_target`] fails with when the target
    /// cannot be used.
    pub async fn sync(&self, target: &str, store: &Store, limit: Duration, tell: OnProgress<'_>) -> Result<Synced> {
        let start = Instant::now();
        let wanted = self.look(target, store, limit, tell).await?;
        self.wait_equal(target, store, wanted, start, limit, tell).await
    }

    /// Has Longhorn look at the store, and lists there what it is to find.
    async fn look(
        &self,
        target: &str,
        store: &Store,
        limit: Duration,
        tell: OnProgress<'_>,
    ) -> Result<BTreeSet<Names>> {
        let start = Instant::now();
        let before = self.cluster.get(&self.object(BACKUP_TARGET, target)?).await?;
        if fields::text(&before, "/spec/backupTargetURL").is_empty() {
            return Err(Error::new(Kind::NotFound, format!("the backup target {target} has no URL"))
                .hint("configure it first: longhorn::configure_target(#{url: \"s3://bucket@region/path/\", …})"));
        }
        let asked = self.request_sync(&before, json!({})).await?;
        tell(Progress { percent: None, note: format!("asked Longhorn to look at {}", store.describe()) });
        self.wait_looked_at(target, &before, asked, rest(limit, start)).await?;
        stored(store).await
    }

    async fn wait_equal(
        &self,
        target: &str,
        store: &Store,
        mut wanted: BTreeSet<Names>,
        start: Instant,
        limit: Duration,
        tell: OnProgress<'_>,
    ) -> Result<Synced> {
        let of_target = self.all().selector(format!("backup-target={target}"));
        let queries = [
            Query::list(BACKUP_VOLUME, of_target.clone()),
            Query::list(BACKUP, of_target),
            Query::list(SYSTEM_BACKUP, self.all()),
        ];
        let mut observer = self.cluster.observe(&queries).await?;
        let mut unusable = BTreeSet::new();
        let mut state = Differences { missing: wanted.clone(), ..Differences::default() };
        let mut quiet = QUIET;
        loop {
            let left = rest(limit, start);
            match tokio::time::timeout(left.min(quiet), observer.changed()).await {
                Ok(changed) => changed?,
                Err(_) if start.elapsed() >= limit => return Err(state.timed_out(target, limit)),
                // Nothing moves: perhaps what is missing cannot come, or the store has changed since.
                Err(_) => {
                    if !state.extra.is_empty() {
                        wanted = stored(store).await?;
                    }
                    for names in state.missing.clone() {
                        if !unusable.contains(&names) && !is_usable(store, &names).await? {
                            unusable.insert(names);
                        }
                    }
                    // A look that had begun before the request may have answered it: both are told in whole seconds.
                    if Differences::between(&wanted, &unusable, &observer, target).are_overlooked() {
                        wanted = self.look(target, store, rest(limit, start), tell).await?;
                        quiet *= 2;
                    }
                }
            }
            // What was deleted meanwhile is nobody's loss.
            unusable.retain(|names| wanted.contains(names));
            state = Differences::between(&wanted, &unusable, &observer, target);
            let done = wanted.len() - unusable.len() - state.missing.len();
            let percent = u8::try_from(done * 100 / (wanted.len() - unusable.len()).max(1)).ok();
            tell(Progress { percent, note: format!("{done} of {} backups known", wanted.len() - unusable.len()) });
            if state.is_empty() {
                let volumes: BTreeSet<_> = wanted.difference(&unusable).map(|(volume, _)| volume).collect();
                return Ok(Synced {
                    volumes: volumes.len(),
                    backups: done,
                    system_backups: observer.objects(2).count(),
                    unusable: unusable.iter().map(|(volume, backup)| format!("{volume}/{backup}")).collect(),
                });
            }
        }
    }
}

/// The backups in the store that Longhorn can show: volumes and backups whose name is no object name get none.
async fn stored(store: &Store) -> Result<BTreeSet<Names>> {
    let catalog = &Catalog::new(store.clone());
    let volumes = catalog.volume_names().await?.into_iter().filter(|name| is_object_name(name));
    let backups = stream::iter(volumes).map(|volume| async move {
        let backups = catalog.backup_names(&volume).await?.into_iter().filter(|name| is_object_name(name));
        Ok(backups.map(|backup| (volume.clone(), backup)).collect::<Vec<_>>())
    });
    Ok(backups.buffer_unordered(LISTINGS).try_concat().await?.into_iter().collect())
}

/// Whether a backup in the store can be restored at all; one that was deleted meanwhile cannot.
async fn is_usable(store: &Store, (volume, backup): &Names) -> Result<bool> {
    let catalog = Catalog::new(store.clone());
    // Without volume.cfg Longhorn does not show the volume's backups as usable.
    match catalog.volume(volume).await {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Invalid) => return Ok(false),
        Err(error) => return Err(error),
    }
    match catalog.backup(volume, backup).await {
        Ok(config) => Ok(!config.is_incomplete()),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Invalid) => Ok(false),
        Err(error) => Err(error),
    }
}

/// RFC 1123 subdomain: what the API server takes as an object's name.
fn is_object_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name
            .split('.')
            .all(|part| part.starts_with(fine) && part.ends_with(fine) && part.chars().all(|c| fine(c) || c == '-'))
}

/// What still differs between the store and Longhorn's objects.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differences {
    /// In the store, and not yet usable in Longhorn.
    missing: BTreeSet<Names>,
    /// In Longhorn, and no longer in the store.
    extra: BTreeSet<Names>,
    /// System backups, volumes and backups that are still being read.
    reading: BTreeSet<String>,
}

impl Differences {
    fn between(wanted: &BTreeSet<Names>, unusable: &BTreeSet<Names>, observer: &Observer, target: &str) -> Self {
        let known: BTreeSet<Names> = observer.objects(1).filter(|backup| is_known(backup)).map(names).collect();
        let volumes =
            observer.objects(0).filter(|volume| is_being_read(volume) && has_backups(volume, wanted, unusable));
        let backups = observer.objects(1).filter(|backup| {
            fields::some(backup, "/status/lastSyncedAt").is_none()
                && wanted.contains(&names(backup))
                && !unusable.contains(&names(backup))
        });
        let system_backups = observer.objects(2).filter(|backup| {
            target == DEFAULT_TARGET && matches!(fields::text(backup, "/status/state"), "" | "Syncing")
        });
        Self {
            missing: wanted
                .iter()
                .filter(|names| !unusable.contains(*names) && !known.contains(*names))
                .cloned()
                .collect(),
            extra: known.difference(wanted).cloned().collect(),
            reading: volumes
                .chain(backups)
                .chain(system_backups)
                .map(|object| fields::name(object).to_string())
                .collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.reading.is_empty()
    }

    /// Whether Longhorn has nothing left to read and yet does not know what is in the store.
    fn are_overlooked(&self) -> bool {
        self.reading.is_empty() && !self.is_empty()
    }

    fn timed_out(&self, target: &str, limit: Duration) -> Error {
        let list = |names: &BTreeSet<String>| {
            let told: Vec<_> = names.iter().take(NAMES_TOLD).map(String::as_str).collect();
            if names.len() > told.len() { format!("{}, …", told.join(", ")) } else { told.join(", ") }
        };
        let paths = |names: &BTreeSet<Names>| {
            list(&names.iter().map(|(volume, backup)| format!("{volume}/{backup}")).collect())
        };
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(format!("{} not known yet ({})", self.missing.len(), paths(&self.missing)));
        }
        if !self.extra.is_empty() {
            parts.push(format!("{} known but gone from the store ({})", self.extra.len(), paths(&self.extra)));
        }
        if !self.reading.is_empty() {
            parts.push(format!("{} still being read ({})", self.reading.len(), list(&self.reading)));
        }
        let message = format!(
            "the backup target {target} is not in step with its store after {} s: {}",
            limit.as_secs(),
            parts.join("; ")
        );
        Error::new(Kind::Timeout, message).object(format!("{BACKUP_TARGET}/{target}")).hint(
            "large stores take minutes: raise the time-out, and Longhorn's setting backup-execution-timeout when its \
             own calls time out",
        )
    }
}

/// A Backup object that a restore can use.
fn is_known(backup: &Value) -> bool {
    fields::text(backup, "/status/state") == "Completed"
        && fields::some(backup, "/status/url").is_some()
        && fields::some(backup, "/status/lastSyncedAt").is_some()
}

fn names(backup: &Value) -> Names {
    let volume =
        fields::some(backup, "/status/volumeName").unwrap_or(fields::text(backup, "/metadata/labels/backup-volume"));
    (volume.to_string(), fields::name(backup).to_string())
}

fn is_being_read(volume: &Value) -> bool {
    match (fields::time(volume, "/status/lastSyncedAt"), fields::time(volume, "/spec/syncRequestedAt")) {
        (None, _) => true,
        (Some(last), Some(asked)) => last.as_second() < asked.as_second(),
        (Some(_), None) => false,
    }
}

/// A volume without any usable backup may stay unread for ever.
fn has_backups(volume: &Value, wanted: &BTreeSet<Names>, unusable: &BTreeSet<Names>) -> bool {
    let name = ["/spec/volumeName", "/metadata/labels/backup-volume", "/metadata/name"]
        .iter()
        .find_map(|pointer| fields::some(volume, pointer))
        .unwrap_or_default();
    wanted.difference(unusable).any(|(volume, _)| volume == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_counts_when_its_details_have_arrived() {
        let mut backup = json!({"metadata": {"name": "b", "labels": {"backup-volume": "v"}},
            "status": {"state": "Completed", "url": "", "lastSyncedAt": null}});
        assert!(!is_known(&backup));
        backup["status"]["url"] = "s3://b@r/?backup=b&volume=v".into();
        assert!(!is_known(&backup));
        backup["status"]["lastSyncedAt"] = "2026-11-22T19:18:33Z".into();
        assert!(is_known(&backup));
        assert_eq!(names(&backup), ("v".to_string(), "b".to_string()));
    }

    #[test]
    fn a_volume_is_read_when_it_was_read_after_the_request() {
        let mut volume = json!({"spec": {"syncRequestedAt": "2026-11-22T19:18:33Z"}, "status": {"lastSyncedAt": null}});
        assert!(is_being_read(&volume));
        volume["status"]["lastSyncedAt"] = "2026-11-22T19:18:32Z".into();
        assert!(is_being_read(&volume));
        volume["status"]["lastSyncedAt"] = "2026-11-22T19:18:33Z".into();
        assert!(!is_being_read(&volume));
        volume["spec"]["volumeName"] = "v".into();
        let wanted = BTreeSet::from([("v".to_string(), "b".to_string())]);
        assert!(has_backups(&volume, &wanted, &BTreeSet::new()));
        assert!(!has_backups(&volume, &wanted, &wanted));
    }

    #[test]
    fn names_that_are_no_object_names_are_passed_over() {
        for name in ["pvc-1", "backup-0123456789abcdef", "a.b"] {
            assert!(is_object_name(name), "{name}");
        }
        for name in ["", "PVC", "a_b", "-a", "a.", "a..b"] {
            assert!(!is_object_name(name), "{name}");
        }
    }

    #[test]
    fn the_time_out_names_what_is_missing() {
        let names = |n: usize| (0..n).map(|i| ("v".to_string(), format!("b{i}"))).collect();
        let state = Differences { missing: names(7), extra: names(1), reading: BTreeSet::new() };
        let message = state.timed_out("default", Duration::from_mins(1)).to_string();
        assert!(message.contains("7 not known yet (v/b0, v/b1, v/b2, v/b3, v/b4, …)"), "{message}");
        assert!(message.contains("1 known but gone from the store (v/b0)"), "{message}");
    }
}
