//! The backing image that lies under a volume's blocks.

use super::{
    Catalog,
    block::DEFAULT_BLOCK_SIZE,
    config::{BackingImageConfig, VolumeConfig},
    fetch::BlockReader,
    layout::{self, BlockPool},
    workers::Workers,
};
use crate::{Error, Kind, Result, objectstore::Store};

/// The image under that volume, and where its blocks are; nothing when the volume lies over none.
///
/// # Errors
/// `not-found` when it is not in the store; `invalid` when its backup was never completed, when it is another image than
/// the volume was made with, or a qcow2 file, whose content is not what the volume shows; `damaged` when it cannot be read.
pub async fn under(
    store: &Store,
    volume: &VolumeConfig,
    workers: &Workers,
) -> Result<Option<(BackingImageConfig, BlockReader)>> {
    if volume.backing_image_name.is_empty() {
        return Ok(None);
    }
    let image = config(&Catalog::new(store.clone()), volume).await?;
    let pool = BlockReader::new(store.clone(), BlockPool::backing_images(), workers.clone());
    refuse_qcow2(&pool, &image).await?;
    Ok(Some((image, pool)))
}

async fn config(catalog: &Catalog, volume: &VolumeConfig) -> Result<BackingImageConfig> {
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

/// A qcow2 file is stored as it is.
async fn refuse_qcow2(pool: &BlockReader, image: &BackingImageConfig) -> Result<()> {
    let Some(first) = image.blocks.at(0) else { return Ok(()) };
    let length = usize::try_from(DEFAULT_BLOCK_SIZE.min(image.size)).unwrap_or_default();
    let read = pool.read(first.checksum, length, |block| Ok(block.data.starts_with(b"QFI\xfb"))).await;
    if !read.map_err(|loss| loss.of_block(&pool.key(&first.checksum), 0))?.value {
        return Ok(());
    }
    let text = format!("its backing image {} is a qcow2 file, which cannot be laid under it", image.name);
    Err(Error::new(Kind::Invalid, text).hint("restore this volume by Longhorn"))
}
