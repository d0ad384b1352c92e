//! Which blocks of a sparse image hold data: those with at least one allocated extent, as Longhorn decides.

use std::{fs::File, io, os::unix::fs::FileExt};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};

/// The offsets of the blocks that are mapped, ascending.
pub fn mapped_blocks(file: &File, block_size: u64) -> io::Result<Vec<u64>> {
    let end = file.metadata()?.len();
    let mut offsets = Vec::new();
    let mut at = 0;
    while at < end {
        let data = match lseek(file, signed(at)?, Whence::SeekData) {
            Ok(data) => data.unsigned_abs(),
            // No data from here to the end.
            Err(Errno::ENXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = lseek(file, signed(data)?, Whence::SeekHole)?.unsigned_abs();
        let first = data / block_size * block_size;
        let next = offsets.last().map_or(first, |last: &u64| first.max(last + block_size));
        let mut offset = next;
        while offset < hole {
            offsets.push(offset);
            offset += block_size;
        }
        at = hole.max(at + 1);
    }
    Ok(offsets)
}

fn signed(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(io::Error::other)
}

/// Fills the buffer from that offset; zeros follow where the file ends.
pub fn read_block(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer[filled..].fill(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_mapped_when_any_part_of_it_is() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10 << 20).unwrap();
        assert!(mapped_blocks(&file, 2 << 20).unwrap().is_empty());
        file.write_all_at(b"x", (4 << 20) - 1).unwrap();
        file.write_all_at(&[0; 4096], 8 << 20).unwrap();
        // The first is in the block at 2 MiB; written zeros count, too.
        assert_eq!(mapped_blocks(&file, 2 << 20).unwrap(), [2 << 20, 8 << 20]);
        file.write_all_at(&vec![1; 3 << 20], 3 << 20).unwrap();
        assert_eq!(mapped_blocks(&file, 2 << 20).unwrap(), [2 << 20, 4 << 20, 8 << 20]);
        assert_eq!(mapped_blocks(&file, 16 << 20).unwrap(), [0]);
    }

    #[test]
    fn a_block_beyond_the_end_is_filled_with_zeros() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"abc", 0).unwrap();
        let mut buffer = [7; 6];
        read_block(&file, 1, &mut buffer).unwrap();
        assert_eq!(&buffer, b"bc\0\0\0\0");
    }
}
