//! How much two sparse images differ.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};

const PAGE: usize = 4096;
const CHUNK: usize = 1 << 20;

/// Bytes in pages of 4 KiB that differ; holes read as zeros, and what both lack is not read.
pub(super) fn changed_bytes(old: &Path, new: &Path) -> io::Result<u64> {
    let (old, new) = (File::open(old)?, File::open(new)?);
    let (mut a, mut b) = (vec![0; CHUNK], vec![0; CHUNK]);
    let (mut changed, mut at) = (0, 0);
    loop {
        let Some(next) = [next_data(&old, at)?, next_data(&new, at)?].into_iter().flatten().min() else {
            return Ok(changed);
        };
        let start = next - next % PAGE as u64;
        read_padded(&old, &mut a, start)?;
        read_padded(&new, &mut b, start)?;
        if a != b {
            let pages = a.chunks(PAGE).zip(b.chunks(PAGE)).filter(|(a, b)| a != b).count();
            changed += (pages * PAGE) as u64;
        }
        at = start + CHUNK as u64;
    }
}

/// Where the next data begins, `None` after the last.
fn next_data(file: &File, from: u64) -> io::Result<Option<u64>> {
    let offset = i64::try_from(from).map_err(io::Error::other)?;
    match lseek(file, offset, Whence::SeekData) {
        Ok(at) => Ok(u64::try_from(at).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read_padded(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    buffer[filled..].fill(0);
    Ok(())
}
