//! Restoring: a raw, sparse image file from the blocks of a backup, every block verified before it is written.

use std::{path::Path, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    Catalog, Progress,
    block::{Checksum, DEFAULT_BLOCK_SIZE},
    codec::Fault,
    config::{BackingImageConfig, LockType, VolumeConfig},
    fetch::{BlockReader, Loss},
    layout::{self, BackupRef, BlockPool, VolumeKeys},
    lock::Lock,
    plan::Plan,
    target::{Target, Writer},
    workers::Workers,
};
use crate::{Error, Kind, Result, objectstore::Store};

/// How to restore.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Blocks requested at the same time.
    pub concurrency: usize,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// Told the bytes of the image restored so far and in all.
    pub progress: Option<Progress>,
    /// Takes Longhorn's lock on the volume, which keeps deletions away, letting it settle that long
    /// ([`super::lock::SETTLE`]); without, the store is only read.
    pub lock: Option<Duration>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { concurrency: 8, overwrite: false, progress: None, lock: None }
    }
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Bytes of the image.
    pub size: u64,
    /// Bytes of it that blocks cover; the rest are holes.
    pub bytes: u64,
    /// Blocks listed.
    pub blocks: usize,
    /// Blocks read; one that is listed twice is read once.
    pub blocks_read: usize,
    /// Packed bytes read from the store.
    pub stored_bytes: u64,
}

/// Restores a backup to a raw image file, which has the volume's *current* size, as Longhorn restores it: the backup of
/// a volume that grew later ends in zeros. A backing image in the store is laid under the volume's blocks.
///
/// The image is written to `<path>.partial` and renamed when it is whole. Dropping the future removes it.
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
    let workers = Workers::new();
    let block_size = backup.block_size();
    let mut layers = Vec::new();
    if !volume.backing_image_name.is_empty() {
        let image = backing_image(&catalog, &volume).await?;
        let pool = BlockReader::new(store.clone(), BlockPool::backing_images(), workers.clone());
        refuse_qcow2(&pool, &image).await?;
        // Each block of the volume has the image's content in it already.
        let mut blocks = image.blocks.as_slice().to_vec();
        blocks.retain(|b| b.offset < volume.size && backup.blocks.at(b.offset / block_size * block_size).is_none());
        layers.push(Layer { plan: Plan::new(blocks, DEFAULT_BLOCK_SIZE, image.size).into(), pool });
    }
    let pool = BlockReader::new(store.clone(), keys.blocks(), workers);
    let blocks = backup.blocks.into_blocks();
    layers.push(Layer { plan: Plan::new(blocks, block_size, volume.size).into(), pool });
    let restored = write(&layers, volume.size, path, options).await;
    match restored {
        // A block may be gone because its backup is.
        Err(error) if error.kind() == Kind::Damaged && store.head(&key).await?.is_none() => {
            Err(Error::new(Kind::Conflict, "the backup was deleted while it was read").object(key))
        }
        restored => restored,
    }
}

async fn backing_image(catalog: &Catalog, volume: &VolumeConfig) -> Result<BackingImageConfig> {
    let name = &volume.backing_image_name;
    let image = catalog.backing_image(name).await.map_err(|error| match error.kind() {
        Kind::NotFound => Error::new(Kind::NotFound, format!("its backing image {name} is not in the store"))
            .object(error.object_name().unwrap_or_default())
            .hint("the backup holds only what differs from that image; back the image up, or restore by Longhorn"),
        _ => error,
    })?;
    let key = layout::backing_image_config(name)?;
    if image.complete_time.is_empty() {
        return Err(Error::new(Kind::Invalid, format!("the backup of its backing image {name} was never completed"))
            .object(key));
    }
    if !volume.backing_image_checksum.is_empty() && volume.backing_image_checksum != image.checksum {
        return Err(Error::new(Kind::Invalid, format!("the backing image {name} in the store is another one"))
            .object(key)
            .hint("its checksum differs from the one the volume was made with"));
    }
    Ok(image)
}

/// A qcow2 file is stored as it is, and its content is not what the volume shows.
async fn refuse_qcow2(pool: &BlockReader, image: &BackingImageConfig) -> Result<()> {
    let Some(first) = image.blocks.at(0) else { return Ok(()) };
    let length = usize::try_from(DEFAULT_BLOCK_SIZE.min(image.size)).unwrap_or_default();
    let read = pool.read(first.checksum, length, |block| Ok(block.data.starts_with(b"QFI\xfb"))).await;
    if !read.map_err(|loss| spoilt(loss, &pool.key(&first.checksum), 0))?.value {
        return Ok(());
    }
    Err(Error::new(
        Kind::Invalid,
        format!("its backing image {} is a qcow2 file, which cannot be laid under it", image.name),
    )
    .hint("restore this volume by Longhorn"))
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
    let pool = BlockReader::new(store.clone(), BlockPool::backing_images(), Workers::new());
    let plan = Plan::new(image.blocks.into_blocks(), DEFAULT_BLOCK_SIZE, image.size).into();
    write(&[Layer { plan, pool }], image.size, path, options).await
}

/// Blocks of one pool. Layers do not overlap, so their order does not matter.
struct Layer {
    plan: Arc<Plan>,
    pool: BlockReader,
}

async fn write(layers: &[Layer], size: u64, path: &Path, options: &RestoreOptions) -> Result<Restored> {
    let bytes = layers.iter().map(|layer| layer.plan.bytes()).sum();
    let (place, overwrite) = (path.to_owned(), options.overwrite);
    let target = super::blocking(move || Target::create(&place, size, bytes, overwrite)).await?;
    let reads = layers.iter().flat_map(|layer| (0..layer.plan.len()).map(move |index| (layer, index)));
    let mut done = stream::iter(reads)
        .map(|(layer, index)| restore_block(layer, index, target.writer(), size))
        .buffer_unordered(options.concurrency.max(1))
        .boxed();
    let (mut restored_bytes, mut stored_bytes) = (0, 0);
    while let Some((restored, stored)) = done.try_next().await? {
        restored_bytes += restored;
        stored_bytes += stored;
        if let Some(progress) = &options.progress {
            progress.report(restored_bytes, bytes);
        }
    }
    drop(done);
    target.finish()?;
    Ok(Restored {
        size,
        bytes,
        blocks: layers.iter().map(|layer| layer.plan.places()).sum(),
        blocks_read: layers.iter().map(|layer| layer.plan.len()).sum(),
        stored_bytes,
    })
}

/// Reads one block and writes it to all its places; returns the bytes of the image and of the store.
async fn restore_block(layer: &Layer, index: usize, writer: Writer, size: u64) -> Result<(u64, u64)> {
    let plan = layer.plan.clone();
    let read = layer.plan.read(index);
    let got = layer.pool.read(read.checksum, read.length, move |block| {
        let read = plan.read(index);
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
        Err(loss) => Err(spoilt(loss, &layer.pool.key(&read.checksum), read.places[0].offset)),
    }
}

fn spoilt(loss: Loss, key: &str, offset: u64) -> Error {
    match loss {
        Loss::Fault(Fault::Missing) => {
            Error::new(Kind::Damaged, format!("the block at offset {offset} is missing: there is no {key}"))
                .object(key)
                .hint("verify the store: it names everything that is damaged and the backups that are whole")
        }
        Loss::Fault(fault) => {
            Error::new(Kind::Damaged, format!("the block at offset {offset} is damaged: {fault} ({key})"))
                .object(key)
                .hint("verify the store: it names everything that is damaged and the backups that are whole")
        }
        Loss::Error(error) => error.context(format_args!("the block at offset {offset}")),
    }
}

#[cfg(test)]
mod tests;
