//! Restoring: a raw, sparse image file from the blocks of a backup, every block verified before it is written.

mod options;
mod qcow2;
mod remaining;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    Catalog, backing,
    block::{Checksum, DEFAULT_BLOCK_SIZE},
    config::{Block, LockType},
    fetch::BlockReader,
    layout::{self, BackupRef, BlockPool, VolumeKeys},
    lock::Lock,
    plan::Plan,
    target::{self, Target, Writer},
    workers::Workers,
};
use crate::{Error, Kind, Result, objectstore::Store};

pub use self::options::{Format, RestoreOptions, Restored};

/// Where the image is written until it is whole: `<path>.partial`.
pub fn partial(path: &Path) -> PathBuf {
    target::partial(path)
}

/// Looks at what needs no store: whether the path may be written, and whether the program for the format is there.
///
/// # Errors
/// `conflict` when the path exists and `overwrite` is not set, `usage` when it can be no file, `failed` without
/// `qemu-img`.
pub async fn check(path: &Path, options: &RestoreOptions) -> Result<()> {
    target::check_path(path, options.overwrite)?;
    match options.format {
        Format::Raw => Ok(()),
        Format::Qcow2 => qcow2::check().await,
    }
}

/// Restores a backup to a raw image file, which has the volume's *current* size, as Longhorn restores it: the backup of
/// a volume that grew later ends in zeros. A backing image in the store is laid under the volume's blocks.
///
/// The image is written to `<path>.partial` and renamed when it is whole. Dropping the future removes it, unless it is to
/// be [resumed](RestoreOptions::resume).
///
/// # Errors
/// `damaged`, naming volume, backup, block and offset, at the first block that is missing or is not what its name says;
/// `conflict` when the path exists, or the backup is deleted while it is read; `not-found` without volume or backup;
/// `invalid` for a backup that was never completed.
pub async fn to_file(
    store: &Store,
    backup: &BackupRef,
    path: impl AsRef<Path>,
    options: RestoreOptions,
) -> Result<Restored> {
    let keys = VolumeKeys::new(&backup.volume)?;
    let lock = match options.lock {
        Some(settle) => Some(Lock::acquire(store, &keys, LockType::Use, settle).await?),
        None => None,
    };
    let restored = volume(store, &keys, backup, path.as_ref(), &options).await;
    if let Some(lock) = lock {
        lock.release().await?;
    }
    restored.map_err(|error| error.context(format_args!("restoring {backup}")))
}

async fn volume(
    store: &Store,
    keys: &VolumeKeys,
    of: &BackupRef,
    path: &Path,
    options: &RestoreOptions,
) -> Result<Restored> {
    let catalog = Catalog::new(store.clone());
    let volume = catalog.volume(&of.volume).await?;
    let backup = catalog.backup(&of.volume, &of.backup).await?;
    let key = keys.backup(&of.backup)?;
    backup.check_restorable(&volume)?;
    let (size, block_size, begun) = (volume.size, backup.block_size(), backup.snapshot_created_at.parse().ok());
    let workers = Workers::new();
    let mut layers = Vec::new();
    if let Some((image, pool)) = backing::under(store, &volume, &workers).await? {
        // Each block of the volume has the image's content in it already.
        let mut blocks = image.blocks.as_slice().to_vec();
        blocks.retain(|b| b.offset < volume.size && backup.blocks.at(b.offset / block_size * block_size).is_none());
        layers.push(Layer { blocks, block_size: DEFAULT_BLOCK_SIZE, end: image.size, pool });
    }
    let pool = BlockReader::new(store.clone(), keys.blocks(), workers.clone());
    layers.push(Layer { blocks: backup.blocks.into_blocks(), block_size, end: size, pool });
    match write(layers, size, path, options, &workers).await {
        // A block may be gone because its backup is.
        Err(error) if error.kind() == Kind::Damaged && store.head(&key).await?.is_none() => {
            let error = Error::new(Kind::Conflict, "the backup was deleted while it was read").object(key);
            Err(told_of_partial(error, path, options))
        }
        Err(error) => Err(error),
        Ok(restored) => Ok(Restored { begun, ..restored }),
    }
}

/// Restores a backing image to a file: the file that was uploaded to Longhorn, byte by byte.
///
/// # Errors
/// As [`to_file`].
pub async fn backing_image_to_file(
    store: &Store,
    name: &str,
    path: impl AsRef<Path>,
    options: RestoreOptions,
) -> Result<Restored> {
    let lock = match options.lock {
        Some(settle) => {
            let keys = VolumeKeys::backing_image_locks();
            Some(Lock::acquire(store, &keys, LockType::Use, settle).await?)
        }
        None => None,
    };
    let restored = image(store, name, path.as_ref(), &options).await;
    if let Some(lock) = lock {
        lock.release().await?;
    }
    restored.map_err(|error| error.context(format_args!("restoring backing image {name}")))
}

async fn image(store: &Store, name: &str, path: &Path, options: &RestoreOptions) -> Result<Restored> {
    let image = Catalog::new(store.clone()).backing_image(name).await?;
    if image.complete_time.is_empty() {
        return Err(
            Error::new(Kind::Invalid, "its backup was never completed").object(layout::backing_image_config(name)?)
        );
    }
    let begun = image.created_time.parse().ok();
    let workers = Workers::new();
    let pool = BlockReader::new(store.clone(), BlockPool::backing_images(), workers.clone());
    let (blocks, end) = (image.blocks.into_blocks(), image.size);
    let layer = Layer { blocks, block_size: DEFAULT_BLOCK_SIZE, end, pool };
    let restored = write(vec![layer], end, path, options, &workers).await?;
    Ok(Restored { begun, ..restored })
}

/// Blocks of one pool, of `block_size` bytes; only at `end` one may be shorter. Layers do not overlap, so their order
/// does not matter.
struct Layer {
    blocks: Vec<Block>,
    block_size: u64,
    end: u64,
    pool: BlockReader,
}

impl Layer {
    /// Raw bytes of that block.
    fn length(&self, block: &Block) -> u64 {
        self.block_size.min(self.end.saturating_sub(block.offset))
    }
}

async fn write(
    mut layers: Vec<Layer>,
    size: u64,
    path: &Path,
    options: &RestoreOptions,
    workers: &Workers,
) -> Result<Restored> {
    let bytes: u64 = layers.iter().flat_map(|layer| layer.blocks.iter().map(|block| layer.length(block))).sum();
    let blocks = layers.iter().map(|layer| layer.blocks.len()).sum();
    check(path, options).await?;
    let (place, overwrite, resume) = (path.to_owned(), options.overwrite, options.resume);
    // The raw image is there until the other one is made, which needs about as much room.
    let room = if options.format == Format::Raw { bytes } else { bytes.saturating_mul(2) };
    let open = if resume { Target::resume } else { Target::create };
    let target = super::blocking(move || open(&place, size, room, overwrite)).await?;
    let made = async {
        let told = |done| {
            if let Some(progress) = &options.progress {
                progress.report(done, bytes);
            }
        };
        let reused_bytes = if resume {
            remaining::keep_missing(&target, &mut layers, workers, options.concurrency, &told).await?
        } else {
            0
        };
        let (blocks_read, stored_bytes) = fill(&target, layers, size, reused_bytes, options.concurrency, &told).await?;
        if resume {
            target.sync().await?;
        }
        let made = match options.format {
            Format::Raw => None,
            Format::Qcow2 => Some(qcow2::convert(target.partial()).await?),
        };
        Ok((Restored { size, bytes, blocks, blocks_read, stored_bytes, reused_bytes, begun: None }, made))
    };
    let restored = match made.await {
        Ok((restored, None)) => target.finish().map(|()| restored),
        Ok((restored, Some(made))) => target.finish_as(made.path()).map(|()| restored),
        Err(error) => {
            drop(target);
            Err(error)
        }
    };
    restored.map_err(|error| told_of_partial(error, path, options))
}

/// Writes all blocks of the layers into a target that is zeros where they go; returns how many blocks and packed bytes
/// were read.
async fn fill(
    target: &Target,
    layers: Vec<Layer>,
    size: u64,
    mut done_bytes: u64,
    concurrency: usize,
    told: &impl Fn(u64),
) -> Result<(usize, u64)> {
    let plan = |layer: Layer| (Arc::new(Plan::new(layer.blocks, layer.block_size, layer.end)), layer.pool);
    let plans: Vec<_> = layers.into_iter().map(plan).collect();
    let reads = plans.iter().flat_map(|(plan, pool)| (0..plan.len()).map(move |index| (plan, pool, index)));
    let mut done = stream::iter(reads)
        .map(|(plan, pool, index)| restore_block(plan, pool, index, target.writer(), size))
        .buffer_unordered(concurrency.max(1))
        .boxed();
    let mut stored_bytes = 0;
    while let Some((restored, stored)) = done.try_next().await? {
        done_bytes += restored;
        stored_bytes += stored;
        told(done_bytes);
    }
    drop(done);
    Ok((plans.iter().map(|(plan, _)| plan.len()).sum(), stored_bytes))
}

/// Says of a failure that it was not all in vain.
fn told_of_partial(error: Error, path: &Path, options: &RestoreOptions) -> Error {
    let partial = partial(path);
    if !options.resume || !partial.exists() {
        return error;
    }
    let before = error.hint_text().map(|hint| format!("{hint}; ")).unwrap_or_default();
    let text =
        format!("{before}what was restored so far is kept in {}, the next attempt goes on from it", partial.display());
    error.hint(text)
}

/// Reads one block and writes it to all its places; returns the bytes of the image and of the store.
async fn restore_block(
    plan: &Arc<Plan>,
    pool: &BlockReader,
    index: usize,
    writer: Writer,
    size: u64,
) -> Result<(u64, u64)> {
    let read = plan.read(index);
    let planned = plan.clone();
    let got = pool.read(read.checksum, read.length, move |block| {
        let read = planned.read(index);
        // The file is zeros where nothing is written.
        if read.checksum != Checksum::of_zeros(read.length as u64) {
            for place in read.places {
                let fits = usize::try_from(size.saturating_sub(place.offset)).unwrap_or(usize::MAX);
                writer.write_at(&block.data[..read.length.min(fits)], place.offset)?;
            }
        }
        Ok(())
    });
    match got.await {
        Ok(got) => Ok(((read.length * read.places.len()) as u64, got.stored)),
        Err(loss) => Err(loss.of_block(&pool.key(&read.checksum), read.places[0].offset)),
    }
}

#[cfg(test)]
mod tests;
