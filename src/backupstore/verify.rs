//! Are the backups whole? Answered from the store alone, without a restore.
//!
//! Each block is looked at once, however many backups share it; what is wrong with it is then traced to every backup and
//! offset it spoils. Memory grows with the number of different blocks of the largest volume, not with its backups nor
//! with the number of volumes. What cannot be looked at is told from what is damaged, and both from what was deleted
//! meanwhile.

mod coverage;
mod former;
mod images;
mod lock;
mod look;
mod needs;
mod report;
mod select;
mod systems;
mod volume;

pub use coverage::Coverage;
pub use report::{BadObject, Covered, Item, Report, Row, Spoils, Totals, Verdict};
pub use select::{BackupChoice, Selection};

use std::{
    fmt,
    str::FromStr,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::{images::Images, report::Part, select::Target};
use super::{Catalog, Progress, lock::SETTLE, workers::Workers};
use crate::{Error, Kind, Result, objectstore::Store};

/// Volumes worked on at the same time, so that many small ones do not each wait for their lock and their requests.
const VOLUMES: usize = 8;
/// Configurations read at the same time, for each volume.
const REQUESTS: usize = 16;
/// KiB of configurations whose block lists are held at the same time, all volumes together; a larger one is held alone.
const HELD_KIB: usize = 64 << 10;

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Every configuration object is read and compared with the others; of system backups also the archive. No block.
    Meta,
    /// Also, every block is there and has a possible size, by one listing. Says nothing of its content.
    Exists,
    /// Also, that percentage of the blocks is read, unpacked and hashed, another one in each run.
    Sample(u8),
    /// Every block is read, unpacked and hashed.
    Deep,
}

impl Level {
    fn reads_blocks(self) -> bool {
        matches!(self, Self::Sample(_) | Self::Deep)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta => f.write_str("meta"),
            Self::Exists => f.write_str("exists"),
            Self::Sample(percent) => write!(f, "sample={percent}%"),
            Self::Deep => f.write_str("deep"),
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    /// Reads `meta`, `exists`, `sample=N%` with N from 1 to 100, or `deep`.
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            let levels = "meta, exists, sample=N% (N from 1 to 100) and deep";
            Error::new(Kind::Usage, format!("{text:?} is no level of verification; there are {levels}"))
        };
        match text {
            "meta" => Ok(Self::Meta),
            "exists" => Ok(Self::Exists),
            "deep" => Ok(Self::Deep),
            _ => {
                let percent = text.strip_prefix("sample=").ok_or_else(unknown)?;
                let percent = percent.strip_suffix('%').unwrap_or(percent).parse().map_err(|_| unknown())?;
                if (1..=100).contains(&percent) { Ok(Self::Sample(percent)) } else { Err(unknown()) }
            }
        }
    }
}

/// How volumes are locked while their blocks are read, which keeps deletions away and lets backups go on.
#[derive(Clone, Copy, Debug)]
pub struct Locking {
    /// How long a lock settles; [`SETTLE`] wherever a real Longhorn may use the store.
    pub settle: Duration,
    /// How long to wait for a deletion to end before going on without a lock.
    pub patience: Duration,
}

impl Default for Locking {
    fn default() -> Self {
        Self { settle: SETTLE, patience: Duration::from_mins(1) }
    }
}

/// How to verify.
#[derive(Debug)]
pub struct VerifyOptions {
    /// How closely to look.
    pub level: Level,
    /// Blocks requested at the same time, all volumes together.
    pub concurrency: usize,
    /// Takes Longhorn's lock on each volume while its blocks are read, if the store may be written; without, the store
    /// is only read.
    pub lock: Option<Locking>,
    /// What the samples before this one have read.
    pub coverage: Coverage,
    /// Told the volumes verified so far and in all.
    pub volumes: Option<Progress>,
    /// Told the raw bytes of blocks read so far and in all, as far as the volumes begun need them.
    pub bytes: Option<Progress>,
    /// Stops early when cancelled; the report then says what was found until then.
    pub cancel: CancellationToken,
}

impl VerifyOptions {
    /// Eight blocks at the same time, without locks or memory, telling nobody.
    pub fn new(level: Level) -> Self {
        Self {
            level,
            concurrency: 8,
            lock: None,
            coverage: Coverage::forgetful(),
            volumes: None,
            bytes: None,
            cancel: CancellationToken::new(),
        }
    }
}

/// Verifies a store, or what is selected of it. Damage is part of the report, and so is what could not be looked at.
///
/// # Errors
/// When the store's volumes cannot be listed, `not-found` when something selected does not exist, `cancelled` when that
/// happens before anything was looked at.
pub async fn store(store: &Store, selection: &Selection, options: VerifyOptions) -> Result<Report> {
    let verifier = Verifier::new(store, options);
    let begun = Instant::now();
    let cancel = verifier.options.cancel.clone();
    let chosen = cancel.run_until_cancelled(verifier.targets(selection)).await;
    let targets = chosen.ok_or_else(|| Error::new(Kind::Cancelled, "interrupted"))??;

    let mut found = Part::default();
    let wanted = if selection.is_everything() { None } else { Some(verifier.images_of(&targets).await) };
    let (images_part, images) = verifier.images(wanted).await;
    let total = targets.len() as u64;
    let mut parts = stream::iter(targets)
        .map(|target| verifier.target(target, &images))
        // In their order, whichever ends first.
        .buffered(VOLUMES)
        .boxed();
    let mut done = 0;
    while let Some(part) = parts.next().await {
        found.add(part);
        done += 1;
        if let Some(progress) = &verifier.options.volumes {
            progress.report(done, total);
        }
    }
    drop(parts);
    found.add(images_part);
    if selection.is_everything() {
        found.add(verifier.systems().await);
    }
    Ok(verifier.report(found, begun))
}

/// A verification under way.
struct Verifier {
    store: Store,
    catalog: Catalog,
    options: VerifyOptions,
    workers: Workers,
    /// Blocks requested at the same time.
    turns: Semaphore,
    /// Configurations held while they are parsed and their lists merged.
    held: Semaphore,
    /// Configurations of the volumes whose blocks are held, by which the size of their lists is known beforehand.
    lists: Semaphore,
    coverage: Mutex<Coverage>,
    /// Why the coverage could not be remembered.
    forgotten: OnceLock<Error>,
    /// Why the store cannot be written.
    read_only: OnceLock<Error>,
    /// Why the store cannot be reached any more, so that nobody waits for it again and again.
    lost: OnceLock<Error>,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
}

impl Verifier {
    fn new(store: &Store, mut options: VerifyOptions) -> Self {
        options.concurrency = options.concurrency.max(1);
        let coverage = std::mem::replace(&mut options.coverage, Coverage::forgetful());
        Self {
            store: store.clone(),
            catalog: Catalog::new(store.clone()),
            workers: Workers::new(),
            turns: Semaphore::new(options.concurrency),
            held: Semaphore::new(HELD_KIB),
            lists: Semaphore::new(HELD_KIB),
            coverage: Mutex::new(coverage),
            forgotten: OnceLock::new(),
            read_only: OnceLock::new(),
            lost: OnceLock::new(),
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            options,
        }
    }

    async fn target(&self, target: Target, images: &Images) -> Part {
        if let Some(error) = self.stopped() {
            return Part::unchecked(Item::Volume { volume: target.volume }, &error);
        }
        match self.volume(&target.volume, target.backups.as_deref(), images).await {
            Ok(part) => part,
            Err(error) => {
                self.note_loss(&error);
                Part::unchecked(Item::Volume { volume: target.volume }, &error)
            }
        }
    }

    /// Why nothing more is to be looked at, if so.
    fn stopped(&self) -> Option<Error> {
        if self.options.cancel.is_cancelled() {
            return Some(Error::new(Kind::Cancelled, "interrupted before it was looked at"));
        }
        self.lost.get().map(|error| error.clone().context("the store was lost before this was looked at"))
    }

    /// A request is repeated several times before it fails like this; the next would fail as well.
    fn note_loss(&self, error: &Error) {
        if matches!(error.kind(), Kind::Unreachable | Kind::Timeout) {
            let _ = self.lost.set(error.clone());
        }
    }

    /// Room for a configuration of that many bytes.
    async fn room<'s>(&self, semaphore: &'s Semaphore, bytes: u64) -> Option<tokio::sync::SemaphorePermit<'s>> {
        let kib = usize::try_from(bytes / 1024 + 1).unwrap_or(HELD_KIB).min(HELD_KIB);
        semaphore.acquire_many(u32::try_from(kib).unwrap_or(u32::MAX)).await.ok()
    }

    fn expect_bytes(&self, bytes: u64) {
        self.bytes_total.fetch_add(bytes, Relaxed);
    }

    fn read_bytes(&self, bytes: u64) {
        let done = self.bytes_done.fetch_add(bytes, Relaxed) + bytes;
        if let Some(progress) = &self.options.bytes {
            progress.report(done, self.bytes_total.load(Relaxed));
        }
    }

    fn report(&self, mut found: Part, begun: Instant) -> Report {
        let bad = found.bad_objects();
        if let Some(error) = self.read_only.get() {
            found.notes.insert(0, format!("the volumes were not locked, as the store cannot be written: {error}"));
        }
        if let Some(error) = self.forgotten.get() {
            let note = format!("what was read is not remembered, the next sample reads the same again: {error}");
            found.notes.insert(0, note);
        }
        if found.items.is_empty() && bad.is_empty() {
            let note = "nothing was found: is the address right, down to the folder that holds backupstore/?";
            found.notes.push(note.into());
        }
        Report {
            store: self.store.describe(),
            level: self.options.level.to_string(),
            verdict: found.verdict(!bad.is_empty()),
            items: found.items,
            bad,
            bad_unnamed: found.bad_unnamed,
            notes: found.notes,
            totals: found.totals,
            covered: found.covered,
            seconds: begun.elapsed().as_secs_f64(),
            interrupted: self.options.cancel.is_cancelled(),
        }
    }
}

/// Whether an error says what is wrong with an object (it is missing, damaged, too large), and not that it could not be
/// looked at.
fn is_about_the_object(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Invalid)
}

#[cfg(test)]
mod tests;
