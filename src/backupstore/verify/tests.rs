use std::fs;

use futures::TryStreamExt;

use super::*;
use crate::backupstore::{
    Compression,
    codec::pack,
    config::LockType,
    layout::{BlockPool, VolumeKeys},
    lock::{self, Lock},
    testing::{self, Scratch},
};

const VOLUME: &str = "pvc-legacy";
/// The first two lists differ only at 4 MiB; the third has one block more, at 14 MiB.
const BACKUPS: [&str; 3] = ["backup-0000000000001401", "backup-0000000000001402", "backup-0000000000001403"];
const MIB: u64 = 1 << 20;
const LEVELS: [Level; 4] = [Level::Meta, Level::Exists, Level::Sample(100), Level::Deep];
/// Locks that need not settle, as nobody else is there.
const AT_ONCE: Locking = Locking { settle: Duration::ZERO, patience: Duration::ZERO };

fn only(volume: &str) -> Selection {
    Selection { volumes: vec![volume.into()], ..Selection::default() }
}

async fn verify(scratch: &Scratch, level: Level) -> Report {
    store(&scratch.store(), &only(VOLUME), VerifyOptions::new(level)).await.unwrap()
}

/// The verdicts by name, with the places of bad blocks in MiB.
fn words(report: &Report) -> Vec<String> {
    let mut items: Vec<_> = report.items.iter().collect();
    items.sort_by_key(|row| &row.item);
    let word = |row: &&Row| {
        let spoils = report.bad.iter().flat_map(|bad| &bad.spoils).filter(|spoils| spoils.item == row.item);
        let offsets: Vec<u64> = spoils.flat_map(|spoils| &spoils.offsets).map(|offset| offset / MIB).collect();
        if offsets.is_empty() { row.verdict.to_string() } else { format!("{} at {offsets:?}", row.verdict) }
    };
    items.iter().map(word).collect()
}

/// The file of the block a backup has at an offset.
async fn block(scratch: &Scratch, backup: &str, offset: u64) -> std::path::PathBuf {
    let config = Catalog::new(scratch.store()).backup(VOLUME, backup).await.unwrap();
    let pool = VolumeKeys::new(VOLUME).unwrap().blocks();
    scratch.object(&pool.key(&config.blocks.at(offset).unwrap().checksum))
}

async fn locks(scratch: &Scratch) -> usize {
    lock::list(&scratch.store(), &VolumeKeys::new(VOLUME).unwrap()).await.unwrap().len()
}

#[test]
fn levels_are_written_as_they_are_read() {
    for level in [Level::Meta, Level::Exists, Level::Sample(1), Level::Sample(100), Level::Deep] {
        assert_eq!(level.to_string().parse::<Level>().unwrap(), level);
    }
    assert_eq!("sample=5".parse::<Level>().unwrap(), Level::Sample(5));
    for bad in ["", "Deep", "sample", "sample=", "sample=0%", "sample=101%", "sample=5%%", "sample=-5%", "sample=300"] {
        assert_eq!(bad.parse::<Level>().unwrap_err().kind(), Kind::Usage, "{bad}");
    }
}

#[tokio::test]
async fn what_longhorn_wrote_is_whole_at_every_level() {
    for level in LEVELS {
        let report = store(&testing::fixtures(), &Selection::default(), VerifyOptions::new(level)).await.unwrap();
        assert_eq!(report.verdict, Verdict::Whole, "{report:?}");
        assert!(report.bad.is_empty() && report.notes.is_empty(), "{report:?}");
        assert_eq!(words(&report), ["whole"; 7], "five backups, an image, a system backup");
        // Each block once, though three backups share some.
        let read = if level.reads_blocks() { 9 } else { 0 };
        let totals = report.totals;
        assert_eq!((totals.blocks, totals.bytes, totals.blocks_read), (9, 18 * MIB, read), "{level}");
        assert_eq!(totals.stored_bytes_read > 0, level.reads_blocks());
    }
}

#[tokio::test]
async fn every_damage_to_a_shared_block_is_found_and_traced_and_the_rest_is_whole() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage, &str); 8] = [
        ("flipped bit", |body| body[60_000] ^= 4, ""),
        ("flipped bit in the trailer", |body| *body.last_mut().unwrap() ^= 1, "data are right"),
        ("cut in the middle", |body| body.truncate(30_000), "cannot be read"),
        ("cut by one byte", |body| body.truncate(67_562), "data are right"),
        ("zero length", Vec::clear, "empty"),
        ("other data", |body| *body = pack(&vec![9; 2 << 20], Compression::Gzip).unwrap(), "other data"),
        ("too short", |body| *body = pack(&[9; 100], Compression::Lz4).unwrap(), "100 bytes instead of"),
        ("too large", |body| body.resize(3 << 20, 0), "larger than any block"),
    ];
    for (what, damage, said) in damages {
        let scratch = testing::copy_of_fixtures();
        let path = block(&scratch, BACKUPS[1], 4 * MIB).await;
        let mut body = fs::read(&path).unwrap();
        damage(&mut body);
        fs::write(&path, body).unwrap();
        let report = verify(&scratch, Level::Deep).await;
        assert_eq!(words(&report), ["whole", "damaged at [4]", "damaged at [4]"], "{what}");
        assert_eq!((report.verdict, report.bad.len()), (Verdict::Damaged, 1), "{what}");
        assert!(path.ends_with(&report.bad[0].key), "{what}");
        assert!(report.bad[0].what.contains(said), "{what}: {}", report.bad[0].what);
    }
}

#[tokio::test]
async fn swapped_and_missing_blocks_are_found() {
    let scratch = testing::copy_of_fixtures();
    let paths = [block(&scratch, BACKUPS[0], 4 * MIB).await, block(&scratch, BACKUPS[2], 14 * MIB).await];
    let bodies = [fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap()];
    fs::write(&paths[0], &bodies[1]).unwrap();
    fs::write(&paths[1], &bodies[0]).unwrap();
    let expected = ["damaged at [4]", "whole", "damaged at [14]"];
    assert_eq!(words(&verify(&scratch, Level::Deep).await), expected);
    let listed = verify(&scratch, Level::Exists).await;
    assert_eq!(listed.verdict, Verdict::Whole, "a listing does not show content");

    fs::remove_file(&paths[0]).unwrap();
    fs::write(&paths[1], "").unwrap();
    for level in [Level::Exists, Level::Sample(1), Level::Deep] {
        let report = verify(&scratch, level).await;
        assert_eq!(words(&report), expected, "{level}");
        let whats: Vec<&str> = report.bad.iter().map(|bad| bad.what.as_str()).collect();
        assert_eq!(whats.len(), 2);
        assert!(whats.contains(&"it is missing") && whats.contains(&"it is empty"));
    }
    assert_eq!(verify(&scratch, Level::Meta).await.verdict, Verdict::Whole, "no block is looked at");
}

#[tokio::test]
async fn configurations_are_judged_one_by_one() {
    let keys = VolumeKeys::new(VOLUME).unwrap();
    let change = |scratch: &Scratch, key: &str, from: &str, to: &str| {
        let text = fs::read_to_string(scratch.object(key)).unwrap();
        assert!(text.contains(from));
        fs::write(scratch.object(key), text.replace(from, to)).unwrap();
    };
    let third = keys.backup(BACKUPS[2]).unwrap();
    for (from, to, word) in [
        ("\"gzip\"", "\"lz4\"", "whole"),
        ("\"gzip\"", "\"zstd\"", "whole"),
        ("\"Blocks\":[", "\"Blocks\":[7", "damaged"),
        ("pvc-legacy", "pvc-foreign", "damaged"),
        ("14680064", "1099511627776", "damaged"),
        ("\"8388608\"", "\"6291456\"", "damaged"),
    ] {
        let scratch = testing::copy_of_fixtures();
        change(&scratch, &third, from, to);
        for level in LEVELS {
            let report = verify(&scratch, level).await;
            assert_eq!(words(&report), ["whole", "whole", word], "{to}, {level}");
            assert_eq!(report.bad.iter().any(|bad| bad.key == third), word != "whole", "{to}, {level}");
            assert_eq!(report.notes.len(), usize::from(to == "\"zstd\""));
        }
    }
    let scratch = testing::copy_of_fixtures();
    change(&scratch, &third, "2026-11-22T18:38:59Z", "");
    assert_eq!(words(&verify(&scratch, Level::Exists).await), ["whole", "whole", "crashed"]);
    let lock = Lock::acquire(&scratch.store(), &keys, LockType::Use, Duration::ZERO).await.unwrap();
    let report = verify(&scratch, Level::Exists).await;
    assert_eq!(words(&report), ["whole", "whole", "in-progress"]);
    assert_eq!(report.verdict, Verdict::Whole, "what is not complete is not damaged");
    lock.release().await.unwrap();
    // A lock of our own is no sign of a backup being made.
    let options = VerifyOptions { lock: Some(AT_ONCE), ..VerifyOptions::new(Level::Deep) };
    let report = store(&scratch.store(), &only(VOLUME), options).await.unwrap();
    assert_eq!(words(&report), ["whole", "whole", "crashed"]);

    fs::remove_file(scratch.object(&keys.config())).unwrap();
    let report = verify(&scratch, Level::Exists).await;
    assert_eq!(words(&report), ["damaged", "damaged", "crashed"]);
    assert_eq!((report.bad.len(), report.bad[0].key.as_str()), (1, keys.config().as_str()));
}

#[tokio::test]
async fn a_lost_latest_backup_is_missed() {
    let scratch = testing::copy_of_fixtures();
    let keys = VolumeKeys::new(VOLUME).unwrap();
    let third = keys.backup(BACKUPS[2]).unwrap();
    fs::remove_file(scratch.object(&third)).unwrap();
    let report = verify(&scratch, Level::Meta).await;
    assert_eq!(
        (words(&report), report.bad[0].key.as_str()),
        (vec!["whole".into(), "whole".into(), "damaged".to_owned()], third.as_str())
    );
    // While it is deleted, its volume names it for a moment.
    let lock = Lock::acquire(&scratch.store(), &keys, LockType::Delete, Duration::ZERO).await.unwrap();
    let report = verify(&scratch, Level::Meta).await;
    assert_eq!((report.verdict, words(&report).len(), report.notes.len()), (Verdict::Whole, 2, 1), "{report:?}");
    lock.release().await.unwrap();
}

#[tokio::test]
async fn a_damaged_backing_image_spoils_the_volumes_over_it() {
    let scratch = testing::copy_of_fixtures();
    let pool = BlockPool::backing_images();
    let object = scratch.store().list(pool.prefix()).await.unwrap().remove(0);
    fs::write(scratch.object(&object.key), "damaged").unwrap();
    let report = store(&scratch.store(), &only("pvc-backed"), VerifyOptions::new(Level::Deep)).await.unwrap();
    assert_eq!(words(&report), ["damaged at [4]", "damaged at [4]"], "the backup and the image");
    assert_eq!((report.bad.len(), &report.bad[0].key), (1, &object.key));
    assert!(report.items[0].why.as_ref().unwrap().contains("base8"), "{report:?}");
    assert_eq!(verify(&scratch, Level::Deep).await.verdict, Verdict::Whole, "another volume");
}

#[tokio::test]
async fn only_what_is_selected_is_verified() {
    let scratch = testing::copy_of_fixtures();
    fs::remove_file(block(&scratch, BACKUPS[2], 14 * MIB).await).unwrap();
    let run = async |volumes: &[&str], backups: &[&str]| {
        let selection = Selection {
            volumes: volumes.iter().map(|name| (*name).to_owned()).collect(),
            backups: backups.iter().map(|name| name.parse().unwrap()).collect(),
        };
        store(&scratch.store(), &selection, VerifyOptions::new(Level::Deep)).await
    };
    let first = format!("{VOLUME}@{}", BACKUPS[0]);
    for (volumes, backups, count, blocks) in [
        (&[][..], &[BACKUPS[0]][..], 1, 3),
        (&[], &[&first], 1, 3),
        (&[], &[BACKUPS[0], BACKUPS[1]], 2, 4),
        (&["pvc-empty"], &[&first], 2, 3),
        // The image it lies over belongs to it.
        (&["pvc-backed"], &[], 2, 4),
    ] {
        let report = run(volumes, backups).await.unwrap();
        assert_eq!(report.verdict, Verdict::Whole, "{volumes:?} {backups:?}: {report:?}");
        assert_eq!((report.items.len(), report.totals.blocks), (count, blocks), "{volumes:?} {backups:?}");
    }
    assert_eq!(run(&[VOLUME], &[&first]).await.unwrap().verdict, Verdict::Damaged, "all of the volume");
    for (volumes, backups) in [
        (&["pvc-none"][..], &[][..]),
        (&[], &["b-none"]),
        (&["pvc-empty"], &[BACKUPS[0]]),
        (&[], &["pvc-empty@b-none"]),
    ] {
        assert_eq!(run(volumes, backups).await.unwrap_err().kind(), Kind::NotFound, "{volumes:?} {backups:?}");
    }
    for bad in ["", "@b-1", "pvc-1@", "../x", "pvc-1@a@b"] {
        assert!(bad.parse::<BackupChoice>().is_err(), "{bad}");
    }
}

#[tokio::test]
async fn what_is_deleted_meanwhile_is_no_loss() {
    let scratch = testing::copy_of_fixtures();
    let gone = [
        scratch.object(&VolumeKeys::new(VOLUME).unwrap().backup(BACKUPS[2]).unwrap()),
        block(&scratch, BACKUPS[2], 14 * MIB).await,
    ];
    let delete = gone.clone();
    // One block after the other, by name: the one that goes is the fourth of five.
    let bytes = Progress::new(move |_, _| delete.iter().for_each(|path| drop(fs::remove_file(path))));
    let options = VerifyOptions { concurrency: 1, bytes: Some(bytes), ..VerifyOptions::new(Level::Deep) };
    let report = store(&scratch.store(), &only(VOLUME), options).await.unwrap();
    assert!(gone.iter().all(|path| !path.exists()));
    assert_eq!(words(&report)[..2], ["whole", "whole"]);
    assert!(report.items.iter().any(|row| row.verdict == Verdict::Deleted), "{report:?}");
    // The volume's configuration still names it, which a deletion under way would be about to change.
    assert!(report.bad.iter().all(|bad| !bad.key.contains("/blocks/")), "{report:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_neither_whole_nor_damaged() {
    let scratch = testing::copy_of_fixtures();
    let path = block(&scratch, BACKUPS[2], 14 * MIB).await;
    fs::remove_file(&path).unwrap();
    // Not even root opens a link to itself.
    std::os::unix::fs::symlink(&path, &path).unwrap();
    for level in [Level::Exists, Level::Sample(100), Level::Deep] {
        let report = verify(&scratch, level).await;
        assert_eq!(words(&report), ["whole", "whole", "unchecked"], "{level}");
        assert_eq!((report.verdict, report.bad.len()), (Verdict::Unchecked, 0));
        let why = report.items[2].why.as_ref().unwrap();
        assert!(why.contains("1 block was not looked at") && why.contains(".blk"), "{why}");
    }
    // What is damaged is damaged all the same.
    fs::write(block(&scratch, BACKUPS[0], 4 * MIB).await, "").unwrap();
    let report = verify(&scratch, Level::Deep).await;
    assert_eq!(
        (words(&report), report.verdict),
        (vec!["damaged at [4]".into(), "whole".into(), "unchecked".to_owned()], Verdict::Damaged)
    );
}

#[tokio::test]
async fn repeated_samples_find_what_a_deep_look_finds() {
    let scratch = testing::copy_of_fixtures();
    let path = block(&scratch, BACKUPS[0], 4 * MIB).await;
    let mut body = fs::read(&path).unwrap();
    body[60_000] ^= 4;
    fs::write(&path, body).unwrap();
    let memory = scratch.path("state/coverage.json");
    let mut found = 0;
    let mut read = 0;
    for run in 1..=4 {
        let coverage = Coverage::open(&memory, "s").unwrap();
        let options = VerifyOptions { coverage, ..VerifyOptions::new(Level::Sample(30)) };
        let report = store(&scratch.store(), &only(VOLUME), options).await.unwrap();
        found += report.bad.len();
        read += report.totals.blocks_read;
        let covered = report.covered.unwrap();
        assert_eq!((covered.percent, covered.last_full_turn.is_some()), ([30, 60, 90, 0][run - 1], run == 4));
    }
    assert!(found >= 1 && (5..10).contains(&read), "{found} found in {read} blocks");

    // A memory that cannot be kept does not spoil the check, and is told.
    let coverage = Coverage::open(&path.join("below/a/file.json"), "s");
    assert!(coverage.is_err(), "a file is no folder");
}

#[tokio::test]
async fn volumes_are_locked_while_they_are_read_if_the_store_can_be_written() {
    let scratch = testing::copy_of_fixtures();
    let keys = VolumeKeys::new(VOLUME).unwrap();
    let run = async |level: Level, lock: Option<Locking>| {
        let (seen, place) = (std::sync::Arc::new(AtomicU64::new(0)), scratch.object(&keys.locks()));
        let count = seen.clone();
        let bytes = Progress::new(move |_, _| {
            count.fetch_max(fs::read_dir(&place).map_or(0, Iterator::count) as u64, Relaxed);
        });
        let options = VerifyOptions { lock, bytes: Some(bytes), ..VerifyOptions::new(level) };
        let report = store(&scratch.store(), &only(VOLUME), options).await.unwrap();
        assert_eq!(report.verdict, Verdict::Whole, "{report:?}");
        (seen.load(Relaxed), report.notes)
    };
    assert_eq!(run(Level::Deep, Some(AT_ONCE)).await, (1, vec![]));
    assert_eq!(locks(&scratch).await, 0, "it is given back");
    assert_eq!(run(Level::Deep, None).await, (0, vec![]));
    run(Level::Exists, Some(AT_ONCE)).await;

    let deletion = Lock::acquire(&scratch.store(), &keys, LockType::Delete, Duration::ZERO).await.unwrap();
    let (_, notes) = run(Level::Deep, Some(AT_ONCE)).await;
    assert!(notes.len() == 2 && notes[1].contains("read without a lock"), "{notes:?}");
    assert_eq!(locks(&scratch).await, 1);
    deletion.release().await.unwrap();

    // A file where the locks belong.
    fs::write(scratch.object(keys.locks().trim_end_matches('/')), "").unwrap();
    let options = VerifyOptions { lock: Some(AT_ONCE), ..VerifyOptions::new(Level::Deep) };
    let report = store(&scratch.store(), &Selection::default(), options).await.unwrap();
    assert!(report.notes.iter().any(|note| note.contains("not locked")), "{:?}", report.notes);
}

#[tokio::test]
async fn an_interrupted_run_says_what_it_found_and_gives_its_lock_back() {
    let scratch = testing::copy_of_fixtures();
    fs::write(block(&scratch, BACKUPS[1], 4 * MIB).await, "").unwrap();
    let options = VerifyOptions { concurrency: 1, lock: Some(AT_ONCE), ..VerifyOptions::new(Level::Deep) };
    let cancel = options.cancel.clone();
    let options = VerifyOptions { bytes: Some(Progress::new(move |_, _| cancel.cancel())), ..options };
    let report = store(&scratch.store(), &only(VOLUME), options).await.unwrap();
    assert!(report.interrupted);
    // The empty block comes first.
    assert_eq!(words(&report), ["unchecked", "damaged at [4]", "damaged at [4]"]);
    assert_eq!((report.bad.len(), locks(&scratch).await), (1, 0));

    let options = VerifyOptions::new(Level::Meta);
    options.cancel.cancel();
    let error = store(&scratch.store(), &Selection::default(), options).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled);
}

#[tokio::test]
async fn an_empty_store_is_not_called_whole() {
    let scratch = testing::scratch();
    let report = store(&scratch.store(), &Selection::default(), VerifyOptions::new(Level::Deep)).await.unwrap();
    assert_eq!((report.verdict, report.items.len()), (Verdict::Unchecked, 0));
    assert!(report.notes[0].contains("nothing was found"), "{report:?}");
}

#[cfg(feature = "sandbox")]
#[tokio::test]
async fn a_former_version_of_a_bad_block_is_named_when_it_is_whole() {
    use crate::backupstore::copy;
    let place = testing::scratch();
    let (server, to) = testing::bucket(&place).await;
    server.protect_bucket("backups", None).await.unwrap();
    copy::copy(&testing::fixtures(), &to, copy::CopyOptions::default()).await.unwrap();
    let config = Catalog::new(to.clone()).backup(VOLUME, BACKUPS[0]).await.unwrap();
    let pool = VolumeKeys::new(VOLUME).unwrap().blocks();
    let key = |index: usize| pool.key(&config.blocks.as_slice()[index].checksum);
    let what = async |level, index: usize| {
        let report = store(&to, &only(VOLUME), VerifyOptions::new(level)).await.unwrap();
        report.bad.into_iter().find(|bad| bad.key == key(index)).map(|bad| bad.what)
    };
    // Deleted, and overwritten by what it is not.
    to.delete(&key(0)).await.unwrap();
    to.put(&key(1), to.get(&key(2)).await.unwrap()).await.unwrap();
    let versions: Vec<_> = to.list_versions(&key(1)).try_collect::<Vec<_>>().await.unwrap().concat();
    let former = versions.iter().find(|version| !version.is_current).unwrap();
    assert!(what(Level::Exists, 0).await.unwrap().contains("is missing; its former version"));
    let said = what(Level::Deep, 1).await.unwrap();
    assert!(said.ends_with(&format!("; its former version {} is whole", former.version)), "{said}");
    // One whose former version is no better, and one that nobody may ask about.
    to.put(&key(1), to.get(&key(1)).await.unwrap()).await.unwrap();
    let pages: Vec<_> = to.list_versions(&key(1)).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(pages.concat().len(), 3);
    assert!(what(Level::Deep, 1).await.unwrap().contains(&former.version), "the one before is found");
    server.faults().deny("ListObjectVersions", Some(""));
    assert!(!what(Level::Deep, 1).await.unwrap().contains("former"));
}
