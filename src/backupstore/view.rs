//! Backups, system backups, backing images and locks in the form that tables, programs and scripts show them.

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Compression,
    catalog::{BackingImageEntry, BackupState, BackupSummary, SystemBackupEntry},
    claim::{KUBERNETES_STATUS, KubernetesStatus},
    config::{BackingImageConfig, Labels, LockType},
    lock::FoundLock,
    rfc3339,
};

/// A backup.
#[derive(Clone, Debug, Serialize)]
pub struct BackupView {
    /// Its volume.
    pub volume: String,
    /// Its name.
    pub backup: String,
    /// `complete`, `in-progress`, `crashed` or `damaged`. It says nothing of blocks.
    pub state: &'static str,
    /// What is wrong with its configuration.
    pub error: Option<String>,
    /// When it was begun, which is the time of its data, RFC 3339.
    pub begun: Option<String>,
    /// When it was completed, RFC 3339.
    pub completed: Option<String>,
    /// The snapshot it was made from.
    pub snapshot: Option<String>,
    /// Bytes of the volume that its blocks cover.
    pub size: u64,
    /// Blocks listed.
    pub blocks: usize,
    /// Bytes of each.
    pub block_size: u64,
    /// Packed bytes it added to the store.
    pub new_bytes: u64,
    /// Packed bytes it wrote over blocks that were there.
    pub rewritten_bytes: u64,
    /// How new blocks were packed: `none`, `lz4`, `gzip`.
    pub compression: String,
    /// `full` or `incremental`.
    pub mode: &'static str,
    /// The recurring job that made it.
    pub recurring_job: Option<String>,
    /// `namespace/name` of the claim it was of.
    pub claim: Option<String>,
    /// Who used the volume.
    pub kubernetes: Option<KubernetesStatus>,
    /// The other labels.
    pub labels: Labels,
}

/// A system backup.
#[derive(Clone, Debug, Serialize)]
pub struct SystemBackupView {
    /// Its name.
    pub name: String,
    /// The version of Longhorn that made it.
    pub version: String,
    /// When, RFC 3339.
    pub created: Option<String>,
    /// SHA-256 of its archive, as it must be.
    pub checksum: Option<String>,
    /// `ok`, or `damaged` when its configuration cannot be used. It says nothing of the archive.
    pub state: &'static str,
    /// What is wrong.
    pub error: Option<String>,
}

/// A backing image.
#[derive(Clone, Debug, Serialize)]
pub struct BackingImageView {
    /// Its name.
    pub name: String,
    /// Bytes of its file.
    pub size: Option<u64>,
    /// Blocks listed.
    pub blocks: usize,
    /// How they were packed.
    pub compression: Option<String>,
    /// When its backup was begun, RFC 3339.
    pub created: Option<String>,
    /// When it was completed, RFC 3339.
    pub completed: Option<String>,
    /// SHA-512 of its file.
    pub checksum: Option<String>,
    /// `complete`, `unfinished` or `damaged`.
    pub state: &'static str,
    /// What is wrong.
    pub error: Option<String>,
    /// Its labels.
    pub labels: Labels,
}

/// A lock on a volume.
#[derive(Clone, Debug, Serialize)]
pub struct LockView {
    /// The volume; `None` for the lock all backing images share.
    pub volume: Option<String>,
    /// The lock's name.
    pub lock: String,
    /// What it is for: `backup, restore or check`, `deletion`, `unknown`.
    pub purpose: &'static str,
    /// Whether it is held, or only asked for.
    pub held: bool,
    /// When its holder last said that it is still there, RFC 3339, by the store's clock.
    pub refreshed: String,
    /// Seconds since, by the same clock.
    pub age: i64,
    /// Whether nobody minds it any more.
    pub expired: bool,
    /// What cannot be begun meanwhile; nothing once it is expired.
    pub blocks: Option<&'static str>,
}

impl BackupView {
    /// What is known of that backup.
    pub fn of(summary: &BackupSummary) -> Self {
        let config = &summary.config;
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let error = match &summary.state {
            BackupState::Damaged(error) => Some(error.to_string()),
            _ => None,
        };
        Self {
            volume: summary.backup.volume.clone(),
            backup: summary.backup.backup.clone(),
            state: summary.state.as_str(),
            error,
            begun: some(&config.snapshot_created_at),
            completed: some(&config.created_time),
            snapshot: some(&config.snapshot_name),
            size: config.size,
            blocks: summary.blocks,
            block_size: config.block_size(),
            new_bytes: config.newly_uploaded_data_size,
            rewritten_bytes: config.re_uploaded_data_size,
            compression: packing(&config.compression_method),
            mode: if config.is_incremental { "incremental" } else { "full" },
            recurring_job: config.labels.get(RECURRING_JOB).cloned(),
            claim: claim(&config.labels),
            kubernetes: KubernetesStatus::from_labels(&config.labels),
            labels: others(config.labels.clone()),
        }
    }
}

impl SystemBackupView {
    /// What is known of that system backup.
    pub fn of(entry: SystemBackupEntry) -> Self {
        let (config, error) = entry.config.map_or_else(|error| (None, Some(error.to_string())), |c| (Some(c), None));
        let (created, checksum) = config.map(|config| (config.created_at, config.checksum)).unzip();
        let state = if error.is_some() { "damaged" } else { "ok" };
        Self { name: entry.name, version: entry.version, created, checksum, state, error }
    }
}

impl BackingImageView {
    /// What is known of that image.
    pub fn of(entry: BackingImageEntry) -> Self {
        let (config, error) = match entry.config {
            Ok(config) => (config, None),
            Err(error) => (BackingImageConfig::default(), Some(error.to_string())),
        };
        let there = error.is_none();
        let state = match (there, config.complete_time.is_empty()) {
            (false, _) => "damaged",
            (true, true) => "unfinished",
            (true, false) => "complete",
        };
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            name: entry.name,
            size: there.then_some(config.size),
            blocks: config.blocks.len(),
            compression: there.then(|| packing(&config.compression_method)),
            created: some(config.created_time),
            completed: some(config.complete_time),
            checksum: some(config.checksum),
            state,
            error,
            labels: config.labels,
        }
    }
}

impl LockView {
    /// What is known of that lock of a volume, as of `now` by the store's clock.
    pub fn of(volume: Option<String>, lock: &FoundLock, now: Timestamp) -> Self {
        let (purpose, blocks) = match lock.config.kind {
            LockType::Use => ("backup, restore or check", "deletions"),
            LockType::Delete => ("deletion", "backups, restores and checks"),
            LockType::Other(_) => ("unknown", "everything"),
        };
        let expired = lock.is_expired(now);
        Self {
            volume,
            lock: lock.config.name.clone(),
            purpose,
            held: lock.config.acquired,
            refreshed: rfc3339(lock.written),
            age: now.duration_since(lock.written).as_secs().max(0),
            expired,
            blocks: (!expired).then_some(blocks),
        }
    }
}

const RECURRING_JOB: &str = "RecurringJob";

/// The compression's name; the empty one of old stores means gzip, and what is unknown is shown as it is.
pub(super) fn packing(method: &str) -> String {
    method.parse::<Compression>().map_or_else(|_| method.to_owned(), |method| method.as_str().to_owned())
}

pub(super) fn claim(labels: &Labels) -> Option<String> {
    let status = KubernetesStatus::from_labels(labels)?;
    (!status.pvc_name.is_empty()).then(|| format!("{}/{}", status.namespace, status.pvc_name))
}

pub(super) fn others(mut labels: Labels) -> Labels {
    labels.remove(KUBERNETES_STATUS);
    labels
}
