//! Damage done to backups that Longhorn wrote, and what `lhrun backups verify` says of it: all of it is found, none is
//! invented, and what is not touched is still called whole. The table is that of `docs/verify.md`.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    folders::copy,
    lab::{Said, lhrun},
};

pub const LEGACY: &str = "backupstore/volumes/7e/d3/pvc-legacy";
const BACKED: &str = "backupstore/volumes/1d/7f/pvc-backed";
const IMAGE: &str = "backupstore/backing-images/backing-images/base8/backing-image.cfg";
const IMAGE_BLOCK: &str =
    "backupstore/backing-images/blocks/77/bd/77bd667f2e6582d3c8bb898d4790b850c50276c8dcc3c34f622c74f1df3f956f.blk";
const SYSTEM: &str = "backupstore/system-backups/v1.10.1/weekly-1";
/// A block of 1402 and 1403, at 4 MiB; 67,563 bytes of gzip.
pub const SHARED: &str = "325e8b0f52c63797ff6d8c6c50a7d6e93499447c34d7713fbb2aa9f24a83cee2";
/// A block of 1401 alone, at 4 MiB.
const FIRST: &str = "4f2ef65de73cdb064cd382eca1a2d61c1756e0bf9d90b4a569dfd484f638eedb";
/// A block of 1403 alone, at 14 MiB.
const LAST: &str = "7a93a89e8e5a3144e8382b4d375e5d6e716faba3ad26279cbfc3ce8384920568";

/// A copy of the backups Longhorn wrote, to damage.
pub struct Copy {
    pub folder: TempDir,
}

impl Copy {
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/longhorn/backupstore");
        copy(&fixtures, &folder.path().join("store/backupstore"));
        Self { folder }
    }

    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join("store").join(key)
    }

    fn read(&self, key: &str) -> Vec<u8> {
        fs::read(self.path(key)).unwrap_or_else(|error| panic!("{key}: {error}"))
    }

    fn write(&self, key: &str, body: impl AsRef<[u8]>) {
        let path = self.path(key);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
        fs::write(path, body).expect("the object is written");
    }

    pub fn remove(&self, key: &str) {
        fs::remove_file(self.path(key)).unwrap_or_else(|error| panic!("{key}: {error}"));
    }

    fn change(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut body = self.read(key);
        let before = body.clone();
        change(&mut body);
        assert_ne!(body, before, "{key} is not damaged");
        self.write(key, body);
    }

    /// Replaces a text that must be there.
    fn replace(&self, key: &str, from: &str, to: &str) {
        let text = String::from_utf8(self.read(key)).expect("text");
        assert!(text.contains(from), "{key} has no {from}");
        self.write(key, text.replace(from, to));
    }

    /// Pretends that an object was written so long ago.
    fn age(&self, key: &str, seconds: u64) {
        let file = File::options().write(true).open(self.path(key)).expect("the object");
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).expect("its time is set");
    }

    pub fn verify(&self, arguments: &[&str]) -> Said {
        let mut command = lhrun();
        command.args(["backups", "verify", "--store", &format!("file://{}", self.path("").display())]);
        command.args(arguments).env("XDG_STATE_HOME", self.folder.path().join("state"));
        Said::of(command)
    }
}

pub fn block(checksum: &str) -> String {
    format!("{LEGACY}/blocks/{}/{}/{checksum}.blk", &checksum[..2], &checksum[2..4])
}

pub fn backup(number: &str) -> String {
    format!("{LEGACY}/backups/backup_backup-000000000000{number}.cfg")
}

fn raw(packed: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut raw).expect("gzip");
    raw
}

/// A backup that was begun and not finished.
fn begin(store: &Copy) {
    let text = r#"{"Name":"backup-0000000000001404","VolumeName":"pvc-legacy","CreatedTime":"","Size":"0"}"#;
    store.write(&backup("1404"), text);
}

fn lock(store: &Copy, kind: u8, age: u64) {
    let key = format!("{LEGACY}/locks/lock-00000000000000aa.lck");
    store.write(&key, format!(r#"{{"Name":"lock-00000000000000aa","Type":{kind},"Acquired":true}}"#));
    store.age(&key, age);
}

/// One sort of damage, and what is expected at each level: what is not whole, by its verdict.
struct Case {
    damage: &'static str,
    inflict: fn(&Copy),
    /// The objects that must be named as bad wherever the level finds any damage; all others must not be.
    bad: fn() -> Vec<String>,
    meta: &'static str,
    exists: &'static str,
    deep: &'static str,
}

const WHOLE: &str = "all whole";
const SHARED_DAMAGED: &str = "1402, 1403 damaged";
const LEGACY_DAMAGED: &str = "1401, 1402, 1403 damaged";
const IMAGE_DAMAGED: &str = "b1, base8 damaged";

/// Damage that a level either sees whole or not at all.
const fn case(
    damage: &'static str,
    [meta, exists, deep]: [&'static str; 3],
    bad: fn() -> Vec<String>,
    inflict: fn(&Copy),
) -> Case {
    Case { damage, inflict, bad, meta, exists, deep }
}

fn cases() -> Vec<Case> {
    let none: fn() -> Vec<String> = Vec::new;
    let shared: fn() -> Vec<String> = || vec![block(SHARED)];
    vec![
        case("nothing", [WHOLE; 3], none, |_| {}),
        // Blocks.
        case("a flipped bit in a block of two backups", [WHOLE, WHOLE, SHARED_DAMAGED], shared, |store| {
            store.change(&block(SHARED), |body| body[60_000] ^= 4);
        }),
        case("a flipped bit in the checksum behind a block's data", [WHOLE, WHOLE, SHARED_DAMAGED], shared, |store| {
            store.change(&block(SHARED), |body| body[67_555] ^= 1);
        }),
        case("a block cut to half", [WHOLE, WHOLE, SHARED_DAMAGED], shared, |store| {
            store.change(&block(SHARED), |body| body.truncate(33_000));
        }),
        case("a block cut to 100 bytes", [WHOLE, SHARED_DAMAGED, SHARED_DAMAGED], shared, |store| {
            store.change(&block(SHARED), |body| body.truncate(100));
        }),
        case("a block of zero length", [WHOLE, SHARED_DAMAGED, SHARED_DAMAGED], shared, |store| {
            store.change(&block(SHARED), Vec::clear);
        }),
        case("a missing block", [WHOLE, SHARED_DAMAGED, SHARED_DAMAGED], shared, |store| store.remove(&block(SHARED))),
        case("a block larger than any block", [WHOLE, SHARED_DAMAGED, SHARED_DAMAGED], shared, |store| {
            store.change(&block(SHARED), |body| body.resize(3 << 20, 7));
        }),
        case("a block that holds other data", [WHOLE, WHOLE, SHARED_DAMAGED], shared, |store| {
            store.write(&block(SHARED), store.read(&block(FIRST)));
        }),
        case(
            "two blocks swapped",
            [WHOLE, WHOLE, "1401, 1403 damaged"],
            || vec![block(FIRST), block(LAST)],
            |store| {
                let first = store.read(&block(FIRST));
                store.write(&block(FIRST), store.read(&block(LAST)));
                store.write(&block(LAST), first);
            },
        ),
        case("a block packed by another method than its backups say", [WHOLE; 3], none, |store| {
            store.change(&block(SHARED), |body| *body = raw(body));
        }),
        case("a half-written block beside the real one, and one nobody needs", [WHOLE; 3], none, |store| {
            store.write(&(block(SHARED) + ".tmp.1763838525"), "half");
            store.write(&block(&"ab".repeat(32)), "nobody's");
        }),
        case(
            "a block that cannot be read, as on a failing disk",
            [WHOLE, "1402, 1403 unchecked", "1402, 1403 unchecked"],
            none,
            |store| {
                store.remove(&block(SHARED));
                let path = store.path(&block(SHARED));
                std::os::unix::fs::symlink(&path, &path).expect("a link to itself");
            },
        ),
        // Configurations.
        case(
            "the latest backup's configuration missing",
            ["1403 damaged"; 3],
            || vec![backup("1403")],
            |store| {
                store.remove(&backup("1403"));
            },
        ),
        case("an older backup's configuration missing (as if it were deleted)", [WHOLE; 3], none, |store| {
            store.remove(&backup("1402"));
        }),
        case(
            "a backup's configuration cut off",
            ["1402 damaged"; 3],
            || vec![backup("1402")],
            |store| {
                store.change(&backup("1402"), |body| body.truncate(300));
            },
        ),
        case(
            "a backup's configuration of zero length",
            ["1402 damaged"; 3],
            || vec![backup("1402")],
            |store| {
                store.change(&backup("1402"), Vec::clear);
            },
        ),
        case(
            "another backup's configuration in its place",
            ["1402 damaged"; 3],
            || vec![backup("1402")],
            |store| {
                store.write(&backup("1402"), store.read(&backup("1401")));
            },
        ),
        case(
            "a block list that lost an entry",
            ["1402 damaged"; 3],
            || vec![backup("1402")],
            |store| {
                let entry = format!(r#"{{"Offset":4194304,"BlockChecksum":"{SHARED}"}},"#);
                store.replace(&backup("1402"), &entry, "");
            },
        ),
        case(
            "a block list out of order",
            ["1402 damaged"; 3],
            || vec![backup("1402")],
            |store| {
                store.replace(&backup("1402"), r#""Offset":4194304"#, r#""Offset":12582912"#);
            },
        ),
        case(
            "a block beyond the volume's end",
            ["1403 damaged"; 3],
            || vec![backup("1403")],
            |store| {
                store.replace(&backup("1403"), "14680064", "1099511627776");
            },
        ),
        case("a wrong method in the configuration", [WHOLE; 3], none, |store| {
            store.replace(&backup("1403"), "\"gzip\"", "\"lz4\"");
        }),
        case(
            "volume.cfg missing",
            [LEGACY_DAMAGED; 3],
            || vec![format!("{LEGACY}/volume.cfg")],
            |store| {
                store.remove(&format!("{LEGACY}/volume.cfg"));
            },
        ),
        case(
            "volume.cfg cut off",
            [LEGACY_DAMAGED; 3],
            || vec![format!("{LEGACY}/volume.cfg")],
            |store| {
                store.change(&format!("{LEGACY}/volume.cfg"), |body| body.truncate(100));
            },
        ),
        case(
            "volume.cfg of another volume",
            [LEGACY_DAMAGED; 3],
            || vec![format!("{LEGACY}/volume.cfg")],
            |store| {
                store.write(&format!("{LEGACY}/volume.cfg"), store.read(&format!("{BACKED}/volume.cfg")));
            },
        ),
        // Backing images and system backups.
        case(
            "a flipped bit in a backing image",
            [WHOLE, WHOLE, IMAGE_DAMAGED],
            || vec![IMAGE_BLOCK.into()],
            |store| {
                store.change(IMAGE_BLOCK, |body| body[200] ^= 4);
            },
        ),
        case(
            "a missing block of a backing image",
            [WHOLE, IMAGE_DAMAGED, IMAGE_DAMAGED],
            || vec![IMAGE_BLOCK.into()],
            |store| {
                store.remove(IMAGE_BLOCK);
            },
        ),
        case(
            "a backing image missing under a volume",
            ["b1 damaged"; 3],
            || vec![IMAGE.into()],
            |store| store.remove(IMAGE),
        ),
        case(
            "a backing image's configuration cut off",
            [IMAGE_DAMAGED; 3],
            || vec![IMAGE.into()],
            |store| {
                store.change(IMAGE, |body| body.truncate(100));
            },
        ),
        case(
            "another backing image than the volume's",
            ["b1 damaged"; 3],
            || vec![IMAGE.into()],
            |store| {
                store.replace(&format!("{BACKED}/volume.cfg"), "ac674603", "ac674604");
            },
        ),
        case(
            "a flipped bit in a system backup's archive",
            ["weekly-1 damaged"; 3],
            || vec![format!("{SYSTEM}/system-backup.zip")],
            |store| {
                store.change(&format!("{SYSTEM}/system-backup.zip"), |body| body[40] ^= 4);
            },
        ),
        case(
            "a system backup's archive missing",
            ["weekly-1 damaged"; 3],
            || vec![format!("{SYSTEM}/system-backup.zip")],
            |store| {
                store.remove(&format!("{SYSTEM}/system-backup.zip"));
            },
        ),
        case(
            "a system backup's configuration missing",
            ["weekly-1 damaged"; 3],
            || vec![format!("{SYSTEM}/system-backup.cfg")],
            |store| {
                store.remove(&format!("{SYSTEM}/system-backup.cfg"));
                store.age(&format!("{SYSTEM}/system-backup.zip"), 3600);
            },
        ),
        case("a system backup being uploaded", ["weekly-1 in-progress"; 3], none, |store| {
            store.remove(&format!("{SYSTEM}/system-backup.cfg"));
            store.age(&format!("{SYSTEM}/system-backup.zip"), 0);
        }),
        // What is no damage.
        case("a backup being made (its lock is fresh)", ["1404 in-progress"; 3], none, |store| {
            begin(store);
            lock(store, 1, 10);
        }),
        case("a backup left by a crash (its lock is stale)", ["1404 crashed"; 3], none, |store| {
            begin(store);
            lock(store, 1, 1000);
        }),
        case("a stale deletion lock", [WHOLE; 3], none, |store| lock(store, 2, 1000)),
        case("a live deletion lock", [WHOLE; 3], none, |store| lock(store, 2, 10)),
        case("files that are no backups", [WHOLE; 3], none, |store| {
            store.write(&format!("{LEGACY}/backups/readme.txt"), "hello");
            store.write("backupstore/volumes/aa/bb/pvc-misplaced/volume.cfg", "{}");
            store.write("backupstore/volumes/22/fc/BACKINGIMAGE/locks/readme.txt", "hello");
        }),
    ]
}

/// What a report calls not whole, grouped by verdict, by short names.
pub fn not_whole(report: &Value) -> String {
    let mut said = Vec::new();
    for verdict in ["damaged", "unchecked", "in-progress", "crashed", "deleted"] {
        let items = report["items"].as_array().expect("items").iter().filter(|item| item["verdict"] == verdict);
        let name = |item: &Value| {
            let name = ["backup", "backing_image", "system_backup", "volume"].iter().find_map(|key| item[key].as_str());
            name.expect("a name").trim_start_matches("backup-").trim_start_matches('0').to_owned()
        };
        let names: Vec<String> = items.map(name).collect();
        if !names.is_empty() {
            said.push(format!("{} {verdict}", names.join(", ")));
        }
    }
    if said.is_empty() { WHOLE.into() } else { said.join("; ") }
}

fn bad_keys(report: &Value) -> Vec<String> {
    let key = |bad: &Value| bad["key"].as_str().expect("a key").to_owned();
    report["bad"].as_array().expect("bad objects").iter().map(key).collect()
}

pub fn parse(said: &Said) -> Value {
    serde_json::from_str(&said.stdout()).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[track_caller]
fn check(case: &Case, store: &Copy, level: &str, expected: &str) {
    let code = if expected.contains("damaged") {
        3
    } else if expected.contains("unchecked") {
        6
    } else {
        0
    };
    let said = store.verify(&["--level", level, "--no-lock", "-o", "json"]).code(code);
    let report = parse(&said);
    assert_eq!(not_whole(&report), expected, "{} at {level}: {said}", case.damage);
    let mut bad = if code == 3 { (case.bad)() } else { Vec::new() };
    bad.sort_unstable();
    assert_eq!(bad_keys(&report), bad, "{} at {level}: {said}", case.damage);
}

#[test]
fn damage_is_found_and_none_is_invented() {
    let mut table = String::from(
        "| injected | meta | exists | deep, and samples once they have read everything |\n|---|---|---|---|\n",
    );
    for case in cases() {
        let store = Copy::new();
        (case.inflict)(&store);
        for (level, expected) in [("meta", case.meta), ("exists", case.exists), ("deep", case.deep)] {
            check(&case, &store, level, expected);
        }
        // Two halves are the whole.
        let mut found: Vec<String> = Vec::new();
        for _ in 0..2 {
            let report = parse(&store.verify(&["--level", "sample=50%", "--no-lock", "-o", "json"]));
            found.extend(bad_keys(&report));
        }
        let mut bad = if case.deep.contains("damaged") { (case.bad)() } else { Vec::new() };
        found.sort_unstable();
        found.dedup();
        bad.sort_unstable();
        assert_eq!(found, bad, "{} at sample=50%", case.damage);
        writeln!(table, "| {} | {} | {} | {} |", case.damage, case.meta, case.exists, case.deep).unwrap();
    }
    println!("{table}");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify.md");
    let kept = fs::read_to_string(page).unwrap_or_default();
    assert!(kept.contains(&table), "docs/verify.md has another table; this one belongs there:\n{table}");
}
