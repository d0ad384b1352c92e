//! Reading an ext4 file system, ext3 and ext2 included, that nobody has mounted or checked before: a snapshot of a
//! running system, with transactions that are only in its journal.
//!
//! It is read here because a backup of a running volume needs what readers for clean images leave out: extents that
//! are allocated but not written read as zeros, and a journal is applied with its revocations and where it wraps.
//! Every byte may be hostile: nothing is trusted that would lead to a panic, an endless loop or unbounded memory.
//!
//! Format facts: the ext4 disk layout as documented with the Linux kernel (`Documentation/filesystems/ext4`).

mod content;
mod dir;
mod inode;
mod journal;
mod map;
mod superblock;

use std::{collections::BTreeMap, ops::Range};

pub use content::Piece;
pub use inode::{Inode, Kind as FileKind, ROOT};

use self::{journal::Replacement, superblock::Superblock};
use crate::{Error, Kind, Result};

/// A block device.
pub trait Disk: Send {
    /// Bytes it has.
    fn size(&self) -> u64;

    /// Fills the buffer from that offset.
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()>;

    /// Is told what will be read next.
    fn ahead(&mut self, ranges: &[Range<u64>]) {
        let _ = ranges;
    }
}

/// A file system on a disk, as it is after its journal was applied. The disk is only read.
pub struct Ext4 {
    disk: Box<dyn Disk>,
    superblock: Superblock,
    /// Blocks whose current content is in the journal.
    replaced: BTreeMap<u64, Replacement>,
}

impl Ext4 {
    /// Opens the file system on that disk and reads its journal if it was not unmounted.
    ///
    /// # Errors
    /// `invalid`, saying what is there instead, when it is no ext4 file system or has features that cannot be read;
    /// `damaged` when it is inconsistent.
    pub fn open(mut disk: Box<dyn Disk>) -> Result<Self> {
        let superblock = Superblock::read(&mut *disk)?;
        let mut fs = Self { disk, superblock, replaced: BTreeMap::new() };
        if fs.superblock.needs_recovery {
            fs.replaced = journal::read(&mut fs)?;
            let mut bytes = [0; superblock::LENGTH];
            fs.read_at(superblock::OFFSET, &mut bytes)?;
            fs.superblock = Superblock::parse(&bytes, fs.disk.size())?;
        }
        Ok(fs)
    }

    /// Fills the buffer from that offset, with what the journal has in its place.
    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        let block_size = self.superblock.block_size;
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= self.superblock.bytes());
        let Some(end) = end else {
            return Err(damaged(format!("it points to offset {offset}, beyond its end")));
        };
        let (first, last) = (offset / block_size, end.saturating_sub(1) / block_size);
        let replaced: Vec<_> = self.replaced.range(first..=last.max(first)).map(|(at, with)| (*at, *with)).collect();
        if first != last || replaced.is_empty() {
            self.disk.read(offset, out)?;
        }
        for (block, replacement) in replaced {
            let content = self.replacement(&replacement)?;
            let start = block * block_size;
            let (from, to) = (offset.max(start), end.min(start + block_size));
            let within = |range: Range<u64>, base: u64| index(range.start - base)..index(range.end - base);
            out[within(from..to, offset)].copy_from_slice(&content[within(from..to, start)]);
        }
        Ok(())
    }

    /// A whole block.
    fn block(&mut self, number: u64) -> Result<Vec<u8>> {
        let mut block = vec![0; index(self.superblock.block_size)];
        let offset = number.checked_mul(self.superblock.block_size);
        let offset = offset.ok_or_else(|| damaged(format!("it points to block {number}, beyond its end")))?;
        self.read_at(offset, &mut block)?;
        Ok(block)
    }

    /// Where the inodes of a group begin, in bytes.
    fn inode_table(&mut self, group: u32) -> Result<u64> {
        let superblock = &self.superblock;
        let size = superblock.descriptor_size;
        let offset = (superblock.first_data_block + 1) * superblock.block_size + u64::from(group) * size;
        let (sums, block_size) = (superblock.sums, superblock.block_size);
        let mut bytes = vec![0; index(size)];
        self.read_at(offset, &mut bytes)?;
        if let Some(sums) = sums {
            let found = le16(&bytes, 0x1e);
            bytes[0x1e..0x20].fill(0);
            if sums.extend(&group.to_le_bytes()).extend(&bytes).low() != found {
                return Err(damaged(format!("the checksum of group {group} is wrong")));
            }
        }
        let high = if size >= 64 { le32(&bytes, 0x28) } else { 0 };
        let block = u64::from(high) << 32 | u64::from(le32(&bytes, 0x8));
        block.checked_mul(block_size).ok_or_else(|| damaged(format!("the inodes of group {group} are beyond its end")))
    }
}

/// A CRC-32C as ext4 computes it: begun with all ones or with another sum, and not inverted at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sum(u32);

impl Sum {
    const START: Self = Self(u32::MAX);

    fn extend(self, bytes: &[u8]) -> Self {
        let mut digest = crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc32Iscsi, self.0.into());
        digest.update(bytes);
        Self(!u32::try_from(digest.finalize()).unwrap_or_default())
    }

    fn low(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Damaged, format!("the file system in the backup is inconsistent: {what}")).hint(
        "the blocks are as they were backed up; try an older backup, or restore this one to an image and run e2fsck on it",
    )
}

fn unsupported(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Invalid, what.to_string()).hint("restore the backup to an image and mount that")
}

/// An offset inside a buffer that is in memory.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// A number at an offset that the caller knows to be inside.
fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests;
