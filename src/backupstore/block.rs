//! What a block is: a piece of raw volume data named by its checksum.

use std::{fmt, str::FromStr, sync::OnceLock};

use ring::digest::{SHA512, digest};

use crate::{Error, Kind, Result};

/// Block size of backups that do not say otherwise, and of all backing images: 2 MiB.
pub const DEFAULT_BLOCK_SIZE: u64 = 2 << 20;
/// The other block size Longhorn offers, since 1.10: 16 MiB.
pub const LARGE_BLOCK_SIZE: u64 = 16 << 20;

/// Name of a block: the first 32 bytes of the SHA-512 of its raw content (`util/util.go:GetChecksum`). That is a plain
/// cut, not SHA-512/256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum([u8; 32]);

impl Checksum {
    /// The checksum of that data.
    pub fn of(data: &[u8]) -> Self {
        let mut cut = [0; 32];
        cut.copy_from_slice(&digest(&SHA512, data).as_ref()[..32]);
        Self(cut)
    }

    /// Its first eight bytes as a number: evenly spread over all numbers.
    pub(super) fn leading(&self) -> u64 {
        self.0[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The checksum of `length` zero bytes, kept for the two block sizes.
    pub fn of_zeros(length: u64) -> Self {
        static DEFAULT: OnceLock<Checksum> = OnceLock::new();
        static LARGE: OnceLock<Checksum> = OnceLock::new();
        let compute = || Self::of(&vec![0; usize::try_from(length).unwrap_or(0)]);
        match length {
            DEFAULT_BLOCK_SIZE => *DEFAULT.get_or_init(compute),
            LARGE_BLOCK_SIZE => *LARGE.get_or_init(compute),
            _ => compute(),
        }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Checksum {
    type Err = &'static str;

    /// Reads 64 lower-case hex digits, the only form Longhorn writes; another spelling would name another object.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err("a block checksum has 64 hex digits");
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            match (hex_digit(pair[0]), hex_digit(pair[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => return Err("a block checksum has only the digits 0-9 and a-f"),
            }
        }
        Ok(Self(bytes))
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Lower-case hex digits of bytes.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(HEX[usize::from(digit)])).collect()
}

/// All 128 hex digits of a SHA-512.
pub(super) fn sha512_hex(data: &[u8]) -> String {
    hex(digest(&SHA512, data).as_ref())
}

/// How the stored form of a block is made from its raw content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Stored as it is.
    None,
    /// One LZ4 frame; Longhorn's default since 1.5.
    #[default]
    Lz4,
    /// One gzip member; the only method up to 1.4.
    Gzip,
}

impl Compression {
    /// The name Longhorn uses: `none`, `lz4`, `gzip`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Compression {
    type Err = Error;

    /// Reads Longhorn's name; the empty name of stores written before 1.5 means gzip.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "none" => Ok(Self::None),
            "lz4" => Ok(Self::Lz4),
            "gzip" | "" => Ok(Self::Gzip),
            other => Err(Error::new(Kind::Invalid, format!("{other:?} is not a compression method"))
                .hint("Longhorn has none, lz4 and gzip")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_the_first_half_of_a_sha512() {
        // `printf abc | sha512sum | cut -c1-64`
        let expected = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a";
        assert_eq!(Checksum::of(b"abc").to_string(), expected);
        assert_eq!(expected.parse::<Checksum>().unwrap(), Checksum::of(b"abc"));
        // `head -c 2097152 /dev/zero | sha512sum | cut -c1-64`
        let zeros = "731859029215873fdac1c9f2f8bd25a334abf0f3a9e1b057cf2cacc2826d86b0";
        assert_eq!(Checksum::of_zeros(DEFAULT_BLOCK_SIZE).to_string(), zeros);
        assert_eq!(Checksum::of_zeros(512), Checksum::of(&[0; 512]));
    }

    #[test]
    fn only_the_form_longhorn_writes_is_a_checksum() {
        let good = "ab".repeat(32);
        assert!(good.parse::<Checksum>().is_ok());
        for bad in ["", "ab", &good.to_uppercase(), &good[1..], &format!("{}zz", &good[2..]), &"é".repeat(32)] {
            assert!(bad.parse::<Checksum>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_empty_method_is_the_gzip_of_old_stores() {
        assert_eq!("".parse::<Compression>().unwrap(), Compression::Gzip);
        for method in [Compression::None, Compression::Lz4, Compression::Gzip] {
            assert_eq!(method.as_str().parse::<Compression>().unwrap(), method);
        }
        assert_eq!("zstd".parse::<Compression>().unwrap_err().kind(), Kind::Invalid);
    }
}
