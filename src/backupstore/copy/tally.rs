//! What a copy has done so far, also for whoever cuts it short.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counts of a copy that goes on. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    copied: AtomicU64,
    bytes: AtomicU64,
    pruned: AtomicU64,
}

impl Tally {
    /// Objects moved, and their bytes.
    pub fn copied(&self) -> (u64, u64) {
        (self.0.copied.load(Relaxed), self.0.bytes.load(Relaxed))
    }

    /// Objects deleted from the copy.
    pub fn pruned(&self) -> u64 {
        self.0.pruned.load(Relaxed)
    }

    /// Counts a moved object, and gives the bytes moved so far.
    pub(super) fn add(&self, bytes: u64) -> u64 {
        self.0.copied.fetch_add(1, Relaxed);
        self.0.bytes.fetch_add(bytes, Relaxed) + bytes
    }

    pub(super) fn remove(&self) {
        self.0.pruned.fetch_add(1, Relaxed);
    }
}
