//! How to restore, and what was restored.

use std::{str::FromStr, time::Duration};

use jiff::Timestamp;

use crate::{Error, Kind, Result, backupstore::Progress};

/// Form of the restored image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The volume's bytes, sparse.
    #[default]
    Raw,
    /// Made from the raw image by `qemu-img`, which must be installed.
    Qcow2,
}

impl Format {
    /// The name `qemu-img` uses: `raw`, `qcow2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "raw" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            other => Err(Error::new(Kind::Usage, format!("{other:?} is no format of an image")).hint("raw or qcow2")),
        }
    }
}

/// How to restore.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Blocks requested at the same time.
    pub concurrency: usize,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// Keeps at `<path>.partial` what was written when the restore fails or is dropped, and goes on from what an earlier
    /// one left there: whatever it is, only what has the right checksum is kept. Also forces the image to the disk
    /// before it gets its name.
    pub resume: bool,
    /// The form of the image.
    pub format: Format,
    /// Told the bytes of the image restored so far and in all.
    pub progress: Option<Progress>,
    /// Takes Longhorn's lock on the volume, which keeps deletions away, letting it settle that long
    /// ([`SETTLE`](crate::backupstore::lock::SETTLE)); without, the store is only read.
    pub lock: Option<Duration>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        let format = Format::default();
        Self { concurrency: 8, overwrite: false, resume: false, format, progress: None, lock: None }
    }
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Bytes of the image.
    pub size: u64,
    /// Bytes of it that blocks cover; the rest are holes.
    pub bytes: u64,
    /// Blocks listed.
    pub blocks: usize,
    /// Blocks read; one that is listed twice is read once.
    pub blocks_read: usize,
    /// Packed bytes read from the store.
    pub stored_bytes: u64,
    /// Bytes of the image that an earlier attempt had restored.
    pub reused_bytes: u64,
    /// When the backup was begun, as far as it says so.
    pub begun: Option<Timestamp>,
}
