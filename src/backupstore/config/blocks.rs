//! The block list of a backup, kept at 40 bytes a block: a volume of 1 TiB in 2 MiB blocks has 524,288 of them.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
    ser::SerializeStruct,
};

use crate::backupstore::block::Checksum;

/// One block of a volume's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Block {
    /// Where it is in the volume, in bytes.
    #[serde(rename = "Offset")]
    pub offset: u64,
    /// What it is called in the store.
    #[serde(rename = "BlockChecksum")]
    pub checksum: Checksum,
}

impl Serialize for Block {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        let mut object = output.serialize_struct("Block", 2)?;
        object.serialize_field("Offset", &self.offset)?;
        object.serialize_field("BlockChecksum", &format_args!("{}", self.checksum))?;
        object.end()
    }
}

/// The blocks of a backup by ascending offset. What is not listed is zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockMap(Vec<Block>);

impl BlockMap {
    /// Takes blocks in any order; of two at the same offset the later one counts.
    pub fn from_blocks(mut blocks: Vec<Block>) -> Self {
        blocks.reverse();
        blocks.sort_by_key(|block| block.offset);
        blocks.dedup_by_key(|block| block.offset);
        Self(blocks)
    }

    /// The blocks by ascending offset.
    pub fn as_slice(&self) -> &[Block] {
        &self.0
    }

    /// The blocks by ascending offset, without a copy.
    pub fn into_blocks(self) -> Vec<Block> {
        self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The block that starts at that offset.
    pub fn at(&self, offset: u64) -> Option<&Block> {
        self.0.binary_search_by_key(&offset, |block| block.offset).ok().map(|found| &self.0[found])
    }

    /// Where the last block starts.
    pub fn last_offset(&self) -> Option<u64> {
        self.0.last().map(|block| block.offset)
    }

    /// Says what is wrong with a list as read: offsets must ascend in whole blocks.
    pub(super) fn fault(&self, block_size: u64) -> Option<String> {
        if let Some(block) = self.0.iter().find(|block| block.offset % block_size != 0) {
            return Some(format!("a block at offset {} is not at a multiple of {block_size}", block.offset));
        }
        let pair = self.0.windows(2).find(|pair| pair[0].offset >= pair[1].offset)?;
        Some(format!("a block at offset {} follows one at {}", pair[1].offset, pair[0].offset))
    }
}

impl Serialize for BlockMap {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.collect_seq(&self.0)
    }
}

impl<'de> Deserialize<'de> for BlockMap {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Blocks;

        impl<'de> Visitor<'de> for Blocks {
            type Value = BlockMap;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of blocks")
            }

            fn visit_unit<E>(self) -> Result<BlockMap, E> {
                Ok(BlockMap::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<BlockMap, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = list.next_element::<Block>()? {
                    blocks.push(block);
                }
                blocks.shrink_to_fit();
                Ok(BlockMap(blocks))
            }
        }

        input.deserialize_any(Blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(offset: u64, data: &[u8]) -> Block {
        Block { offset, checksum: Checksum::of(data) }
    }

    #[test]
    fn a_later_block_replaces_an_earlier_one_at_its_offset() {
        let map = BlockMap::from_blocks(vec![block(4, b"old"), block(0, b"first"), block(4, b"new")]);
        assert_eq!(map.as_slice(), [block(0, b"first"), block(4, b"new")]);
        assert_eq!((map.at(4), map.at(2), map.last_offset()), (Some(&block(4, b"new")), None, Some(4)));
    }

    #[test]
    fn a_terabyte_of_blocks_takes_tens_of_megabytes() {
        assert_eq!(size_of::<Block>(), 40);
    }
}
