use std::time::Duration;

use super::*;
use crate::backupstore::{
    Mode,
    config::{BackupConfig, Block, BlockMap, LockType},
    layout::BackupRef,
    testing,
    view::BackupView,
};

#[tokio::test]
async fn what_longhorn_wrote_is_shown() {
    let catalog = Catalog::new(testing::fixtures());
    let volumes = catalog.overview().await.unwrap();
    let seen: Vec<_> =
        volumes.iter().map(|v| (v.volume.as_str(), v.backup_count, v.latest.as_deref(), v.state)).collect();
    assert_eq!(
        seen,
        [
            ("pvc-backed", 1, Some("backup-00000000000000b1"), "ok"),
            ("pvc-empty", 1, Some("backup-00000000000000f0"), "ok"),
            ("pvc-legacy", 3, Some("backup-0000000000001403"), "ok"),
        ]
    );
    assert_eq!(volumes[1].claim.as_deref(), Some("prod/data-postgres-0"));
    let detail = catalog.detail("pvc-backed").await.unwrap();
    assert_eq!((detail.backing_image.as_deref(), detail.compression.as_deref()), (Some("base8"), Some("lz4")));
    assert_eq!(catalog.detail("pvc-none").await.unwrap_err().kind(), Kind::NotFound);
    let legacy = catalog.backups("pvc-legacy").await.unwrap();
    let views: Vec<BackupView> = legacy.iter().map(BackupView::of).collect();
    let seen: Vec<_> = views.iter().map(|v| (v.compression.as_str(), v.mode, v.block_size, v.size)).collect();
    assert_eq!(seen[0], ("gzip", "full", 2 << 20, 6 << 20));
}

#[tokio::test]
async fn unfinished_and_damaged_backups_show_without_reading_the_large_ones() {
    let place = testing::copy_of_fixtures();
    let (store, keys) = (place.store(), VolumeKeys::new("pvc-legacy").unwrap());
    let catalog = Catalog::new(store.clone());
    let state = async || {
        let volumes = catalog.overview().await.unwrap();
        (volumes[2].state, volumes[2].unfinished.clone(), volumes[2].backup_count)
    };
    let of = BackupRef::new("pvc-legacy", "b-begun").unwrap();
    let begun = BackupConfig::begin(&of, Mode::Full, 2 << 20).to_bytes().unwrap();
    store.put(&keys.backup("b-begun").unwrap(), begun.into()).await.unwrap();
    assert_eq!(state().await, ("crashed", vec!["b-begun".to_owned()], 4));
    let lock = lock::Lock::acquire(&store, &keys, LockType::Use, Duration::ZERO).await.unwrap();
    assert_eq!(state().await.0, "in-progress");
    lock.release().await.unwrap();
    store.put(&keys.backup("b-cut").unwrap(), r#"{"Name":"b-c"#.into()).await.unwrap();
    assert_eq!(state().await.0, "damaged");
    for name in ["b-begun", "b-cut"] {
        store.delete(&keys.backup(name).unwrap()).await.unwrap();
    }
    // Garbage as large as the block list of a complete backup is not looked at here.
    store.put(&keys.backup("b-large").unwrap(), vec![b'x'; 4096].into()).await.unwrap();
    assert_eq!(state().await.0, "ok");
}

#[tokio::test]
async fn a_latest_backup_that_is_gone_is_not_shown_as_the_latest() {
    let place = testing::copy_of_fixtures();
    let (store, keys) = (place.store(), VolumeKeys::new("pvc-legacy").unwrap());
    store.delete(&keys.backup("backup-0000000000001403").unwrap()).await.unwrap();
    let volumes = Catalog::new(store.clone()).overview().await.unwrap();
    assert_eq!(volumes[2].latest.as_deref(), Some("backup-0000000000001402"));
    store.delete(&keys.config()).await.unwrap();
    let volumes = Catalog::new(store.clone()).overview().await.unwrap();
    assert_eq!((volumes[2].state, volumes[2].latest.as_deref()), ("no-volume-cfg", Some("backup-0000000000001402")));
}

#[tokio::test]
async fn an_unfinished_configuration_is_small_and_a_complete_one_large() {
    let of = BackupRef::new("pvc-0b3a7c1e-5a1f-4b57-9c53-2f7d1a9f6c11", "backup-0123456789abcdef").unwrap();
    let mut config = BackupConfig::begin(&of, Mode::Full, 2 << 20);
    assert!((config.to_bytes().unwrap().len() as u64) < SMALL / 2);
    let checksum = crate::backupstore::block::Checksum::of(b"");
    config.blocks = BlockMap::from_blocks((0..20).map(|n| Block { offset: n << 21, checksum }).collect());
    assert!(config.to_bytes().unwrap().len() as u64 > SMALL);
}

#[tokio::test]
async fn locks_are_told_with_their_age_and_what_they_keep_waiting() {
    let place = testing::copy_of_fixtures();
    let (store, keys) = (place.store(), VolumeKeys::new("pvc-legacy").unwrap());
    let catalog = Catalog::new(store.clone());
    assert!(catalog.locks(None).await.unwrap().is_empty());
    let write = async |name: &str, kind: u8, age: u64, keys: &VolumeKeys| {
        let body = format!(r#"{{"Name":"{name}","Type":{kind},"Acquired":true}}"#);
        store.put(&keys.lock(name), body.into()).await.unwrap();
        let file = std::fs::File::options().write(true).open(place.object(&keys.lock(name))).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
    };
    write("lock-1", 1, 10, &keys).await;
    write("lock-2", 2, 200, &keys).await;
    write("lock-3", 1, 20, &VolumeKeys::backing_image_locks()).await;
    let locks = catalog.locks(None).await.unwrap();
    let seen: Vec<_> = locks.iter().map(|l| (l.volume.as_deref(), l.purpose, l.expired, l.blocks)).collect();
    assert_eq!(
        seen,
        [
            (Some("pvc-legacy"), "backup, restore or check", false, Some("deletions")),
            (Some("pvc-legacy"), "deletion", true, None),
            (None, "backup, restore or check", false, Some("deletions")),
        ]
    );
    assert!((10..15).contains(&locks[0].age), "{locks:?}");
    assert_eq!(catalog.locks(Some("pvc-legacy")).await.unwrap().len(), 2);
    assert!(catalog.locks(Some("pvc-empty")).await.unwrap().is_empty());
    assert_eq!(catalog.locks(Some("pvc-none")).await.unwrap_err().kind(), Kind::NotFound);
}
