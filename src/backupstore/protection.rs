//! What versioning and object lock do for a store: which backups cannot be destroyed, and until when.
//!
//! A lock is of one object and begins when that is written. Longhorn writes a block once and shares it between backups,
//! so an old block of a new backup is locked no longer than the backup that brought it. Whether a backup is protected is
//! therefore known only when each of its blocks was asked for.

use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, civil::Date, tz::TimeZone};
use serde::{Serialize, Serializer};

use super::{
    Catalog,
    block::Checksum,
    config::SystemBackupConfig,
    family::{Entry, Family, State},
    layout::{self, VolumeKeys},
    rfc3339, system,
    usage::{self, Noncurrent},
};
use crate::{
    Error, Kind, Result,
    objectstore::{ObjectLock, Protection, Store, Versioning},
};

/// Objects asked for their lock at the same time. An answer has no body, so what counts is the way there and back.
const LOOKS: usize = 64;
/// How much earlier than its backup a block may have been written beyond the time that backup took: clocks differ, and
/// Longhorn waits for its lock in between.
const SLACK: SignedDuration = SignedDuration::from_mins(2);

/// Until when backups are wanted to be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// That time.
    At(Timestamp),
    /// So long from now by the store's clock.
    For(SignedDuration),
}

impl FromStr for Until {
    type Err = Error;

    /// `2027-01-31T12:00:00Z`, `2027-01-31` (to the end of the day in UTC), or a length of time such as `30d`.
    fn from_str(text: &str) -> Result<Self> {
        let day = |day: Date| Some(day.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
        let length = |span: Span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok();
        let found = None
            .or_else(|| text.parse().ok().map(Self::At))
            .or_else(|| Date::strptime("%Y-%m-%d", text).ok().and_then(day).map(Self::At))
            .or_else(|| text.parse().ok().and_then(length).filter(SignedDuration::is_positive).map(Self::For));
        found.ok_or_else(|| {
            Error::new(Kind::Usage, format!("{text:?} is neither a time nor a length of time"))
                .hint("write it as 2027-01-31, 2027-01-31T12:00:00Z or 30d")
        })
    }
}

/// What protects a store.
#[derive(Clone, Debug, Serialize)]
pub struct ProtectionReport {
    /// Whether former versions are kept.
    pub versioning: Versioning,
    /// The bucket's object lock, if it has one.
    pub object_lock: Option<ObjectLock>,
    /// Former versions; `None` when these keys, or the server, do not tell.
    pub noncurrent: Option<Noncurrent>,
    /// The time by the store's clock, RFC 3339.
    pub at: String,
    /// Until when everything was wanted to be locked; `None`: each backup as long as its own configuration.
    pub until: Option<String>,
    /// Each complete backup by volume and name, each backing image, each system backup; none where there is no object lock.
    pub backups: Vec<BackupProtection>,
    /// Configurations that cannot be read, so that nothing is known of their blocks.
    pub unknown: Vec<String>,
}

/// How far one backup is protected.
#[derive(Clone, Debug, Serialize)]
pub struct BackupProtection {
    /// `backup`, `backing-image` or `system-backup`.
    pub kind: &'static str,
    /// The volume of a backup.
    pub volume: Option<String>,
    /// The backup's or the image's name.
    pub backup: String,
    /// `namespace/name` of the claim it is of.
    pub claim: Option<String>,
    /// When it was begun, RFC 3339.
    pub begun: Option<String>,
    /// When the lock of its configuration ends; `None` when there is none.
    #[serde(serialize_with = "end")]
    pub own: Option<Timestamp>,
    /// Its different blocks; of a system backup, its one archive.
    pub blocks: u64,
    /// Those that can be destroyed sooner than wanted.
    pub short: u64,
    /// Those of them that can be destroyed now.
    pub unlocked: u64,
    /// Those that are not there: they may be behind a mark of deletion.
    pub missing: u64,
    /// When the first of its locked blocks can be destroyed; `None` when none is locked.
    #[serde(serialize_with = "end")]
    pub earliest: Option<Timestamp>,
    /// Whether nothing it needs can be destroyed sooner than wanted.
    pub is_protected: bool,
}

/// RFC 3339, or `held` for what is locked until somebody lifts that.
#[allow(clippy::ref_option)] // As serde calls it.
fn end<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) if *time == Timestamp::MAX => serializer.serialize_some("held"),
        Some(time) => serializer.serialize_some(&rfc3339(*time)),
        None => serializer.serialize_none(),
    }
}

/// What protects the store. Where there is object lock, each configuration and each block that a complete backup lists is
/// asked for its lock, once. `told` hears how many objects are done, of how many known so far, and what comes next. Memory
/// grows with the number of different blocks of one volume.
///
/// # Errors
/// `denied` when these keys may not ask for versioning or locks, `unchecked` when the server knows none.
pub async fn report(
    store: &Store,
    until: Option<Until>,
    told: impl Fn(u64, u64, &str) + Send + Sync,
) -> Result<ProtectionReport> {
    let (versioning, object_lock) = match tokio::try_join!(store.versioning(), store.object_lock()) {
        Err(error) if error.kind() == Kind::Invalid => {
            let text = format!("whether {} keeps versions or locks is not known", store.describe());
            return Err(Error::new(Kind::Unchecked, text).source(error));
        }
        answers => answers?,
    };
    let now = store.now().await?;
    let until = until.map(|until| match until {
        Until::At(time) => time,
        Until::For(length) => now.checked_add(length).unwrap_or(Timestamp::MAX),
    });
    told(0, 0, "former versions");
    let noncurrent = usage::noncurrent(store, "backupstore/", Some(versioning != Versioning::Never)).await?;
    let (mut backups, mut unknown) = (Vec::new(), Vec::new());
    if object_lock.is_some() {
        let mut look = Look { catalog: Catalog::new(store.clone()), now, until, done: 0, known: 0, told };
        for volume in look.catalog.volume_names().await? {
            let family = Family::Volume(VolumeKeys::new(&volume)?);
            look.family(&family, &mut backups, &mut unknown).await?;
        }
        look.family(&Family::Images, &mut backups, &mut unknown).await?;
        for system in look.catalog.system_backups().await? {
            match system.config {
                Ok(config) => backups.extend(look.system(&config).await?),
                Err(error) => unknown.push(format!("system backup {}: {error}", system.name)),
            }
        }
    }
    let (at, until) = (rfc3339(now), until.map(rfc3339));
    Ok(ProtectionReport { versioning, object_lock, noncurrent, at, until, backups, unknown })
}

struct Look<T> {
    catalog: Catalog,
    now: Timestamp,
    until: Option<Timestamp>,
    done: u64,
    known: u64,
    told: T,
}

/// The lock of a block, or that there is no such block.
type Lock = Option<Protection>;

impl<T: Fn(u64, u64, &str) + Send + Sync> Look<T> {
    /// Looks at the complete configurations of a family, which lie in one pool with their blocks.
    async fn family(
        &mut self,
        family: &Family,
        backups: &mut Vec<BackupProtection>,
        unknown: &mut Vec<String>,
    ) -> Result<()> {
        let mut complete = Vec::new();
        let mut blocks: HashMap<Checksum, Lock> = HashMap::new();
        for entry in family.entries(&self.catalog).await? {
            let Some(member) = family.load(&self.catalog, &entry).await? else { continue };
            match member.state {
                State::Complete => {
                    blocks = super::blocking(move || {
                        blocks.extend(member.checksums().map(|checksum| (checksum, None)));
                        Ok(blocks)
                    })
                    .await?;
                    complete.push(entry);
                }
                State::Unfinished => {}
                State::Damaged(error) => unknown.push(format!("{}: {error}", family.told(&entry))),
            }
        }
        let name = match family {
            Family::Volume(keys) => keys.name(),
            Family::Images => "backing images",
        };
        self.known += blocks.len() as u64;
        self.locks(family, &mut blocks, name).await?;
        let blocks = Arc::new(blocks);
        // Who lists which block is found by reading again: remembering it would take more memory than the blocks.
        for entry in complete {
            backups.extend(self.judge(family, &entry, &blocks).await?);
        }
        Ok(())
    }

    async fn locks(&mut self, family: &Family, blocks: &mut HashMap<Checksum, Lock>, name: &str) -> Result<()> {
        let (pool, store) = (family.pool(), self.catalog.store().clone());
        let wanted: Vec<Checksum> = blocks.keys().copied().collect();
        let mut locks = stream::iter(wanted)
            .map(|checksum| {
                let (key, store) = (pool.key(&checksum), &store);
                async move { Ok::<_, Error>((checksum, store.protection(&key).await?)) }
            })
            .buffer_unordered(LOOKS)
            .boxed();
        while let Some((checksum, lock)) = locks.try_next().await? {
            blocks.insert(checksum, lock);
            self.done += 1;
            (self.told)(self.done, self.known, name);
        }
        Ok(())
    }

    async fn judge(
        &self,
        family: &Family,
        entry: &Entry,
        blocks: &Arc<HashMap<Checksum, Lock>>,
    ) -> Result<Option<BackupProtection>> {
        // Nothing: it was deleted meanwhile.
        let Some(own) = self.catalog.store().protection(&entry.key).await? else { return Ok(None) };
        let Some(member) = family.load(&self.catalog, entry).await? else { return Ok(None) };
        let own = own.end();
        // A backup's own blocks are written from when it is begun, before its configuration is.
        let took = match (member.begun, member.completed) {
            (Some(begun), Some(completed)) => completed.duration_since(begun).max(SignedDuration::ZERO),
            _ => SignedDuration::ZERO,
        };
        let wanted = self.until.or(own.map(|end| earlier(end, took + SLACK)));
        let (volume, claim, begun) = (family.volume(), member.claim.clone(), member.begun.map(rfc3339));
        let (blocks, now) = (Arc::clone(blocks), self.now);
        // A terabyte has half a million blocks.
        let sums = super::blocking(move || Ok(Sums::of(member.checksums(), &blocks, wanted, now))).await?;
        let kind = if volume.is_some() { "backup" } else { "backing-image" };
        let found =
            BackupProtection { kind, volume, backup: entry.name.clone(), claim, begun, ..self.verdict(own, &sums) };
        Ok(Some(found))
    }

    async fn system(&self, config: &SystemBackupConfig) -> Result<Option<BackupProtection>> {
        let folder = layout::system_backup(&config.longhorn_version, &config.name)?;
        let (own, archive) = (folder.clone() + system::CONFIG, folder + system::ARCHIVE);
        let store = self.catalog.store();
        let (own, archive) = tokio::try_join!(store.protection(&own), store.protection(&archive))?;
        let Some(own) = own.map(|own| own.end()) else { return Ok(None) };
        let wanted = self.until.or(own.map(|end| earlier(end, SLACK)));
        let one = Checksum::of(&[]);
        let sums = Sums::of([one].into_iter(), &HashMap::from([(one, archive)]), wanted, self.now);
        let (backup, begun) = (config.name.clone(), Some(config.created_at.clone()));
        Ok(Some(BackupProtection { kind: "system-backup", backup, begun, ..self.verdict(own, &sums) }))
    }

    /// What follows from the locks of its own configuration and of its blocks.
    fn verdict(&self, own: Option<Timestamp>, sums: &Sums) -> BackupProtection {
        let is_own_locked = own.is_some_and(|own| own > self.now && self.until.is_none_or(|until| own >= until));
        BackupProtection {
            kind: "",
            volume: None,
            backup: String::new(),
            claim: None,
            begun: None,
            own,
            blocks: sums.blocks,
            short: sums.short,
            unlocked: sums.unlocked,
            missing: sums.missing,
            earliest: sums.earliest,
            is_protected: is_own_locked && sums.short == 0 && sums.missing == 0,
        }
    }
}

/// What is held stays so.
fn earlier(end: Timestamp, by: SignedDuration) -> Timestamp {
    if end == Timestamp::MAX { end } else { end.checked_sub(by).unwrap_or(end) }
}

/// As in [`BackupProtection`].
#[derive(Default)]
struct Sums {
    blocks: u64,
    short: u64,
    unlocked: u64,
    missing: u64,
    earliest: Option<Timestamp>,
}

impl Sums {
    fn of(
        listed: impl Iterator<Item = Checksum>,
        locks: &HashMap<Checksum, Lock>,
        wanted: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let (mut sums, mut seen) = (Self::default(), HashSet::new());
        for checksum in listed.filter(|checksum| seen.insert(*checksum)) {
            sums.blocks += 1;
            let Some(Some(lock)) = locks.get(&checksum) else {
                sums.missing += 1;
                continue;
            };
            let end = lock.end();
            sums.earliest = sums.earliest.into_iter().chain(end).min();
            sums.unlocked += u64::from(!lock.is_locked(now));
            sums.short += u64::from(end.is_none_or(|end| wanted.is_some_and(|wanted| end < wanted)));
        }
        sums
    }
}

#[cfg(test)]
mod tests;
