//! Putting blocks into a pool: what it lacks, each once.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use futures::TryStreamExt;

use super::{Compression, block::Checksum, codec::pack, layout::BlockPool, workers::Workers};
use crate::{
    Result,
    objectstore::{Depth, Store},
};

/// What was uploaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uploaded {
    /// Blocks the pool did not have.
    pub new_blocks: u64,
    /// Their packed bytes.
    pub new_bytes: u64,
    /// Packed bytes written over existing blocks.
    pub again_bytes: u64,
}

impl Uploaded {
    /// Counts both.
    pub fn add(&mut self, other: Self) {
        self.new_blocks += other.new_blocks;
        self.new_bytes += other.new_bytes;
        self.again_bytes += other.again_bytes;
    }
}

/// Uploads blocks into one pool.
#[derive(Clone, Debug)]
pub struct Upload {
    store: Store,
    pool: BlockPool,
    compression: Compression,
    again: bool,
    known: Arc<Mutex<Known>>,
    workers: Workers,
}

#[derive(Debug, Default)]
struct Known {
    stored: HashSet<Checksum>,
    done: HashSet<Checksum>,
}

/// A block that has to be uploaded.
struct Packed {
    body: Vec<u8>,
    /// Whether the pool has it already.
    stored: bool,
}

impl Upload {
    /// Learns by one listing what the pool has. An empty object is no block: it is written anew. With `again`, existing
    /// blocks are written over.
    pub async fn into_pool(store: &Store, pool: BlockPool, compression: Compression, again: bool) -> Result<Self> {
        let mut pages = store.list_pages(pool.prefix(), Depth::All);
        let mut known = Known::default();
        while let Some(page) = pages.try_next().await? {
            let blocks = page.objects.iter().filter(|object| object.size > 0);
            known.stored.extend(blocks.filter_map(|object| pool.checksum(&object.key)));
        }
        let known = Arc::new(Mutex::new(known));
        Ok(Self { store: store.clone(), pool, compression, again, known, workers: Workers::new() })
    }

    /// Lets `fill` make the raw content of a block, and uploads it if that is needed.
    pub async fn block<F>(&self, block_size: u64, fill: F) -> Result<(Checksum, Uploaded)>
    where
        F: FnOnce(&mut [u8]) -> Result<()> + Send + 'static,
    {
        let this = self.clone();
        let work = move |buffer: &mut [u8]| {
            fill(buffer)?;
            let checksum = Checksum::of(buffer);
            let packed = match this.need(checksum) {
                Some(stored) => Some(Packed { body: pack(buffer, this.compression)?, stored }),
                None => None,
            };
            Ok((checksum, packed))
        };
        let (checksum, packed) = self.workers.run(usize::try_from(block_size).unwrap_or_default(), work).await?;
        let Some(Packed { body, stored }) = packed else { return Ok((checksum, Uploaded::default())) };
        let bytes = body.len() as u64;
        self.store.put(&self.pool.key(&checksum), body.into()).await?;
        let uploaded = if stored {
            Uploaded { again_bytes: bytes, ..Uploaded::default() }
        } else {
            Uploaded { new_blocks: 1, new_bytes: bytes, again_bytes: 0 }
        };
        Ok((checksum, uploaded))
    }

    /// Whether the block, which has to be uploaded, is in the pool already; nothing when it has not to be.
    fn need(&self, checksum: Checksum) -> Option<bool> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let first = known.done.insert(checksum);
        let stored = known.stored.contains(&checksum);
        (first && (!stored || self.again)).then_some(stored)
    }
}
