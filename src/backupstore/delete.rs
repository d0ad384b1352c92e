//! Deleting backups and volumes, and the blocks nothing refers to any more.
//!
//! Order (`deltablock.go:DeleteDeltaBlockBackup`): the backup's configuration goes first, so that no backup ever refers to
//! a missing block; blocks go only when every remaining configuration was read and none is in progress.

use std::{collections::HashSet, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::{
    Catalog,
    block::Checksum,
    config::LockType,
    layout::{BackupRef, VolumeKeys},
    lock::{self, Lock},
};
use crate::{
    Error, Kind, Result,
    objectstore::{Depth, Store},
};

/// Requests in flight.
const REQUESTS: usize = 16;

/// What a deletion removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Blocks removed.
    pub blocks: usize,
    /// Their packed bytes.
    pub bytes: u64,
    /// Why unreferenced blocks were left where they are, if they were.
    pub kept: Option<String>,
}

/// Deletes one backup in whatever state it is, and the blocks only it used. The lock settles for `settle`
/// ([`super::lock::SETTLE`] wherever a real Longhorn may use the store).
///
/// # Errors
/// `not-found` without such a backup; `conflict` while the volume is backed up, restored or checked.
pub async fn backup(store: &Store, of: &BackupRef, settle: Duration) -> Result<Deleted> {
    let keys = VolumeKeys::new(&of.volume)?;
    let lock = Lock::acquire(store, &keys, LockType::Delete, settle).await?;
    let deleted = delete_backup(store, &keys, of).await;
    lock.release().await?;
    deleted.map_err(|error| error.context(format_args!("deleting {of}")))
}

async fn delete_backup(store: &Store, keys: &VolumeKeys, of: &BackupRef) -> Result<Deleted> {
    let key = keys.backup(&of.backup)?;
    if store.head(&key).await?.is_none() {
        return Err(Error::new(Kind::NotFound, "there is no such backup").object(key));
    }
    store.delete(&key).await?;
    let catalog = Catalog::new(store.clone());
    let remaining = catalog.backup_names(&of.volume).await?;
    move_last_backup(store, &catalog, keys, of).await?;
    let used = match used_blocks(&catalog, of, &remaining).await? {
        Ok(used) => used,
        Err(why) => return Ok(Deleted { kept: Some(why), ..Deleted::default() }),
    };
    let (unused, stored) = unused_blocks(store, keys, &used).await?;
    // A backup begun since would be of another program that ignores locks; its blocks are not known.
    if catalog.backup_names(&of.volume).await? != remaining {
        return Ok(Deleted { kept: Some("the volume's backups changed meanwhile".into()), ..Deleted::default() });
    }
    remove(store, unused.iter().map(|(key, _)| key.as_str())).await?;
    let left = (stored - unused.len()) as u64;
    update_volume(store, &catalog, keys, |volume| volume.block_count = left).await?;
    Ok(Deleted { blocks: unused.len(), bytes: unused.iter().map(|(_, size)| size).sum(), kept: None })
}

/// `volume.cfg` names the newest backup that remains.
async fn move_last_backup(store: &Store, catalog: &Catalog, keys: &VolumeKeys, deleted: &BackupRef) -> Result<()> {
    match catalog.volume(&deleted.volume).await {
        Ok(volume) if volume.last_backup_name != deleted.backup => return Ok(()),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged) => return Ok(()),
        Err(error) => return Err(error),
    }
    let newest = catalog
        .backups(&deleted.volume)
        .await?
        .into_iter()
        .rev()
        .find(|backup| matches!(backup.state, super::catalog::BackupState::Complete));
    let (name, at) = newest.map(|b| (b.backup.backup, b.config.snapshot_created_at)).unwrap_or_default();
    update_volume(store, catalog, keys, |volume| {
        volume.last_backup_name = name;
        volume.last_backup_at = at;
    })
    .await
}

/// The blocks the remaining backups refer to, or why that is not known for sure.
async fn used_blocks(
    catalog: &Catalog,
    of: &BackupRef,
    remaining: &[String],
) -> Result<Result<HashSet<Checksum>, String>> {
    let mut used = HashSet::new();
    for name in remaining {
        match catalog.backup(&of.volume, name).await {
            Ok(backup) if backup.is_incomplete() => {
                return Ok(Err(format!("backup {name} is in progress, or was left by a crash")));
            }
            Ok(backup) => used.extend(backup.blocks.as_slice().iter().map(|block| block.checksum)),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Invalid) => {
                return Ok(Err(format!("backup {name} cannot be read")));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Ok(used))
}

/// The stored blocks that are not used, with their packed sizes, and how many blocks are stored in all.
async fn unused_blocks(
    store: &Store,
    keys: &VolumeKeys,
    used: &HashSet<Checksum>,
) -> Result<(Vec<(String, u64)>, usize)> {
    let pool = keys.blocks();
    let mut pages = store.list_pages(pool.prefix(), Depth::All);
    let (mut unused, mut stored) = (Vec::new(), 0);
    while let Some(page) = pages.try_next().await? {
        for object in page.objects {
            let Some(checksum) = pool.checksum(&object.key) else { continue };
            stored += 1;
            if !used.contains(&checksum) {
                unused.push((object.key, object.size));
            }
        }
    }
    Ok((unused, stored))
}

/// Changes `volume.cfg`; one that is missing or damaged is left as it is.
async fn update_volume(
    store: &Store,
    catalog: &Catalog,
    keys: &VolumeKeys,
    change: impl FnOnce(&mut super::config::VolumeConfig),
) -> Result<()> {
    let name = keys.name();
    let mut volume = match catalog.volume(name).await {
        Ok(volume) => volume,
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged) => return Ok(()),
        Err(error) => return Err(error),
    };
    change(&mut volume);
    store.put(&keys.config(), volume.to_bytes()?.into()).await
}

async fn remove<'k>(store: &Store, keys: impl Iterator<Item = &'k str>) -> Result<()> {
    // Owned: what borrows them could not be awaited on another thread.
    let keys: Vec<String> = keys.map(str::to_owned).collect();
    let removals = stream::iter(keys).map(|key| async move { store.delete(&key).await });
    removals.buffer_unordered(REQUESTS).try_for_each(|()| async { Ok(()) }).await
}

/// Deletes a volume with all its backups: configurations first, then blocks, `volume.cfg`, and abandoned locks. Cut
/// short, it leaves a volume with fewer backups, never a backup without its blocks.
///
/// # Errors
/// `not-found` without such a volume; `conflict` while it is backed up, restored or checked.
pub async fn volume(store: &Store, volume: &str, settle: Duration) -> Result<Deleted> {
    let keys = VolumeKeys::new(volume)?;
    let found = store.list_names(keys.root()).await?;
    if found.0.is_empty() && found.1.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("there is no volume {volume} in the store")).object(keys.root()));
    }
    let lock = Lock::acquire(store, &keys, LockType::Delete, settle).await?;
    let deleted = delete_volume(store, &keys).await;
    lock.release().await?;
    deleted.map_err(|error| error.context(format_args!("deleting volume {volume}")))
}

async fn delete_volume(store: &Store, keys: &VolumeKeys) -> Result<Deleted> {
    let backups = store.list(&keys.backups()).await?;
    remove(store, backups.iter().map(|object| object.key.as_str())).await?;
    let (blocks, _) = unused_blocks(store, keys, &HashSet::new()).await?;
    remove(store, blocks.iter().map(|(key, _)| key.as_str())).await?;
    let now = Timestamp::now();
    for lock in lock::list(store, keys).await?.iter().filter(|lock| lock.is_expired(now)) {
        store.delete(&keys.lock(&lock.config.name)).await?;
    }
    let rest = store.list(keys.root()).await?;
    let locks = keys.locks();
    remove(store, rest.iter().map(|object| object.key.as_str()).filter(|key| !key.starts_with(&locks))).await?;
    Ok(Deleted { blocks: blocks.len(), bytes: blocks.iter().map(|(_, size)| size).sum(), kept: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backupstore::{
        Mode,
        config::BackupConfig,
        restore::{self, RestoreOptions},
        testing::{self, Scratch},
    };

    const VOLUME: &str = "pvc-legacy";
    const BACKUPS: [&str; 3] = ["backup-0000000000001401", "backup-0000000000001402", "backup-0000000000001403"];

    fn keys() -> VolumeKeys {
        VolumeKeys::new(VOLUME).unwrap()
    }

    async fn delete(scratch: &Scratch, name: &str) -> Result<Deleted> {
        backup(&scratch.store(), &BackupRef::new(VOLUME, name).unwrap(), Duration::ZERO).await
    }

    async fn blocks(scratch: &Scratch) -> usize {
        scratch.store().list(keys().blocks().prefix()).await.unwrap().len()
    }

    async fn restores(scratch: &Scratch, name: &str) {
        let options = RestoreOptions { overwrite: true, ..RestoreOptions::default() };
        let of = BackupRef::new(VOLUME, name).unwrap();
        restore::to_file(&scratch.store(), &of, scratch.path("image"), options).await.unwrap();
    }

    #[tokio::test]
    async fn a_deletion_takes_only_what_the_backup_alone_used() {
        let scratch = testing::copy_of_fixtures();
        // The first backup has one block no other has.
        let deleted = delete(&scratch, BACKUPS[0]).await.unwrap();
        assert_eq!(deleted, Deleted { blocks: 1, bytes: 67_563, kept: None });
        let catalog = Catalog::new(scratch.store());
        let volume = catalog.volume(VOLUME).await.unwrap();
        assert_eq!((volume.block_count, volume.last_backup_name.as_str()), (4, BACKUPS[2]));
        // Deleting the last moves the volume's last backup back.
        assert_eq!(delete(&scratch, BACKUPS[2]).await.unwrap().blocks, 1);
        let volume = catalog.volume(VOLUME).await.unwrap();
        assert_eq!(
            (volume.last_backup_name.as_str(), volume.last_backup_at.as_str()),
            (BACKUPS[1], "2026-11-22T18:38:48Z")
        );
        restores(&scratch, BACKUPS[1]).await;
        assert_eq!(delete(&scratch, BACKUPS[1]).await.unwrap().blocks, 3);
        let volume = catalog.volume(VOLUME).await.unwrap();
        assert_eq!((volume.last_backup_name.as_str(), volume.last_backup_at.as_str(), volume.block_count), ("", "", 0));
        assert_eq!(delete(&scratch, BACKUPS[1]).await.unwrap_err().kind(), Kind::NotFound);
    }

    #[tokio::test]
    async fn while_any_backup_is_unsure_no_block_goes() {
        let begun = BackupConfig::begin(&BackupRef::new(VOLUME, "b-begun").unwrap(), Mode::Full, 2 << 20);
        for (body, said) in [(begun.to_bytes().unwrap(), "in progress"), (b"{".to_vec(), "cannot be read")] {
            let scratch = testing::copy_of_fixtures();
            scratch.store().put(&keys().backup("b-begun").unwrap(), body.into()).await.unwrap();
            let deleted = delete(&scratch, BACKUPS[0]).await.unwrap();
            assert!(deleted.kept.unwrap().contains(said));
            assert_eq!((deleted.blocks, blocks(&scratch).await), (0, 5));
            // Deleting it frees what waited.
            assert_eq!(delete(&scratch, "b-begun").await.unwrap().blocks, 1);
            restores(&scratch, BACKUPS[1]).await;
        }
    }

    #[tokio::test]
    async fn nothing_is_deleted_while_somebody_uses_the_volume() {
        let scratch = testing::copy_of_fixtures();
        let lock = Lock::acquire(&scratch.store(), &keys(), LockType::Use, Duration::ZERO).await.unwrap();
        assert_eq!(delete(&scratch, BACKUPS[0]).await.unwrap_err().kind(), Kind::Conflict);
        assert_eq!(volume(&scratch.store(), VOLUME, Duration::ZERO).await.unwrap_err().kind(), Kind::Conflict);
        lock.release().await.unwrap();
        restores(&scratch, BACKUPS[0]).await;
    }

    #[tokio::test]
    async fn a_volume_goes_with_everything_of_it_and_nothing_else() {
        let scratch = testing::copy_of_fixtures();
        let store = scratch.store();
        let neighbour = VolumeKeys::new("pvc-empty").unwrap();
        let before = store.list("").await.unwrap().len();
        let own = store.list(keys().root()).await.unwrap().len();
        let deleted = volume(&store, VOLUME, Duration::ZERO).await.unwrap();
        assert_eq!((deleted.blocks, own), (5, 9));
        assert!(store.list(keys().root()).await.unwrap().is_empty());
        assert_eq!(store.list("").await.unwrap().len(), before - own);
        assert!(store.head(&neighbour.config()).await.unwrap().is_some());
        assert_eq!(volume(&store, VOLUME, Duration::ZERO).await.unwrap_err().kind(), Kind::NotFound);
    }
}
