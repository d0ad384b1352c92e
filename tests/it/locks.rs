//! What versioning and object lock do for the backups, as `lock-report` tells it.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    time::{Duration, SystemTime},
};

use aws_sdk_s3::{
    primitives::DateTime,
    types::{BucketVersioningStatus, ObjectLockRetention, ObjectLockRetentionMode, VersioningConfiguration},
};
use lhrun::{
    backupstore::copy::{self, CopyOptions},
    objectstore::{Store, StoreConfig},
    sandbox::s3::{S3Config, S3Server},
};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    lab::{Lab, RUNBOOKS, S3, Said, lhrun},
    s3client,
};

const BUCKET: &str = "longhorn";
/// A volume with three backups; the first two share no block with the third but one.
const VOLUME: &str = "backupstore/volumes/7e/d3/pvc-legacy";

/// An S3 server of the test's own, whose faults it can ask for.
struct Place {
    server: S3Server,
    runtime: Runtime,
    folder: tempfile::TempDir,
    access: S3,
}

impl Place {
    fn start() -> Self {
        let (folder, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
        let config = S3Config {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            root: folder.path().join("s3"),
            access_key: "id".into(),
            secret_key: String::from("hush").into(),
        };
        let server = runtime.block_on(S3Server::start(config)).unwrap();
        runtime.block_on(server.create_bucket(BUCKET)).unwrap();
        let access = S3 {
            endpoint: server.endpoint(),
            region: "us-east-1".into(),
            bucket: BUCKET.into(),
            access_key: "id".into(),
            secret_key: "hush".into(),
        };
        let toml =
            format!("[store]\nbucket = \"{BUCKET}\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\n", access.endpoint);
        fs::write(folder.path().join("lhrun.toml"), toml).unwrap();
        Self { server, runtime, folder, access }
    }

    fn protect(&self, days: Option<u16>) {
        self.runtime.block_on(self.server.protect_bucket(BUCKET, days)).unwrap();
    }

    /// Puts the backups that Longhorn wrote into the bucket; gives how many objects were moved.
    fn fill(&self) -> u64 {
        let fixtures = Store::folder(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/longhorn")).unwrap();
        let store = Store::connect(&StoreConfig {
            endpoint: Some(self.access.endpoint.clone()),
            bucket: BUCKET.into(),
            access_key: Some("id".into()),
            secret_key: Some(String::from("hush").into()),
            ..StoreConfig::default()
        });
        let copied = self.runtime.block_on(copy::copy(&fixtures, &store.unwrap(), CopyOptions::default())).unwrap();
        assert_eq!((copied.copied + copied.skipped, copied.failed), (20, 0));
        copied.copied
    }

    fn command(&self, arguments: &[&str]) -> Said {
        let mut command = lhrun();
        command.args(arguments).current_dir(self.folder.path()).env("KUBECONFIG", "/nonexistent");
        command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "hush");
        Said::of(command)
    }

    fn report(&self, parameters: &[&str]) -> Said {
        let runbook = format!("{RUNBOOKS}/lock-report.rhai");
        let mut arguments = vec!["run", &runbook];
        for parameter in parameters {
            arguments.extend(["--set", parameter]);
        }
        self.command(&arguments)
    }

    /// Has the lock of an object end in so many days.
    fn relock(&self, key: &str, days: u64) {
        let until = DateTime::from(SystemTime::now() + Duration::from_secs(days * 86_400));
        let retention =
            ObjectLockRetention::builder().mode(ObjectLockRetentionMode::Governance).retain_until_date(until);
        let client = s3client::client(&self.access);
        let put = client.put_object_retention().bucket(BUCKET).key(key).retention(retention.build());
        self.runtime.block_on(put.bypass_governance_retention(true).send()).unwrap();
    }

    /// The checksums of the blocks that a backup of the volume lists.
    fn blocks(&self, backup: &str) -> Vec<String> {
        let config =
            self.folder.path().join("s3").join(BUCKET).join(VOLUME).join(format!("backups/backup_{backup}.cfg"));
        let config: Value = serde_json::from_slice(&fs::read(config).unwrap()).unwrap();
        let blocks = config["Blocks"].as_array().unwrap();
        blocks.iter().map(|block| block["BlockChecksum"].as_str().unwrap().to_owned()).collect()
    }
}

fn key_of(block: &str) -> String {
    format!("{VOLUME}/blocks/{}/{}/{block}.blk", &block[..2], &block[2..4])
}

#[test]
fn a_backup_on_a_block_that_is_unlocked_sooner_is_named() {
    let server = Place::start();
    server.protect(Some(30));
    server.report(&[]).code(6).says("there is no complete backup");
    server.fill();
    server
        .report(&[])
        .success()
        .says("on, GOVERNANCE for 30 days")
        .says("pvc-legacy, backup-0000000000001403: all of it is locked until 20")
        .says("backing image base8")
        .says("system backup weekly-1: all of it is locked")
        .says("nothing was changed");
    server.report(&["until=29d"]).success();
    server.report(&["until=31d"]).code(3).says("pvc-legacy, backup-0000000000001401").says("4 blocks can be destroyed");
    server.report(&["until=someday"]).code(2).says("neither a time nor a length of time");

    // A block that the last backup has, and those that have it too.
    let last = "backup-0000000000001403";
    let block = server.blocks(last).remove(0);
    server.relock(&key_of(&block), 3);
    let sharing: Vec<&str> = ["backup-0000000000001401", "backup-0000000000001402", last]
        .into_iter()
        .filter(|backup| server.blocks(backup).contains(&block))
        .collect();
    let said = server.report(&[]).code(3).says("1 of its 4 blocks can be destroyed sooner").says("0 of them now");
    for backup in ["backup-0000000000001401", "backup-0000000000001402", last] {
        let line = format!("pvc-legacy, {backup}: all of it is locked until 20");
        let failed = said
            .stderr()
            .lines()
            .chain(said.stdout().lines())
            .any(|l| l.contains(&line) && l.contains("can be destroyed"));
        assert_eq!(failed, sharing.contains(&backup), "{backup} {sharing:?}\n{said}");
    }
    server.report(&["until=2d"]).success();
    let endpoint = format!("endpoint={}", server.access.endpoint);
    server.report(&["url=s3://longhorn@us-east-1/", &endpoint, "until=2d"]).success();
    server.report(&["url=s3://elsewhere@us-east-1/", &endpoint]).code(1).says("the bucket does not exist");

    let document = server.command(&["run", &format!("{RUNBOOKS}/lock-report.rhai"), "-o", "json"]).code(3).stdout();
    let document: Value = serde_json::from_str(&document).unwrap();
    let rows = document["tables"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 7, "five backups, an image and a system backup: {document:#}");
    let values = document["values"].as_array().unwrap();
    let lock = values.iter().find(|value| value["name"] == "object lock").unwrap();
    assert_eq!(lock["value"], "on, GOVERNANCE for 30 days");

    // What is hidden is locked and all the same not there.
    let delete = s3client::client(&server.access).delete_object().bucket(BUCKET).key(key_of(&block)).send();
    server.runtime.block_on(delete).unwrap();
    server.report(&["until=2d"]).code(3).says("1 of its blocks are missing, or hidden by a mark of deletion");
    let said = server.command(&["backups", "verify"]).code(3);
    said.says("it is missing; its former version").says("is whole");
}

#[test]
fn what_may_not_be_asked_is_not_called_locked() {
    let server = Place::start();
    server.protect(Some(30));
    server.fill();
    for operation in ["GetObjectRetention", "GetObjectLockConfiguration", "GetBucketVersioning", "ListObjectVersions"] {
        server.server.faults().deny(operation, Some(""));
        server.report(&[]).code(6).never_says("hush");
        server.server.faults().deny(operation, None);
    }
    server.report(&[]).success();
}

#[test]
fn a_bucket_without_object_lock_is_a_failure_only_when_one_is_required() {
    let server = Place::start();
    server.fill();
    server.report(&[]).success().says("is gone at once").says("object lock").says("off");
    server.report(&["require=true"]).code(3).says("object lock is on");
    server.protect(None);
    assert_eq!(server.fill(), 0, "a second copy moves nothing, so it makes no version");
    server.report(&[]).success().says("stays as a former version").says("0 B in 0 versions");
    // Lock that came after the backups.
    server.protect(Some(1));
    server.report(&[]).code(3).says("nothing of it is locked");
}

#[test]
fn longhorn_goes_on_in_a_bucket_that_locks_what_it_writes() {
    let lab = Lab::up().with_files();
    let (client, runtime) = (s3client::client(&lab.access.s3), Runtime::new().unwrap());
    let bucket = lab.access.s3.bucket.as_str();
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let put = client.put_bucket_versioning().bucket(bucket).versioning_configuration(enabled);
    runtime.block_on(put.send()).unwrap();
    lab.runbook("backup-now", &[]).success();
    lab.script("wait::sleep(1.1); runbook(\"backup-now\");").success();
    // volume.cfg was written anew, and the locks are gone.
    let usage = lab.script("let n = backupstore::usage().noncurrent; print(`${n.versions.objects > 0} ${n.versions.bytes > 0} ${n.delete_markers > 0}`);");
    usage.success().says("true true true");
    // The older backup is deleted: its blocks are hidden, and there.
    let freed = lab.script(
        "let all = longhorn::backups();
         let before = backupstore::usage().noncurrent.versions.objects;
         kube::delete(\"backups.longhorn.io\", `longhorn-system/${all[all.len() - 1].name}`);
         wait::until(\"it is deleted\", \"30s\", || backupstore::backups(all[0].volume).len() == 1);
         print(`more: ${backupstore::usage().noncurrent.versions.objects > before}`);",
    );
    freed.success().says("more: true");
    lab.runbook("lock-report", &[]).success().says("stays as a former version");
    lab.lhrun(["backups", "du"]).success().says("marks of deletion");
    lab.lhrun(["backups", "verify"]).success();
}
