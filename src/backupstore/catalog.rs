//! What is in a store: volumes, backups, system backups, backing images, whole or not.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    config::{BackingImageConfig, BackupConfig, BlockMap, LockType, SystemBackupConfig, VolumeConfig},
    layout::{self, BACKING_IMAGE_LOCKS, BackupRef, MAX_BACKUP_CONFIG, MAX_CONFIG, VolumeKeys, is_name},
    lock,
};
use crate::{
    Error, Kind, Result,
    objectstore::{ObjectMeta, Store},
};

/// Requests in flight while listing.
pub(super) const REQUESTS: usize = 16;
/// Backup configurations held in memory at once, in KiB; a single larger one is read alone.
const HELD_KIB: usize = 64 << 10;

/// A volume's folder in the store.
#[derive(Clone, Debug)]
pub struct VolumeEntry {
    /// The volume's name.
    pub name: String,
    /// Its `volume.cfg`; `not-found` when there is only a folder, as a crash leaves it, `damaged` when it is unreadable.
    pub config: Result<VolumeConfig>,
}

/// How far a backup has come.
#[derive(Clone, Debug)]
pub enum BackupState {
    /// All its blocks were uploaded.
    Complete,
    /// It is being made: somebody holds a lock for it.
    InProgress,
    /// It was begun, and nobody works on it any more.
    Crashed,
    /// Its configuration cannot be read.
    Damaged(Error),
}

impl BackupState {
    /// In one word: `complete`, `in-progress`, `crashed`, `damaged`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::InProgress => "in-progress",
            Self::Crashed => "crashed",
            Self::Damaged(_) => "damaged",
        }
    }
}

/// A backup without its block list.
#[derive(Clone, Debug)]
pub struct BackupSummary {
    /// Volume and name.
    pub backup: BackupRef,
    /// How far it has come.
    pub state: BackupState,
    /// Its configuration with the block list left out; empty when damaged.
    pub config: BackupConfig,
    /// How many blocks it lists.
    pub blocks: usize,
}

impl BackupSummary {
    /// When the backup was begun, which is the time of its data.
    pub fn begun(&self) -> Option<Timestamp> {
        self.config.snapshot_created_at.parse().ok()
    }
}

/// A system backup in the store.
#[derive(Clone, Debug)]
pub struct SystemBackupEntry {
    /// The version of Longhorn that made it.
    pub version: String,
    /// Its name.
    pub name: String,
    /// Its configuration; `not-found` or `damaged` when it cannot be used.
    pub config: Result<SystemBackupConfig>,
}

/// A backing image in the store.
#[derive(Clone, Debug)]
pub struct BackingImageEntry {
    /// The image's name.
    pub name: String,
    /// Its configuration; `not-found` or `damaged` when it cannot be used.
    pub config: Result<BackingImageConfig>,
}

/// Reads what a store holds. One bad object never hides the others. Cheap to clone; clones share a bound on memory.
#[derive(Clone, Debug)]
pub struct Catalog {
    store: Store,
    memory: Arc<Semaphore>,
}

/// A backup with its block list, and the leave to hold it in memory.
pub(super) struct Loaded {
    pub summary: BackupSummary,
    pub blocks: BlockMap,
    _held: OwnedSemaphorePermit,
}

impl Catalog {
    /// The catalog of that store.
    pub fn new(store: Store) -> Self {
        Self { store, memory: Arc::new(Semaphore::new(HELD_KIB)) }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The names of all volumes, sorted. A name may belong to a mere folder; see [`Catalog::volumes`].
    pub async fn volume_names(&self) -> Result<Vec<String>> {
        let mut folders = vec![layout::VOLUMES.to_owned()];
        for _ in 0..3 {
            folders = stream::iter(folders)
                .map(|folder| async move { Ok::<_, Error>(self.store.list_names(&folder).await?.1) })
                .buffered(REQUESTS)
                .try_concat()
                .await?;
        }
        let mut names: Vec<String> = folders
            .iter()
            .filter_map(|folder| {
                let name = folder.trim_end_matches('/').rsplit('/').next()?;
                // In any other folder than its own, Longhorn does not find it either.
                let placed = name != BACKING_IMAGE_LOCKS && VolumeKeys::new(name).ok()?.root() == folder;
                placed.then(|| name.to_owned())
            })
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// All volumes, by name.
    pub async fn volumes(&self) -> Result<Vec<VolumeEntry>> {
        stream::iter(self.volume_names().await?)
            .map(|name| async move { Ok(VolumeEntry { config: known(self.volume(&name).await)?, name }) })
            .buffered(REQUESTS)
            .try_collect()
            .await
    }

    /// One volume.
    ///
    /// # Errors
    /// `not-found` without `volume.cfg`, `damaged` when it is unreadable.
    pub async fn volume(&self, name: &str) -> Result<VolumeConfig> {
        let key = VolumeKeys::new(name)?.config();
        VolumeConfig::parse(name, &self.store.get_limited(&key, MAX_CONFIG).await?)
    }

    /// The names of a volume's backups, sorted, in whatever state they are.
    pub async fn backup_names(&self, volume: &str) -> Result<Vec<String>> {
        let found = self.backup_objects(volume).await?;
        Ok(found.into_iter().map(|(backup, _)| backup.backup).collect())
    }

    /// A volume's backups with what the listing says of their configurations, sorted, in whatever state they are.
    pub(super) async fn backup_objects(&self, volume: &str) -> Result<Vec<(BackupRef, ObjectMeta)>> {
        let keys = VolumeKeys::new(volume)?;
        let objects = self.store.list(&keys.backups()).await?;
        let backup = |object: ObjectMeta| {
            let backup = BackupRef::new(volume, keys.backup_name(&object.key)?).ok()?;
            Some((backup, object))
        };
        Ok(objects.into_iter().filter_map(backup).collect())
    }

    /// All backups of a volume, oldest first, those whose time is unknown before them.
    pub async fn backups(&self, volume: &str) -> Result<Vec<BackupSummary>> {
        self.summaries(volume, self.backup_objects(volume).await?).await
    }

    /// Some backups of a volume, in the same order.
    pub(super) async fn summaries(
        &self,
        volume: &str,
        objects: Vec<(BackupRef, ObjectMeta)>,
    ) -> Result<Vec<BackupSummary>> {
        let mut backups: Vec<BackupSummary> = stream::iter(objects)
            .map(|(backup, object)| self.load(backup, object.size))
            .buffered(REQUESTS)
            .try_filter_map(|found| async { Ok(found.map(|loaded| loaded.summary)) })
            .try_collect()
            .await?;
        self.tell_crashed(volume, &mut backups).await?;
        backups.sort_by_cached_key(|backup| (backup.begun(), backup.backup.backup.clone()));
        Ok(backups)
    }

    /// One backup without its block list; nothing when there is none.
    pub async fn one(&self, backup: &BackupRef) -> Result<Option<BackupSummary>> {
        let key = VolumeKeys::new(&backup.volume)?.backup(&backup.backup)?;
        let Some(object) = self.store.head(&key).await? else { return Ok(None) };
        Ok(self.summaries(&backup.volume, vec![(backup.clone(), object)]).await?.pop())
    }

    /// One backup with its block list, whatever its state; see [`BackupConfig::is_incomplete`].
    ///
    /// # Errors
    /// `not-found` when there is none, `damaged` when it is unreadable.
    pub async fn backup(&self, volume: &str, name: &str) -> Result<BackupConfig> {
        let backup = BackupRef::new(volume, name)?;
        let key = VolumeKeys::new(volume)?.backup(name)?;
        let body = self.store.get_limited(&key, MAX_BACKUP_CONFIG).await?;
        // Reading tens of megabytes of JSON is work for another thread.
        super::blocking(move || BackupConfig::parse(&backup, &body)).await
    }

    /// A backup whose configuration has that many bytes; nothing when it was deleted meanwhile.
    pub(super) async fn load(&self, backup: BackupRef, size: u64) -> Result<Option<Loaded>> {
        let kib = usize::try_from(size / 1024 + 1).unwrap_or(HELD_KIB).min(HELD_KIB);
        let leave = self.memory.clone().acquire_many_owned(u32::try_from(kib).unwrap_or(u32::MAX)).await;
        let held = leave.map_err(|error| Error::new(Kind::Failed, "reading was given up").source(error))?;
        let (state, mut config) = match known(self.backup(&backup.volume, &backup.backup).await)? {
            Ok(config) if config.is_incomplete() => (BackupState::InProgress, config),
            Ok(config) => (BackupState::Complete, config),
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => (BackupState::Damaged(error), BackupConfig::default()),
        };
        let blocks = std::mem::take(&mut config.blocks);
        let summary = BackupSummary { backup, state, config, blocks: blocks.len() };
        Ok(Some(Loaded { summary, blocks, _held: held }))
    }

    /// An incomplete backup is in progress only while somebody holds a lock; without one it may just have been finished.
    pub(super) async fn tell_crashed(&self, volume: &str, backups: &mut [BackupSummary]) -> Result<()> {
        if !backups.iter().any(|backup| matches!(backup.state, BackupState::InProgress)) {
            return Ok(());
        }
        let locks = lock::list(&self.store, &VolumeKeys::new(volume)?).await?;
        let now = self.store.now().await?;
        if locks.iter().any(|lock| lock.config.kind == LockType::Use && !lock.is_expired(now)) {
            return Ok(());
        }
        for backup in backups.iter_mut().filter(|backup| matches!(backup.state, BackupState::InProgress)) {
            if let Some(again) = self.load(backup.backup.clone(), 0).await? {
                *backup = again.summary;
            }
            if matches!(backup.state, BackupState::InProgress) {
                backup.state = BackupState::Crashed;
            }
        }
        Ok(())
    }

    /// All system backups, by version and name.
    pub async fn system_backups(&self) -> Result<Vec<SystemBackupEntry>> {
        let mut entries = Vec::new();
        for version in self.names_below(layout::SYSTEM_BACKUPS).await? {
            for name in self.names_below(&format!("{}{version}/", layout::SYSTEM_BACKUPS)).await? {
                let config = known(self.system_backup(&version, &name).await)?;
                entries.push(SystemBackupEntry { version: version.clone(), name, config });
            }
        }
        Ok(entries)
    }

    /// The configuration of one system backup; [`super::system::read`] also reads what it holds.
    pub async fn system_backup(&self, version: &str, name: &str) -> Result<SystemBackupConfig> {
        let key = layout::system_backup(version, name)? + "system-backup.cfg";
        SystemBackupConfig::parse(version, name, &self.store.get_limited(&key, MAX_CONFIG).await?)
    }

    /// All backing images, by name.
    pub async fn backing_images(&self) -> Result<Vec<BackingImageEntry>> {
        stream::iter(self.backing_image_names().await?)
            .map(|name| async move { Ok(BackingImageEntry { config: known(self.backing_image(&name).await)?, name }) })
            .buffered(REQUESTS)
            .try_collect()
            .await
    }

    /// The names of all backing images, sorted.
    pub(super) async fn backing_image_names(&self) -> Result<Vec<String>> {
        self.names_below(layout::BACKING_IMAGES).await
    }

    /// One backing image with its block list.
    pub async fn backing_image(&self, name: &str) -> Result<BackingImageConfig> {
        let key = layout::backing_image_config(name)?;
        BackingImageConfig::parse(name, &self.store.get_limited(&key, MAX_BACKUP_CONFIG).await?)
    }

    /// The names of the folders in a folder; what is not a name Longhorn accepts is not one.
    async fn names_below(&self, prefix: &str) -> Result<Vec<String>> {
        let (_, folders) = self.store.list_names(prefix).await?;
        let name = |folder: &String| folder.strip_prefix(prefix)?.strip_suffix('/').map(str::to_owned);
        Ok(folders.iter().filter_map(name).filter(|name| is_name(name)).collect())
    }
}

/// Tells what is known of an object (it is missing, damaged, too large) from a failure to look at it.
pub(super) fn known<T>(found: Result<T>) -> Result<Result<T>> {
    match found {
        Err(error) if !matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Invalid) => Err(error),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backupstore::{Mode, claim::KubernetesStatus, testing};

    #[tokio::test]
    async fn the_volumes_and_backups_longhorn_wrote_are_listed() {
        let catalog = Catalog::new(testing::fixtures());
        let volumes = catalog.volumes().await.unwrap();
        let names: Vec<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(names, ["pvc-backed", "pvc-empty", "pvc-legacy"]);
        assert!(volumes.iter().all(|volume| volume.config.is_ok()));

        let backups = catalog.backups("pvc-legacy").await.unwrap();
        let seen: Vec<_> = backups.iter().map(|b| (b.backup.backup.as_str(), b.state.as_str(), b.blocks)).collect();
        let expected = [("backup-0000000000001401", "complete", 3), ("backup-0000000000001402", "complete", 3)];
        assert_eq!(seen[..2], expected);
        assert_eq!(seen[2], ("backup-0000000000001403", "complete", 4));
        assert_eq!(backups[2].begun().unwrap().to_string(), "2026-11-22T18:38:57Z");

        let labels = &catalog.backups("pvc-empty").await.unwrap()[0].config.labels;
        assert_eq!(KubernetesStatus::from_labels(labels).unwrap().pvc_name, "data-postgres-0");
        let system = catalog.system_backups().await.unwrap();
        assert_eq!((system[0].version.as_str(), system[0].name.as_str()), ("v1.10.1", "weekly-1"));
        assert_eq!(system[0].config.as_ref().unwrap().longhorn_git_commit, "deadbeef");
        assert_eq!(catalog.backing_images().await.unwrap()[0].config.as_ref().unwrap().size, 8 << 20);
    }

    #[tokio::test]
    async fn what_is_no_volume_is_flagged_or_left_out() {
        let place = testing::scratch();
        let store = place.store();
        for key in [
            VolumeKeys::backing_image_locks().lock("lock-1"),
            VolumeKeys::new("pvc-no-config").unwrap().backup("b-1").unwrap(),
            "backupstore/volumes/00/00/pvc-misplaced/volume.cfg".into(),
            "backupstore/volumes/00/00/.hidden/volume.cfg".into(),
            "backupstore/volumes/readme.txt".into(),
        ] {
            store.put(&key, "{}".into()).await.unwrap();
        }
        store.put(&VolumeKeys::new("pvc-bad").unwrap().config(), "{".into()).await.unwrap();
        let catalog = Catalog::new(store.clone());
        let volumes = catalog.volumes().await.unwrap();
        let seen: Vec<_> = volumes.iter().map(|v| (v.name.as_str(), v.config.as_ref().unwrap_err().kind())).collect();
        assert_eq!(seen, [("pvc-bad", Kind::Damaged), ("pvc-no-config", Kind::NotFound)]);
        assert_eq!(catalog.volume("pvc-none").await.unwrap_err().kind(), Kind::NotFound);
        assert!(catalog.backups("pvc-none").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn damaged_and_unfinished_backups_do_not_hide_the_others() {
        let place = testing::copy_of_fixtures();
        let (store, keys) = (place.store(), VolumeKeys::new("pvc-legacy").unwrap());
        let begun = BackupConfig::begin(&BackupRef::new("pvc-legacy", "b-begun").unwrap(), Mode::Full, 2 << 20);
        store.put(&keys.backup("b-begun").unwrap(), begun.to_bytes().unwrap().into()).await.unwrap();
        store.put(&keys.backup("b-cut").unwrap(), r#"{"Name":"b-c"#.into()).await.unwrap();
        let catalog = Catalog::new(store.clone());
        let states = async || {
            let backups = catalog.backups("pvc-legacy").await.unwrap();
            backups.iter().map(|b| format!("{} {}", b.backup.backup, b.state.as_str())).collect::<Vec<_>>()
        };
        let found = states().await;
        assert_eq!(found[..2], ["b-begun crashed", "b-cut damaged"]);
        assert_eq!(found.len(), 5);
        let lock = lock::Lock::acquire(&store, &keys, LockType::Use, std::time::Duration::ZERO).await.unwrap();
        assert_eq!(states().await[0], "b-begun in-progress");
        lock.release().await.unwrap();
    }
}
