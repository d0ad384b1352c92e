//! One operation in a process of its own, and what it cost.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use bytes::Bytes;
use lhrun::{
    backupstore::{
        BackupRef, Catalog, Compression,
        block::Checksum,
        layout::VolumeKeys,
        lock, restore,
        verify::{self, Level, Selection, Verdict, VerifyOptions},
        write::{self, BackupRequest},
    },
    objectstore::{Store, StoreConfig},
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use serde::{Deserialize, Serialize};

use crate::{BACKUP, BUCKET, VOLUME, bare};

/// What an operation took; the names are those of `longhorn-backup`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// From its beginning to its end.
    pub seconds: f64,
    /// Without the wait for a lock.
    pub data_seconds: f64,
    /// CPU seconds in the program.
    pub user_seconds: f64,
    /// CPU seconds in the kernel.
    pub system_seconds: f64,
    /// The most memory it held at once.
    pub peak_bytes: u64,
    /// Mapped bytes of the backup, of `keys` alone.
    #[serde(default)]
    pub bytes: u64,
    /// Stored bytes of it, of `keys` alone.
    #[serde(default)]
    pub stored: u64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, system) = (self.user_seconds, self.system_seconds);
        write!(f, "{:.1} s, of it {:.1} s data, {user:.1} + {system:.1} CPU s", self.seconds, self.data_seconds)?;
        write!(f, ", peak {} MiB", self.peak_bytes >> 20)
    }
}

/// How many processors there are.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs the operation and prints its cost.
pub fn main(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let mut cost = Cost::default();
    match words[..] {
        ["sha512", image, bytes] => cost.data_seconds = bare::sha512(image, bytes.parse().expect("a number of bytes")),
        ["write", image, bytes, target] => {
            cost.data_seconds = bare::write(image, bytes.parse().expect("a number of bytes"), target);
        }
        ["get", keys] => bare::get(keys),
        ["bare", keys, block] => bare::work(keys, block.parse().expect("a size"), None),
        ["bare", keys, block, target, size] => {
            let target = (target, size.parse().expect("a size"));
            bare::work(keys, block.parse().expect("a size"), Some(target));
        }
        _ => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
            if let Err(error) = runtime.block_on(ours(&words, &mut cost)) {
                eprintln!("{words:?}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    cost.seconds = begun.elapsed().as_secs_f64();
    if cost.data_seconds == 0.0 {
        cost.data_seconds = cost.seconds;
    }
    let used = getrusage(UsageWho::RUSAGE_SELF).expect("what this process used");
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    (cost.user_seconds, cost.system_seconds) = (seconds(used.user_time()), seconds(used.system_time()));
    cost.peak_bytes = peak();
    println!("{}", serde_json::to_string(&cost).expect("JSON"));
    ExitCode::SUCCESS
}

/// Not the peak of `getrusage`, which counts what the parent held before it started this program.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak of its memory");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") << 10
}

async fn ours(words: &[&str], cost: &mut Cost) -> lhrun::Result<()> {
    let store = Store::connect(&StoreConfig::from_env(BUCKET, "")?)?;
    let backup = BackupRef::new(VOLUME, BACKUP)?;
    let options = restore::RestoreOptions::default();
    match *words {
        ["ready"] => ready(&store).await?,
        ["restore", target] => drop(restore::to_file(&store, &backup, target, options).await?),
        ["restore-locked", target] => {
            let options = restore::RestoreOptions { lock: Some(lock::SETTLE), ..options };
            let begun = Instant::now();
            restore::to_file(&store, &backup, target, options).await?;
            cost.data_seconds = (begun.elapsed().saturating_sub(lock::SETTLE)).as_secs_f64();
        }
        ["verify"] => {
            let volume = Selection { volumes: vec![VOLUME.into()], backups: Vec::new() };
            let report = verify::store(&store, &volume, VerifyOptions::new(Level::Deep)).await?;
            assert!(
                report.verdict == Verdict::Whole && report.totals.blocks_read > 0,
                "{:?} {:?}",
                report.verdict,
                report.totals
            );
        }
        ["backup", image, block_mib, compression] => {
            let size = fs::metadata(image).expect("the image").len();
            let compression: Compression = compression.parse()?;
            let block_size = block_mib.parse::<u64>().expect("MiB of a block") << 20;
            let request = BackupRequest { compression, block_size, ..BackupRequest::new(backup, "snap-1", size) };
            write::backup_file(&store, image, request).await?;
        }
        ["keys", file] => keys(&store, &backup, file, cost).await?,
        _ => panic!("{words:?} is no operation"),
    }
    Ok(())
}

/// Waits until an object can be written, which makes the bucket, too.
async fn ready(store: &Store) -> lhrun::Result<()> {
    for _ in 0..60 {
        if store.put("ready", Bytes::new()).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    store.put("ready", Bytes::new()).await
}

/// Writes a line for each stored block: its key, checksum and offsets, in the order of the volume.
async fn keys(store: &Store, of: &BackupRef, file: &str, cost: &mut Cost) -> lhrun::Result<()> {
    let config = Catalog::new(store.clone()).backup(&of.volume, &of.backup).await?;
    let pool = VolumeKeys::new(&of.volume)?.blocks();
    let mut places: BTreeMap<Checksum, Vec<u64>> = BTreeMap::new();
    for block in config.blocks.as_slice() {
        places.entry(block.checksum).or_default().push(block.offset);
    }
    let mut lines: Vec<_> = places.into_iter().collect();
    lines.sort_by_key(|(_, offsets)| offsets[0]);
    let text = lines.iter().fold(String::new(), |mut text, (checksum, offsets)| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{} {checksum}", pool.key(checksum));
        for offset in offsets {
            let _ = write!(text, " {offset}");
        }
        text + "\n"
    });
    fs::write(file, text).expect("the list of keys");
    cost.bytes = config.blocks.len() as u64 * config.block_size();
    cost.stored = store.list(pool.prefix()).await?.iter().map(|object| object.size).sum();
    Ok(())
}
