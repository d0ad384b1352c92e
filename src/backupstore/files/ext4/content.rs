//! Reading content: files as a stream of data and holes, small things whole.

use std::ops::Range;

use super::{Ext4, FileKind, Inode, damaged, index, map::Run};
use crate::Result;

/// Most bytes of data in one [`Piece`].
const CHUNK: u64 = 1 << 20;
/// Pieces of a file announced to the disk at once.
const AHEAD: usize = 64;
/// The longest target of a link that Linux makes or follows.
const LONGEST_TARGET: u64 = 4096;

/// The next bytes of a file.
#[derive(Debug)]
pub enum Piece<'a> {
    /// These.
    Data(&'a [u8]),
    /// That many zeros, which take no space in the file.
    Hole(u64),
}

impl Ext4 {
    /// Hands the content of a file to `sink` from start to end.
    pub fn read(&mut self, inode: &Inode, sink: &mut dyn FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        let runs: Vec<Extent> = self.extents(inode)?;
        let mut buffer = vec![0; index(CHUNK.min(inode.size))];
        let mut at = 0;
        for (number, run) in runs.iter().enumerate() {
            if run.at > at {
                sink(Piece::Hole(run.at - at))?;
            }
            let mut disk = run.disk.clone();
            while !disk.is_empty() {
                let later = runs[number + 1..].iter().take(AHEAD).map(|run| run.disk.clone());
                let coming: Vec<_> = std::iter::once(disk.clone()).chain(later).collect();
                self.disk.ahead(&coming);
                let piece = &mut buffer[..index((disk.end - disk.start).min(CHUNK))];
                self.read_at(disk.start, piece)?;
                disk.start += piece.len() as u64;
                sink(Piece::Data(piece))?;
            }
            at = run.at + (run.disk.end - run.disk.start);
        }
        if inode.size > at { sink(Piece::Hole(inode.size - at)) } else { Ok(()) }
    }

    /// The pieces with content in bytes, cut off at the file's end.
    fn extents(&mut self, inode: &Inode) -> Result<Vec<Extent>> {
        let block_size = self.superblock.block_size;
        let extent = |run: &Run| {
            let at = run.logical * block_size;
            let length = (run.blocks * block_size).min(inode.size.saturating_sub(at));
            let start = run.physical.checked_mul(block_size)?;
            Some(Extent { at, disk: start..start.checked_add(length)? })
        };
        let runs = self.map(inode)?;
        let beyond = || damaged(format!("the map of inode {} points beyond its end", inode.number));
        let extents: Option<Vec<Extent>> = runs.iter().map(extent).collect();
        let mut extents = extents.ok_or_else(beyond)?;
        // Space beyond the end may be allocated.
        extents.retain(|extent| !extent.disk.is_empty());
        Ok(extents)
    }

    /// Where a symbolic link points.
    pub fn target(&mut self, link: &Inode) -> Result<Vec<u8>> {
        let wrong = || damaged(format!("the target of link {} cannot be", link.number));
        if link.kind != FileKind::Link || link.size == 0 || link.size >= LONGEST_TARGET {
            return Err(wrong());
        }
        let mut target = Vec::new();
        if link.size < 60 && !link.has_extents() {
            target.extend_from_slice(&link.root[..index(link.size)]);
        } else {
            self.read(link, &mut |piece| match piece {
                Piece::Data(data) => {
                    target.extend_from_slice(data);
                    Ok(())
                }
                Piece::Hole(_) => Err(wrong()),
            })?;
        }
        if target.contains(&0) { Err(wrong()) } else { Ok(target) }
    }
}

/// A piece of a file with content, in bytes.
struct Extent {
    at: u64,
    disk: Range<u64>,
}
