//! The superblock: how large everything is, and which features the file system has.

use super::{Disk, Sum, damaged, le16, le32, unsupported};
use crate::{Error, Kind, Result};

/// Where it is on the disk, in bytes.
pub const OFFSET: u64 = 1024;
/// Bytes of it.
pub const LENGTH: usize = 1024;

/// Incompatible features that change nothing for a reader, or that are read here: file types in folders, extents,
/// 64 bit block numbers, multiple mount protection, flexible groups, attributes in inodes, the seed of checksums, large
/// folders; data inside of inodes, encryption and case folding matter only for the files that use them.
const READABLE: u32 =
    0x2 | RECOVER | 0x40 | WIDE | 0x100 | 0x200 | 0x400 | SEED | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000;
const RECOVER: u32 = 0x4;
const WIDE: u32 = 0x80;
const SEED: u32 = 0x2000;
/// Read-only compatible feature: checksums of metadata.
const SUMS: u32 = 0x400;
/// Compatible feature: a journal.
const JOURNAL: u32 = 0x4;

/// What is used of the superblock.
#[derive(Clone, Debug)]
pub struct Superblock {
    /// Bytes of a block.
    pub block_size: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// The first block that belongs to a group.
    pub first_data_block: u64,
    /// Inodes of each group.
    pub inodes_per_group: u32,
    /// Inodes in all.
    pub inodes: u32,
    /// Bytes of an inode.
    pub inode_size: u64,
    /// Bytes of a group's descriptor.
    pub descriptor_size: u64,
    /// The start of metadata checksums, if there are any.
    pub sums: Option<Sum>,
    /// Whether the journal has to be read.
    pub needs_recovery: bool,
    /// The inode of the journal.
    pub journal_inode: u32,
}

impl Superblock {
    /// Reads it from a disk, or says what is on the disk instead.
    pub fn read(disk: &mut dyn Disk) -> Result<Self> {
        let size = disk.size();
        let mut start = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(START)];
        disk.read(0, &mut start)?;
        match start.get(1024..1024 + LENGTH) {
            Some(bytes) if le16(bytes, 0x38) == 0xef53 => Self::parse(bytes, size),
            _ => Err(not_ext4(&start)),
        }
    }

    /// Reads it from its bytes, for a disk of that size.
    pub fn parse(bytes: &[u8], disk_size: u64) -> Result<Self> {
        let (incompatible, read_only) = (le32(bytes, 0x60), le32(bytes, 0x64));
        if incompatible & !READABLE != 0 {
            let text =
                format!("its ext4 file system has features that are not read here ({:#x})", incompatible & !READABLE);
            return Err(unsupported(text));
        }
        let sums = read_only & SUMS != 0;
        if sums && Sum::START.extend(&bytes[..0x3fc]).0 != le32(bytes, 0x3fc) {
            return Err(damaged("the checksum of its superblock is wrong"));
        }
        let wide = incompatible & WIDE != 0;
        let high = if wide { le32(bytes, 0x150) } else { 0 };
        let revision = le32(bytes, 0x4c);
        let superblock = Self {
            block_size: 1024u64.checked_shl(le32(bytes, 0x18)).unwrap_or_default(),
            blocks: u64::from(high) << 32 | u64::from(le32(bytes, 0x4)),
            first_data_block: le32(bytes, 0x14).into(),
            inodes_per_group: le32(bytes, 0x28),
            inodes: le32(bytes, 0x0),
            inode_size: if revision == 0 { 128 } else { le16(bytes, 0x58).into() },
            descriptor_size: if wide { le16(bytes, 0xfe).into() } else { 32 },
            sums: sums.then(|| match incompatible & SEED {
                0 => Sum::START.extend(&bytes[0x68..0x78]),
                _ => Sum(le32(bytes, 0x270)),
            }),
            needs_recovery: le32(bytes, 0x5c) & JOURNAL != 0 && incompatible & RECOVER != 0,
            journal_inode: le32(bytes, 0xe0),
        };
        superblock.check(disk_size)?;
        Ok(superblock)
    }

    fn check(&self, disk_size: u64) -> Result<()> {
        let fits = |size: u64, least: u64, most: u64| size.is_power_of_two() && (least..=most).contains(&size);
        if !fits(self.block_size, 1024, 64 << 10)
            || !fits(self.inode_size, 128, self.block_size)
            || !fits(self.descriptor_size, 32, 1024)
            || self.inodes_per_group == 0
            || self.first_data_block > 1
        {
            return Err(damaged("its superblock has impossible sizes"));
        }
        match self.blocks.checked_mul(self.block_size) {
            Some(bytes) if bytes <= disk_size => Ok(()),
            _ => Err(damaged(format!(
                "it has {} blocks of {} bytes, more than the volume's {disk_size} bytes",
                self.blocks, self.block_size
            ))),
        }
    }

    /// Bytes of the file system.
    pub fn bytes(&self) -> u64 {
        self.blocks * self.block_size
    }
}

/// As much of a disk as tells what is on it.
const START: usize = 0x1_1000;

/// Says what a disk holds that is not ext4, as far as its start tells.
fn not_ext4(start: &[u8]) -> Error {
    let has = |offset: usize, magic: &[u8]| start.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let refusal = |text: &str, hint: &str| Error::new(Kind::Invalid, text).hint(hint);
    if has(0, b"LUKS\xba\xbe") {
        return refusal(
            "the volume is encrypted (LUKS): its files cannot be seen without its key",
            "restore it by Longhorn with the secret of its storage class, or to an image and open that with cryptsetup",
        );
    }
    let mount = "only ext4 (and ext2, ext3) is read here: restore the backup to an image and mount that";
    let found = if has(0, b"XFSB") {
        "an XFS file system"
    } else if has(0x1_0040, b"_BHRfS_M") {
        "a Btrfs file system"
    } else if has(512, b"EFI PART") || has(510, b"\x55\xaa") {
        "a partition table"
    } else if start.iter().all(|byte| *byte == 0) {
        return refusal(
            "the image holds no file system: it starts with zeros",
            "the volume was empty when it was backed up, or an application uses it as a raw device; try a later backup",
        );
    } else {
        "something else"
    };
    refusal(&format!("the volume holds no ext4 file system but {found}"), mount)
}
