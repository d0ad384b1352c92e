//! A backup as the block device it was made of, read at any offset without being restored.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt, stream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    Catalog, Progress, backing,
    block::{Checksum, DEFAULT_BLOCK_SIZE, LARGE_BLOCK_SIZE},
    config::BlockMap,
    fetch::{BlockReader, Loss},
    layout::{BackupRef, VolumeKeys},
    workers::Workers,
};
use crate::{Error, Kind, Result, objectstore::Store};

/// How to read an image.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// Bytes of blocks kept in memory; one block is, however large.
    pub cached_bytes: u64,
    /// Blocks requested at the same time, where more than one is known to be needed.
    pub concurrency: usize,
    /// Told the bytes got from the store so far, and the bytes of the image.
    pub progress: Option<Progress>,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self { cached_bytes: 64 << 20, concurrency: 8, progress: None }
    }
}

/// What was got from the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Blocks got, each time they were.
    pub blocks: u64,
    /// Their bytes in the store.
    pub bytes: u64,
}

/// The raw image of a backup. It has the volume's *current* size, as a restore has; what no block covers is zeros.
///
/// Blocks are verified, and kept in a cache that does not grow. Reading waits for the store, so it belongs on a thread
/// that may block.
#[derive(Debug)]
pub struct Image {
    /// From the top: the volume's own blocks, then the backing image.
    layers: Vec<Layer>,
    size: u64,
    options: ImageOptions,
    /// Blocks kept in memory, at least one.
    cached_blocks: usize,
    /// The most recently used are at the front.
    cache: VecDeque<(Wanted, Arc<[u8]>)>,
    fetched: Arc<Mutex<Fetched>>,
    store: Store,
    /// The backup's configuration.
    key: String,
    runtime: Handle,
    stop: CancellationToken,
}

/// Blocks of one pool that lie over those of the layers below.
#[derive(Debug)]
struct Layer {
    blocks: BlockMap,
    block_size: u64,
    end: u64,
    pool: BlockReader,
}

/// A block of a layer.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    layer: usize,
    checksum: Checksum,
    /// Where it starts in the image; the same block may be in several places.
    offset: u64,
    length: usize,
}

impl Wanted {
    fn is_same(&self, other: &Self) -> bool {
        (self.layer, self.checksum, self.length) == (other.layer, other.checksum, other.length)
    }
}

impl Image {
    /// Opens the image of a backup: reads its configuration and those of its volume and backing image, no block.
    /// `stop` ends reads that are under way.
    ///
    /// # Errors
    /// `not-found` without volume, backup or backing image, `damaged` when their configurations are, `invalid` for a
    /// backup that was never completed.
    pub async fn open(store: &Store, of: &BackupRef, options: ImageOptions, stop: CancellationToken) -> Result<Self> {
        let keys = VolumeKeys::new(&of.volume)?;
        let catalog = Catalog::new(store.clone());
        let volume = catalog.volume(&of.volume).await?;
        let backup = catalog.backup(&of.volume, &of.backup).await?;
        backup.check_restorable(&volume)?;
        let workers = Workers::new();
        let block_size = backup.block_size();
        let pool = BlockReader::new(store.clone(), keys.blocks(), workers.clone());
        let mut layers = vec![Layer { blocks: backup.blocks, block_size, end: volume.size, pool }];
        if let Some((image, pool)) = backing::under(store, &volume, &workers).await? {
            layers.push(Layer { blocks: image.blocks, block_size: DEFAULT_BLOCK_SIZE, end: image.size, pool });
        }
        let cached_blocks = usize::try_from(options.cached_bytes / block_size).unwrap_or(usize::MAX).max(1);
        Ok(Self {
            layers,
            size: volume.size,
            options,
            cached_blocks,
            cache: VecDeque::new(),
            fetched: Arc::default(),
            store: store.clone(),
            key: keys.backup(&of.backup)?,
            runtime: Handle::current(),
            stop,
        })
    }

    /// Bytes of the image.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What was got so far, also when the image itself is in other hands.
    pub fn counter(&self) -> Arc<Mutex<Fetched>> {
        self.fetched.clone()
    }

    /// Fills the buffer from that offset.
    ///
    /// # Errors
    /// `damaged`, naming block and offset, when a block is missing or is not what its name says; `conflict` when the
    /// backup was deleted meanwhile; `cancelled` when reading was stopped; `invalid` beyond the end.
    pub fn read(&mut self, mut offset: u64, mut out: &mut [u8]) -> Result<()> {
        if self.stop.is_cancelled() {
            return Err(stopped());
        }
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.size) {
            let text = format!("{} bytes at offset {offset} are beyond the image's {}", out.len(), self.size);
            return Err(Error::new(Kind::Invalid, text));
        }
        while !out.is_empty() {
            let (wanted, end) = self.locate(offset);
            let count = usize::try_from(end - offset).map_or(out.len(), |left| left.min(out.len()));
            let (now, later) = out.split_at_mut(count);
            match wanted {
                None => now.fill(0),
                Some(wanted) => {
                    let from = usize::try_from(offset - wanted.offset).unwrap_or(usize::MAX);
                    now.copy_from_slice(&self.block(wanted)?[from..from + count]);
                }
            }
            offset += count as u64;
            out = later;
        }
        Ok(())
    }

    /// Says what will be read next, in that order: if it is not there, the blocks of it are got at the same time, as
    /// many as the cache can well hold. Failures show when the block is read.
    pub fn ahead(&mut self, ranges: impl IntoIterator<Item = Range<u64>>) {
        let most = self.options.concurrency.min(self.cached_blocks / 2);
        let mut missing: Vec<Wanted> = Vec::new();
        'ranges: for range in ranges {
            let mut offset = range.start;
            while offset < range.end.min(self.size) {
                let (wanted, end) = self.locate(offset);
                offset = end;
                let Some(wanted) = wanted else { continue };
                let is_cached = self.cache.iter().any(|(cached, _)| cached.is_same(&wanted));
                if is_cached && missing.is_empty() {
                    return;
                }
                if !is_cached && !missing.iter().any(|other| other.is_same(&wanted)) {
                    missing.push(wanted);
                }
                if missing.len() >= most {
                    break 'ranges;
                }
            }
        }
        if missing.len() > 1 {
            for (wanted, content) in self.fetch(&missing) {
                if let Ok(content) = content {
                    self.keep(wanted, content);
                }
            }
        }
    }

    /// The block at an offset, or nothing where zeros are, and how far that holds.
    fn locate(&self, offset: u64) -> (Option<Wanted>, u64) {
        let mut until = self.size;
        for (index, layer) in self.layers.iter().enumerate().filter(|(_, layer)| offset < layer.end) {
            let start = offset / layer.block_size * layer.block_size;
            let end = layer.end.min(start + layer.block_size);
            until = until.min(end);
            let Some(block) = layer.blocks.at(start) else { continue };
            let is_whole = matches!(end - start, DEFAULT_BLOCK_SIZE | LARGE_BLOCK_SIZE);
            if is_whole && block.checksum == Checksum::of_zeros(end - start) {
                return (None, until);
            }
            let length = usize::try_from(end - start).unwrap_or(usize::MAX);
            return (Some(Wanted { layer: index, checksum: block.checksum, offset: start, length }), until);
        }
        (None, until)
    }

    fn block(&mut self, wanted: Wanted) -> Result<Arc<[u8]>> {
        if let Some(at) = self.cache.iter().position(|(cached, _)| cached.is_same(&wanted))
            && let Some(found) = self.cache.remove(at)
        {
            self.cache.push_front(found.clone());
            return Ok(found.1);
        }
        let content = self.fetch(&[wanted]).into_iter().next().map_or_else(|| Err(stopped()), |(_, got)| got)?;
        self.keep(wanted, content.clone());
        Ok(content)
    }

    fn keep(&mut self, wanted: Wanted, content: Arc<[u8]>) {
        self.cache.truncate(self.cached_blocks.saturating_sub(1));
        self.cache.push_front((wanted, content));
    }

    /// Gets blocks at the same time; those that are missing in the answer were not got before reading was stopped.
    fn fetch(&self, wanted: &[Wanted]) -> Vec<(Wanted, Result<Arc<[u8]>>)> {
        let all = stream::iter(wanted)
            .map(|wanted| async move { (*wanted, self.fetch_one(wanted).await) })
            .buffer_unordered(self.options.concurrency.max(1))
            .take_until(self.stop.cancelled())
            .collect();
        self.runtime.block_on(all)
    }

    async fn fetch_one(&self, wanted: &Wanted) -> Result<Arc<[u8]>> {
        let pool = &self.layers[wanted.layer].pool;
        match pool.read(wanted.checksum, wanted.length, |block| Ok(Arc::from(block.data))).await {
            Ok(got) => {
                let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
                fetched.blocks += 1;
                fetched.bytes += got.stored;
                if let Some(progress) = &self.options.progress {
                    progress.report(fetched.bytes, self.size);
                }
                Ok(got.value)
            }
            // A block may be gone because its backup is.
            Err(Loss::Fault(_)) if self.store.head(&self.key).await?.is_none() => {
                Err(Error::new(Kind::Conflict, "the backup was deleted while it was read").object(&self.key))
            }
            Err(loss) => Err(loss.of_block(&pool.key(&wanted.checksum), wanted.offset)),
        }
    }
}

fn stopped() -> Error {
    Error::new(Kind::Cancelled, "interrupted")
}

#[cfg(test)]
mod tests;
