//! `locks/lock-<random>.lck`: who works on a volume.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{parse, write};
use crate::Result;

/// What a lock is held for. Locks of the same type never conflict, of different types always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockType {
    /// Backing up, restoring, or reading.
    Use,
    /// Deleting.
    Delete,
    /// A type unknown to this version, which conflicts with both.
    Other(u64),
}

impl Serialize for LockType {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_u64(match self {
            Self::Use => 1,
            Self::Delete => 2,
            Self::Other(number) => *number,
        })
    }
}

impl<'de> Deserialize<'de> for LockType {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Ok(match u64::deserialize(input)? {
            1 => Self::Use,
            2 => Self::Delete,
            number => Self::Other(number),
        })
    }
}

/// One lock (`lock.go:FileLock`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LockConfig {
    /// `lock-` and 16 hex digits.
    pub name: String,
    /// What it is held for.
    #[serde(rename = "Type")]
    pub kind: LockType,
    /// Whether it is held, or only asked for.
    pub acquired: bool,
}

impl LockConfig {
    /// Reads the lock at that key.
    pub fn parse(key: &str, body: &[u8]) -> Result<Self> {
        parse(key, body)
    }

    /// The object as Longhorn writes it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        write(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_longhorn_wrote_is_written_back_to_the_byte() {
        let real = r#"{"Name":"lock-ee680a2be7db4e2b","Type":2,"Acquired":true}"#;
        let lock = LockConfig::parse("k", real.as_bytes()).unwrap();
        assert_eq!((lock.kind, lock.acquired), (LockType::Delete, true));
        assert_eq!(String::from_utf8(lock.to_bytes().unwrap()).unwrap(), real);
        let newer = real.replace('2', "3");
        assert_eq!(LockConfig::parse("k", newer.as_bytes()).unwrap().kind, LockType::Other(3));
        assert!(LockConfig::parse("k", b"{}").is_err());
    }
}
