use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::backupstore::{
    Mode,
    block::Checksum,
    config::{BackupConfig, Block, BlockMap, LockType, VolumeConfig},
    layout::BackupRef,
    testing::{self, Scratch},
};

const SIZE: u64 = 2 << 20;

/// A store with one volume whose backups list these blocks, each a letter; a block is as long as its place in the
/// alphabet and is in the store unless it is in upper case.
async fn store(backups: &[(&str, &str)]) -> Scratch {
    let place = testing::scratch();
    let (store, keys) = (place.store(), VolumeKeys::new("pvc-1").unwrap());
    let config = VolumeConfig { name: "pvc-1".into(), size: 26 * SIZE, ..VolumeConfig::default() };
    store.put(&keys.config(), config.to_bytes().unwrap().into()).await.unwrap();
    for (name, letters) in backups {
        let mut config = BackupConfig::begin(&BackupRef::new("pvc-1", *name).unwrap(), Mode::Full, SIZE);
        let block = |(place, letter): (usize, char)| Block { offset: place as u64 * SIZE, checksum: named(letter) };
        config.blocks = BlockMap::from_blocks(letters.chars().enumerate().map(block).collect());
        config.created_time = "2026-11-22T17:52:45Z".into();
        config.snapshot_created_at = "2026-11-22T17:52:45Z".into();
        store.put(&keys.backup(name).unwrap(), config.to_bytes().unwrap().into()).await.unwrap();
        for letter in letters.chars().filter(char::is_ascii_lowercase) {
            put_block(&store, &keys, letter).await;
        }
    }
    place
}

fn named(letter: char) -> Checksum {
    Checksum::of(letter.to_string().as_bytes())
}

async fn put_block(store: &Store, keys: &VolumeKeys, letter: char) {
    let length = usize::try_from(u32::from(letter) - u32::from('a') + 1).unwrap();
    store.put(&keys.blocks().key(&named(letter)), vec![0; length].into()).await.unwrap();
}

fn amount(blocks: u64, stored: u64) -> Amount {
    Amount { blocks, raw: blocks * SIZE, stored }
}

#[tokio::test]
async fn blocks_are_unique_shared_or_unreferenced() {
    // b is shared, and twice in the first; d is nobody's.
    let place = store(&[("b-1", "abb"), ("b-2", "bc")]).await;
    let keys = VolumeKeys::new("pvc-1").unwrap();
    put_block(&place.store(), &keys, 'd').await;
    place.store().put(&format!("{}aa/bb/half.blk.tmp.7", keys.blocks().prefix()), vec![0; 100].into()).await.unwrap();
    let usage = volume(&place.store(), "pvc-1").await.unwrap();
    let seen: BTreeMap<_, _> =
        usage.backups.iter().map(|b| (b.backup.as_str(), (b.all, b.unique, b.shared, b.frees))).collect();
    assert_eq!(seen["b-1"], (amount(2, 3), amount(1, 1), amount(1, 2), 1));
    assert_eq!(seen["b-2"], (amount(2, 5), amount(1, 3), amount(1, 2), 3));
    assert_eq!((usage.used, usage.shared), (amount(3, 6), amount(1, 2)));
    assert_eq!(usage.unreferenced, Objects { objects: 1, bytes: 4 });
    assert_eq!((usage.in_use, usage.blocked_by.len(), usage.noncurrent), (false, 0, Some(Noncurrent::default())));
    let files = place.store().list("").await.unwrap();
    assert_eq!(usage.bytes, files.iter().map(|file| file.size).sum::<u64>(), "every byte is counted once");

    let whole = super::store(&place.store(), |_, _, _| ()).await.unwrap();
    assert_eq!((whole.volumes.len(), whole.bytes, whole.used), (1, usage.bytes, usage.used));
}

#[tokio::test]
async fn what_deleting_frees_is_what_deleting_removes() {
    for name in ["b-1", "b-2", "b-3"] {
        let place = store(&[("b-1", "abe"), ("b-2", "bcd"), ("b-3", "cxyz")]).await;
        let usage = volume(&place.store(), "pvc-1").await.unwrap();
        let frees = usage.backups.iter().find(|backup| backup.backup == name).unwrap().frees;
        let blocks = VolumeKeys::new("pvc-1").unwrap().blocks().prefix().to_owned();
        let bytes = async || place.store().list(&blocks).await.unwrap().iter().map(|block| block.size).sum::<u64>();
        let before = bytes().await;
        let of = BackupRef::new("pvc-1", name).unwrap();
        crate::backupstore::delete::backup(&place.store(), &of, Duration::ZERO).await.unwrap();
        assert_eq!(before - bytes().await, frees, "{name}");
        assert!(frees > 0, "{name}");
    }
}

#[tokio::test]
async fn a_block_that_is_not_there_is_missed() {
    let place = store(&[("b-1", "aB"), ("b-2", "a")]).await;
    let usage = volume(&place.store(), "pvc-1").await.unwrap();
    let missing: Vec<_> = usage.backups.iter().map(|backup| backup.missing).collect();
    assert_eq!(missing, [1, 0]);
    assert_eq!(usage.used, amount(1, 1), "only what is there takes space");
}

#[tokio::test]
async fn an_unfinished_backup_makes_the_rest_uncertain_and_says_so() {
    let place = store(&[("b-1", "ab"), ("b-2", "b")]).await;
    let (store, keys) = (place.store(), VolumeKeys::new("pvc-1").unwrap());
    let begun = BackupConfig::begin(&BackupRef::new("pvc-1", "b-3").unwrap(), Mode::Full, SIZE);
    store.put(&keys.backup("b-3").unwrap(), begun.to_bytes().unwrap().into()).await.unwrap();
    put_block(&store, &keys, 'c').await;
    let lock = lock::Lock::acquire(&store, &keys, LockType::Use, Duration::ZERO).await.unwrap();
    let states = |usage: &PoolUsage| {
        let backups = usage.backups.iter().map(|b| format!("{} {} {}", b.backup, b.state, b.frees));
        (backups.collect::<Vec<_>>(), usage.blocked_by.clone(), usage.in_use)
    };
    let usage = volume(&store, "pvc-1").await.unwrap();
    let expected = ["b-3 in-progress 0", "b-1 complete 0", "b-2 complete 0"].map(String::from).to_vec();
    assert_eq!(states(&usage), (expected, vec!["b-3".to_owned()], true));
    assert_eq!(usage.unreferenced.objects, 1);
    lock.release().await.unwrap();
    let usage = volume(&store, "pvc-1").await.unwrap();
    assert_eq!((usage.backups[0].state, usage.in_use), ("crashed", false));
    store.put(&keys.backup("b-3").unwrap(), "{".into()).await.unwrap();
    let usage = volume(&store, "pvc-1").await.unwrap();
    assert_eq!((usage.backups[0].state, usage.blocked_by.as_slice()), ("damaged", ["b-3".to_owned()].as_slice()));
}

#[tokio::test]
async fn what_longhorn_wrote_is_counted_to_the_byte() {
    let place = testing::copy_of_fixtures();
    let usage = super::store(&place.store(), |_, _, _| ()).await.unwrap();
    let files = place.store().list("").await.unwrap();
    assert_eq!(usage.bytes, files.iter().map(|file| file.size).sum::<u64>());
    let blocks = files.iter().filter(|file| file.key.contains("/blocks/"));
    assert_eq!(usage.used.stored, blocks.map(|file| file.size).sum::<u64>());
    assert_eq!((usage.unreferenced, usage.system_backups.objects), (Objects::default(), 2));
    let names: Vec<_> = usage.volumes.iter().filter_map(|pool| pool.volume.as_deref()).collect();
    assert_eq!(names, ["pvc-backed", "pvc-empty", "pvc-legacy"]);
    // The image has 8 MiB, of which two blocks are stored.
    assert_eq!(usage.backing_images.backups[0].all.blocks, 2);
    assert_eq!(volume(&place.store(), "pvc-none").await.unwrap_err().kind(), Kind::NotFound);
}

#[cfg(feature = "sandbox")]
#[tokio::test]
async fn former_versions_are_counted_in_a_bucket_that_keeps_them() {
    let place = testing::scratch();
    let (server, to) = testing::bucket(&place).await;
    server.protect_bucket("backups", None).await.unwrap();
    crate::backupstore::copy::copy(&testing::fixtures(), &to, crate::backupstore::copy::CopyOptions::default())
        .await
        .unwrap();
    let usage = super::store(&to, |_, _, _| ()).await.unwrap();
    assert_eq!(usage.noncurrent, Some(Noncurrent::default()), "nothing was overwritten yet");
    let of = BackupRef::new("pvc-legacy", "backup-0000000000001401").unwrap();
    let keys = VolumeKeys::new("pvc-legacy").unwrap();
    let before = to.list(keys.root()).await.unwrap();
    crate::backupstore::delete::backup(&to, &of, Duration::ZERO).await.unwrap();
    let after: Vec<_> = to.list(keys.root()).await.unwrap().into_iter().map(|object| object.key).collect();
    let hidden: Vec<_> = before.iter().filter(|object| !after.contains(&object.key)).collect();
    assert!(hidden.len() > 1, "a configuration and blocks");
    let usage = volume(&to, "pvc-legacy").await.unwrap();
    let found = usage.noncurrent.unwrap();
    let config = before.iter().find(|object| object.key == keys.config()).unwrap();
    // What was hidden, volume.cfg as it was before, and the lock as it was written twice.
    let pages: Vec<_> = to.list_versions(&keys.locks()).try_collect::<Vec<_>>().await.unwrap().concat();
    let locks = Objects {
        objects: pages.iter().filter(|version| version.size.is_some()).count() as u64,
        bytes: pages.iter().filter_map(|version| version.size).sum(),
    };
    let hidden = Objects { objects: hidden.len() as u64, bytes: hidden.iter().map(|object| object.size).sum() };
    let former = hidden.plus(Objects { objects: 1, bytes: config.size }).plus(locks);
    assert_eq!((found.versions, found.delete_markers), (former, hidden.objects + 1));
    // Keys that may not ask do not learn it.
    server.faults().deny("ListObjectVersions", Some(""));
    assert_eq!(volume(&to, "pvc-legacy").await.unwrap().noncurrent, None);
}
