//! Where a file's content is: extents, or the block map that came before them.

use std::collections::HashSet;

use super::{Ext4, Inode, damaged, le16, le32, unsupported};
use crate::Result;

/// The file's content is compressed, encrypted, or inside of its inode.
const COMPRESSED: u32 = 0x4;
const ENCRYPTED: u32 = 0x800;
const EXTENTS: u32 = 0x8_0000;
const INLINE: u32 = 0x1000_0000;

/// Most pieces of one file that are kept in memory: 96 MiB of them.
const MOST_RUNS: usize = 4 << 20;
const EXTENT_MAGIC: u16 = 0xf30a;
const DEEPEST: u16 = 5;
/// Longer extents are allocated, but were never written.
const LONGEST_EXTENT: u16 = 32768;

/// A piece of a file that has content; what lies between two is zeros. In blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where it is in the file.
    pub logical: u64,
    /// Where it is on the disk.
    pub physical: u64,
    /// How long it is.
    pub blocks: u64,
}

impl Inode {
    /// Whether its content is mapped by extents.
    pub(super) fn has_extents(&self) -> bool {
        self.flags & EXTENTS != 0
    }
}

impl Ext4 {
    /// The pieces of a file with content, ascending.
    pub(super) fn map(&mut self, inode: &Inode) -> Result<Vec<Run>> {
        for (flag, what) in
            [(COMPRESSED, "is compressed"), (ENCRYPTED, "is encrypted"), (INLINE, "has its content in its inode")]
        {
            if inode.flags & flag != 0 {
                return Err(unsupported(format!("inode {} {what}, which is not read here", inode.number)));
            }
        }
        let mut mapper = Mapper { fs: self, inode, runs: Vec::new(), next: 0, mapped: 0, seen: HashSet::new() };
        if inode.has_extents() {
            mapper.extents(&inode.root, None)?;
        } else {
            mapper.block_map()?;
        }
        Ok(mapper.runs)
    }
}

struct Mapper<'a> {
    fs: &'a mut Ext4,
    inode: &'a Inode,
    runs: Vec<Run>,
    /// The first block of the file that was not seen yet.
    next: u64,
    /// Blocks mapped.
    mapped: u64,
    /// Blocks of the map itself.
    seen: HashSet<u64>,
}

impl Mapper<'_> {
    fn wrong(&self, what: &str) -> crate::Error {
        damaged(format!("the map of inode {} {what}", self.inode.number))
    }

    fn add(&mut self, logical: u64, physical: u64, blocks: u64) -> Result<()> {
        self.mapped += blocks;
        if self.mapped > self.fs.superblock.blocks {
            return Err(self.wrong("has more blocks than there are"));
        }
        let is_full = self.runs.len() >= MOST_RUNS;
        match self.runs.last_mut() {
            Some(last) if last.logical + last.blocks == logical && last.physical + last.blocks == physical => {
                last.blocks += blocks;
            }
            _ if is_full => return Err(self.wrong("has too many pieces")),
            _ => self.runs.push(Run { logical, physical, blocks }),
        }
        Ok(())
    }

    /// A block of the map; each has one place in it, or reading the map might not end.
    fn node(&mut self, block: u64) -> Result<Vec<u8>> {
        if !self.seen.insert(block) {
            return Err(self.wrong("leads to the same block twice"));
        }
        self.fs.block(block)
    }

    fn extents(&mut self, node: &[u8], expected_depth: Option<u16>) -> Result<()> {
        let (entries, depth) = (usize::from(le16(node, 2)), le16(node, 6));
        if le16(node, 0) != EXTENT_MAGIC
            || (entries + 1) * 12 > node.len()
            || depth > DEEPEST
            || expected_depth.is_some_and(|expected| depth != expected)
        {
            return Err(self.wrong("is no extent tree"));
        }
        for entry in node[12..][..entries * 12].chunks_exact(12) {
            if depth > 0 {
                let block = u64::from(le16(entry, 8)) << 32 | u64::from(le32(entry, 4));
                let child = self.node(block)?;
                self.check(&child)?;
                self.extents(&child, Some(depth - 1))?;
                continue;
            }
            let (logical, length) = (u64::from(le32(entry, 0)), le16(entry, 4));
            let physical = u64::from(le16(entry, 6)) << 32 | u64::from(le32(entry, 8));
            let is_written = length <= LONGEST_EXTENT;
            let blocks = u64::from(if is_written { length } else { length - LONGEST_EXTENT });
            if blocks == 0 || logical < self.next {
                return Err(self.wrong("has extents that overlap"));
            }
            self.next = logical + blocks;
            if is_written {
                self.add(logical, physical, blocks)?;
            }
        }
        Ok(())
    }

    /// The checksum follows the entries that there is room for.
    fn check(&self, node: &[u8]) -> Result<()> {
        let Some(sum) = self.inode.sum else { return Ok(()) };
        let end = (usize::from(le16(node, 4)) + 1) * 12;
        if end + 4 > node.len() || sum.extend(&node[..end]).0 != le32(node, end) {
            return Err(self.wrong("has a wrong checksum"));
        }
        Ok(())
    }

    /// Twelve blocks are in the inode, then come one, two and three levels of blocks full of block numbers.
    fn block_map(&mut self) -> Result<()> {
        let per_block = self.fs.superblock.block_size / 4;
        let end = self.inode.size.div_ceil(self.fs.superblock.block_size);
        let root = self.inode.root;
        let pointer = |slot: usize| u64::from(le32(&root, slot * 4));
        for slot in 0..12 {
            self.indirect(pointer(slot), 0, slot as u64, end)?;
        }
        let mut logical = 12;
        for level in 1..=3 {
            self.indirect(pointer(11 + level as usize), level, logical, end)?;
            logical += per_block.pow(level);
        }
        Ok(())
    }

    fn indirect(&mut self, block: u64, level: u32, logical: u64, end: u64) -> Result<()> {
        if block == 0 || logical >= end {
            return Ok(());
        }
        if level == 0 {
            return self.add(logical, block, 1);
        }
        let pointers = self.node(block)?;
        let step = (self.fs.superblock.block_size / 4).pow(level - 1);
        for (slot, pointer) in (0..).zip(pointers.chunks_exact(4)) {
            self.indirect(le32(pointer, 0).into(), level - 1, logical + slot * step, end)?;
        }
        Ok(())
    }
}
