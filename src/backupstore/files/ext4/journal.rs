//! The journal (jbd2): committed transactions whose blocks may not have reached their places yet. They are not written
//! there; what is in the journal is read instead.
//!
//! A block that a later transaction revokes is not replaced: it was freed, and may hold other data since.

use std::collections::{BTreeMap, HashMap};

use super::{Ext4, Sum, be32, damaged, index, map::Run, unsupported};
use crate::Result;

const MAGIC: u32 = 0xc03b_3998;
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;

/// Incompatible features: revocations, 64 bit block numbers, asynchronous commits, checksums of version 2 and 3.
const READABLE: u32 = 0x1 | WIDE | 0x4 | SUMS_2 | SUMS_3;
const WIDE: u32 = 0x2;
const SUMS_2: u32 = 0x8;
const SUMS_3: u32 = 0x10;

/// Flags of a tag.
const ESCAPED: u32 = 0x1;
const SAME_UUID: u32 = 0x2;
const LAST: u32 = 0x8;

/// Where the current content of a block is.
#[derive(Clone, Copy, Debug)]
pub struct Replacement {
    /// The block on the disk that holds it.
    block: u64,
    /// Whether its first four bytes are the journal's magic, which it must not start with inside of the journal.
    is_escaped: bool,
    /// The checksum of what is in the journal: how it starts, what it is, and whether it has only 16 bits.
    sum: Option<(Sum, u32, bool)>,
}

impl Ext4 {
    /// The content of a replaced block.
    pub(super) fn replacement(&mut self, replacement: &Replacement) -> Result<Vec<u8>> {
        let size = self.superblock.block_size;
        let mut content = vec![0; index(size)];
        self.disk.read(replacement.block * size, &mut content)?;
        if let Some((start, expected, is_short)) = replacement.sum {
            let Sum(found) = start.extend(&content);
            if (if is_short { found & 0xffff } else { found }) != expected {
                return Err(damaged(format!("the checksum of block {} of its journal is wrong", replacement.block)));
            }
        }
        if replacement.is_escaped {
            content[..4].copy_from_slice(&MAGIC.to_be_bytes());
        }
        Ok(content)
    }
}

/// Reads the journal: which blocks of the file system are to be read from it.
pub fn read(fs: &mut Ext4) -> Result<BTreeMap<u64, Replacement>> {
    let inode = fs.inode(fs.superblock.journal_inode)?;
    let runs = fs.map(&inode)?;
    let Some(mut journal) = Journal::open(fs, runs)? else { return Ok(BTreeMap::new()) };
    journal.scan()?;
    Ok(journal.replaced())
}

struct Journal<'a> {
    fs: &'a mut Ext4,
    runs: Vec<Run>,
    /// The log goes round between these blocks of the journal.
    first: u64,
    end: u64,
    /// Where it is read, and the transaction that is expected there.
    at: u64,
    sequence: u32,
    /// Blocks that may be read until the log has gone round.
    left: u64,
    features: u32,
    sum: Option<Sum>,
    committed: Vec<Tag>,
    /// Blocks revoked by a committed transaction, and by which one last.
    revoked: HashMap<u64, u32>,
}

struct Tag {
    block: u64,
    sequence: u32,
    with: Replacement,
}

impl<'a> Journal<'a> {
    /// Nothing when it is empty.
    fn open(fs: &'a mut Ext4, runs: Vec<Run>) -> Result<Option<Self>> {
        let mut journal = Self {
            fs,
            runs,
            first: 0,
            end: 1,
            at: 0,
            sequence: 0,
            left: 1,
            features: 0,
            sum: None,
            committed: Vec::new(),
            revoked: HashMap::new(),
        };
        let (head, _) = journal.next()?.ok_or_else(|| damaged("its journal has no blocks"))?;
        let version = be32(&head, 0x4);
        if be32(&head, 0) != MAGIC || !matches!(version, 3 | 4) {
            return Err(damaged("its journal has no superblock"));
        }
        if u64::from(be32(&head, 0xc)) != journal.fs.superblock.block_size {
            return Err(damaged("its journal has blocks of another size"));
        }
        journal.features = if version == 4 { be32(&head, 0x28) } else { 0 };
        if journal.features & !READABLE != 0 {
            let text = format!("its journal has features that are not read here ({:#x})", journal.features & !READABLE);
            return Err(unsupported(text));
        }
        if journal.features & (SUMS_2 | SUMS_3) != 0 {
            let mut plain = head[..1024].to_vec();
            plain[0xfc..0x100].fill(0);
            if Sum::START.extend(&plain).0 != be32(&head, 0xfc) {
                return Err(damaged("the checksum of its journal's superblock is wrong"));
            }
            journal.sum = Some(Sum::START.extend(&head[0x30..0x40]));
        }
        (journal.end, journal.first) = (be32(&head, 0x10).into(), be32(&head, 0x14).into());
        (journal.sequence, journal.at) = (be32(&head, 0x18), be32(&head, 0x1c).into());
        if journal.at == 0 {
            return Ok(None);
        }
        let blocks = journal.runs.last().map_or(0, |run| run.logical + run.blocks);
        if journal.first == 0 || journal.at < journal.first || journal.at >= journal.end || journal.end > blocks {
            return Err(damaged("its journal's superblock has impossible sizes"));
        }
        journal.left = journal.end - journal.first;
        Ok(Some(journal))
    }

    /// The next block of the log and where it is on the disk; nothing when the log has gone round.
    fn next(&mut self) -> Result<Option<(Vec<u8>, u64)>> {
        let Some(block) = self.skip()? else { return Ok(None) };
        let mut content = vec![0; index(self.fs.superblock.block_size)];
        self.fs.read_at(block * self.fs.superblock.block_size, &mut content)?;
        Ok(Some((content, block)))
    }

    /// Goes on by one block, and says where that is on the disk.
    fn skip(&mut self) -> Result<Option<u64>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let found = self.runs.partition_point(|run| run.logical + run.blocks <= self.at);
        let run = self.runs.get(found).filter(|run| run.logical <= self.at);
        let run = run.ok_or_else(|| damaged("its journal has a hole"))?;
        let block = run.physical.saturating_add(self.at - run.logical);
        if block >= self.fs.superblock.blocks {
            return Err(damaged("its journal is beyond its end"));
        }
        self.at = if self.at + 1 >= self.end { self.first } else { self.at + 1 };
        Ok(Some(block))
    }

    /// Collects transactions up to the first that was not committed.
    fn scan(&mut self) -> Result<()> {
        let (mut tags, mut revoked) = (Vec::new(), Vec::new());
        while let Some((block, _)) = self.next()? {
            if be32(&block, 0) != MAGIC || be32(&block, 8) != self.sequence {
                break;
            }
            let is_sound = match be32(&block, 4) {
                DESCRIPTOR => self.ends_well(&block) && self.descriptor(&block, &mut tags)?,
                REVOKE => self.ends_well(&block) && self.revocations(&block, &mut revoked),
                COMMIT if self.is_commit(&block) => {
                    self.committed.append(&mut tags);
                    for block in revoked.drain(..) {
                        self.revoked.insert(block, self.sequence);
                    }
                    self.sequence = self.sequence.wrapping_add(1);
                    true
                }
                _ => false,
            };
            if !is_sound {
                break;
            }
        }
        Ok(())
    }

    /// Whether the checksum at the end of a descriptor or revocation block is right.
    fn ends_well(&self, block: &[u8]) -> bool {
        let (content, found) = block.split_at(block.len() - 4);
        self.sum.is_none_or(|sum| sum.extend(content).extend(&[0; 4]).0 == be32(found, 0))
    }

    fn is_commit(&self, block: &[u8]) -> bool {
        let Some(sum) = self.sum else { return true };
        let mut plain = block.to_vec();
        plain[0x10..0x14].fill(0);
        sum.extend(&plain).0 == be32(block, 0x10)
    }

    /// Tags name the blocks that follow; returns whether all are there.
    fn descriptor(&mut self, block: &[u8], tags: &mut Vec<Tag>) -> Result<bool> {
        let is_wide = self.features & WIDE != 0;
        let has_sums = self.features & SUMS_3 != 0;
        let size = match (has_sums, self.features & SUMS_2 != 0, is_wide) {
            (true, _, _) => 16,
            (false, true, true) => 14,
            (false, false, true) => 12,
            (false, true, false) => 10,
            (false, false, false) => 8,
        };
        let start = self.sum.map(|sum| sum.extend(&self.sequence.to_be_bytes()));
        let mut rest = &block[12..block.len() - if start.is_some() { 4 } else { 0 }];
        loop {
            let Some((tag, after)) = rest.split_at_checked(size) else { return Ok(false) };
            rest = after;
            let half = |at: usize| u32::from(u16::from_be_bytes([tag[at], tag[at + 1]]));
            let (flags, high, sum) = if has_sums {
                (be32(tag, 4), be32(tag, 8), be32(tag, 12))
            } else {
                (half(6), if is_wide { be32(tag, 8) } else { 0 }, half(4))
            };
            let Some(at) = self.skip()? else { return Ok(false) };
            let number = u64::from(if is_wide { high } else { 0 }) << 32 | u64::from(be32(tag, 0));
            let sum = start.map(|start| (start, sum, !has_sums));
            let with = Replacement { block: at, is_escaped: flags & ESCAPED != 0, sum };
            tags.push(Tag { block: number, sequence: self.sequence, with });
            if flags & SAME_UUID == 0 {
                let Some(after) = rest.get(16..) else { return Ok(false) };
                rest = after;
            }
            if flags & LAST != 0 {
                return Ok(true);
            }
        }
    }

    fn revocations(&self, block: &[u8], revoked: &mut Vec<u64>) -> bool {
        let used = usize::try_from(be32(block, 12)).unwrap_or(usize::MAX);
        let Some(numbers) = block.get(16..used) else { return false };
        if self.features & WIDE == 0 {
            revoked.extend(numbers.chunks_exact(4).map(|number| u64::from(be32(number, 0))));
        } else {
            revoked.extend(
                numbers.chunks_exact(8).map(|number| u64::from(be32(number, 0)) << 32 | u64::from(be32(number, 4))),
            );
        }
        true
    }

    /// The last content of each block that no transaction revoked with it or later.
    fn replaced(&self) -> BTreeMap<u64, Replacement> {
        let is_revoked = |tag: &Tag| {
            let by = self.revoked.get(&tag.block);
            by.is_some_and(|by| by.wrapping_sub(tag.sequence).cast_signed() >= 0)
        };
        self.committed.iter().filter(|tag| !is_revoked(tag)).map(|tag| (tag.block, tag.with)).collect()
    }
}
