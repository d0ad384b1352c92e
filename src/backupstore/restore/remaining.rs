//! What of an image is still to be restored, found by reading what an earlier attempt left.
//!
//! No journal says what was written: after a power cut it could claim what the disk lost, and the file may be of another
//! backup or have been changed since. The checksum of each block tells in every case, at the speed of hashing, and what is
//! a hole in the file is not read at all.

use futures::{StreamExt, stream};

use super::Layer;
use crate::{
    Error, Kind, Result,
    backupstore::{
        block::{Checksum, DEFAULT_BLOCK_SIZE},
        blocking,
        extents::{mapped_blocks, read_block},
        target::Target,
        workers::Workers,
    },
};

/// What a part of the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The block that belongs there.
    Good,
    /// Something that the block replaces as a whole.
    Other,
    /// Something where a restore of this backup writes nothing.
    Foreign,
}

/// A part of the file that is not a hole, and the block that belongs there, as indices of layer and block.
struct Part {
    offset: u64,
    slot: usize,
    block: Option<(usize, usize)>,
}

/// Leaves in each layer the blocks that the target does not hold yet; returns the bytes of those it does. Afterwards the
/// target is zeros where no block goes. `told` is called with the bytes found so far.
pub async fn keep_missing(
    target: &Target,
    layers: &mut [Layer],
    workers: &Workers,
    concurrency: usize,
    told: &impl Fn(u64),
) -> Result<u64> {
    let file = target.file();
    let mapped = blocking(move || Ok(mapped_blocks(&file, DEFAULT_BLOCK_SIZE).ok())).await?;
    // A file system that cannot say where data are gets the image anew.
    let Some(mapped) = mapped else {
        target.start_anew()?;
        return Ok(0);
    };
    let parts = parts(&mapped, layers);
    let planned: &[Layer] = layers;
    let looking = parts.into_iter().map(|part| {
        let wanted = part.block.map(|(layer, block)| {
            let (layer, block) = (&planned[layer], &planned[layer].blocks[block]);
            (block.checksum, usize::try_from(layer.length(block)).unwrap_or_default())
        });
        let (file, partial, offset) = (target.file(), target.partial().to_owned(), part.offset);
        async move {
            let look = move |slot: &mut [u8]| {
                read_block(&file, offset, slot).map_err(|error| {
                    Error::new(Kind::Failed, format!("reading {}", partial.display())).source(error)
                })?;
                Ok(judge(slot, wanted))
            };
            Ok::<_, Error>((part.block, workers.run(part.slot, look).await?))
        }
    });
    let mut looking = stream::iter(looking).buffer_unordered(concurrency.max(1)).boxed();
    let mut good: Vec<Vec<bool>> = planned.iter().map(|layer| vec![false; layer.blocks.len()]).collect();
    let mut bytes = 0;
    let mut foreign = false;
    while let Some(looked) = looking.next().await {
        match looked? {
            (Some((layer, block)), Found::Good) => {
                good[layer][block] = true;
                bytes += planned[layer].length(&planned[layer].blocks[block]);
                told(bytes);
            }
            (_, Found::Foreign) => {
                foreign = true;
                break;
            }
            _ => {}
        }
    }
    drop(looking);
    if foreign {
        target.start_anew()?;
        return Ok(0);
    }
    for (layer, good) in layers.iter_mut().zip(good) {
        let mut good = good.into_iter();
        layer.blocks.retain(|_| !good.next().unwrap_or_default());
    }
    Ok(bytes)
}

/// The parts of the file to look at: each place of a block that is not a hole, and what is mapped outside of all. `mapped`
/// are the offsets of mapped pieces of [`DEFAULT_BLOCK_SIZE`], ascending.
fn parts(mapped: &[u64], layers: &[Layer]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut covered = vec![false; mapped.len()];
    for (index, layer) in layers.iter().enumerate() {
        for (number, block) in layer.blocks.iter().enumerate() {
            let from = mapped.partition_point(|offset| *offset < block.offset);
            let to = mapped.partition_point(|offset| *offset < block.offset.saturating_add(layer.block_size));
            if from == to {
                continue;
            }
            covered[from..to].fill(true);
            let slot = usize::try_from(layer.block_size).unwrap_or_default();
            parts.push(Part { offset: block.offset, slot, block: Some((index, number)) });
        }
    }
    let slot = usize::try_from(DEFAULT_BLOCK_SIZE).unwrap_or_default();
    let outside = mapped.iter().zip(covered).filter(|(_, covered)| !covered);
    parts.extend(outside.map(|(offset, _)| Part { offset: *offset, slot, block: None }));
    parts
}

/// Judges a part by the checksum and length of the block that belongs at its start.
fn judge(slot: &[u8], wanted: Option<(Checksum, usize)>) -> Found {
    let (checksum, length) = wanted.unwrap_or((Checksum::of(&[]), 0));
    let (data, rest) = slot.split_at(length.min(slot.len()));
    let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    if !zeros(rest) {
        Found::Foreign
    } else if Checksum::of(data) == checksum {
        Found::Good
    } else if checksum == Checksum::of_zeros(length as u64) {
        // Blocks of zeros are not written.
        Found::Foreign
    } else {
        Found::Other
    }
}

#[cfg(test)]
mod tests;
