use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use super::*;
use crate::backupstore::{
    restore::{self, RestoreOptions},
    testing::{self, Scratch},
};

const VOLUME: &str = "pvc-legacy";
/// Lists blocks at 0, 4 MiB, 10 MiB and 14 MiB, of which the first and third are the same.
const BACKUP: &str = "backup-0000000000001403";

fn of() -> BackupRef {
    BackupRef::new(VOLUME, BACKUP).unwrap()
}

async fn open(store: &Store, of: &BackupRef, options: ImageOptions) -> Result<Image> {
    Image::open(store, of, options, CancellationToken::new()).await
}

/// Does something with an image on a thread that may block.
async fn with<T: Send + 'static>(image: Image, work: impl FnOnce(&mut Image) -> T + Send + 'static) -> T {
    let mut image = image;
    tokio::task::spawn_blocking(move || work(&mut image)).await.unwrap()
}

fn read(image: &mut Image, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut out = vec![7; length];
    image.read(offset, &mut out)?;
    Ok(out)
}

#[tokio::test]
async fn an_image_is_what_a_restore_writes() {
    let (scratch, store) = (testing::scratch(), testing::fixtures());
    for (volume, backup) in [(VOLUME, BACKUP), ("pvc-backed", "backup-00000000000000b1"), ("pvc-empty", "")] {
        let backup = match backup {
            "" => Catalog::new(store.clone()).backup_names(volume).await.unwrap().remove(0),
            name => name.to_owned(),
        };
        let of = BackupRef::new(volume, backup).unwrap();
        let path = scratch.path(volume);
        restore::to_file(&store, &of, &path, RestoreOptions::default()).await.unwrap();
        let expected = fs::read(path).unwrap();
        let image = open(&store, &of, ImageOptions { cached_bytes: 4 << 20, ..ImageOptions::default() }).await.unwrap();
        assert_eq!(image.size(), expected.len() as u64, "{of}");
        with(image, move |image| {
            assert!(read(image, 0, expected.len()).unwrap() == expected);
            // Across the edges of blocks, and byte by byte at the end.
            for start in (0..expected.len() - 5000).step_by((1 << 20) - 77) {
                assert!(read(image, start as u64, 5000).unwrap() == expected[start..start + 5000]);
            }
            let end = expected.len() as u64;
            assert_eq!(read(image, end - 1, 1).unwrap(), [expected[expected.len() - 1]]);
            assert!(read(image, end, 0).unwrap().is_empty());
            for (offset, length) in [(end, 1), (end - 1, 2), (u64::MAX, 1)] {
                assert_eq!(read(image, offset, length).unwrap_err().kind(), Kind::Invalid);
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_block_is_fetched_once_and_the_cache_is_bounded() {
    let told = Arc::new(AtomicU64::new(0));
    let seen = told.clone();
    let progress = Progress::new(move |done, _| seen.store(done, Ordering::SeqCst));
    let options = ImageOptions { cached_bytes: 4 << 20, progress: Some(progress), ..ImageOptions::default() };
    let image = open(&testing::fixtures(), &of(), options).await.unwrap();
    with(image, move |image| {
        let count = |image: &Image| image.counter().lock().unwrap().blocks;
        assert_eq!(count(image), 0, "opening gets no block");
        for offset in [0, 10, 1 << 20, (2 << 20) - 10] {
            read(image, offset, 10).unwrap();
        }
        assert_eq!(count(image), 1);
        read(image, 3 << 20, 100).unwrap();
        assert_eq!(count(image), 1, "a hole needs no block");
        for offset in [4 << 20, 10 << 20, 14 << 20] {
            read(image, offset, 10).unwrap();
            assert!(image.cache.len() <= 2);
        }
        let bytes = image.counter().lock().unwrap().bytes;
        assert!(bytes > 0 && bytes == told.load(Ordering::SeqCst));
    })
    .await;
}

#[tokio::test]
async fn what_is_read_next_is_got_together() {
    let image = open(&testing::fixtures(), &of(), ImageOptions::default()).await.unwrap();
    with(image, |image| {
        image.ahead([0..10, (4 << 20)..(15 << 20)]);
        let got = image.counter().lock().unwrap().blocks;
        assert!(got >= 2);
        for offset in [0, 4 << 20, 10 << 20, 14 << 20] {
            read(image, offset, 10).unwrap();
        }
        assert_eq!(image.counter().lock().unwrap().blocks, got);
    })
    .await;
}

/// The key of the block that backup has at an offset.
async fn block_at(store: &Store, offset: u64) -> String {
    let backup = Catalog::new(store.clone()).backup(VOLUME, BACKUP).await.unwrap();
    VolumeKeys::new(VOLUME).unwrap().blocks().key(&backup.blocks.at(offset).unwrap().checksum)
}

async fn failure(scratch: &Scratch, offset: u64) -> Error {
    let image = open(&scratch.store(), &of(), ImageOptions::default()).await.unwrap();
    with(image, move |image| read(image, offset, 10).unwrap_err()).await
}

#[tokio::test]
async fn a_bad_block_is_named_and_the_others_are_read() {
    for (damage, said) in [(true, "is damaged"), (false, "is missing")] {
        let scratch = testing::copy_of_fixtures();
        let key = block_at(&scratch.store(), 14 << 20).await;
        if damage {
            let mut body = fs::read(scratch.object(&key)).unwrap();
            body[1000] ^= 1;
            fs::write(scratch.object(&key), body).unwrap();
        } else {
            fs::remove_file(scratch.object(&key)).unwrap();
        }
        let error = failure(&scratch, 14 << 20).await;
        assert_eq!((error.kind(), error.object_name()), (Kind::Damaged, Some(key.as_str())), "{error}");
        assert!(error.to_string().contains("offset 14680064") && error.to_string().contains(said), "{error}");
        let image = open(&scratch.store(), &of(), ImageOptions::default()).await.unwrap();
        with(image, |image| read(image, 4 << 20, 10).unwrap()).await;
    }
}

#[tokio::test]
async fn a_deletion_is_not_taken_for_a_loss() {
    let scratch = testing::copy_of_fixtures();
    let key = block_at(&scratch.store(), 0).await;
    let image = open(&scratch.store(), &of(), ImageOptions::default()).await.unwrap();
    fs::remove_file(scratch.object(&key)).unwrap();
    fs::remove_file(scratch.object(&VolumeKeys::new(VOLUME).unwrap().backup(BACKUP).unwrap())).unwrap();
    let error = with(image, |image| read(image, 0, 10).unwrap_err()).await;
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
}

#[tokio::test]
async fn reading_can_be_stopped() {
    let stop = CancellationToken::new();
    let image = Image::open(&testing::fixtures(), &of(), ImageOptions::default(), stop.clone()).await.unwrap();
    stop.cancel();
    assert_eq!(with(image, |image| read(image, 0, 10).unwrap_err()).await.kind(), Kind::Cancelled);
}

#[tokio::test]
async fn what_cannot_be_read_whole_is_not_opened() {
    let keys = VolumeKeys::new(VOLUME).unwrap();
    let backing = crate::backupstore::layout::backing_image_config("base8").unwrap();
    let backed = BackupRef::new("pvc-backed", "backup-00000000000000b1").unwrap();
    let cases = [
        (of(), keys.backup(BACKUP).unwrap(), "2026-11-22T18:38:59Z", "", Kind::Invalid),
        (of(), keys.config(), "pvc-legacy", "pvc-other", Kind::Damaged),
        (backed.clone(), backing.clone(), "ac6746032177", "ffffffffffff", Kind::Invalid),
        (backed.clone(), backing.clone(), "2026-11-22T17:53:11Z", "", Kind::Invalid),
    ];
    for (of, key, from, to, kind) in cases {
        let scratch = testing::copy_of_fixtures();
        let config = fs::read_to_string(scratch.object(&key)).unwrap();
        assert!(config.contains(from));
        fs::write(scratch.object(&key), config.replace(from, to)).unwrap();
        let error = open(&scratch.store(), &of, ImageOptions::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.object_name()), (kind, Some(key.as_str())), "{error}");
    }
    let scratch = testing::copy_of_fixtures();
    fs::remove_file(scratch.object(&backing)).unwrap();
    let error = open(&scratch.store(), &backed, ImageOptions::default()).await.unwrap_err();
    assert!(error.kind() == Kind::NotFound && error.to_string().contains("base8"), "{error}");
}
