//! `lhrun backups restore`: images straight from the store, whole or not at all.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    folders::copy,
    gate::Gate,
    lab::{Lab, Said, has, interrupt, lhrun, wait},
};

const VOLUME: &str = "pvc-legacy";
/// Four different blocks of 2 MiB in an image of 24 MiB, as Longhorn wrote it.
const BACKUP: &str = "pvc-legacy@backup-0000000000001403";
const SHA256: &str = "ce8196eb15afbb5e5f29541c1743405153467d9a7d25a1e801056a5b862e6b3f";
const BLOCK: u64 = 2 << 20;
const BLOCKS: &str = "backupstore/volumes/7e/d3/pvc-legacy/blocks";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/longhorn")
}

/// A folder for images, and a copy of the store where it is to be changed.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with_store() -> Self {
        let place = Self::new();
        copy(&fixtures().join("backupstore"), &place.path("store/backupstore"));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `lhrun backups restore` from the fixtures, or from the copy.
    fn restore(&self, arguments: &[&str]) -> Said {
        let store = if self.path("store").exists() { self.path("store") } else { fixtures() };
        Said::of(self.command(&format!("file://{}", store.display()), arguments))
    }

    fn command(&self, store: &str, arguments: &[&str]) -> Command {
        let mut command = lhrun();
        command.args(["backups", "restore", "--store", store]).args(arguments).current_dir(self.0.path());
        command
    }

    /// The names of everything beside the store.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "store");
        names.sort();
        names
    }
}

/// As the machine's own program sees it.
pub fn sha256(path: &Path) -> String {
    let mut command = Command::new("sha256sum");
    command.arg(path);
    Said::of(command).success().stdout()[..64].to_owned()
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.stdout()).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn what_was_restored_is_told() {
    let place = Place::new();
    let said = place.restore(&["pvc-legacy", "-o", "a.img", "--no-lock", "--sha256"]).success();
    for line in [
        "Volume:        pvc-legacy",
        "Backup:        backup-0000000000001403",
        "Begun:         2026-11-22T18:38:57Z",
        "File:          a.img (raw)",
        "Size:          24.0 MiB",
        "Data:          8.0 MiB",
        &format!("SHA-256:       {SHA256}"),
    ] {
        assert!(said.stdout().lines().any(|found| found == line), "no {line:?} in {said}");
    }
    assert!(said.stderr().contains("sudo mount -o loop 'a.img' /mnt"), "{said}");
    let said = place.restore(&["pvc-legacy@2026-11-22T18:38:56Z", "-o", "b.yaml", "--no-lock", "--result", "yaml"]);
    said.success().says("backup: backup-0000000000001402").never_says("Volume:").never_says("mount");
}

#[test]
fn an_existing_file_is_kept_without_force() {
    let place = Place::new();
    fs::write(place.path("a.img"), "precious").unwrap();
    place.restore(&[BACKUP, "-o", "a.img", "--no-lock"]).code(1).says("a.img exists already").says("--force");
    assert_eq!(fs::read(place.path("a.img")).unwrap(), b"precious");
    place.restore(&[BACKUP, "-o", "a.img", "--no-lock", "--force"]).success();
    assert_eq!(sha256(&place.path("a.img")), SHA256);
    assert_eq!(place.left(), ["a.img"]);
}

#[test]
fn what_is_no_file_is_not_written_to() {
    let place = Place::new();
    place.restore(&[BACKUP, "-o", "-"]).code(2).says("cannot be restored to standard output").says("name a file");
    place.restore(&[BACKUP, "-o", "/dev/null", "--force"]).code(2).says("/dev/null is not a file");
    place.restore(&[BACKUP, "-o", ".", "--force"]).code(2).says(". names no file");
    place.restore(&[BACKUP, "-o", "none/a.img", "--no-lock"]).code(1).says("none/a.img.partial");
    place.restore(&[BACKUP]).code(2).says("--output <FILE>");
    assert_eq!(place.left(), [""; 0]);
}

#[test]
fn what_is_not_in_the_store_is_answered_with_what_is() {
    let place = Place::new();
    place.restore(&["pvc-legcay", "-o", "a.img"]).code(1).says("did you mean pvc-legacy?");
    let said = place.restore(&["pvc-legacy@nonsense", "-o", "a.img"]).code(1);
    said.says("backup-0000000000001403 (begun 2026-11-22T18:38:57Z)").says("2h or 3d");
    place.restore(&["pvc-legacy@2020-01-01", "-o", "a.img"]).code(1).says("the oldest one is backup-0000000000001401");
    place.restore(&["../../etc", "-o", "a.img"]).code(1).says("neither a volume nor a claim");
    place.restore(&["--backing-image", "base9", "-o", "a.img", "--no-lock"]).code(1).says("base9");
    assert_eq!(place.left(), [""; 0]);
}

#[test]
fn a_damaged_block_is_named_and_the_image_does_not_appear() {
    let place = Place::with_store();
    let config = place.path("store/backupstore/volumes/7e/d3/pvc-legacy/backups/backup_backup-0000000000001403.cfg");
    let config: Value = serde_json::from_slice(&fs::read(config).unwrap()).unwrap();
    let blocks = config["Blocks"].as_array().unwrap();
    let checksum = blocks.iter().find(|block| block["Offset"] == 10 << 20).unwrap()["BlockChecksum"].as_str().unwrap();
    let key = format!("{BLOCKS}/{}/{}/{checksum}.blk", &checksum[..2], &checksum[2..4]);
    let object = place.path("store").join(&key);
    let good = fs::read(&object).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&object, bad).unwrap();

    let said = place.restore(&[BACKUP, "-o", "a.img", "--no-lock", "--concurrency", "1"]).code(3);
    said.says("offset 10485760").says(&key).says("a.img.partial");
    assert_eq!(place.left(), ["a.img.partial"]);

    // Once it is healed, only the rest is read.
    fs::write(&object, good).unwrap();
    let result = json(&place.restore(&[BACKUP, "-o", "a.img", "--no-lock", "--result", "json"]).success());
    assert_eq!(result["reused"], 2 * BLOCK);
    assert_eq!(sha256(&place.path("a.img")), SHA256);
    assert_eq!(place.left(), ["a.img"]);
}

#[test]
fn a_full_disk_is_noticed_before_anything_is_read() {
    let place = Place::new();
    let small = place.path("small");
    fs::create_dir(&small).unwrap();
    // A file system that only this command sees.
    let script = r#"mount -t tmpfs -o size=4m none "$1" || exit 99; shift; "$@"; code=$?; ls -A small >&2; exit $code"#;
    let restore =
        place.command(&format!("file://{}", fixtures().display()), &[BACKUP, "-o", "small/a.img", "--no-lock"]);
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(&small);
    command.arg(restore.get_program()).args(restore.get_args()).current_dir(place.0.path());
    command.env("HOME", "/nonexistent");
    if !has("unshare") {
        return;
    }
    let said = Said::of(command);
    if said.ended_with(99) || said.stderr().contains("unshare:") {
        eprintln!("NOT CHECKED: no file system can be mounted here");
        return;
    }
    said.code(1).says("bytes free, the restore writes 8388608").never_says("a.img.partial\n");
}

#[test]
fn locks_are_taken_respected_and_given_back() {
    let place = Place::with_store();
    let locks = place.path("store/backupstore/volumes/7e/d3/pvc-legacy/locks");
    place.restore(&[BACKUP, "-o", "a.img"]).success();
    assert!(!locks.exists(), "the lock was given back");

    fs::create_dir(&locks).unwrap();
    let deletion = r#"{"Name":"lock-00000000000000de","Type":2,"Acquired":true}"#;
    fs::write(locks.join("lock-00000000000000de.lck"), deletion).unwrap();
    let said = place.restore(&[BACKUP, "-o", "b.img"]).code(1);
    said.says("locked for a deletion by lock-00000000000000de").says("s ago").says("expires in 1").says("--no-lock");
    assert_eq!(place.left(), ["a.img"]);
    assert_eq!(fs::read_dir(&locks).unwrap().count(), 1, "our own is gone");
    place.restore(&[BACKUP, "-o", "b.img", "--no-lock"]).success().says("warning").says("locked for a deletion");
    assert_eq!(sha256(&place.path("b.img")), SHA256);
}

#[test]
fn a_qcow2_image_is_made_where_qemu_img_is() {
    let place = Place::new();
    let store = format!("file://{}", fixtures().display());
    let arguments = [BACKUP, "-o", "a.qcow2", "--format", "qcow2", "--no-lock"];
    let with_programs = |folder: &str| {
        let mut command = place.command(&store, &arguments);
        command.env("PATH", format!("{}:/usr/bin:/bin", place.path(folder).display()));
        command
    };
    let mut without = place.command(&store, &arguments);
    without.env("PATH", place.path("none"));
    Said::of(without).code(1).says("qemu-img, which is not installed").says("qemu-utils");
    assert_eq!(place.left(), [""; 0]);

    // One that fails leaves the raw image for the next attempt, and nothing of its own.
    program(
        &place.path("failing"),
        "[ \"$1\" = --version ] && exit 0; shift 5; echo half > \"$2\"; echo no luck >&2; exit 1",
    );
    Said::of(with_programs("failing")).code(1).says("no luck").says("a.qcow2.partial");
    assert_eq!(place.left(), ["a.qcow2.partial", "failing"]);
    // The next one makes a copy, so that it can be seen what it was given. A killed one may have left its own, too.
    fs::write(place.path("a.qcow2.partial.qcow2"), "half").unwrap();
    program(&place.path("copying"), "[ \"$1\" = --version ] || { shift 5; cp \"$1\" \"$2\"; }");
    Said::of(with_programs("copying")).success().says("Kept:").says("a.qcow2 (qcow2)").never_says("mount");
    assert_eq!(sha256(&place.path("a.qcow2")), SHA256);
    assert_eq!(place.left(), ["a.qcow2", "copying", "failing"]);

    if has("qemu-img") {
        place.restore(&[BACKUP, "-o", "b.qcow2", "--format", "qcow2", "--no-lock"]).success();
        assert!(fs::read(place.path("b.qcow2")).unwrap().starts_with(b"QFI\xfb"));
        let mut back = Command::new("qemu-img");
        back.args(["convert", "-f", "qcow2", "-O", "raw", "b.qcow2", "b.img"]).current_dir(place.0.path());
        Said::of(back).success();
        assert_eq!(sha256(&place.path("b.img")), SHA256);
    }
}

fn program(folder: &Path, script: &str) {
    fs::create_dir(folder).unwrap();
    let path = folder.join("qemu-img");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The bucket of an embedded cluster with the fixtures in it, behind a gate.
struct Bucket {
    lab: Lab,
    gate: Gate,
}

impl Bucket {
    fn up() -> Self {
        let lab = Lab::up();
        copy(&fixtures().join("backupstore"), &lab.bucket().join("backupstore"));
        let gate = Gate::before(&lab.access.s3.endpoint);
        Self { lab, gate }
    }

    /// A restore of one block after the other.
    fn restore(&self, place: &Place, arguments: &[&str]) -> Command {
        let s3 = &self.lab.access.s3;
        let mut command = place.command(&format!("s3://{}@{}/", s3.bucket, s3.region), &[BACKUP, "-o", "a.img"]);
        command
            .args(["--concurrency", "1", "--endpoint", &self.gate.endpoint()])
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", &s3.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &s3.secret_key);
        command
    }

    /// Starts a restore that gets so many blocks and waits for the next one for ever; returns once they are written.
    fn stuck_after(&self, place: &Place, blocks: u64, on_disk: u64, arguments: &[&str]) -> Child {
        self.gate.let_through(blocks);
        let mut command = self.restore(place, arguments);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let written = || fs::metadata(place.path("a.img.partial")).map_or(0, |meta| meta.blocks() * 512);
        let end = Instant::now() + Duration::from_mins(1);
        while self.gate.asked() <= blocks || written() < on_disk * BLOCK {
            assert!(Instant::now() < end, "{} asked for, {} bytes written", self.gate.asked(), written());
            std::thread::sleep(Duration::from_millis(10));
        }
        process
    }

    fn locks(&self) -> usize {
        let folder = self.lab.bucket().join("backupstore/volumes/7e/d3").join(VOLUME).join("locks");
        fs::read_dir(folder).map_or(0, Iterator::count)
    }
}

#[test]
fn a_killed_restore_goes_on_where_it_was() {
    let bucket = Bucket::up();
    let place = Place::new();
    bucket.gate.let_through(u64::MAX);
    let whole = json(&Said::of(bucket.restore(&place, &["--no-lock", "--result", "json"])).success());
    assert_eq!((whole["reused"].clone(), bucket.gate.asked()), (0.into(), 4));

    for blocks in 1..=3 {
        let place = Place::new();
        let mut process = bucket.stuck_after(&place, blocks, blocks, &["--no-lock"]);
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(place.left(), ["a.img.partial"]);
        bucket.gate.let_through(u64::MAX);
        let again = json(&Said::of(bucket.restore(&place, &["--no-lock", "--result", "json"])).success());
        assert_eq!(sha256(&place.path("a.img")), SHA256);
        assert_eq!(place.left(), ["a.img"]);
        assert_eq!(bucket.gate.asked(), 4 - blocks, "what is there is not read again");
        assert_eq!(again["reused"], blocks * BLOCK);
        assert!(again["fetched"].as_u64() < whole["fetched"].as_u64(), "{again}");
    }

    // One image through all of it.
    let place = Place::new();
    for done in 1..=3 {
        let mut process = bucket.stuck_after(&place, 1, done, &["--no-lock"]);
        process.kill().unwrap();
        process.wait().unwrap();
    }
    bucket.gate.let_through(u64::MAX);
    Said::of(bucket.restore(&place, &["--no-lock"])).success();
    assert_eq!((bucket.gate.asked(), sha256(&place.path("a.img"))), (1, SHA256.to_owned()));
    assert_eq!(place.left(), ["a.img"]);
}

#[test]
fn ctrl_c_keeps_what_is_there_and_gives_the_lock_back() {
    let bucket = Bucket::up();
    let place = Place::new();
    let mut process = bucket.stuck_after(&place, 2, 2, &[]);
    assert_eq!(bucket.locks(), 1);
    let second = Said::of(bucket.restore(&place, &["--no-lock"]));
    second.code(1).says("another restore is writing a.img");

    interrupt(&process);
    assert_eq!(wait(&mut process, Duration::from_secs(20)), Some(130));
    let said = std::io::read_to_string(process.stderr.take().unwrap()).unwrap();
    assert!(said.contains("interrupted") && said.contains("a.img.partial"), "{said}");
    assert_eq!(bucket.locks(), 0);
    bucket.gate.let_through(u64::MAX);
    Said::of(bucket.restore(&place, &[])).success().says("Kept:");
    assert_eq!((bucket.gate.asked(), sha256(&place.path("a.img"))), (2, SHA256.to_owned()));
    assert_eq!((place.left(), bucket.locks()), (vec!["a.img".to_owned()], 0));
}

#[test]
fn keys_that_may_only_read_are_enough() {
    let bucket = Bucket::up();
    let place = Place::new();
    bucket.gate.let_through(u64::MAX);
    bucket.gate.refuse_writes();
    Said::of(bucket.restore(&place, &[])).success().says("without a lock").says("AccessDenied");
    assert_eq!(sha256(&place.path("a.img")), SHA256);

    let locks = bucket.lab.bucket().join("backupstore/volumes/7e/d3/pvc-legacy/locks");
    fs::create_dir_all(&locks).unwrap();
    let deletion = r#"{"Name":"lock-00000000000000de","Type":2,"Acquired":true}"#;
    fs::write(locks.join("lock-00000000000000de.lck"), deletion).unwrap();
    Said::of(bucket.restore(&place, &["--force"])).code(1).says("lock-00000000000000de").says("--no-lock");
}
