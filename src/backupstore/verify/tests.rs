use std::fs;

use super::*;
use crate::backupstore::{
    Compression,
    codec::pack,
    config::LockType,
    lock::Lock,
    testing::{self, Scratch},
};

const VOLUME: &str = "pvc-legacy";
/// The first two lists differ only at 4 MiB; the third has one block more, at 14 MiB.
const BACKUPS: [&str; 3] = ["backup-0000000000001401", "backup-0000000000001402", "backup-0000000000001403"];
const MIB: u64 = 1 << 20;

async fn verify(scratch: &Scratch, level: Level) -> VolumeReport {
    volume(&scratch.store(), VOLUME, None, &VerifyOptions::new(level)).await.unwrap()
}

/// The verdicts by the backups' names.
fn words(report: &VolumeReport) -> Vec<String> {
    let word = |verdict: &Verdict| match verdict {
        Verdict::Whole => "whole".to_owned(),
        Verdict::Damaged(spoilt) => {
            let offsets: Vec<u64> = spoilt.iter().flat_map(|block| &block.offsets).map(|offset| offset / MIB).collect();
            format!("damaged at {offsets:?}")
        }
        Verdict::Unusable(error) => format!("unusable: {}", error.kind()),
        Verdict::InProgress => "in progress".to_owned(),
        Verdict::Crashed => "crashed".to_owned(),
        Verdict::Deleted => "deleted".to_owned(),
    };
    let mut backups: Vec<_> = report.backups.iter().collect();
    backups.sort_by_key(|(backup, _)| backup);
    backups.iter().map(|(_, verdict)| word(verdict)).collect()
}

/// The file of the block a backup has at an offset.
async fn block(scratch: &Scratch, backup: &str, offset: u64) -> std::path::PathBuf {
    let config = Catalog::new(scratch.store()).backup(VOLUME, backup).await.unwrap();
    let pool = VolumeKeys::new(VOLUME).unwrap().blocks();
    scratch.object(&pool.key(&config.blocks.at(offset).unwrap().checksum))
}

#[tokio::test]
async fn what_longhorn_wrote_is_whole_at_every_level() {
    let store = testing::fixtures();
    for level in [Level::Exists, Level::Deep] {
        for name in ["pvc-legacy", "pvc-empty", "pvc-backed"] {
            let report = volume(&store, name, None, &VerifyOptions::new(level)).await.unwrap();
            assert!(report.is_whole() && report.bad.is_empty(), "{name}: {report:?}");
            assert!(words(&report).iter().all(|word| word == "whole"));
            assert_eq!(report.stored_bytes > 0, level == Level::Deep && name != "pvc-empty");
        }
    }
    let report = volume(&store, VOLUME, None, &VerifyOptions::new(Level::Deep)).await.unwrap();
    assert_eq!((report.blocks, report.bytes), (5, 10 * MIB), "each block once, though three backups share them");
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
        assert_eq!(report.bad.len(), 1, "{what}");
        assert!(path.ends_with(&report.bad[0].key), "{what}");
        assert!(report.bad[0].fault.to_string().contains(said), "{what}: {}", report.bad[0].fault);
        assert!(!report.is_whole());
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
    assert!(verify(&scratch, Level::Exists).await.is_whole(), "a listing does not show content");

    fs::remove_file(&paths[0]).unwrap();
    fs::write(&paths[1], "").unwrap();
    for level in [Level::Exists, Level::Deep] {
        let report = verify(&scratch, level).await;
        assert_eq!(words(&report), expected);
        let faults: Vec<&Fault> = report.bad.iter().map(|bad| &bad.fault).collect();
        assert_eq!(faults.len(), 2);
        assert!(faults.contains(&&Fault::Missing) && faults.contains(&&Fault::Empty));
    }
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
        ("\"Blocks\":[", "\"Blocks\":[7", "unusable: damaged"),
        ("pvc-legacy", "pvc-foreign", "unusable: damaged"),
        ("14680064", "1099511627776", "unusable: damaged"),
    ] {
        let scratch = testing::copy_of_fixtures();
        change(&scratch, &third, from, to);
        assert_eq!(words(&verify(&scratch, Level::Exists).await), ["whole", "whole", word], "{to}");
    }
    let scratch = testing::copy_of_fixtures();
    change(&scratch, &third, "2026-11-22T18:38:59Z", "");
    assert_eq!(words(&verify(&scratch, Level::Exists).await), ["whole", "whole", "crashed"]);
    let lock = Lock::acquire(&scratch.store(), &keys, LockType::Use, std::time::Duration::ZERO).await.unwrap();
    let report = verify(&scratch, Level::Exists).await;
    assert_eq!(words(&report), ["whole", "whole", "in progress"]);
    assert!(report.is_whole(), "what is not complete is not damaged");
    lock.release().await.unwrap();

    fs::remove_file(scratch.object(&keys.config())).unwrap();
    let report = verify(&scratch, Level::Exists).await;
    assert_eq!(words(&report), ["unusable: not-found", "unusable: not-found", "crashed"]);
}

#[tokio::test]
async fn a_damaged_backing_image_spoils_the_volumes_over_it() {
    let scratch = testing::copy_of_fixtures();
    let pool = BlockPool::backing_images();
    let object = scratch.store().list(pool.prefix()).await.unwrap().remove(0);
    fs::write(scratch.object(&object.key), "damaged").unwrap();
    let options = VerifyOptions::new(Level::Deep);
    let report = volume(&scratch.store(), "pvc-backed", None, &options).await.unwrap();
    let Verdict::Unusable(error) = &report.backups[0].1 else { panic!("{report:?}") };
    assert_eq!((error.kind(), error.object_name()), (Kind::Damaged, Some(object.key.as_str())));
    assert!(error.to_string().contains("base8"), "{error}");
    assert!(volume(&scratch.store(), VOLUME, None, &options).await.unwrap().is_whole());
}

#[tokio::test]
async fn only_the_named_backups_are_verified() {
    let scratch = testing::copy_of_fixtures();
    fs::remove_file(block(&scratch, BACKUPS[2], 14 * MIB).await).unwrap();
    let only = [BACKUPS[0].to_owned()];
    let options = VerifyOptions::new(Level::Deep);
    let report = volume(&scratch.store(), VOLUME, Some(&only), &options).await.unwrap();
    assert_eq!((words(&report), report.blocks), (vec!["whole".to_owned()], 3));
    let none = ["b-none".to_owned()];
    let error = volume(&scratch.store(), VOLUME, Some(&none), &options).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}
