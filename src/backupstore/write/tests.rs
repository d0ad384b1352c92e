use std::{fs, os::unix::fs::FileExt};

use super::*;
use crate::{
    backupstore::{
        restore::{self, RestoreOptions},
        testing::{self, Scratch},
    },
    objectstore::ObjectMeta,
};

const MIB: u64 = 1 << 20;
const VOLUME: &str = "pvc-1";

fn keys() -> VolumeKeys {
    VolumeKeys::new(VOLUME).unwrap()
}

fn request(name: &str, size: u64) -> BackupRequest {
    let backup = BackupRef::new(VOLUME, name).unwrap();
    BackupRequest { settle: Duration::ZERO, ..BackupRequest::new(backup, format!("snap-of-{name}"), size) }
}

/// Data no compressor makes smaller, different for each seed.
fn noise(seed: u64, length: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length / 8).flat_map(|_| next()).collect()
}

struct Lab {
    scratch: Scratch,
    store: Store,
    image: File,
}

impl Lab {
    fn new(size: u64) -> Self {
        let scratch = testing::scratch();
        let store = scratch.store();
        let image = File::options().read(true).write(true).create_new(true).open(scratch.path("image")).unwrap();
        image.set_len(size).unwrap();
        Self { scratch, store, image }
    }

    fn put(&self, offset: u64, data: &[u8]) {
        self.image.write_all_at(data, offset).unwrap();
    }

    async fn backup(&self, request: BackupRequest) -> Result<Written> {
        backup_file(&self.store, self.scratch.path("image"), request).await
    }

    /// Restores the backup and compares it with the image of now.
    async fn check(&self, name: &str) {
        let path = self.scratch.path("restored");
        let options = RestoreOptions { overwrite: true, ..RestoreOptions::default() };
        restore::to_file(&self.store, &BackupRef::new(VOLUME, name).unwrap(), &path, options).await.unwrap();
        assert!(fs::read(path).unwrap() == fs::read(self.scratch.path("image")).unwrap(), "{name} restores otherwise");
    }

    async fn config(&self, name: &str) -> BackupConfig {
        Catalog::new(self.store.clone()).backup(VOLUME, name).await.unwrap()
    }

    async fn objects(&self) -> Vec<ObjectMeta> {
        self.store.list(keys().blocks().prefix()).await.unwrap()
    }
}

#[tokio::test]
async fn every_method_and_block_size_comes_back() {
    for compression in [Compression::None, Compression::Lz4, Compression::Gzip] {
        for block_size in [DEFAULT_BLOCK_SIZE, LARGE_BLOCK_SIZE] {
            let lab = Lab::new(48 * MIB);
            lab.put(3 * MIB, &noise(1, MIB));
            lab.put(33 * MIB, b"one line");
            let written =
                lab.backup(BackupRequest { compression, block_size, ..request("b-1", 48 * MIB) }).await.unwrap();
            assert_eq!((written.size, written.blocks), (2 * block_size, 2), "{compression} {block_size}");
            assert!(!written.incremental);
            lab.check("b-1").await;
            let config = lab.config("b-1").await;
            assert_eq!(config.compression_method, compression.as_str());
            assert_eq!(config.parameters["backup-block-size"], block_size.to_string());
            let stored: u64 = lab.objects().await.iter().map(|object| object.size).sum();
            assert_eq!((stored, config.newly_uploaded_data_size), (written.uploaded_bytes, written.uploaded_bytes));
        }
    }
}

#[tokio::test]
async fn an_incremental_backup_uploads_only_what_the_store_lacks() {
    let lab = Lab::new(16 * MIB);
    lab.put(0, &noise(1, 4 * MIB));
    lab.backup(request("b-1", 16 * MIB)).await.unwrap();
    assert_eq!(lab.objects().await.len(), 2);
    lab.put(2 * MIB, &noise(2, 2 * MIB));
    // The same content as at 0: listed, not uploaded.
    lab.put(8 * MIB, &noise(1, 2 * MIB));
    let written = lab.backup(request("b-2", 16 * MIB)).await.unwrap();
    assert!(written.incremental);
    assert_eq!((written.blocks, lab.objects().await.len()), (3, 3));
    assert!(written.uploaded_bytes < 3 * MIB, "one block: {}", written.uploaded_bytes);
    lab.check("b-2").await;
    let volume = Catalog::new(lab.store.clone()).volume(VOLUME).await.unwrap();
    assert_eq!((volume.last_backup_name.as_str(), volume.block_count), ("b-2", 3));
    assert_eq!(volume.last_backup_at, written.snapshot_created_at);
}

#[tokio::test]
async fn an_offset_once_listed_stays_listed_as_zeros_until_a_full_backup() {
    let lab = Lab::new(8 * MIB);
    lab.put(0, &noise(1, 6 * MIB));
    lab.backup(request("b-1", 8 * MIB)).await.unwrap();
    // Trimmed: the file loses its extents between 2 and 8 MiB.
    lab.image.set_len(2 * MIB).unwrap();
    lab.image.set_len(8 * MIB).unwrap();
    lab.backup(request("b-2", 8 * MIB)).await.unwrap();
    let blocks = lab.config("b-2").await.blocks;
    let zeros = Checksum::of_zeros(DEFAULT_BLOCK_SIZE);
    assert_eq!(blocks.at(2 * MIB).unwrap().checksum, zeros);
    assert_eq!(blocks.at(4 * MIB).unwrap().checksum, zeros);
    assert_eq!((blocks.len(), lab.objects().await.len()), (3, 4), "one object for all zeros");
    lab.check("b-2").await;
    lab.backup(BackupRequest { mode: Mode::Full, ..request("b-3", 8 * MIB) }).await.unwrap();
    assert_eq!(lab.config("b-3").await.blocks.len(), 1);
    lab.check("b-3").await;
}

#[tokio::test]
async fn written_zeros_are_listed_and_holes_are_not() {
    let lab = Lab::new(8 * MIB);
    lab.put(4 * MIB, &vec![0; 4 << 20]);
    lab.backup(request("b-1", 8 * MIB)).await.unwrap();
    let blocks = lab.config("b-1").await.blocks;
    assert_eq!(blocks.as_slice().iter().map(|block| block.offset).collect::<Vec<_>>(), [4 * MIB, 6 * MIB]);
    assert_eq!(lab.objects().await.len(), 1);
    lab.check("b-1").await;
    let empty = Lab::new(8 * MIB);
    let written = empty.backup(request("b-1", 8 * MIB)).await.unwrap();
    assert_eq!((written.size, written.blocks), (0, 0));
    empty.check("b-1").await;
}

#[tokio::test]
async fn a_grown_volume_is_continued_and_cannot_shrink() {
    let lab = Lab::new(4 * MIB);
    lab.put(0, &noise(1, MIB));
    lab.backup(request("b-1", 4 * MIB)).await.unwrap();
    lab.image.set_len(8 * MIB).unwrap();
    lab.put(7 * MIB, b"at the new end");
    assert!(lab.backup(request("b-2", 8 * MIB)).await.unwrap().incremental);
    lab.check("b-2").await;
    lab.image.set_len(4 * MIB).unwrap();
    let error = lab.backup(request("b-3", 4 * MIB)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
}

#[tokio::test]
async fn a_full_backup_heals_and_an_empty_object_counts_as_missing() {
    let lab = Lab::new(4 * MIB);
    lab.put(0, &noise(1, 4 * MIB));
    lab.backup(request("b-1", 4 * MIB)).await.unwrap();
    let objects = lab.objects().await;
    lab.store.put(&objects[0].key, "damaged".into()).await.unwrap();
    lab.store.put(&objects[1].key, "".into()).await.unwrap();
    let written = lab.backup(request("b-2", 4 * MIB)).await.unwrap();
    assert_eq!(written.uploaded_bytes, objects[1].size);
    let full = lab.backup(BackupRequest { mode: Mode::Full, ..request("b-3", 4 * MIB) }).await.unwrap();
    assert_eq!((full.uploaded_bytes, full.reuploaded_bytes), (0, objects.iter().map(|object| object.size).sum()));
    assert!(!full.incremental);
    lab.check("b-1").await;
}

#[tokio::test]
async fn a_volume_keeps_its_method_and_a_changed_block_size_starts_anew() {
    let lab = Lab::new(32 * MIB);
    lab.put(0, &noise(1, MIB));
    lab.backup(BackupRequest { compression: Compression::Gzip, ..request("b-1", 32 * MIB) }).await.unwrap();
    lab.put(4 * MIB, &noise(2, MIB));
    lab.backup(BackupRequest { compression: Compression::None, ..request("b-2", 32 * MIB) }).await.unwrap();
    assert_eq!(lab.config("b-2").await.compression_method, "gzip");
    let large = BackupRequest { block_size: LARGE_BLOCK_SIZE, ..request("b-3", 32 * MIB) };
    assert!(!lab.backup(large).await.unwrap().incremental);
    lab.check("b-2").await;
    lab.check("b-3").await;
}

#[tokio::test]
async fn the_same_snapshot_and_a_lost_last_backup_make_a_complete_list() {
    let lab = Lab::new(4 * MIB);
    lab.put(0, &noise(1, MIB));
    lab.backup(request("b-1", 4 * MIB)).await.unwrap();
    let same = BackupRequest { snapshot: "snap-of-b-1".into(), ..request("b-2", 4 * MIB) };
    assert!(!lab.backup(same).await.unwrap().incremental);
    lab.store.put(&keys().backup("b-2").unwrap(), "{".into()).await.unwrap();
    assert!(!lab.backup(request("b-3", 4 * MIB)).await.unwrap().incremental);
    lab.check("b-3").await;
}

#[tokio::test]
async fn what_cannot_be_backed_up_is_refused_and_leaves_nothing() {
    let lab = Lab::new(4 * MIB);
    let cases = [
        (request("b-1", 5 * MIB), Kind::Invalid),
        (request("b-1", 2 * MIB), Kind::Invalid),
        (request("b-1", 0), Kind::Invalid),
        (BackupRequest { block_size: 4096, ..request("b-1", 4 * MIB) }, Kind::Invalid),
    ];
    for (request, kind) in cases {
        assert_eq!(lab.backup(request).await.unwrap_err().kind(), kind);
    }
    let error = backup_file(&lab.store, lab.scratch.path("none"), request("b-1", 4 * MIB)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(lab.store.list("").await.unwrap().is_empty());

    lab.put(0, b"x");
    lab.backup(request("b-1", 4 * MIB)).await.unwrap();
    assert_eq!(lab.backup(request("b-1", 4 * MIB)).await.unwrap_err().kind(), Kind::Conflict);
    lab.check("b-1").await;
    let lock = Lock::acquire(&lab.store, &keys(), LockType::Delete, Duration::ZERO).await.unwrap();
    assert_eq!(lab.backup(request("b-2", 4 * MIB)).await.unwrap_err().kind(), Kind::Conflict);
    lock.release().await.unwrap();
    lab.store.put(&keys().config(), "{".into()).await.unwrap();
    assert_eq!(lab.backup(request("b-2", 4 * MIB)).await.unwrap_err().kind(), Kind::Damaged);
    let left: Vec<_> = lab.store.list(keys().root()).await.unwrap().into_iter().map(|object| object.key).collect();
    assert_eq!(left.len(), 3, "one backup, its block, volume.cfg: {left:?}");
}

#[tokio::test]
async fn a_failed_upload_takes_the_unfinished_backup_away() {
    let lab = Lab::new(4 * MIB);
    lab.put(0, b"x");
    // A file where the folder of the blocks must be makes every upload fail.
    fs::create_dir_all(lab.scratch.object(keys().root())).unwrap();
    fs::write(lab.scratch.object(keys().blocks().prefix().trim_end_matches('/')), "in the way").unwrap();
    lab.backup(request("b-1", 4 * MIB)).await.unwrap_err();
    let catalog = Catalog::new(lab.store.clone());
    assert!(catalog.backup_names(VOLUME).await.unwrap().is_empty());
    assert!(super::super::lock::list(&lab.store, &keys()).await.unwrap().is_empty());
}
