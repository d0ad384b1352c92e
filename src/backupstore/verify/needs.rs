//! The different blocks that items need from one pool, and what became of each: 37 bytes a block, so that a volume of
//! 1 TiB in 2 MiB blocks takes some 20 MB.

use std::collections::BTreeMap;

use super::report::{BadObject, Totals};
use crate::{
    Error,
    backupstore::{
        block::{Checksum, DEFAULT_BLOCK_SIZE},
        config::BlockMap,
        layout::BlockPool,
    },
};

/// Most bad blocks of a pool that are named one by one; when a whole pool is lost, the count says as much.
const NAMED: usize = 10_000;

/// A block an item needs. The same data may be listed as blocks of two sizes only by a wrong configuration, which must
/// not spoil the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The block's name.
    pub checksum: Checksum,
    /// Its raw bytes.
    pub length: u32,
}

/// What is known of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Nothing: it could not be looked at.
    Not,
    /// It is not of this sample's share.
    Skipped,
    /// It is as it must be, as far as the level looks.
    Good,
    /// It is not.
    Bad,
}

/// The blocks of one pool.
#[derive(Debug, Default)]
pub struct Needs {
    /// Sorted, each once.
    pub blocks: Vec<Need>,
    /// For each of them.
    pub looked: Vec<Looked>,
    /// What is wrong with the bad ones.
    bad: BTreeMap<usize, String>,
    /// Why the first one that could not be looked at could not.
    pub error: Option<Error>,
    /// What was read.
    pub totals: Totals,
}

/// Where a list of blocks has what is not good.
#[derive(Debug, Default)]
pub struct Places {
    /// Bad blocks with their offsets, by index.
    pub bad: BTreeMap<usize, Vec<u64>>,
    /// How many blocks could not be looked at.
    pub unknown: usize,
}

impl Needs {
    /// Adds the blocks of an item.
    pub fn add(&mut self, blocks: impl Iterator<Item = Need>) {
        let fresh: Vec<Need> = blocks.filter(|need| self.blocks.binary_search(need).is_err()).collect();
        self.blocks.extend(fresh);
        self.blocks.sort();
        self.blocks.dedup();
    }

    /// Ends adding: nothing is looked at yet.
    pub fn begin(&mut self) {
        self.blocks.shrink_to_fit();
        self.looked = vec![Looked::Not; self.blocks.len()];
        self.totals.blocks = self.blocks.len() as u64;
        self.totals.bytes = self.blocks.iter().map(|need| u64::from(need.length)).sum();
    }

    /// The needs for that checksum, of any length.
    pub fn of(&self, checksum: &Checksum) -> std::ops::Range<usize> {
        let start = self.blocks.partition_point(|need| need.checksum < *checksum);
        let same = self.blocks[start..].iter().take_while(|need| need.checksum == *checksum).count();
        start..start + same
    }

    /// The block at that index is as it must be.
    pub fn good(&mut self, index: usize) {
        self.looked[index] = Looked::Good;
        self.bad.remove(&index);
    }

    /// The block at that index is not.
    pub fn bad(&mut self, index: usize, what: String) {
        self.looked[index] = Looked::Bad;
        self.bad.insert(index, what);
    }

    /// The bad blocks, by index.
    pub fn bad_ones(&self) -> impl Iterator<Item = usize> {
        self.bad.keys().copied()
    }

    /// Says more of what is wrong with a bad block.
    pub fn add_to_bad(&mut self, index: usize, more: &str) {
        if let Some(what) = self.bad.get_mut(&index) {
            what.push_str(more);
        }
    }

    /// Something could not be looked at.
    pub fn failed(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// Whether any block is bad, or could not be looked at.
    pub fn is_troubled(&self) -> bool {
        self.looked.iter().any(|looked| matches!(looked, Looked::Bad | Looked::Not))
    }

    /// Whether everything was looked at that this run is about.
    pub fn is_complete(&self) -> bool {
        !self.looked.contains(&Looked::Not)
    }

    /// Finds what is not good in a list of blocks.
    pub fn trace(&self, blocks: &BlockMap, length: impl Fn(u64) -> u32) -> Places {
        let mut places = Places::default();
        for block in blocks.as_slice() {
            let need = Need { checksum: block.checksum, length: length(block.offset) };
            let found = self.blocks.binary_search(&need);
            match found.map(|index| (index, self.looked[index])) {
                Ok((index, Looked::Bad)) => places.bad.entry(index).or_default().push(block.offset),
                Ok((_, Looked::Good | Looked::Skipped)) => {}
                // A list that has changed since.
                Ok((_, Looked::Not)) | Err(_) => places.unknown += 1,
            }
        }
        places
    }

    /// The bad block at an index, as an object of that pool.
    fn object(&self, index: usize, pool: &BlockPool) -> BadObject {
        let what = self.bad.get(&index).cloned().unwrap_or_default();
        BadObject { key: pool.key(&self.blocks[index].checksum), what, spoils: Vec::new() }
    }
}

/// Collects bad blocks with all they spoil.
#[derive(Debug, Default)]
pub struct Spoilt {
    objects: BTreeMap<usize, BadObject>,
    unnamed: std::collections::BTreeSet<usize>,
}

impl Spoilt {
    /// Adds what an item has lost.
    pub fn add(&mut self, needs: &Needs, pool: &BlockPool, item: &super::report::Item, places: Places) {
        for (index, offsets) in places.bad {
            if self.objects.len() >= NAMED && !self.objects.contains_key(&index) {
                self.unnamed.insert(index);
                continue;
            }
            let object = self.objects.entry(index).or_insert_with(|| needs.object(index, pool));
            object.spoil(item.clone(), offsets);
        }
    }

    /// The bad objects, and how many more there are.
    pub fn into_objects(self) -> (Vec<BadObject>, u64) {
        (self.objects.into_values().collect(), self.unnamed.len() as u64)
    }
}

/// The blocks a list of whole blocks needs.
pub fn whole_blocks(blocks: &BlockMap, block_size: u64) -> impl Iterator<Item = Need> {
    let length = u32::try_from(block_size).unwrap_or_default();
    blocks.as_slice().iter().map(move |block| Need { checksum: block.checksum, length })
}

/// Raw bytes of a backing image's block: the last one may be short.
pub fn image_block(size: u64, offset: u64) -> u32 {
    u32::try_from(DEFAULT_BLOCK_SIZE.min(size.saturating_sub(offset))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backupstore::config::Block;

    #[test]
    fn a_block_of_two_lengths_is_two_needs_and_each_is_traced() {
        let block = |offset, data: &[u8]| Block { offset, checksum: Checksum::of(data) };
        let list = BlockMap::from_blocks(vec![block(0, b"a"), block(10, b"b"), block(20, b"a")]);
        let mut needs = Needs::default();
        needs.add(whole_blocks(&list, 10));
        needs.add(whole_blocks(&list, 10));
        needs.add(whole_blocks(&list, 16));
        needs.begin();
        assert_eq!((needs.totals.blocks, needs.totals.bytes), (4, 52));
        let short: Vec<_> = needs.of(&Checksum::of(b"a")).filter(|index| needs.blocks[*index].length == 10).collect();
        for index in 0..4 {
            needs.good(index);
        }
        assert!(!needs.is_troubled());
        needs.bad(short[0], "it is missing".into());
        let places = needs.trace(&list, |_| 10);
        assert_eq!(places.bad.into_iter().collect::<Vec<_>>(), [(short[0], vec![0, 20])]);
        assert!(needs.trace(&list, |_| 16).bad.is_empty());
    }

    #[test]
    fn a_terabyte_of_blocks_takes_tens_of_megabytes() {
        assert_eq!((size_of::<Need>(), size_of::<Looked>()), (36, 1));
    }
}
