use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    sync::Mutex,
};

use proptest::prelude::*;

use super::*;
use crate::backupstore::{
    BackupRef, Catalog, Progress,
    layout::VolumeKeys,
    restore::{self, RestoreOptions, Restored},
    testing::{self, Scratch},
};

const VOLUME: &str = "pvc-legacy";
/// Lists blocks at 0, 4 MiB, 10 MiB and 14 MiB; the image has 24 MiB.
const BACKUP: &str = "backup-0000000000001403";
const SLOT: usize = 2 << 20;

fn of(backup: &str) -> BackupRef {
    BackupRef::new(VOLUME, backup).unwrap()
}

fn options() -> RestoreOptions {
    RestoreOptions { resume: true, concurrency: 1, ..RestoreOptions::default() }
}

async fn restored(backup: &str, path: &PathBuf) -> Restored {
    restore::to_file(&testing::fixtures(), &of(backup), path, options()).await.unwrap()
}

/// The image of that backup as an uninterrupted restore makes it.
async fn image(backup: &str) -> Vec<u8> {
    let scratch = testing::scratch();
    restored(backup, &scratch.path("image")).await;
    fs::read(scratch.path("image")).unwrap()
}

/// Interrupts a restore after that many blocks; returns the place of the image.
async fn interrupted(scratch: &Scratch, backup: &str, blocks: usize) -> PathBuf {
    let path = scratch.path("image");
    let (told, enough) = tokio::sync::oneshot::channel();
    let told = Mutex::new((blocks, Some(told)));
    let progress = Progress::new(move |_, _| {
        let mut told = told.lock().unwrap();
        told.0 = told.0.saturating_sub(1);
        if told.0 == 0
            && let Some(told) = told.1.take()
        {
            told.send(()).unwrap();
        }
    });
    let (store, of) = (testing::fixtures(), of(backup));
    tokio::select! {
        biased;
        _ = enough => {}
        _ = restore::to_file(&store, &of, &path, RestoreOptions { progress: Some(progress), ..options() }) => {
            panic!("not interrupted");
        }
    }
    // A block that was being written may still be on its way.
    tokio::task::spawn_blocking(|| {}).await.unwrap();
    while File::open(restore::partial(&path)).unwrap().try_lock().is_err() {
        tokio::task::yield_now().await;
    }
    path
}

#[test]
fn only_the_right_content_is_good_and_only_what_is_written_over_may_differ() {
    let (block, zeros) = (Checksum::of(b"block"), Checksum::of_zeros(5));
    for (slot, wanted, found) in [
        (&b"block\0\0"[..], Some((block, 5)), Found::Good),
        (b"blocK\0\0", Some((block, 5)), Found::Other),
        (b"\0\0\0\0\0\0\0", Some((block, 5)), Found::Other),
        (b"block\0x", Some((block, 5)), Found::Foreign),
        (b"\0\0\0\0\0\0\0", Some((zeros, 5)), Found::Good),
        (b"\0\0\0\0x\0\0", Some((zeros, 5)), Found::Foreign),
        (b"\0\0\0\0\0\0\0", None, Found::Good),
        (b"\0\0\0\0\0\0x", None, Found::Foreign),
    ] {
        assert_eq!(judge(slot, wanted), found, "{slot:?} {wanted:?}");
    }
}

#[tokio::test]
async fn an_interrupted_restore_goes_on_where_it_was() {
    let whole = image(BACKUP).await;
    for blocks in 1..=3 {
        let scratch = testing::scratch();
        let path = interrupted(&scratch, BACKUP, blocks).await;
        assert!(!path.exists());
        let again = restored(BACKUP, &path).await;
        assert!(fs::read(&path).unwrap() == whole);
        // The block in flight may have been written, too.
        assert!([blocks, blocks + 1].contains(&(4 - again.blocks_read)), "{blocks}: {again:?}");
        assert_eq!(again.reused_bytes, ((4 - again.blocks_read) * SLOT) as u64);
        assert_eq!((again.blocks, again.bytes), (4, 8 << 20));
        assert!(!restore::partial(&path).exists());
        let disk = fs::metadata(&path).unwrap().blocks() * 512;
        assert!(disk <= (8 << 20) + 4096, "{disk} bytes on disk");
    }
}

#[tokio::test]
async fn what_was_left_by_another_backup_is_used_as_far_as_it_is_the_same() {
    let whole = image(BACKUP).await;
    for other in ["backup-0000000000001401", "backup-0000000000001402"] {
        let scratch = testing::scratch();
        let path = interrupted(&scratch, other, 2).await;
        restored(BACKUP, &path).await;
        assert!(fs::read(&path).unwrap() == whole, "{other}");
    }
    // And the other way round: the newer one has written where the older has nothing, so all of it is given up.
    let older = image("backup-0000000000001401").await;
    let scratch = testing::scratch();
    let path = scratch.path("image");
    fs::write(restore::partial(&path), &whole).unwrap();
    let again = restored("backup-0000000000001401", &path).await;
    assert!(fs::read(&path).unwrap() == older);
    assert_eq!(again.reused_bytes, 0);
}

#[tokio::test]
async fn a_failed_restore_says_what_it_kept_and_the_next_goes_on_when_the_block_is_back() {
    let scratch = testing::copy_of_fixtures();
    let store = scratch.store();
    let backup = Catalog::new(store.clone()).backup(VOLUME, BACKUP).await.unwrap();
    let key = VolumeKeys::new(VOLUME).unwrap().blocks().key(&backup.blocks.at(10 << 20).unwrap().checksum);
    let body = fs::read(scratch.object(&key)).unwrap();
    fs::remove_file(scratch.object(&key)).unwrap();
    let path = scratch.path("image");
    let error = restore::to_file(&store, &of(BACKUP), &path, options()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    let hint = error.hint_text().unwrap();
    assert!(hint.contains("verify the store") && hint.contains("image.partial"), "{hint}");
    assert!(!path.exists());
    fs::write(scratch.object(&key), body).unwrap();
    let again = restore::to_file(&store, &of(BACKUP), &path, options()).await.unwrap();
    assert_eq!((again.blocks_read, again.reused_bytes), (2, 4 << 20));
    assert!(fs::read(&path).unwrap() == image(BACKUP).await);
}

#[tokio::test]
async fn a_failure_before_the_first_block_leaves_nothing() {
    let scratch = testing::copy_of_fixtures();
    let store = scratch.store();
    for object in store.list(VolumeKeys::new(VOLUME).unwrap().blocks().prefix()).await.unwrap() {
        store.delete(&object.key).await.unwrap();
    }
    let error = restore::to_file(&store, &of(BACKUP), scratch.path("image"), options()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(!error.hint_text().unwrap().contains("partial"));
    assert!(!restore::partial(&scratch.path("image")).exists());
}

#[tokio::test]
async fn a_backing_image_with_a_short_last_block_is_continued_too() {
    let scratch = testing::scratch();
    let (store, path) = (testing::fixtures(), scratch.path("base8"));
    restore::backing_image_to_file(&store, "base8", &path, options()).await.unwrap();
    let whole = fs::read(&path).unwrap();
    fs::rename(&path, restore::partial(&path)).unwrap();
    let again = restore::backing_image_to_file(&store, "base8", &path, options()).await.unwrap();
    assert_eq!((again.stored_bytes, again.reused_bytes), (0, again.bytes));
    assert!(fs::read(&path).unwrap() == whole);
}

#[tokio::test]
async fn over_a_backing_image_both_layers_are_continued() {
    let scratch = testing::scratch();
    let (store, path) = (testing::fixtures(), scratch.path("image"));
    let backed = BackupRef::new("pvc-backed", "backup-00000000000000b1").unwrap();
    restore::to_file(&store, &backed, &path, options()).await.unwrap();
    let whole = fs::read(&path).unwrap();
    fs::rename(&path, restore::partial(&path)).unwrap();
    // One byte of each 2 MiB piece in turn is wrong: whatever layer it is of, it is restored.
    for piece in 0..whole.len() / SLOT {
        File::options()
            .write(true)
            .open(restore::partial(&path))
            .unwrap()
            .write_all_at(b"?", (piece * SLOT) as u64)
            .unwrap();
        let again = restore::to_file(&store, &backed, &path, options()).await.unwrap();
        assert!(fs::read(&path).unwrap() == whole, "{piece}");
        assert!(again.stored_bytes > 0);
        fs::rename(&path, restore::partial(&path)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_in_the_partial_file_the_image_is_right(pieces in proptest::collection::vec(0..6u8, 14), at in 0..SLOT) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (whole, zeros) = (runtime.block_on(image(BACKUP)), vec![0; SLOT]);
        let scratch = testing::scratch();
        let path = scratch.path("image");
        let file = File::create(restore::partial(&path)).unwrap();
        for (index, piece) in pieces.iter().enumerate() {
            let right = whole.get(index * SLOT..).and_then(|rest| rest.get(..SLOT)).unwrap_or(&zeros);
            let mut content = right.to_vec();
            match piece {
                0 => continue,
                1 => content[at] ^= 1,
                2 => content.fill(0),
                3 => content.truncate(at),
                _ => {}
            }
            file.write_all_at(&content, (index * SLOT) as u64).unwrap();
        }
        drop(file);
        runtime.block_on(restored(BACKUP, &path));
        prop_assert!(fs::read(&path).unwrap() == whole);
        prop_assert!(!restore::partial(&path).exists());
    }
}
