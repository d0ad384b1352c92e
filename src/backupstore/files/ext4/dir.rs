//! Folders: lists of names and inode numbers. A hashed folder reads like any other; its index looks like empty space.

use super::{Ext4, FileKind, Inode, damaged, le16, le32};
use crate::Result;

/// Most bytes of a folder that are read: names for a million files and more.
const MOST_BYTES: u64 = 64 << 20;

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name: any bytes, but neither `/` nor zero when it is sound.
    pub name: Vec<u8>,
    /// The inode it stands for.
    pub inode: u32,
}

impl Ext4 {
    /// The names in a folder without `.` and `..`, in the order of the disk.
    pub fn names(&mut self, folder: &Inode) -> Result<Vec<Name>> {
        if folder.kind != FileKind::Folder {
            return Err(damaged(format!("inode {} is no folder", folder.number)));
        }
        let runs = self.map(folder)?;
        if runs.iter().map(|run| run.blocks).sum::<u64>() * self.superblock.block_size > MOST_BYTES {
            return Err(damaged(format!("folder {} is too large", folder.number)));
        }
        let end = folder.size / self.superblock.block_size;
        let mut names = Vec::new();
        for block in runs.iter().flat_map(|run| (0..run.blocks).map(|n| (run.logical + n, run.physical + n))) {
            if block.0 < end {
                let content = self.block(block.1)?;
                read(folder, &content, &mut names)?;
            }
        }
        Ok(names)
    }
}

fn read(folder: &Inode, block: &[u8], names: &mut Vec<Name>) -> Result<()> {
    let wrong = |what: &str| damaged(format!("folder {}: {what}", folder.number));
    let tail = block.len() - 12;
    // A leaf ends in what looks like an entry without a name, with the type 0xde and the checksum.
    if let Some(sum) = folder.sum
        && block[tail..tail + 8] == [0, 0, 0, 0, 12, 0, 0, 0xde]
        && sum.extend(&block[..tail]).0 != le32(block, tail + 8)
    {
        return Err(wrong("a checksum is wrong"));
    }
    let mut rest = block;
    while !rest.is_empty() {
        if rest.len() < 8 {
            return Err(wrong("an entry is cut off"));
        }
        let (inode, length, name) = (le32(rest, 0), usize::from(le16(rest, 4)), usize::from(rest[6]));
        // In blocks of 64 KiB, the whole block does not fit into 16 bits.
        let length = if matches!(length, 0 | 0xffff) && block.len() == 64 << 10 { block.len() } else { length };
        if length < 8 || length > rest.len() || (inode != 0 && name + 8 > length) {
            return Err(wrong("an entry has an impossible length"));
        }
        let bytes = &rest[8..8 + if inode == 0 { 0 } else { name }];
        if !bytes.is_empty() && bytes != b"." && bytes != b".." {
            names.push(Name { name: bytes.to_vec(), inode });
        }
        rest = &rest[length..];
    }
    Ok(())
}
