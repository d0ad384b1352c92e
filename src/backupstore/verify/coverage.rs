//! What a rotating sample remembers from run to run, so that repeated runs read everything.
//!
//! The checksums of blocks are spread evenly, so each falls into one of a hundred equal classes. A run over `N` percent
//! reads the next `N` classes of each pool, and `100 / N` runs, rounded up, read everything that was there at the first.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::report::Covered;
use crate::{
    Error, Kind, Result,
    backupstore::{block::Checksum, rfc3339},
};

/// The classes of blocks one run reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The first class, below 100.
    from: u8,
    /// How many, up to 100.
    percent: u8,
}

impl Share {
    /// Whether a block is in it.
    pub fn holds(self, checksum: &Checksum) -> bool {
        let class = (u128::from(checksum.leading()) * 100) >> 64;
        let distance = (class + 100 - u128::from(self.from)) % 100;
        distance < u128::from(self.percent)
    }
}

/// How far the sample of one pool has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Turn {
    /// The first class the next run reads.
    next: u8,
    /// Classes read since the last full turn.
    read: u8,
    /// When the last full turn ended, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_full: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    store: String,
    #[serde(default)]
    pools: BTreeMap<String, Turn>,
}

/// The memory of the samples of one store.
#[derive(Debug)]
pub struct Coverage {
    path: Option<PathBuf>,
    memory: Memory,
}

impl Coverage {
    /// Remembers nothing beyond this run: every run reads the same share.
    pub fn forgetful() -> Self {
        Self { path: None, memory: Memory { store: String::new(), pools: BTreeMap::new() } }
    }

    /// The memory in that file, of the store with that address; empty when there is no such file yet.
    ///
    /// # Errors
    /// `invalid` when the file is something else, or of another store; `failed` or `denied` when it cannot be read.
    pub fn open(path: &Path, store: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Error::new(Kind::Invalid, format!("{} is not the memory of this store's samples: {why}", path.display()))
                .object(path.to_string_lossy())
                .hint("remove it to begin anew, or name another file")
        };
        let memory = match fs::read(path) {
            Ok(text) => {
                serde_json::from_slice::<Memory>(&text).map_err(|error| invalid("it is damaged").source(error))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Memory { store: store.to_owned(), pools: BTreeMap::new() }
            }
            Err(error) => return Err(fault("reading", path, error)),
        };
        if memory.store != store {
            return Err(invalid("it is of another one"));
        }
        if memory.pools.values().any(|turn| turn.next >= 100 || turn.read >= 100) {
            return Err(invalid("it is damaged"));
        }
        Ok(Self { path: Some(path.to_owned()), memory })
    }

    /// What the next run over so many percent of a pool reads.
    pub fn share(&self, pool: &str, percent: u8) -> Share {
        Share { from: self.memory.pools.get(pool).map_or(0, |turn| turn.next), percent: percent.clamp(1, 100) }
    }

    /// How far a pool is now.
    pub fn covered(&self, pool: &str) -> Covered {
        let turn = self.memory.pools.get(pool);
        Covered {
            percent: turn.map_or(0, |turn| turn.read),
            last_full_turn: turn.and_then(|turn| turn.last_full.clone()),
        }
    }

    /// Notes that a share was read whole, and writes the file anew.
    ///
    /// # Errors
    /// When the file cannot be written; the next run then reads this share again.
    pub fn record(&mut self, pool: &str, share: Share, now: Timestamp) -> Result<()> {
        let turn = self.memory.pools.entry(pool.to_owned()).or_insert(Turn { next: 0, read: 0, last_full: None });
        turn.next = (share.from + share.percent) % 100;
        turn.read += share.percent;
        if turn.read >= 100 {
            turn.read = 0;
            turn.last_full = Some(rfc3339(now));
        }
        match &self.path {
            Some(path) => write(path, &self.memory).map_err(|error| fault("writing", path, error)),
            None => Ok(()),
        }
    }
}

/// Writes beside the file and renames. The folder is readable by its owner only: it names volumes.
fn write(path: &Path, memory: &Memory) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut file, memory)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn fault(doing: &str, path: &Path, error: io::Error) -> Error {
    let kind = if error.kind() == io::ErrorKind::PermissionDenied { Kind::Denied } else { Kind::Failed };
    Error::new(kind, format!("{doing} {}", path.display())).object(path.to_string_lossy()).source(error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T18:38:57Z".parse().unwrap()
    }

    /// Blocks read in `runs` runs, each opened anew, and the size of the largest run.
    fn read(percent: u8, runs: usize, blocks: &[Checksum]) -> (usize, usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/coverage.json");
        let mut seen = std::collections::BTreeSet::<&Checksum>::new();
        let mut largest = 0;
        for _ in 0..runs {
            let mut coverage = Coverage::open(&path, "file:///store/").unwrap();
            let share = coverage.share("pvc-1", percent);
            let read: Vec<_> = blocks.iter().filter(|block| share.holds(block)).collect();
            largest = largest.max(read.len());
            seen.extend(read);
            coverage.record("pvc-1", share, now()).unwrap();
        }
        (seen.len(), largest)
    }

    #[test]
    fn as_many_runs_as_it_takes_read_everything_and_one_fewer_does_not() {
        let blocks: Vec<_> = (0..5000u32).map(|number| Checksum::of(&number.to_le_bytes())).collect();
        for (percent, runs) in [(1, 100), (7, 15), (10, 10), (30, 4), (33, 4), (50, 2), (99, 2), (100, 1)] {
            let (seen, largest) = read(percent, runs, &blocks);
            assert_eq!(seen, blocks.len(), "{percent} %");
            let expected = blocks.len() * usize::from(percent) / 100;
            assert!(largest.abs_diff(expected) < 250, "{percent} %: {largest} of {expected}");
            assert!(read(percent, runs - 1, &blocks).0 < blocks.len(), "{percent} %");
        }
    }

    #[test]
    fn each_pool_has_its_own_turn_and_the_end_of_one_is_remembered() {
        let mut coverage = Coverage::forgetful();
        for _ in 0..2 {
            let share = coverage.share("pvc-1", 60);
            coverage.record("pvc-1", share, now()).unwrap();
        }
        assert_eq!(coverage.share("pvc-1", 10), Share { from: 20, percent: 10 });
        assert_eq!(coverage.share("pvc-2", 10), Share { from: 0, percent: 10 });
        let end = Some("2026-11-22T18:38:57Z".to_owned());
        assert_eq!(coverage.covered("pvc-1"), Covered { percent: 0, last_full_turn: end });
        assert_eq!(coverage.covered("pvc-2"), Covered { percent: 0, last_full_turn: None });
    }

    #[test]
    fn a_file_that_is_not_its_memory_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coverage.json");
        let bad = [
            "",
            "{",
            r#"{"store":"file:///other/","pools":{}}"#,
            r#"{"store":"file:///store/","pools":{"p":{"next":100,"read":0}}}"#,
            r#"{"store":"file:///store/","pools":{"p":{"next":0,"read":255}}}"#,
        ];
        for text in bad {
            fs::write(&path, text).unwrap();
            let error = Coverage::open(&path, "file:///store/").unwrap_err();
            assert_eq!((error.kind(), fs::read_to_string(&path).unwrap().as_str()), (Kind::Invalid, text));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("coverage.json");
            fs::write(&path, text).unwrap();
            let _ = Coverage::open(&path, "file:///store/");
        }
    }
}
