use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, process::Command, sync::Mutex, time::Duration};

use ring::digest::{SHA256, digest};

use super::*;
use crate::backupstore::{
    Progress,
    block::hex,
    testing::{self, Scratch},
};

fn sha256(path: impl AsRef<Path>) -> String {
    hex(digest(&SHA256, &fs::read(path).unwrap()).as_ref())
}

/// The store to check against and its manifest: the small one; or the whole one, if `LHRUN_FIXTURES` names the folder
/// with its archive.
fn written_by_longhorn(scratch: &Scratch) -> (Store, serde_json::Value) {
    let small = testing::fixture_folder();
    let (store, manifest) = match std::env::var_os("LHRUN_FIXTURES").map(PathBuf::from) {
        None => (small.clone(), small.join("manifest.json")),
        Some(folder) => {
            let archive = folder.join("longhorn-backupstore.tar.zst");
            let unpacked = scratch.path("store");
            let tar = Command::new("tar").arg("--zstd").arg("-xf").arg(archive).arg("-C").arg(&unpacked).status();
            assert!(tar.unwrap().success());
            (unpacked, folder.join("longhorn-backupstore.json"))
        }
    };
    (Store::folder(store).unwrap(), serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap())
}

#[tokio::test]
async fn every_backup_longhorn_wrote_restores_to_the_image_it_was_made_of() {
    let scratch = testing::scratch();
    let (store, manifest) = written_by_longhorn(&scratch);
    let mut count = 0;
    for entry in manifest["backups"].as_array().unwrap() {
        let backup = BackupRef::new(entry["volume"].as_str().unwrap(), entry["backup"].as_str().unwrap()).unwrap();
        let path = scratch.path("image");
        let options = RestoreOptions { overwrite: true, ..RestoreOptions::default() };
        let restored = to_file(&store, &backup, &path, options).await.unwrap();
        assert_eq!(sha256(&path), entry["source_sha256"], "{backup}");
        assert_eq!(restored.size, entry["source_size"].as_u64().unwrap());
        let disk = fs::metadata(&path).unwrap().blocks() * 512;
        assert!(disk <= restored.bytes + 4096, "{backup}: {disk} bytes on disk for {} of data", restored.bytes);
        count += 1;
    }
    for entry in manifest["backing_images"].as_array().unwrap() {
        let path = scratch.path(entry["name"].as_str().unwrap());
        backing_image_to_file(&store, entry["name"].as_str().unwrap(), &path, RestoreOptions::default()).await.unwrap();
        assert_eq!(sha256(&path), entry["sha256"]);
        count += 1;
    }
    assert!(count >= 6);
}

const VOLUME: &str = "pvc-legacy";
/// Lists blocks at 0, 4 MiB, 10 MiB and 14 MiB.
const BACKUP: &str = "backup-0000000000001403";

fn of() -> BackupRef {
    BackupRef::new(VOLUME, BACKUP).unwrap()
}

/// The key of the block that backup has at an offset.
async fn block_at(store: &Store, offset: u64) -> String {
    let backup = Catalog::new(store.clone()).backup(VOLUME, BACKUP).await.unwrap();
    VolumeKeys::new(VOLUME).unwrap().blocks().key(&backup.blocks.at(offset).unwrap().checksum)
}

/// Restores after damage and returns the failure; nothing may be left of the image.
async fn failure(scratch: &Scratch) -> Error {
    let path = scratch.path("image");
    let error = to_file(&scratch.store(), &of(), &path, RestoreOptions::default()).await.unwrap_err();
    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["store"]);
    error
}

#[tokio::test]
async fn each_damage_to_a_block_names_volume_backup_block_and_offset() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage, &str); 5] = [
        ("flipped bit", |body| body[40_000] ^= 1, "is damaged"),
        ("truncation", |body| body.truncate(body.len() / 2), "cannot be read"),
        ("zero length", Vec::clear, "it is empty"),
        ("other data", |body| *body = vec![7; 2 << 20], "it holds other data"),
        ("too large", |body| body.resize(3 << 20, 0), "larger than any block"),
    ];
    for (what, damage, said) in damages {
        let scratch = testing::copy_of_fixtures();
        let key = block_at(&scratch.store(), 10 << 20).await;
        let mut body = fs::read(scratch.object(&key)).unwrap();
        damage(&mut body);
        fs::write(scratch.object(&key), body).unwrap();
        let error = failure(&scratch).await;
        assert_eq!(error.kind(), Kind::Damaged, "{what}");
        let text = error.to_string();
        for part in [VOLUME, BACKUP, "offset 10485760", &key, said] {
            assert!(text.contains(part), "{what}: {part} not in: {text}");
        }
        assert_eq!(error.object_name(), Some(key.as_str()));
    }
}

#[tokio::test]
async fn a_missing_block_and_swapped_blocks_are_noticed() {
    let scratch = testing::copy_of_fixtures();
    let (first, second) = (block_at(&scratch.store(), 0).await, block_at(&scratch.store(), 4 << 20).await);
    let bodies = [&first, &second].map(|key| fs::read(scratch.object(key)).unwrap());
    fs::write(scratch.object(&first), &bodies[1]).unwrap();
    fs::write(scratch.object(&second), &bodies[0]).unwrap();
    let text = failure(&scratch).await.to_string();
    assert!(text.contains("holds other data"), "{text}");
    fs::write(scratch.object(&second), &bodies[1]).unwrap();
    fs::remove_file(scratch.object(&first)).unwrap();
    let text = failure(&scratch).await.to_string();
    assert!(text.contains("offset 0 is missing") && text.contains(&first), "{text}");
}

#[tokio::test]
async fn a_wrong_method_in_the_configuration_does_no_harm() {
    let scratch = testing::copy_of_fixtures();
    let key = VolumeKeys::new(VOLUME).unwrap().backup(BACKUP).unwrap();
    let config = fs::read_to_string(scratch.object(&key)).unwrap().replace("\"gzip\"", "\"lz4\"");
    fs::write(scratch.object(&key), config).unwrap();
    let path = scratch.path("image");
    to_file(&scratch.store(), &of(), &path, RestoreOptions::default()).await.unwrap();
    assert_eq!(sha256(path), "ce8196eb15afbb5e5f29541c1743405153467d9a7d25a1e801056a5b862e6b3f");
}

#[tokio::test]
async fn impossible_configurations_are_refused_and_name_their_key() {
    let keys = VolumeKeys::new(VOLUME).unwrap();
    let cases = [
        (keys.config(), "25165824", "0", Kind::Damaged),
        (keys.config(), "25165824", "25165825", Kind::Damaged),
        (keys.config(), "25165824", "8388608", Kind::Damaged),
        (keys.config(), "25165824", "9223372036852678656", Kind::Failed),
        (keys.config(), "pvc-legacy", "pvc-other", Kind::Damaged),
        (keys.backup(BACKUP).unwrap(), "2026-11-22T18:38:59Z", "", Kind::Invalid),
        (keys.backup(BACKUP).unwrap(), "14680064", "9223372036852678656", Kind::Damaged),
        (keys.backup(BACKUP).unwrap(), "FilePath\":\"", "FilePath\":\"x", Kind::Invalid),
    ];
    for (key, from, to, kind) in cases {
        let scratch = testing::copy_of_fixtures();
        let config = fs::read_to_string(scratch.object(&key)).unwrap();
        assert!(config.contains(from));
        fs::write(scratch.object(&key), config.replace(from, to)).unwrap();
        let error = failure(&scratch).await;
        assert_eq!(error.kind(), kind, "{from} -> {to}: {error}");
        assert!(kind == Kind::Failed || error.object_name().unwrap().contains("/pvc-legacy/"), "{error:?}");
    }
    let scratch = testing::copy_of_fixtures();
    fs::remove_file(scratch.object(&keys.config())).unwrap();
    assert_eq!(failure(&scratch).await.kind(), Kind::NotFound);
}

#[tokio::test]
async fn the_image_has_the_volumes_current_size() {
    let scratch = testing::copy_of_fixtures();
    let key = VolumeKeys::new(VOLUME).unwrap().config();
    let config = fs::read_to_string(scratch.object(&key)).unwrap().replace("25165824", "33554432");
    fs::write(scratch.object(&key), config).unwrap();
    let path = scratch.path("image");
    let restored = to_file(&scratch.store(), &of(), &path, RestoreOptions::default()).await.unwrap();
    let content = fs::read(path).unwrap();
    assert_eq!((restored.size, content.len()), (32 << 20, 32 << 20));
    let head = hex(digest(&SHA256, &content[..24 << 20]).as_ref());
    assert_eq!(head, "ce8196eb15afbb5e5f29541c1743405153467d9a7d25a1e801056a5b862e6b3f");
    assert!(content[24 << 20..].iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn without_its_backing_image_a_volume_is_not_restored() {
    let backed = BackupRef::new("pvc-backed", "backup-00000000000000b1").unwrap();
    let key = layout::backing_image_config("base8").unwrap();
    for (from, to, kind) in [
        ("", "", Kind::NotFound),
        ("ac6746032177", "ffffffffffff", Kind::Invalid),
        ("2026-11-22T17:53:11Z", "", Kind::Invalid),
    ] {
        let scratch = testing::copy_of_fixtures();
        let config = fs::read_to_string(scratch.object(&key)).unwrap();
        if from.is_empty() {
            fs::remove_file(scratch.object(&key)).unwrap();
        } else {
            fs::write(scratch.object(&key), config.replace(from, to)).unwrap();
        }
        let path = scratch.path("image");
        let error = to_file(&scratch.store(), &backed, &path, RestoreOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains("base8"), "{error}");
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn progress_rises_to_all_bytes() {
    let scratch = testing::scratch();
    let seen: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let told = seen.clone();
    let progress = Progress::new(move |done, total| told.lock().unwrap().push((done, total)));
    let options = RestoreOptions { progress: Some(progress), ..RestoreOptions::default() };
    to_file(&testing::fixtures(), &of(), scratch.path("image"), options).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(seen.last(), Some(&(8 << 20, 8 << 20)));
}

#[tokio::test]
async fn a_dropped_restore_leaves_nothing() {
    let scratch = testing::scratch();
    let path = scratch.path("image");
    let (told, first) = tokio::sync::oneshot::channel();
    let told = Mutex::new(Some(told));
    let progress = Progress::new(move |_, _| {
        if let Some(told) = told.lock().unwrap().take() {
            told.send(()).unwrap();
        }
    });
    let options = RestoreOptions { progress: Some(progress), concurrency: 1, ..RestoreOptions::default() };
    let (store, of) = (testing::fixtures(), of());
    tokio::select! {
        biased;
        _ = first => {}
        _ = to_file(&store, &of, &path, options) => panic!("not interrupted"),
    }
    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["store"]);
}

#[tokio::test]
async fn a_lock_is_respected_taken_and_given_back() {
    let scratch = testing::copy_of_fixtures();
    let (store, keys) = (scratch.store(), VolumeKeys::new(VOLUME).unwrap());
    let options = RestoreOptions { lock: Some(Duration::ZERO), ..RestoreOptions::default() };
    let deletion = Lock::acquire(&store, &keys, LockType::Delete, Duration::ZERO).await.unwrap();
    let error = to_file(&store, &of(), scratch.path("image"), options.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    deletion.release().await.unwrap();
    to_file(&store, &of(), scratch.path("image"), options).await.unwrap();
    assert!(super::super::lock::list(&store, &keys).await.unwrap().is_empty());
}
