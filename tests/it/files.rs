//! Files inside of backups, by the real binary: of a backup made here, and of one that the real Longhorn wrote.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use lhrun::{
    backupstore::{
        BackupRef,
        restore::{self, RestoreOptions},
        write::{self, BackupRequest},
    },
    objectstore::Store,
};

use crate::{
    folders::copy,
    lab::{Said, lhrun},
    written_by_longhorn::Archive,
};

const MIB: u64 = 1 << 20;

/// A folder with a store in it and a place to extract to.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["store", "tree", "out"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self) -> Store {
        Store::folder(self.path("store")).expect("the store")
    }

    /// Backs up an ext4 image of the folder `tree` as volume `pvc-1`.
    fn backup(&self, name: &str) {
        let image = self.path("image");
        let mut mke2fs = e2fsprogs("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(self.path("tree")).arg(&image).arg("64M");
        Said::of(mke2fs).success();
        let backup = BackupRef::new("pvc-1", name).expect("names");
        let request = BackupRequest { settle: Duration::ZERO, ..BackupRequest::new(backup, "snap-1", 64 * MIB) };
        wait(write::backup_file(&self.store(), image, request)).expect("a backup");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = lhrun();
        let store = format!("file://{}", self.path("store").display());
        command.args(["backups", "files"]).args(arguments).args(["--store", &store]).current_dir(self.path("out"));
        command
    }

    fn files(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments))
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(work)
}

/// Programs that a user's PATH often lacks.
fn e2fsprogs(name: &str) -> Command {
    let place = ["/usr/sbin", "/sbin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    Command::new(place.unwrap_or_else(|| name.into()))
}

/// What `fetched 1.5 MiB of 64.0 MiB, in 2 blocks` says was fetched, in bytes.
fn fetched(said: &Said) -> f64 {
    let text = said.stderr();
    let line = text.lines().find_map(|line| line.strip_prefix("fetched ")).unwrap_or_else(|| panic!("{said}"));
    let mut words = line.split(' ');
    let number: f64 = words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    let unit = match words.next() {
        Some("B") => 1.0,
        Some("KiB") => 1024.0,
        Some("MiB") => 1024.0 * 1024.0,
        other => panic!("{other:?} in {line}"),
    };
    number * unit
}

#[test]
fn files_are_listed_shown_and_extracted() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("tree/etc/sub")).expect("a folder");
    fs::write(bench.path("tree/etc/app.conf"), "port = 80\n").expect("a file");
    fs::write(bench.path("tree/etc/a\nb\u{1b}[2J"), "").expect("a file");
    fs::write(bench.path("tree/large"), vec![7; 30 << 20]).expect("a file");
    std::os::unix::fs::symlink("etc/app.conf", bench.path("tree/link")).expect("a link");
    std::os::unix::fs::symlink("/etc/passwd", bench.path("tree/etc/out")).expect("a link");
    bench.backup("b-1");
    fs::write(bench.path("tree/etc/app.conf"), "port = 81\n").expect("a file");
    std::thread::sleep(Duration::from_millis(1100));
    bench.backup("b-2");

    let listed = bench.files(&["ls", "pvc-1:/"]).success().says("link -> etc/app.conf").says("of 64.0 MiB");
    assert!(listed.stdout().starts_with("MODE "), "{listed}");
    let listed =
        bench.files(&["ls", "-R", "pvc-1@b-1:/etc"]).success().says(r"a\nb\u{1b}[2J").says("out -> /etc/passwd");
    assert!(listed.stdout().contains("-rw-r--r--") && !listed.stdout().contains('\u{1b}'), "{listed}");
    let listed = bench.files(&["ls", "pvc-1:/etc/app.conf", "-o", "json"]).success();
    let rows: serde_json::Value = serde_json::from_str(&listed.stdout()).expect("JSON");
    assert_eq!(
        (&rows[0]["path"], &rows[0]["size"], &rows[0]["kind"]),
        (&"/etc/app.conf".into(), &10.into(), &"file".into())
    );

    // The newest backup, and an older one.
    let shown = bench.files(&["cat", "pvc-1:/link"]).success();
    assert_eq!(shown.stdout(), "port = 81\n");
    assert!(fetched(&shown) < 3.0 * 1024.0 * 1024.0, "{shown}");
    assert_eq!(bench.files(&["cat", "pvc-1@latest:/link"]).success().stdout(), "port = 81\n");
    assert_eq!(bench.files(&["cat", "pvc-1@b-1:/link"]).success().stdout(), "port = 80\n");

    bench.files(&["get", "pvc-1:/etc/app.conf"]).success().says("extracted 1 files");
    assert_eq!(fs::read(bench.path("out/app.conf")).expect("the file"), b"port = 81\n");
    bench.files(&["get", "pvc-1@b-1:/etc/app.conf"]).code(1).says("exists already").says("--force");
    bench.files(&["get", "--force", "pvc-1@b-1:/etc/app.conf"]).success();
    assert_eq!(fs::read(bench.path("out/app.conf")).expect("the file"), b"port = 80\n");
    // A link that leads out is left out, and that is not all there was.
    bench.files(&["get", "-r", "pvc-1:/", "tree"]).code(5).says("etc/out was left out").says("to /etc/passwd");
    assert!(fs::read(bench.path("out/tree/large")).expect("the file") == vec![7; 30 << 20]);
    assert!(bench.path("out/tree/etc/out").symlink_metadata().is_err());
    // What is there is named in part, and counted.
    let many = bench.path("tree/many");
    fs::create_dir(&many).expect("a folder");
    for n in 0..9 {
        fs::write(many.join(n.to_string()), "x").expect("a file");
    }
    bench.backup("b-3");
    bench.files(&["get", "-r", "pvc-1:/many"]).success().says("extracted 9 files").never_says("exist already");
    let said = bench.files(&["get", "-r", "pvc-1:/many"]).code(5);
    let said = said.says("9 files and links exist already, the first of which are named: --force writes over them");
    assert_eq!(said.stderr().matches("was left out").count(), 3, "{said}");
    bench.files(&["get", "-r", "--force", "pvc-1:/many"]).success().says("extracted 9 files");
    bench
        .files(&["get", "pvc-1:/large", "nodir/x"])
        .code(2)
        .says("no folder nodir")
        .says("mkdir -p")
        .never_says("reading");
}

#[test]
fn what_goes_wrong_is_said() {
    let bench = Bench::new();
    fs::write(bench.path("tree/app.conf"), "port = 80\n").expect("a file");
    bench.backup("b-1");
    bench.files(&["cat", "pvc-1:/ap.conf"]).code(1).says("there is no ap.conf").says("did you mean `app.conf`?");
    bench.files(&["cat", "pvc-2:/x"]).code(1).says("there is no volume pvc-2").says("did you mean pvc-1?");
    bench.files(&["cat", "pvc-1@b-9:/x"]).code(1);
    bench.files(&["cat", "pvc-1"]).code(2).says("VOLUME:/path");
    bench.files(&["cat", "pvc-1:/"]).code(1).says("a folder");
    bench.files(&["get", "pvc-1:/"]).code(2).says("--recursive");
    bench.files(&["cat", "-o", "json", "pvc-1:/app.conf"]).code(2);
    // Without its blocks nothing is there to be seen.
    let pool = bench.path("store/backupstore/volumes");
    let mut rm = Command::new("find");
    rm.arg(&pool).args(["-name", "*.blk", "-delete"]);
    Said::of(rm).success();
    bench.files(&["cat", "pvc-1:/app.conf"]).code(3).says("is missing").says(".blk");
}

#[test]
fn a_reader_that_has_enough_ends_it_well() {
    let bench = Bench::new();
    fs::write(bench.path("tree/large"), vec![b'x'; 20 << 20]).expect("a file");
    bench.backup("b-1");
    let mut running = bench.command(&["cat", "pvc-1:/large"]).stdout(Stdio::piped()).spawn().expect("lhrun starts");
    let mut start = [0; 10];
    std::io::Read::read_exact(&mut running.stdout.take().expect("its output"), &mut start).expect("ten bytes");
    assert_eq!(&start, b"xxxxxxxxxx");
    assert!(running.wait().expect("it ends").success());
}

const EXT4: (&str, &str) = ("pvc-ext4-gzip", "backup-00000000000000e2");

#[test]
fn files_of_a_real_ext4_backup_are_those_debugfs_finds() {
    let Some(archive) = Archive::larger() else { return };
    let bench = Bench::new();
    copy(archive.folder(), &bench.path("store"));
    let image = bench.path("image");
    let of = BackupRef::new(EXT4.0, EXT4.1).expect("names");
    wait(restore::to_file(&bench.store(), &of, &image, RestoreOptions::default())).expect("a restore");

    let from = |path: &str| format!("{}@{}:{path}", EXT4.0, EXT4.1);
    let listed = bench.files(&["ls", "-R", "-o", "json", &from("/")]).success();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&listed.stdout()).expect("JSON");
    let mut compared = 0;
    for row in rows.iter().filter(|row| row["kind"] == "file") {
        let path = row["path"].as_str().expect("a path");
        let theirs = debugfs(&image, &format!("cat \"/{path}\""));
        assert_eq!(row["size"], theirs.len() as u64, "{path}");
        let shown = bench.command(&["cat", &from(&format!("/{path}"))]).output().expect("lhrun starts");
        assert!(shown.status.success() && shown.stdout == theirs, "{path}");
        compared += 1;
        if compared == 8 {
            break;
        }
    }
    assert!(compared > 0, "{listed}");

    let smallest =
        rows.iter().filter(|row| row["kind"] == "file" && row["size"] != 0).min_by_key(|row| row["size"].as_u64());
    let path = smallest.and_then(|row| row["path"].as_str()).expect("a file");
    let shown = bench.files(&["cat", &from(&format!("/{path}"))]).success();
    eprintln!("cat {path}: {}", shown.stderr().trim_end());
    assert!(fetched(&shown) < 16.0 * 1024.0 * 1024.0, "a quarter of the image at most: {shown}");
}

fn debugfs(image: &Path, request: &str) -> Vec<u8> {
    let mut command = e2fsprogs("debugfs");
    command.args(["-f", "-"]).arg(image).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = command.spawn().expect("debugfs starts");
    running.stdin.take().expect("its input").write_all(request.as_bytes()).expect("it reads its input");
    let out = running.wait_with_output().expect("it ends").stdout;
    // It repeats what it is asked.
    let echo = format!("debugfs: {request}\n");
    out.strip_prefix(echo.as_bytes()).map_or_else(|| out.clone(), <[u8]>::to_vec)
}
