//! Counts the blocks of one pool: which are in the store, and which backups need them.

use std::collections::HashMap;

use serde::Serialize;

use super::{BackupUsage, Objects, PoolUsage};
use crate::backupstore::{block::Checksum, config::BlockMap};

/// Different blocks and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub blocks: u64,
    /// Their bytes before packing.
    pub raw: u64,
    /// Their bytes in the store.
    pub stored: u64,
}

impl Amount {
    fn add(&mut self, block: &Block) {
        *self = self.plus(Self { blocks: 1, raw: block.raw.into(), stored: block.stored });
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            blocks: self.blocks + other.blocks,
            raw: self.raw.saturating_add(other.raw),
            stored: self.stored.saturating_add(other.stored),
        }
    }

    fn minus(self, part: Self) -> Self {
        Self {
            blocks: self.blocks.saturating_sub(part.blocks),
            raw: self.raw.saturating_sub(part.raw),
            stored: self.stored.saturating_sub(part.stored),
        }
    }
}

/// What is known of one block; 24 bytes beside its checksum.
#[derive(Debug, Default)]
struct Block {
    stored: u64,
    raw: u32,
    listed: bool,
    /// How many backups need it.
    users: u32,
    /// The latest of them.
    last: u32,
}

/// The blocks of a pool. First all that is in the store is [`listed`](Tally::listed), then each backup's
/// [`used`](Tally::used).
#[derive(Debug, Default)]
pub(super) struct Tally {
    blocks: HashMap<Checksum, Block>,
    backups: Vec<(Amount, u64)>,
}

impl Tally {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(super) fn listed(&mut self, checksum: Checksum, stored: u64) {
        self.blocks.insert(checksum, Block { stored, listed: true, ..Block::default() });
    }

    /// The blocks of the next backup; `raw` gives the bytes of the one at an offset.
    pub(super) fn used(&mut self, map: &BlockMap, raw: impl Fn(u64) -> u64) {
        let index = u32::try_from(self.backups.len()).unwrap_or(u32::MAX);
        let (mut all, mut missing) = (Amount::default(), 0);
        for listed in map.as_slice() {
            let block = self.blocks.entry(listed.checksum).or_default();
            if block.users > 0 && block.last == index {
                continue;
            }
            block.users += 1;
            block.last = index;
            block.raw = u32::try_from(raw(listed.offset)).unwrap_or(u32::MAX);
            if block.listed {
                all.add(block);
            } else {
                missing += 1;
            }
        }
        self.backups.push((all, missing));
    }

    /// The sums, for the backups of these names and states in the order they were counted.
    pub(super) fn finish(
        self,
        volume: Option<String>,
        users: Vec<(String, &'static str)>,
        other: Objects,
    ) -> PoolUsage {
        let mut unique = vec![Amount::default(); self.backups.len()];
        let (mut used, mut shared, mut unreferenced) = (Amount::default(), Amount::default(), Objects::default());
        for block in self.blocks.values().filter(|block| block.listed) {
            match block.users {
                0 => unreferenced.add(block.stored),
                1 => unique[block.last as usize].add(block),
                _ => shared.add(block),
            }
            if block.users > 0 {
                used.add(block);
            }
        }
        let incomplete = |state: &str| state != "complete";
        let blocked_by: Vec<String> =
            users.iter().filter(|(_, state)| incomplete(state)).map(|(name, _)| name.clone()).collect();
        let backups =
            users.into_iter().zip(self.backups).zip(unique).map(|(((backup, state), (all, missing)), unique)| {
                let blocked = blocked_by.iter().any(|name| *name != backup);
                let frees = if blocked { 0 } else { unique.stored };
                BackupUsage { backup, state, all, unique, shared: all.minus(unique), missing, frees }
            });
        PoolUsage {
            volume,
            backups: backups.collect(),
            used,
            shared,
            unreferenced,
            other,
            bytes: used.stored.saturating_add(unreferenced.bytes).saturating_add(other.bytes),
            noncurrent: None,
            blocked_by,
            in_use: false,
        }
    }
}
