//! The JSON objects of a store. They are written exactly as Longhorn writes them and read tolerantly: unknown fields,
//! missing fields and `null` are fine, impossible values are not.
//!
//! Format facts: `longhorn/backupstore`, `backupstore.go`, `lock.go`, `backupbackingimage`, `systembackup`.

mod backup;
mod blocks;
mod fields;
mod image;
mod lock;
mod system;
mod volume;

pub use backup::{BackupConfig, Mode};
pub use blocks::{Block, BlockMap};
pub use image::BackingImageConfig;
pub use lock::{LockConfig, LockType};
pub use system::SystemBackupConfig;
pub use volume::{Labels, VolumeConfig};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Kind, Result};

/// The failure of an object that is not what its key says.
pub(super) fn damaged(key: &str, what: impl std::fmt::Display) -> Error {
    // Parsers may quote what they read over several lines; one line without control characters is enough.
    let what = what.to_string();
    let what: String = what.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    Error::new(Kind::Damaged, format!("{key} is damaged: {what}")).object(key)
}

/// Reads one object; the error names its key.
fn parse<T: DeserializeOwned>(key: &str, body: &[u8]) -> Result<T> {
    if body.is_empty() {
        return Err(damaged(key, "it is empty"));
    }
    serde_json::from_slice(body).map_err(|error| damaged(key, error))
}

/// Writes one object: a single line, no newline at its end.
fn write<T: Serialize>(config: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(config).map_err(|error| Error::new(Kind::Failed, "writing a configuration object").source(error))
}

/// A name in an object that differs from the one its key has.
fn check_same(key: &str, what: &str, found: &str, expected: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(damaged(key, format!("it is of {what} {found:?}, not of {expected:?}")))
}
