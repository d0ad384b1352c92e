//! Keeping deletions away while blocks are read, where the store may be written.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Verifier;
use crate::{
    Kind, Result,
    backupstore::{
        config::LockType,
        layout::VolumeKeys,
        lock::{self, FoundLock, Lock},
        rfc3339,
    },
};

/// How long to wait before asking for a refused lock again.
const AGAIN: Duration = Duration::from_secs(5);

/// The locks that others hold on a volume.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Whether somebody may be making a backup.
    pub used: bool,
    /// Whether somebody may be deleting.
    pub deleting: bool,
}

impl Verifier {
    /// What others do with a volume; abandoned locks and deletions are noted. To be asked before a lock of our own is
    /// taken, which would look like a backup being made.
    pub(super) async fn others(&self, keys: &VolumeKeys, notes: &mut Vec<String>) -> Result<Others> {
        let now = Timestamp::now();
        let mut others = Others::default();
        for FoundLock { config, written } in lock::list(&self.store, keys).await? {
            let found = FoundLock { config, written };
            let (name, since) = (&found.config.name, rfc3339(written));
            let volume = keys.name();
            if found.is_expired(now) {
                let note = format!("{volume}: the lock {name} was abandoned at {since}; it holds nobody up any more");
                notes.push(note);
                continue;
            }
            others.used |= found.config.kind != LockType::Delete;
            if found.config.kind != LockType::Use {
                others.deleting = true;
                notes.push(format!("{volume}: something is being deleted (lock {name}, since {since})"));
            }
        }
        Ok(others)
    }

    /// Takes a lock as a restore does. Without one, deletions are told from losses afterwards.
    pub(super) async fn lock(&self, keys: &VolumeKeys, notes: &mut Vec<String>) -> Option<Lock> {
        let locking = self.options.lock.filter(|_| self.options.level.reads_blocks())?;
        let began = Instant::now();
        while self.read_only.get().is_none() && self.stopped().is_none() {
            match Lock::acquire(&self.store, keys, LockType::Use, locking.settle).await {
                Ok(lock) => return Some(lock),
                Err(error) if error.kind() == Kind::Conflict => {
                    let left = locking.patience.saturating_sub(began.elapsed());
                    if left.is_zero() {
                        notes.push(format!("{}: it was read without a lock: {error}", keys.name()));
                        return None;
                    }
                    tokio::select! {
                        () = self.options.cancel.cancelled() => return None,
                        () = tokio::time::sleep(left.min(AGAIN)) => {}
                    }
                }
                Err(error) => {
                    let _ = self.read_only.set(error);
                }
            }
        }
        None
    }

    /// Gives a lock back.
    pub(super) async fn unlock(&self, lock: Option<Lock>, keys: &VolumeKeys, notes: &mut Vec<String>) {
        let Some(lock) = lock else { return };
        if let Err(error) = lock.release().await {
            let seconds = lock::EXPIRY.as_secs();
            notes.push(format!("{}: its lock could not be removed and expires in {seconds} s: {error}", keys.name()));
        }
    }
}
