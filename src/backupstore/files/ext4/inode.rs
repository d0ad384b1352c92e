//! Inodes: what a file is, apart from its name and its content.

use jiff::Timestamp;

use super::{Ext4, Sum, damaged, index, le16, le32};
use crate::Result;

/// The inode of the root folder.
pub const ROOT: u32 = 2;

/// What sort of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Pipe,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A socket.
    Socket,
}

/// One inode.
#[derive(Clone, Debug)]
pub struct Inode {
    /// Its number.
    pub number: u32,
    /// What sort of file it is.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky bit.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of its content.
    pub size: u64,
    /// When the content was last changed.
    pub modified: Timestamp,
    /// Names it has.
    pub links: u16,
    /// `i_flags`.
    pub(super) flags: u32,
    /// `i_block`: the root of the block map, or a short link's target.
    pub(super) root: [u8; 60],
    /// The start of checksums of what belongs to it.
    pub(super) sum: Option<Sum>,
}

impl Ext4 {
    /// Reads an inode.
    pub fn inode(&mut self, number: u32) -> Result<Inode> {
        let superblock = &self.superblock;
        if number == 0 || number > superblock.inodes {
            return Err(damaged(format!("there is no inode {number}")));
        }
        let (group, within) = ((number - 1) / superblock.inodes_per_group, (number - 1) % superblock.inodes_per_group);
        let size = superblock.inode_size;
        let offset = self.inode_table(group)?.saturating_add(u64::from(within) * size);
        let mut bytes = vec![0; index(size)];
        self.read_at(offset, &mut bytes)?;
        let sum = self.check(number, &bytes)?;
        parse(number, &bytes, sum)
    }

    /// Compares the checksum, of which small inodes have only the lower half.
    fn check(&self, number: u32, bytes: &[u8]) -> Result<Option<Sum>> {
        let Some(sums) = self.superblock.sums else { return Ok(None) };
        let own = sums.extend(&number.to_le_bytes()).extend(&bytes[0x64..0x68]);
        let is_long = bytes.len() > 128 && le16(bytes, 0x80) >= 4;
        let mut plain = bytes.to_vec();
        plain[0x7c..0x7e].fill(0);
        let mut found = u32::from(le16(bytes, 0x7c));
        if is_long {
            plain[0x82..0x84].fill(0);
            found |= u32::from(le16(bytes, 0x82)) << 16;
        }
        let Sum(expected) = own.extend(&plain);
        if (if is_long { expected } else { expected & 0xffff }) != found {
            return Err(damaged(format!("the checksum of inode {number} is wrong")));
        }
        Ok(Some(own))
    }
}

/// Reads an inode from its bytes.
pub(super) fn parse(number: u32, bytes: &[u8], sum: Option<Sum>) -> Result<Inode> {
    let mode = le16(bytes, 0x0);
    let kind = match mode >> 12 {
        0x1 => Kind::Pipe,
        0x2 => Kind::CharacterDevice,
        0x4 => Kind::Folder,
        0x6 => Kind::BlockDevice,
        0x8 => Kind::File,
        0xa => Kind::Link,
        0xc => Kind::Socket,
        _ => return Err(damaged(format!("inode {number} is of no known kind"))),
    };
    let wide = |high: usize, low: usize| u32::from(le16(bytes, high)) << 16 | u32::from(le16(bytes, low));
    let mut root = [0; 60];
    root.copy_from_slice(&bytes[0x28..0x64]);
    Ok(Inode {
        number,
        kind,
        mode: mode & 0o7777,
        uid: wide(0x78, 0x2),
        gid: wide(0x7a, 0x18),
        size: u64::from(le32(bytes, 0x6c)) << 32 | u64::from(le32(bytes, 0x4)),
        modified: modified(bytes),
        links: le16(bytes, 0x1a),
        flags: le32(bytes, 0x20),
        root,
        sum,
    })
}

/// Seconds are signed; inodes with room for it have two more bits of them and nanoseconds.
fn modified(bytes: &[u8]) -> Timestamp {
    let seconds = i64::from(le32(bytes, 0x10).cast_signed());
    let has_extra = bytes.len() >= 0x8c && le16(bytes, 0x80) >= 0x0c;
    let extra = if has_extra { le32(bytes, 0x88) } else { 0 };
    let seconds = seconds + (i64::from(extra & 3) << 32);
    let nanoseconds = i32::try_from((extra >> 2).min(999_999_999)).unwrap_or_default();
    Timestamp::new(seconds, nanoseconds).unwrap_or_default()
}
