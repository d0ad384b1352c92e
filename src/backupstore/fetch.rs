//! Getting blocks out of a pool, verified: the part every reader shares.

use std::ops::Deref;

use super::{
    block::Checksum,
    codec::{Fault, Unpacked, max_stored, unpack},
    layout::BlockPool,
    workers::{Buffers, Workers},
};
use crate::{Error, Kind, Result, objectstore::Store};

/// Why a block was not got.
#[derive(Debug)]
pub enum Loss {
    /// The object is not the block, also after a second look.
    Fault(Fault),
    /// The store could not be asked, or the block could not be used.
    Error(Error),
}

impl Loss {
    /// The failure of whoever needs that block at that offset: `damaged`, naming the block, or why the store could not
    /// be asked.
    pub fn of_block(self, key: &str, offset: u64) -> Error {
        let text = match self {
            Self::Error(error) => return error.context(format_args!("the block at offset {offset}")),
            Self::Fault(Fault::Missing) => format!("the block at offset {offset} is missing: there is no {key}"),
            Self::Fault(fault) => format!("the block at offset {offset} is damaged: {fault} ({key})"),
        };
        Error::new(Kind::Damaged, text)
            .object(key)
            .hint("verify the store: it names everything that is damaged and the backups that are whole")
    }
}

/// What was made of a block.
#[derive(Debug)]
pub struct Got<T> {
    /// What the caller made of its content.
    pub value: T,
    /// Bytes read from the store.
    pub stored: u64,
}

/// Reads the blocks of one pool.
#[derive(Clone, Debug)]
pub struct BlockReader {
    store: Store,
    pool: BlockPool,
    workers: Workers,
    /// For the stored form of blocks.
    bodies: Buffers,
}

impl Deref for BlockReader {
    type Target = BlockPool;

    fn deref(&self) -> &BlockPool {
        &self.pool
    }
}

impl BlockReader {
    /// Reads from that pool with those workers.
    pub fn new(store: Store, pool: BlockPool, workers: Workers) -> Self {
        Self { store, pool, workers, bodies: Buffers::default() }
    }

    /// Gets the block with that checksum and `length` raw bytes, and hands its verified content to `then` on a worker.
    ///
    /// An object that is not the block is read a second time first: a full backup may be writing it anew, and a
    /// transfer may have gone wrong.
    pub async fn read<T, F>(&self, checksum: Checksum, length: usize, then: F) -> Result<Got<T>, Loss>
    where
        T: Send + 'static,
        F: FnOnce(&Unpacked<'_>) -> Result<T> + Send + 'static,
    {
        let then = match self.once(checksum, length, then).await? {
            Ok(got) => return Ok(got),
            Err((Fault::Missing, _)) => return Err(Loss::Fault(Fault::Missing)),
            Err((_, then)) => then,
        };
        self.once(checksum, length, then).await?.map_err(|(fault, _)| Loss::Fault(fault))
    }

    /// One attempt; a fault gives `then` back for another.
    async fn once<T, F>(&self, checksum: Checksum, length: usize, then: F) -> Result<Result<Got<T>, (Fault, F)>, Loss>
    where
        T: Send + 'static,
        F: FnOnce(&Unpacked<'_>) -> Result<T> + Send + 'static,
    {
        let mut body = self.bodies.take();
        match self.store.get_into(&self.pool.key(&checksum), max_stored(length as u64), &mut body).await {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::NotFound => return Ok(Err((Fault::Missing, then))),
            Err(error) if error.kind() == Kind::Invalid => return Ok(Err((Fault::TooLarge, then))),
            Err(error) => return Err(Loss::Error(error)),
        }
        let bodies = self.bodies.clone();
        let work = move |buffer: &mut [u8]| {
            let outcome = match unpack(&body, &checksum, buffer) {
                Ok(unpacked) => then(&unpacked).map(|value| Ok(Got { value, stored: body.len() as u64 })),
                Err(fault) => Ok(Err((fault, then))),
            };
            bodies.give(body);
            outcome
        };
        self.workers.run(length, work).await.map_err(Loss::Error)
    }
}
