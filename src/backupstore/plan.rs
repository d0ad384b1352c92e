//! What to read for an image: each block once, with every place it goes to.

use super::{block::Checksum, config::Block};

/// The blocks of one pool that make up an image, or the part of it that pool holds.
#[derive(Debug)]
pub struct Plan {
    /// Sorted by checksum and length, so that the places of one block are together.
    blocks: Vec<Block>,
    /// First place and number of places of each block to read, by ascending first offset.
    reads: Vec<(u32, u32)>,
    block_size: u64,
    end: u64,
}

/// One block to read.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    /// Its name.
    pub checksum: Checksum,
    /// Its raw bytes.
    pub length: usize,
    /// Where it goes, by ascending offset.
    pub places: &'a [Block],
}

impl Plan {
    /// Plans to read those blocks of an image that ends at `end`; only there a block may be shorter than `block_size`.
    pub fn new(mut blocks: Vec<Block>, block_size: u64, end: u64) -> Self {
        let length = |block: &Block| block_size.min(end.saturating_sub(block.offset));
        blocks.sort_unstable_by_key(|block| (block.checksum, length(block), block.offset));
        let mut reads = Vec::new();
        let mut first = 0;
        for same in blocks.chunk_by(|a, b| (a.checksum, length(a)) == (b.checksum, length(b))) {
            let count = u32::try_from(same.len()).unwrap_or(u32::MAX);
            reads.push((first, count));
            first += count;
        }
        // In the order of the image, the target is written from its start to its end.
        reads.sort_unstable_by_key(|(first, _)| blocks[*first as usize].offset);
        Self { blocks, reads, block_size, end }
    }

    /// How many blocks are to be read.
    pub fn len(&self) -> usize {
        self.reads.len()
    }

    /// The n-th block to read.
    pub fn read(&self, index: usize) -> Read<'_> {
        let (first, count) = self.reads[index];
        let places = &self.blocks[first as usize..][..count as usize];
        Read { checksum: places[0].checksum, length: self.length(places[0].offset), places }
    }

    fn length(&self, offset: u64) -> usize {
        usize::try_from(self.block_size.min(self.end.saturating_sub(offset))).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_in_many_places_is_read_once_and_a_short_one_apart() {
        let block = |offset, data: &[u8]| Block { offset, checksum: Checksum::of(data) };
        let blocks = vec![block(0, b"a"), block(10, b"b"), block(20, b"a"), block(30, b"b")];
        let plan = Plan::new(blocks, 10, 35);
        assert_eq!(plan.len(), 3);
        let reads: Vec<_> = (0..plan.len())
            .map(|i| plan.read(i))
            .map(|read| (read.length, read.places.iter().map(|place| place.offset).collect::<Vec<_>>()))
            .collect();
        assert_eq!(reads, [(10, vec![0, 20]), (10, vec![10]), (5, vec![30])]);
    }
}
