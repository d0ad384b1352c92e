//! `lhrun backups`: looking at a store without a cluster.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::lab::{Lab, Said, lhrun};

/// The store the real Longhorn wrote.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/longhorn")
}

fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

fn command(store: &str, arguments: &[&str]) -> Command {
    let mut command = lhrun();
    command.arg("backups").args(arguments).args(["--store", store]);
    command
}

/// `lhrun backups` on that store.
fn backups(store: &str, arguments: &[&str]) -> Said {
    Said::of(command(store, arguments))
}

/// The same for a program, once as JSON and once as YAML, which must tell the same.
fn data(store: &str, arguments: &[&str]) -> Value {
    let [json, yaml] = ["json", "yaml"].map(|form| {
        let said = Said::of(command(store, &[arguments, &["-o", form]].concat())).success();
        assert!(said.stderr().is_empty(), "{said}");
        said.stdout()
    });
    let json: Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{json}: {e}"));
    let yaml: Value = serde_saphyr::from_str(&yaml).unwrap_or_else(|e| panic!("{yaml}: {e}"));
    assert_eq!(json, yaml);
    json
}

/// A copy of the fixtures to damage.
fn copy_of_fixtures() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    crate::folders::copy(&fixtures().join("backupstore"), &folder.path().join("backupstore"));
    folder
}

#[test]
fn everything_in_a_folder_is_listed() {
    let store = url(&fixtures());
    let said = backups(&store, &["ls"]).success();
    let out = said.stdout();
    assert!(out.starts_with("VOLUME ") && said.stderr().is_empty(), "{said}");
    let line = out.lines().find(|line| line.starts_with("pvc-empty")).expect("a line of the volume");
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells[1..5], ["prod/data-postgres-0", "16.0", "MiB", "1"]);
    assert_eq!(cells.last(), Some(&"ok"));
    said.says("weekly-1").says("v1.10.1").says("base8");

    let listed = data(&store, &["ls"]);
    assert_eq!(listed["volumes"][1]["claim"], "prod/data-postgres-0");
    assert_eq!(listed["volumes"][2]["latest"], "backup-0000000000001403");
    assert_eq!(listed["system_backups"][0]["name"], "weekly-1");
    assert_eq!(listed["backing_images"][0]["size"], 8 << 20);
}

#[test]
fn the_backups_of_a_volume_are_listed_by_its_name_and_its_claim() {
    let store = url(&fixtures());
    let said = backups(&store, &["ls", "pvc-legacy"]).success().says("3 × 2 MiB").says("gzip");
    assert_eq!(said.stdout().lines().count(), 4, "{said}");
    let listed = data(&store, &["ls", "pvc-empty"]);
    assert_eq!((&listed[0]["claim"], &listed[0]["blocks"]), (&"prod/data-postgres-0".into(), &0.into()));
    // A claim that had several volumes: all their backups, in one order.
    let several = backups(&store, &["ls", "prod/data-postgres-0"]).success().says("had 2 volumes");
    let said =
        several.says("backup-00000000000000f0").says("backup-00000000000000b1").says("pvc-backed").says("pvc-empty");
    assert_eq!(said.stdout().lines().count(), 3, "{said}");
    assert_eq!(data(&store, &["ls", "prod/data-postgres-0"]).as_array().map(Vec::len), Some(2));
    let folder = copy_of_fixtures();
    fs::remove_dir_all(below(folder.path(), "pvc-backed")).unwrap();
    backups(&url(folder.path()), &["ls", "prod/data-postgres-0"]).success().says("backup-00000000000000f0");
    backups(&store, &["ls", "pvc-legcy"])
        .code(1)
        .says("there is no volume pvc-legcy")
        .says("did you mean `pvc-legacy`?");
    backups(&store, &["ls", "prod/data-postgres-1"]).code(1).says("did you mean `prod/data-postgres-0`?");
    backups(&store, &["ls", "../x"]).code(1).says("neither a volume nor a claim");
}

#[test]
fn a_volume_a_backup_and_an_image_are_shown() {
    let store = url(&fixtures());
    backups(&store, &["show", "pvc-empty"]).success().says("StatefulSet").says("backup-00000000000000f0");
    let volume = data(&store, &["show", "pvc-backed"]);
    assert_eq!((&volume["backing_image"], &volume["data_engine"]), (&"base8".into(), &"v1".into()));
    assert_eq!(volume["backups"][0]["recurring_job"], "daily");
    let said = backups(&store, &["show", "pvc-backed@backup-00000000000000b1"]).success();
    said.says("Recurring job:").says("daily").says("2 MiB").says("complete");
    backups(&store, &["show", "pvc-backed@backup-1"]).code(1).says("volume pvc-backed has no backup \"backup-1\"");
    backups(&store, &["show", "pvc-backed@../../x"]).code(1).says("has no backup \"../../x\"");
    backups(&store, &["show", "pvc-legacy@latest"]).success().says("backup-0000000000001403");
    for command in
        [["show", "prod/data-postgres-0@latest"], ["show", "prod/data-postgres-0"], ["du", "prod/data-postgres-0"]]
    {
        let said = backups(&store, &command).success().says("several volumes are of the claim prod/data-postgres-0");
        said.says("is taken; name the volume to have another").says("pvc-backed").says("pvc-empty");
    }
    // A proof leaves none out.
    let proven = backups(&store, &["verify", "--volume", "prod/data-postgres-0", "-o", "json"]).success();
    proven.says("\"volume\":\"pvc-backed\"").says("\"volume\":\"pvc-empty\"");
    backups(&store, &["show", "image:base8"]).success().says("8.0 MiB").says("complete");
    backups(&store, &["show", "image:none"]).code(1).says("there is no backing image none");
    backups(&store, &["show", "system:none"]).code(1).says("weekly-1");
}

#[test]
fn space_is_added_up_to_the_byte() {
    let folder = copy_of_fixtures();
    let store = url(folder.path());
    let whole = data(&store, &["du"]);
    let mut files = Vec::new();
    collect(folder.path(), &mut files);
    assert_eq!(whole["bytes"], files.iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>());
    backups(&store, &["du"]).success().says("(total)").says("none");

    let before = backups(&store, &["du", "pvc-legacy"]).success().says("UNIQUE").never_says("warning");
    assert!(before.stderr().is_empty(), "{before}");
    // A block that a backup needs is gone, and another that nobody needs is there.
    let block = files.iter().find(|file| file.to_string_lossy().contains("pvc-legacy/blocks")).unwrap();
    fs::rename(block, block.with_file_name(format!("{}.blk", "0".repeat(64)))).unwrap();
    backups(&store, &["du", "pvc-legacy"]).success().says("missing from the store");
    // An unfinished backup makes the figures uncertain.
    let cfg = "{\"Name\":\"b-begun\",\"VolumeName\":\"pvc-legacy\"}";
    fs::write(below(folder.path(), "pvc-legacy").join("backups/backup_b-begun.cfg"), cfg).unwrap();
    backups(&store, &["du", "pvc-legacy"]).success().says("b-begun cannot be counted").says("crashed");
    backups(&store, &["ls"]).success().says("crashed");
}

#[test]
fn locks_are_listed_with_what_they_keep_waiting() {
    let folder = copy_of_fixtures();
    let store = url(folder.path());
    backups(&store, &["locks"]).success().says("nobody holds a lock");
    let locks = below(folder.path(), "pvc-legacy").join("locks");
    fs::create_dir(&locks).unwrap();
    fs::write(locks.join("lock-1.lck"), r#"{"Name":"lock-1","Type":2,"Acquired":true}"#).unwrap();
    backups(&store, &["locks", "pvc-legacy"])
        .success()
        .says("deletion")
        .says("held")
        .says("backups, restores and checks");
    let file = fs::File::options().write(true).open(locks.join("lock-1.lck")).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(200)).unwrap();
    assert_eq!(
        (&data(&store, &["locks"])[0]["expired"], &data(&store, &["locks"])[0]["blocks"]),
        (&true.into(), &Value::Null)
    );
    backups(&store, &["locks", "pvc-none"]).code(1).says("there is no volume pvc-none");
}

#[test]
fn hostile_names_and_texts_reach_neither_the_terminal_nor_a_path() {
    let folder = copy_of_fixtures();
    let store = url(folder.path());
    let volume = below(folder.path(), "pvc-legacy");
    let bad = "\\u001b[2Jx\\u009b2J\\u202e";
    let text = fs::read_to_string(volume.join("volume.cfg")).unwrap();
    let status = r#""KubernetesStatus":"{\"namespace\":\"a\\u001b[2J\",\"pvcName\":\"b\"}""#;
    let text = text.replacen("\"Labels\":null", &format!("\"Labels\":{{{status},\"note{bad}\":\"{bad}\"}}"), 1);
    assert!(text.contains(bad), "{text}");
    fs::write(volume.join("volume.cfg"), text).unwrap();
    fs::write(volume.join("backups/backup_\u{1b}[2J.cfg"), "{}").unwrap();
    fs::write(volume.join("backups/backup_..cfg"), "{}").unwrap();
    fs::create_dir_all(folder.path().join("backupstore/system-backups/\u{1b}[2J/..x")).unwrap();
    fs::write(volume.join("backups/backup_b-bad.cfg"), format!("{{\"Name\":\"{bad}\",\"VolumeName\":\"pvc-legacy\"}}"))
        .unwrap();
    fs::create_dir_all(volume.join("locks")).unwrap();
    fs::write(volume.join("locks/lock-1.lck"), format!("{{\"Name\":\"{bad}\",\"Type\":1,\"Acquired\":true}}")).unwrap();
    for arguments in [
        &["ls"][..],
        &["ls", "pvc-legacy"],
        &["show", "pvc-legacy"],
        &["show", "pvc-legacy@b-bad"],
        &["du"],
        &["locks"],
    ] {
        for form in ["text", "json", "yaml"] {
            let said = backups(&store, &[arguments, &["-o", form]].concat()).success();
            let text = format!("{}{}", said.stdout(), said.stderr());
            let control = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}' && form != "yaml");
            assert_eq!(control, None, "{arguments:?} -o {form}: {text:?}");
        }
    }
    assert_eq!(data(&store, &["ls", "pvc-legacy"]).as_array().unwrap().len(), 4, "only names Longhorn knows");
}

#[test]
fn a_store_that_is_not_there_or_badly_named_is_told() {
    backups("file:///no/such/folder", &["ls"]).code(1).says("/no/such/folder");
    backups("file://relative", &["ls"]).code(2).says("full path").says("file:///folder");
    backups("nfs://server/x", &["ls"]).code(2).says("s3://bucket@region/path/");
    let mut keys = command("s3://b/", &["ls", "--endpoint", "http://127.0.0.1:1"]);
    keys.env("AWS_ACCESS_KEY_ID", "me").env("AWS_SECRET_ACCESS_KEY", "hush");
    Said::of(keys).code(6).says("cannot reach http://127.0.0.1:1").never_says("hush");
    backups("s3://b/", &["ls"]).code(6).says("AWS_ACCESS_KEY_ID");
    backups(&url(&fixtures()), &["ls", "--endpoint", "http://s3"]).code(2).says("a folder has no --endpoint");
    let empty = tempfile::tempdir().expect("a temporary folder");
    backups(&url(empty.path()), &["ls"]).success().says("there are no backups");
    Said::of({
        let mut command = lhrun();
        command.args(["--sandbox", "backups", "ls"]);
        command
    })
    .code(2)
    .says("lhrun sandbox up");
}

#[test]
fn a_bucket_is_looked_at_with_and_without_its_cluster() {
    let lab = Lab::up();
    crate::folders::copy(&fixtures().join("backupstore"), &lab.bucket().join("backupstore"));
    let s3 = &lab.access.s3;
    let store = format!("s3://{}@{}/", s3.bucket, s3.region);
    let by_url = |arguments: &[&str], secret: &str| {
        let mut command = command(&store, &[arguments, &["--endpoint", &s3.endpoint]].concat());
        command.env("AWS_ACCESS_KEY_ID", &s3.access_key).env("AWS_SECRET_ACCESS_KEY", secret);
        Said::of(command)
    };
    let said = by_url(&["ls"], &s3.secret_key).success().says("prod/data-postgres-0").says("weekly-1");
    // Without a store it is the one of the cluster's backup target.
    assert_eq!(lab.lhrun(["backups", "ls"]).success().stdout().lines().count(), said.stdout().lines().count());
    // This server keeps no versions, and says so.
    by_url(&["du"], &s3.secret_key).success().says("(total)").says("none");
    by_url(&["show", "pvc-legacy@backup-0000000000001403"], &s3.secret_key).success().says("gzip");
    by_url(&["locks"], &s3.secret_key).success().says("nobody holds a lock");
    by_url(&["ls"], "not-the-secret").code(6).says("SignatureDoesNotMatch").never_says("not-the-secret");
    let script = format!(
        r#"
        let store = backupstore::open(#{{url: "{store}", endpoint: "{}", access_key: "{}", secret_key: "{}"}});
        check::equal("volumes", store.volumes().map(|v| v.volume), ["pvc-backed", "pvc-empty", "pvc-legacy"]);
        check::equal("of the cluster", backupstore::volumes().len(), 3);
        check::equal("whole", backupstore::verify(#{{level: "deep", volumes: ["pvc-legacy"]}}).verdict, "whole");
        "#,
        s3.endpoint, s3.access_key, s3.secret_key
    );
    lab.script(&script).success();

    // A system backup of this Longhorn, and the claim in it.
    lab.script(r#"import "apps/postgres-test" as app; app::deploy(); app::seed(100);"#).success();
    lab.lhrun(["run", "backup-now"]).success();
    lab.lhrun(["run", "system-backup"]).success();
    let listed: Value =
        serde_json::from_str(&by_url(&["ls", "-o", "json"], &s3.secret_key).success().stdout()).unwrap();
    let systems = listed["system_backups"].as_array().unwrap();
    let name = systems.iter().map(|s| s["name"].as_str().unwrap()).find(|name| *name != "weekly-1").unwrap();
    let shown = by_url(&["show", &format!("system:{name}")], &s3.secret_key).success();
    shown.says("postgres-test/data-postgres-test-0").says("there").says("v1.10.2");
}

/// The folder of a volume.
fn below(store: &Path, volume: &str) -> PathBuf {
    let mut files = Vec::new();
    collect(store, &mut files);
    let file = files.into_iter().find(|file| file.ends_with(format!("{volume}/volume.cfg"))).expect("the volume");
    file.parent().expect("its folder").to_owned()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
