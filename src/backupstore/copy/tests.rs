mod pruning;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::sync::Notify;

use super::*;
use crate::backupstore::{
    Mode,
    config::{BackupConfig, LockType, SystemBackupConfig},
    delete,
    layout::BackupRef,
    lock::Lock,
    system, testing, usage,
    verify::{self, Level, Selection, Verdict, VerifyOptions},
};

const VOLUME: &str = "pvc-legacy";
const BACKUPS: [&str; 3] = ["backup-0000000000001401", "backup-0000000000001402", "backup-0000000000001403"];

fn keys() -> VolumeKeys {
    VolumeKeys::new(VOLUME).unwrap()
}

fn quick() -> CopyOptions {
    CopyOptions { settle: Duration::ZERO, ..CopyOptions::default() }
}

fn pruning() -> CopyOptions {
    CopyOptions { prune: true, ..quick() }
}

fn all_of_it() -> CopyOptions {
    CopyOptions { prune_volumes: true, ..pruning() }
}

/// Every object of Longhorn's in the store with its content.
async fn content(store: &Store) -> Vec<(String, bytes::Bytes)> {
    let mut found = Vec::new();
    for object in store.list("backupstore/").await.unwrap() {
        found.push((object.key.clone(), store.get(&object.key).await.unwrap()));
    }
    found
}

async fn verdict(store: &Store) -> Verdict {
    verify::store(store, &Selection::default(), VerifyOptions::new(Level::Deep)).await.unwrap().verdict
}

/// Whether no backup or image lacks a block.
async fn lacks_nothing(store: &Store) {
    let found = usage::store(store, |_, _, _| ()).await.unwrap();
    for pool in found.volumes.iter().chain([&found.backing_images]) {
        for backup in &pool.backups {
            assert_eq!((backup.state, backup.missing), ("complete", 0), "{backup:?}");
        }
    }
    for system in Catalog::new(store.clone()).system_backups().await.unwrap() {
        // Without its configuration, an archive is no system backup yet.
        if system.config.is_err_and(|error| error.kind() == Kind::NotFound) {
            continue;
        }
        system::read(store, &system.version, &system.name).await.unwrap();
    }
}

/// Adds a backup that is there under another name, begun at that time.
async fn add(store: &Store, name: &str, begun: &str) {
    let mut config = Catalog::new(store.clone()).backup(VOLUME, BACKUPS[2]).await.unwrap();
    config.name = name.into();
    config.snapshot_created_at = begun.into();
    store.put(&keys().backup(name).unwrap(), config.to_bytes().unwrap().into()).await.unwrap();
}

/// Copies until that many objects were moved, and drops it there.
async fn cut_short(from: &Store, to: &Store, objects: u64) -> bool {
    let (enough, moved) = (Arc::new(Notify::new()), AtomicU64::new(0));
    let told = enough.clone();
    let progress = Progress::new(move |_, _| {
        if moved.fetch_add(1, Relaxed) + 1 == objects {
            told.notify_one();
        }
    });
    let options = CopyOptions { at_once: 1, progress: Some(progress), ..quick() };
    tokio::select! {
        biased;
        () = enough.notified() => true,
        copied = copy(from, to, options) => { copied.unwrap(); false }
    }
}

#[tokio::test]
async fn a_copy_is_the_store_and_a_second_one_moves_nothing() {
    let (from, place) = (testing::fixtures(), testing::scratch());
    let copied = copy(&from, &place.store(), pruning()).await.unwrap();
    let whole = content(&from).await;
    assert_eq!(content(&place.store()).await, whole);
    let bytes: usize = whole.iter().map(|(_, body)| body.len()).sum();
    assert_eq!((copied.copied, copied.bytes, copied.skipped), (whole.len() as u64, bytes as u64, 0));
    assert_eq!((copied.failed, copied.pruned, copied.notes), (0, 0, vec![]));
    let again = copy(&from, &place.store(), pruning()).await.unwrap();
    assert_eq!((again.copied, again.bytes, again.skipped), (0, 0, whole.len() as u64));
    assert_eq!(verdict(&place.store()).await, Verdict::Whole);
}

#[tokio::test]
async fn wherever_it_is_cut_short_no_backup_lacks_a_block() {
    let (from, mut objects) = (testing::fixtures(), 0);
    loop {
        objects += 1;
        let place = testing::scratch();
        let is_cut = cut_short(&from, &place.store(), objects).await;
        lacks_nothing(&place.store()).await;
        if !is_cut {
            break;
        }
    }
    assert!(objects >= 18, "{objects}");
}

#[tokio::test]
async fn a_copy_cut_short_twice_ends_the_same() {
    let (from, place) = (testing::fixtures(), testing::scratch());
    assert!(cut_short(&from, &place.store(), 5).await);
    let first = content(&place.store()).await.len() as u64;
    assert!(cut_short(&from, &place.store(), 5).await, "it goes on where it was");
    let second = content(&place.store()).await.len() as u64;
    assert!(first >= 5 && second >= first + 5, "{first} {second}");
    let rest = copy(&from, &place.store(), quick()).await.unwrap();
    assert_eq!(content(&place.store()).await, content(&from).await);
    // What was on its way when it was cut short may have arrived since.
    assert!(rest.skipped >= second, "{} {second}", rest.skipped);
    assert_eq!(rest.copied + rest.skipped, content(&from).await.len() as u64);
}

#[tokio::test]
async fn a_damaged_block_is_named_and_keeps_only_its_backups_behind() {
    let (source, place) = (testing::copy_of_fixtures(), testing::scratch());
    let (from, to) = (source.store(), place.store());
    // The block that only the first backup has.
    let own = |found: &BackupConfig| found.blocks.as_slice().iter().map(|b| b.checksum).collect::<HashSet<_>>();
    let catalog = Catalog::new(from.clone());
    let mut only = own(&catalog.backup(VOLUME, BACKUPS[0]).await.unwrap());
    for other in &BACKUPS[1..] {
        for checksum in own(&catalog.backup(VOLUME, other).await.unwrap()) {
            only.remove(&checksum);
        }
    }
    let only: Vec<_> = only.into_iter().collect();
    assert_eq!(only.len(), 1);
    let key = keys().blocks().key(&only[0]);
    let right = from.get(&key).await.unwrap();
    let mut wrong = right.to_vec();
    wrong[100] ^= 1;
    for (body, said) in
        [(wrong, "it holds other data"), (right[..500].to_vec(), "data cannot be read"), (Vec::new(), "it is empty")]
    {
        from.put(&key, body.into()).await.unwrap();
        let copied = copy(&from, &to, quick()).await.unwrap();
        assert_eq!(copied.failed, 1, "{copied:?}");
        assert_eq!(copied.problems[0].key, key);
        let why = &copied.problems[0].why;
        assert!(why.contains(said), "{why}");
        assert!(copied.notes[0].contains(BACKUPS[0]), "{:?}", copied.notes);
        lacks_nothing(&to).await;
        let there = Catalog::new(to.clone()).backup_names(VOLUME).await.unwrap();
        assert_eq!(there, BACKUPS[1..]);
    }
    from.delete(&key).await.unwrap();
    let copied = copy(&from, &to, quick()).await.unwrap();
    assert_eq!((copied.failed, copied.problems[0].why.as_str()), (1, "it is missing"));
    // Put right, it follows.
    from.put(&key, right.clone()).await.unwrap();
    let copied = copy(&from, &to, quick()).await.unwrap();
    assert_eq!((copied.copied, copied.failed), (2, 0));
    assert_eq!(content(&to).await, content(&from).await);
    // What the store loses later, the copy keeps.
    from.delete(&key).await.unwrap();
    let copied = copy(&from, &to, pruning()).await.unwrap();
    assert_eq!((copied.copied, copied.failed, copied.pruned), (0, 1, 0));
    assert!(copied.problems[0].why.contains("the copy has it"));
    assert_eq!(verdict(&to).await, Verdict::Whole);
}

#[tokio::test]
async fn damaged_configurations_and_archives_are_named_and_not_copied() {
    let (source, place) = (testing::copy_of_fixtures(), testing::scratch());
    let (from, to) = (source.store(), place.store());
    let bad = [
        keys().backup(BACKUPS[0]).unwrap(),
        VolumeKeys::new("pvc-empty").unwrap().config(),
        layout::backing_image_config("base8").unwrap(),
        layout::system_backup("v1.10.1", "weekly-1").unwrap() + "system-backup.zip",
    ];
    for key in &bad {
        from.put(key, "{".into()).await.unwrap();
    }
    let copied = copy(&from, &to, quick()).await.unwrap();
    let mut named: Vec<_> = copied.problems.iter().map(|problem| problem.key.clone()).collect();
    named.sort();
    let mut expected = bad.to_vec();
    expected.sort();
    assert_eq!((named, copied.failed), (expected, 4));
    for key in &bad {
        assert_eq!(to.head(key).await.unwrap(), None, "{key}");
    }
    lacks_nothing(&to).await;
    assert_eq!(Catalog::new(to).backup_names(VOLUME).await.unwrap(), BACKUPS[1..]);
}

#[tokio::test]
async fn unfinished_backups_and_locks_stay_where_they_are() {
    let (source, place) = (testing::copy_of_fixtures(), testing::scratch());
    let from = source.store();
    let begun = BackupConfig::begin(&BackupRef::new(VOLUME, "b-begun").unwrap(), Mode::Full, 2 << 20);
    from.put(&keys().backup("b-begun").unwrap(), begun.to_bytes().unwrap().into()).await.unwrap();
    let lock = Lock::acquire(&from, &keys(), LockType::Use, Duration::ZERO).await.unwrap();
    let copied = copy(&from, &place.store(), quick()).await.unwrap();
    lock.release().await.unwrap();
    assert_eq!(copied.failed, 0);
    assert!(copied.notes[0].contains("b-begun"), "{:?}", copied.notes);
    assert_eq!(content(&place.store()).await, content(&testing::fixtures()).await);
}

#[tokio::test]
async fn a_configuration_that_changed_without_growing_is_copied() {
    let (source, place) = (testing::copy_of_fixtures(), testing::scratch());
    let (from, to) = (source.store(), place.store());
    copy(&from, &to, quick()).await.unwrap();
    for (key, old, new) in
        [(keys().config(), BACKUPS[2], BACKUPS[1]), (keys().backup(BACKUPS[0]).unwrap(), "2026-11-22T", "2026-11-21T")]
    {
        let text = String::from_utf8(from.get(&key).await.unwrap().to_vec()).unwrap();
        assert!(text.contains(old));
        from.put(&key, text.replace(old, new).into()).await.unwrap();
        assert_eq!(copy(&from, &to, quick()).await.unwrap().copied, 1, "{key}");
    }
    assert_eq!(content(&to).await, content(&from).await);
}

#[tokio::test]
async fn a_copy_onto_itself_is_refused() {
    let place = testing::copy_of_fixtures();
    let error = copy(&place.store(), &place.store(), quick()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.to_string().contains("not a second one"), "{error}");
}

#[tokio::test]
async fn what_is_damaged_in_the_copy_is_replaced_on_request_by_what_is_whole() {
    let (source, place) = (testing::copy_of_fixtures(), testing::scratch());
    let (from, to) = (source.store(), place.store());
    copy(&from, &to, quick()).await.unwrap();
    let config = Catalog::new(from.clone()).backup(VOLUME, BACKUPS[0]).await.unwrap();
    let key = keys().blocks().key(&config.blocks.as_slice()[0].checksum);
    let right = from.get(&key).await.unwrap();
    let mut wrong = right.to_vec();
    wrong[50] ^= 1;
    to.put(&key, wrong.clone().into()).await.unwrap();
    let healing = || CopyOptions { replace: HashSet::from([key.clone()]), ..quick() };
    assert_eq!(copy(&from, &to, quick()).await.unwrap().copied, 0, "its size is right");
    // What is damaged in both places is left as it is.
    from.put(&key, wrong.into()).await.unwrap();
    let copied = copy(&from, &to, healing()).await.unwrap();
    assert_eq!((copied.copied, copied.problems[0].key.as_str()), (0, key.as_str()), "{copied:?}");
    from.put(&key, right).await.unwrap();
    assert_eq!(copy(&from, &to, healing()).await.unwrap().copied, 1);
    assert_eq!(content(&to).await, content(&from).await);
}

#[tokio::test]
async fn a_copy_that_is_cut_short_has_counted_what_it_did() {
    let (from, place) = (testing::fixtures(), testing::scratch());
    let tally = Tally::default();
    let options = CopyOptions { bytes_per_second: NonZeroU64::new(1), tally: tally.clone(), ..quick() };
    let cut = tokio::time::timeout(Duration::from_secs(1), copy(&from, &place.store(), options)).await;
    assert!(cut.is_err());
    let there = content(&place.store()).await;
    let bytes: usize = there.iter().map(|(_, body)| body.len()).sum();
    assert_eq!(tally.copied(), (there.len() as u64, bytes as u64));
    assert!(!there.is_empty());
}

#[tokio::test]
async fn an_empty_store_is_refused_and_nothing_is_pruned() {
    let (source, place) = (testing::scratch(), testing::copy_of_fixtures());
    let before = content(&place.store()).await;
    let error = copy(&source.store(), &place.store(), pruning()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("holds no backups"), "{error}");
    // With something in it, but nothing of that sort.
    let volume = VolumeKeys::new("pvc-other").unwrap();
    let config = testing::fixtures().get(&keys().config()).await.unwrap();
    let config = String::from_utf8(config.to_vec()).unwrap().replace(VOLUME, "pvc-other");
    source.store().put(&volume.config(), config.into()).await.unwrap();
    let copied = copy(&source.store(), &place.store(), pruning()).await.unwrap();
    assert_eq!((copied.copied, copied.pruned), (1, 0));
    for said in ["volume pvc-legacy is not pruned", "backing images are not", "system backup weekly-1 is not"] {
        assert!(copied.notes.iter().any(|note| note.contains(said)), "{said}: {:?}", copied.notes);
    }
    assert_eq!(content(&place.store()).await.len(), before.len() + 1);
}

#[tokio::test]
async fn what_others_added_to_the_copy_is_kept() {
    let (source, place) = (testing::copy_of_fixtures(), testing::scratch());
    let (from, to) = (source.store(), place.store());
    copy(&from, &to, quick()).await.unwrap();
    add(&to, "b-younger", "2099-01-01T00:00:00Z").await;
    add(&to, "b-older", "2020-01-01T00:00:00Z").await;
    let copied = copy(&from, &to, pruning()).await.unwrap();
    assert_eq!(copied.pruned, 1);
    assert!(copied.notes[0].contains("b-younger"), "{:?}", copied.notes);
    assert_eq!(Catalog::new(to.clone()).backup_names(VOLUME).await.unwrap()[0], "b-younger");
    lacks_nothing(&to).await;

    // Somebody restores from the copy.
    add(&to, "b-older", "2020-01-01T00:00:00Z").await;
    let lock = Lock::acquire(&to, &keys(), LockType::Use, Duration::ZERO).await.unwrap();
    let copied = copy(&from, &to, pruning()).await.unwrap();
    lock.release().await.unwrap();
    assert_eq!(copied.pruned, 0);
    assert!(copied.notes.iter().any(|note| note.contains("is locked for")), "{:?}", copied.notes);
}

#[tokio::test]
async fn the_pace_is_kept() {
    let (from, place) = (testing::fixtures(), testing::scratch());
    let sizes: Vec<u64> = content(&from).await.iter().map(|(_, body)| body.len() as u64).collect();
    let (all, largest) = (sizes.iter().sum::<u64>(), *sizes.iter().max().unwrap());
    let start = Instant::now();
    let options = CopyOptions { bytes_per_second: NonZeroU64::new(all), ..quick() };
    copy(&from, &place.store(), options).await.unwrap();
    // The last one need not be waited for.
    let least = Duration::from_secs_f64((all - largest) as f64 / all as f64);
    assert!(start.elapsed() >= least && least > Duration::from_millis(100), "{:?} {least:?}", start.elapsed());
}

#[cfg(feature = "sandbox")]
mod on_s3;
