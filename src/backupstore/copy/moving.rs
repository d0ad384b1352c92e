//! Moving one object from a store to its copy.

use std::{
    collections::HashSet,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{CopyOptions, Tally};
use crate::{
    Error, Kind, Result,
    backupstore::{
        Progress,
        block::Checksum,
        catalog::known,
        codec::{Fault, max_stored, unpack},
        workers::Workers,
    },
    objectstore::Store,
};

/// How much of two configurations of the same size is compared, in bytes. It holds everything but the block list, so
/// also the times, by which those of the same name differ.
const START: u64 = 64 << 10;

/// What became of an object.
pub(super) enum Outcome {
    /// It was copied; bytes.
    Moved(u64),
    /// It was there already.
    There,
    /// It was deleted from the store meanwhile.
    Gone,
    /// It must not, or could not, be copied.
    Bad(String),
}

/// Moves objects at a bounded pace. Cheap to clone; clones share the pace.
#[derive(Clone)]
pub(super) struct Mover {
    from: Store,
    to: Store,
    workers: Workers,
    pace: Option<Arc<Pace>>,
    progress: Option<Progress>,
    tally: Tally,
    /// Bytes to be moved.
    expected: Arc<AtomicU64>,
    /// Keys of what is not to be taken as it is in the copy.
    replace: Arc<HashSet<String>>,
}

impl Mover {
    pub(super) fn new(from: Store, to: Store, options: &CopyOptions) -> Self {
        let pace = |rate| Arc::new(Pace { rate, free: Mutex::new(Instant::now()) });
        Self {
            from,
            to,
            workers: Workers::new(),
            pace: options.bytes_per_second.map(pace),
            progress: options.progress.clone(),
            tally: options.tally.clone(),
            expected: Arc::default(),
            replace: Arc::new(options.replace.clone()),
        }
    }

    /// Whether that object is to be replaced, though the copy has one of its size.
    pub(super) fn replaces(&self, key: &str) -> bool {
        self.replace.contains(key)
    }

    /// So many bytes are to be moved in addition.
    pub(super) fn expect(&self, bytes: u64) {
        self.expected.fetch_add(bytes, Relaxed);
    }

    fn moved(&self, bytes: u64) {
        let done = self.tally.add(bytes);
        if let Some(progress) = &self.progress {
            progress.report(done, self.expected.load(Relaxed).max(done));
        }
    }

    async fn wait(&self, bytes: u64) {
        if let Some(pace) = &self.pace {
            pace.wait(bytes).await;
        }
    }

    /// Moves a block of so many raw and packed bytes, if it is what its name says.
    pub(super) async fn block(&self, key: &str, checksum: Checksum, length: usize, size: u64) -> Result<Outcome> {
        self.wait(size).await;
        let mut found = self.checked(key, checksum, length).await?;
        // A full backup may be writing it anew, or the transfer went wrong.
        if matches!(&found, Err(fault) if *fault != Fault::Missing) {
            self.wait(size).await;
            found = self.checked(key, checksum, length).await?;
        }
        match found {
            Ok(body) => self.put(key, body.into()).await,
            Err(fault) => Ok(Outcome::Bad(fault.to_string())),
        }
    }

    async fn checked(&self, key: &str, checksum: Checksum, length: usize) -> Result<Result<Vec<u8>, Fault>> {
        let mut body = Vec::new();
        match self.from.get_into(key, max_stored(length as u64), &mut body).await {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::NotFound => return Ok(Err(Fault::Missing)),
            Err(error) if error.kind() == Kind::Invalid => return Ok(Err(Fault::TooLarge)),
            Err(error) => return Err(error),
        }
        let check = move |buffer: &mut [u8]| {
            let flaw = match unpack(&body, &checksum, buffer) {
                Ok(unpacked) => unpacked.flaw,
                Err(fault) => return Ok(Err(fault)),
            };
            Ok(flaw.map_or(Ok(body), |flaw| Err(Fault::Flawed(flaw))))
        };
        self.workers.run(length, check).await
    }

    /// Moves a configuration, unless the copy has it.
    pub(super) async fn config(&self, key: &str, max_bytes: u64) -> Result<Outcome> {
        if self.is_same(key).await? {
            return Ok(Outcome::There);
        }
        match known(self.from.get_limited(key, max_bytes).await)? {
            Ok(body) => {
                self.wait(body.len() as u64).await;
                self.put(key, body).await
            }
            Err(error) if error.kind() == Kind::NotFound => Ok(Outcome::Gone),
            Err(error) => Ok(Outcome::Bad(error.to_string())),
        }
    }

    /// Writes an object that was read, unless the copy has the very same.
    pub(super) async fn body(&self, key: &str, body: Bytes) -> Result<Outcome> {
        if self.to.head(key).await?.is_some_and(|found| found.size == body.len() as u64)
            && self.to.get_limited(key, body.len() as u64).await? == body
        {
            return Ok(Outcome::There);
        }
        self.wait(body.len() as u64).await;
        self.put(key, body).await
    }

    /// A place that keeps an object from being replaced spoils that object only.
    async fn put(&self, key: &str, body: Bytes) -> Result<Outcome> {
        let bytes = body.len() as u64;
        match self.to.put(key, body).await {
            Ok(()) => {
                self.moved(bytes);
                Ok(Outcome::Moved(bytes))
            }
            Err(error) if is_refusal(&error) && self.to.head(key).await?.is_some() => {
                Ok(Outcome::Bad(format!("the copy has another one that must not be replaced: {error}")))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the copy has an object of the same size.
    pub(super) async fn has_same_size(&self, key: &str) -> Result<bool> {
        if self.replaces(key) {
            return Ok(false);
        }
        let (here, there) = tokio::try_join!(self.from.head(key), self.to.head(key))?;
        Ok(here.is_some_and(|here| there.is_some_and(|there| here.size == there.size)))
    }

    /// Whether the copy has the configuration as it is.
    pub(super) async fn is_same(&self, key: &str) -> Result<bool> {
        if !self.has_same_size(key).await? {
            return Ok(false);
        }
        let start = async |store: &Store| match known(store.get_range(key, 0..START).await)? {
            Ok(start) => Ok::<_, Error>(Some(start)),
            // Empty, or deleted meanwhile.
            Err(_) => Ok(None),
        };
        Ok(start(&self.from).await? == start(&self.to).await?)
    }
}

/// Whether the server does not let it be done, as with objects that are locked.
pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), Kind::Denied | Kind::Conflict)
}

/// Lets bytes through one after the other at a rate.
struct Pace {
    rate: NonZeroU64,
    /// When the bytes let through so far have had their time.
    free: Mutex<Instant>,
}

impl Pace {
    async fn wait(&self, bytes: u64) {
        // As u64 nanoseconds this holds five centuries.
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.get());
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let turn = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*free).max(Instant::now());
            *free = turn.checked_add(time).unwrap_or(turn);
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}
