//! The stored form of a block: packing as Longhorn packs, unpacking whatever is found.
//!
//! The method named in a configuration is only a hint: a block that exists is reused whatever it was packed with, so the
//! reader looks at the first bytes and lets the checksum of the raw content decide (`util/util.go:DecompressAndVerifyWithFallback`).

use std::{
    fmt,
    io::{Read, Write},
};

use flate2::{GzBuilder, bufread::GzDecoder};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use twox_hash::XxHash32;

use super::block::{Checksum, Compression};
use crate::{Error, Kind, Result};

const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The largest stored form of a block of `raw` bytes: incompressible data grows a little, by what the frames add.
pub fn max_stored(raw: u64) -> u64 {
    raw + raw / 256 + 4096
}

/// Packs raw content. The LZ4 frame is Longhorn's: independent 4 MiB blocks and a content checksum.
pub fn pack(raw: &[u8], compression: Compression) -> Result<Vec<u8>> {
    let failed =
        |error: std::io::Error| Error::new(Kind::Failed, format!("packing a block with {compression}")).source(error);
    match compression {
        Compression::None => Ok(raw.to_vec()),
        Compression::Lz4 => {
            let frame = FrameInfo::new()
                .block_size(BlockSize::Max4MB)
                .block_mode(BlockMode::Independent)
                .content_checksum(true);
            let mut encoder = FrameEncoder::with_frame_info(frame, Vec::with_capacity(raw.len() / 2));
            encoder.write_all(raw).map_err(failed)?;
            encoder.finish().map_err(|error| failed(error.into()))
        }
        Compression::Gzip => {
            let out = Vec::with_capacity(raw.len() / 2);
            let mut encoder = GzBuilder::new().write(out, flate2::Compression::default());
            encoder.write_all(raw).map_err(failed)?;
            encoder.finish().map_err(failed)
        }
    }
}

/// A block's verified raw content.
#[derive(Debug)]
pub struct Unpacked<'a> {
    /// The content; its checksum is the one asked for.
    pub data: &'a [u8],
    /// How it was packed.
    pub compression: Compression,
    /// What is wrong around the content. The data are right, but Longhorn's own readers stop at it.
    pub flaw: Option<&'static str>,
}

/// Why an object is not the block its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The object does not exist.
    Missing,
    /// The object has no bytes.
    Empty,
    /// The packed form cannot be read.
    Unreadable(Compression, String),
    /// It holds fewer or more raw bytes than a block has.
    Length {
        /// Raw bytes found, at most one more than expected.
        found: u64,
        /// Raw bytes a block has here.
        expected: u64,
    },
    /// It reads well, but is other data.
    Content(Checksum),
    /// The object is larger than any packed form of a block.
    TooLarge,
    /// The content is right, but what surrounds it makes Longhorn refuse it.
    Flawed(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is missing"),
            Self::Empty => f.write_str("it is empty"),
            Self::Unreadable(method, why) => write!(f, "its {method} data cannot be read: {why}"),
            Self::Length { found, expected } if found > expected => {
                write!(f, "it holds more than the {expected} bytes of a block")
            }
            Self::Length { found, expected } => write!(f, "it holds {found} bytes instead of {expected}"),
            Self::Content(found) => write!(f, "it holds other data, with checksum {found}"),
            Self::TooLarge => f.write_str("it is larger than any block"),
            Self::Flawed(flaw) => write!(f, "its data are right, but {flaw}, which Longhorn refuses"),
        }
    }
}

/// Reads the stored form of a block with that checksum and exactly `out.len()` raw bytes.
///
/// Never produces more than `out` holds, whatever the object claims. What was stored unpacked is returned without a copy.
pub fn unpack<'a>(body: &'a [u8], checksum: &Checksum, out: &'a mut [u8]) -> Result<Unpacked<'a>, Fault> {
    if body.is_empty() {
        return Err(Fault::Empty);
    }
    let expected = out.len();
    let (compression, read) = if body.starts_with(&LZ4_MAGIC) {
        (Compression::Lz4, lz4(body, out))
    } else if body.starts_with(&GZIP_MAGIC) {
        (Compression::Gzip, gzip(body, out))
    } else {
        (Compression::None, Err(Fault::Length { found: body.len() as u64, expected: expected as u64 }))
    };
    let fault = match read {
        Ok(flaw) => match Checksum::of(out) {
            found if found == *checksum => return Ok(Unpacked { data: out, compression, flaw }),
            found => Fault::Content(found),
        },
        Err(fault) => fault,
    };
    // Unpacked data may well start like a packed block.
    if body.len() == expected {
        let found = Checksum::of(body);
        if found == *checksum {
            return Ok(Unpacked { data: body, compression: Compression::None, flaw: None });
        }
        if compression == Compression::None {
            return Err(Fault::Content(found));
        }
    }
    Err(fault)
}

type Flaw = Option<&'static str>;

/// Decodes one LZ4 frame block by block straight into `out`, which it must fill.
fn lz4(body: &[u8], out: &mut [u8]) -> Result<Flaw, Fault> {
    let unreadable = |why: &str| Fault::Unreadable(Compression::Lz4, why.to_owned());
    let cut = || unreadable("it is cut off");
    let &[_, _, _, _, flags, sizes, ..] = body else { return Err(cut()) };
    if flags >> 6 != 1 || flags & 0x01 != 0 {
        return Err(unreadable("its frame is of an unknown kind"));
    }
    let (independent, block_sums, content_size, content_sum) =
        (flags & 0x20 != 0, flags & 0x10 != 0, flags & 0x08 != 0, flags & 0x04 != 0);
    let max_block = match sizes >> 4 & 7 {
        id @ 4..=7 => 1usize << (8 + 2 * id),
        _ => return Err(unreadable("its frame has an unknown block size")),
    };
    let header = if content_size { 14 } else { 6 };
    let (descriptor, mut rest) = body.split_at_checked(header).ok_or_else(cut)?;
    let mut flaw = None;
    let (&header_sum, after) = rest.split_first().ok_or_else(cut)?;
    rest = after;
    if header_sum != xxh32(&descriptor[4..]).to_be_bytes()[2] {
        flaw = Some("the header of its lz4 frame is altered");
    }

    let expected = out.len();
    let mut filled = 0;
    loop {
        let Some((word, after)) = rest.split_first_chunk::<4>() else {
            return if filled == expected { Ok(Some(CUT_OFF)) } else { Err(cut()) };
        };
        rest = after;
        let word = u32::from_le_bytes(*word);
        if word == 0 {
            break;
        }
        let stored = (word & 0x7fff_ffff) as usize;
        if stored > max_block {
            return Err(unreadable("a block of its frame is larger than the frame allows"));
        }
        let (data, after) = rest.split_at_checked(stored).ok_or_else(cut)?;
        rest = after;
        let end = expected.min(filled + max_block);
        let (done, open) = out[..end].split_at_mut(filled);
        filled += if word >> 31 == 1 {
            open.get_mut(..stored).ok_or_else(|| too_long(expected))?.copy_from_slice(data);
            stored
        } else {
            let window = if independent { &[] } else { &done[done.len().saturating_sub(64 << 10)..] };
            lz4_flex::block::decompress_into_with_dict(data, open, window)
                .map_err(|error| unreadable(&error.to_string()))?
        };
        if block_sums {
            let (sum, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
            rest = after;
            if u32::from_le_bytes(*sum) != xxh32(data) {
                flaw = Some("the checksum of a block in its lz4 frame is wrong");
            }
        }
    }
    if filled != expected {
        return Err(Fault::Length { found: filled as u64, expected: expected as u64 });
    }
    if content_sum {
        let Some((sum, after)) = rest.split_first_chunk::<4>() else { return Ok(Some(CUT_OFF)) };
        rest = after;
        if u32::from_le_bytes(*sum) != xxh32(out) {
            flaw = Some("the content checksum of its lz4 frame is wrong");
        }
    }
    Ok(if rest.is_empty() { flaw } else { Some(TRAILING) })
}

const CUT_OFF: &str = "its end is cut off";
const TRAILING: &str = "bytes follow that do not belong to it";

fn too_long(expected: usize) -> Fault {
    Fault::Length { found: expected as u64 + 1, expected: expected as u64 }
}

fn xxh32(data: &[u8]) -> u32 {
    XxHash32::oneshot(0, data)
}

/// Decodes one gzip member into `out`, which it must fill.
fn gzip(body: &[u8], out: &mut [u8]) -> Result<Flaw, Fault> {
    let unreadable = |error: std::io::Error| Fault::Unreadable(Compression::Gzip, error.to_string());
    let mut decoder = GzDecoder::new(body);
    let mut filled = 0;
    while filled < out.len() {
        match decoder.read(&mut out[filled..]).map_err(unreadable)? {
            0 => return Err(Fault::Length { found: filled as u64, expected: out.len() as u64 }),
            read => filled += read,
        }
    }
    // One more read sees the end of the stream and compares the trailer.
    match decoder.read(&mut [0]) {
        Ok(0) if decoder.get_ref().is_empty() => Ok(None),
        Ok(0) => Ok(Some(TRAILING)),
        Ok(_) => Err(too_long(out.len())),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(Some(CUT_OFF)),
        Err(_) => Ok(Some("the end of its gzip data is altered")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = 64 << 10;

    /// Data that compresses, but not to nothing.
    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|i| if i % 3 == 0 { next() } else { 7 }).collect()
    }

    fn check(body: &[u8], raw: &[u8]) -> Result<(Compression, Flaw), Fault> {
        let mut out = vec![0xaa; raw.len()];
        let unpacked = unpack(body, &Checksum::of(raw), &mut out)?;
        assert_eq!(unpacked.data, raw);
        Ok((unpacked.compression, unpacked.flaw))
    }

    #[test]
    fn packed_blocks_start_as_longhorns_do() {
        let raw = sample(2 << 20);
        let lz4 = pack(&raw, Compression::Lz4).unwrap();
        assert_eq!(lz4[..7], [0x04, 0x22, 0x4d, 0x18, 0x64, 0x70, 0xb9]);
        let gzip = pack(&raw, Compression::Gzip).unwrap();
        assert_eq!(gzip[..10], [0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0xff]);
        assert_eq!(pack(&raw, Compression::None).unwrap(), raw);
    }

    #[test]
    fn a_large_block_is_a_frame_of_four_independent_ones() {
        let raw = sample(16 << 20);
        let packed = pack(&raw, Compression::Lz4).unwrap();
        let (mut at, mut blocks) = (7, 0);
        loop {
            let word = u32::from_le_bytes(packed[at..at + 4].try_into().unwrap());
            at += 4 + (word & 0x7fff_ffff) as usize;
            if word == 0 {
                break;
            }
            blocks += 1;
        }
        assert_eq!((blocks, packed.len() - at), (4, 4), "four blocks, then the content checksum");
        assert_eq!(check(&packed, &raw).unwrap(), (Compression::Lz4, None));
    }

    #[test]
    fn every_method_comes_back_whatever_the_configuration_says() {
        for raw in [sample(SIZE), vec![0; SIZE], sample(513)] {
            for method in [Compression::None, Compression::Lz4, Compression::Gzip] {
                let packed = pack(&raw, method).unwrap();
                assert!(packed.len() as u64 <= max_stored(raw.len() as u64));
                assert_eq!(check(&packed, &raw).unwrap(), (method, None));
            }
        }
    }

    #[test]
    fn frames_of_other_writers_are_read() {
        let raw = sample(300_000);
        for linked in [BlockMode::Linked, BlockMode::Independent] {
            let frame = FrameInfo::new()
                .block_size(BlockSize::Max64KB)
                .block_mode(linked)
                .block_checksums(true)
                .content_size(Some(raw.len() as u64));
            let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
            encoder.write_all(&raw).unwrap();
            assert_eq!(check(&encoder.finish().unwrap(), &raw).unwrap(), (Compression::Lz4, None));
        }
    }

    #[test]
    fn a_raw_block_may_start_like_a_packed_one() {
        for magic in [&LZ4_MAGIC[..], &GZIP_MAGIC[..]] {
            let mut raw = sample(SIZE);
            raw[..magic.len()].copy_from_slice(magic);
            assert_eq!(check(&raw, &raw).unwrap(), (Compression::None, None));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        // Halves that repeat only each other: no other match offset yields the same data.
        let half: Vec<u8> = sample(1536).into_iter().step_by(3).collect();
        let raw = [&half[..], &half[..]].concat();
        // Bits no reader looks at: half the token of an lz4 block's last sequence, which has no match; a gzip header's
        // text flag, time, extra flags and system, and up to seven bits that pad the last byte of its data.
        for (method, meaningless) in [(Compression::None, 0), (Compression::Lz4, 4), (Compression::Gzip, 56)] {
            let packed = pack(&raw, method).unwrap();
            let unnoticed = (0..packed.len() * 8).filter(|at| {
                let mut flipped = packed.clone();
                flipped[at / 8] ^= 1 << (at % 8);
                matches!(check(&flipped, &raw), Ok((_, None)))
            });
            assert!(unnoticed.count() <= meaningless, "{method}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let raw = sample(1024);
        for method in [Compression::None, Compression::Lz4, Compression::Gzip] {
            let packed = pack(&raw, method).unwrap();
            for length in 0..packed.len() {
                assert!(!matches!(check(&packed[..length], &raw), Ok((_, None))), "{method} cut to {length}");
            }
            assert_eq!(check(&[], &raw).unwrap_err(), Fault::Empty);
            let longer = [&packed[..], b"x"].concat();
            assert!(!matches!(check(&longer, &raw), Ok((_, None))), "{method} with a byte more");
        }
    }

    #[test]
    fn other_data_are_told_from_unreadable_ones() {
        let (raw, other) = (sample(SIZE), vec![3; SIZE]);
        for method in [Compression::None, Compression::Lz4, Compression::Gzip] {
            let packed = pack(&other, method).unwrap();
            assert_eq!(check(&packed, &raw).unwrap_err(), Fault::Content(Checksum::of(&other)));
            let short = pack(&raw[..100], method).unwrap();
            let fault = Fault::Length { found: 100, expected: SIZE as u64 };
            assert_eq!(check(&short, &raw).unwrap_err(), fault, "{method}");
        }
    }

    #[test]
    fn a_small_object_that_unpacks_to_gigabytes_fills_only_one_block() {
        let bomb = pack(&vec![0; 64 << 20], Compression::Gzip).unwrap();
        let raw = vec![0; SIZE];
        assert!(matches!(check(&bomb, &raw).unwrap_err(), Fault::Length { found, .. } if found > SIZE as u64));
        // A frame whose first block claims 4 GiB, and one whose header does.
        let claim = [0x04, 0x22, 0x4d, 0x18, 0x64, 0x70, 0xb9, 0xff, 0xff, 0xff, 0xff, 0, 0];
        assert!(matches!(check(&claim, &raw).unwrap_err(), Fault::Unreadable(Compression::Lz4, _)));
        let bomb = pack(&vec![0; 64 << 20], Compression::Lz4).unwrap();
        assert!(check(&bomb, &raw).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            start in 0usize..4, body in proptest::collection::vec(any::<u8>(), 0..300), length in 0usize..5000
        ) {
            let magic: [&[u8]; 4] = [&[], &LZ4_MAGIC, &GZIP_MAGIC, &[0x04, 0x22, 0x4d, 0x18, 0x64, 0x70, 0xb9]];
            let body = [magic[start], &body].concat();
            let mut out = vec![0; length];
            let _ = unpack(&body, &Checksum::of(b""), &mut out);
        }
    }
}
