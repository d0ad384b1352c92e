//! Backups that the real Longhorn wrote: each is restored with the recorded hash and every block of them verified, from
//! a folder and from whatever speaks S3.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    folders,
    lab::{Lab, S3, Said, lhrun},
    restore_image::sha256,
};

/// A set of backups, and what is known about them.
pub struct Archive {
    folder: PathBuf,
    manifest: Value,
    _unpacked: Option<TempDir>,
}

impl Archive {
    /// Both sets, as far as they are here.
    pub fn all() -> Vec<Self> {
        [Some(Self::small()), Self::larger()].into_iter().flatten().collect()
    }

    /// The one that is kept here.
    pub fn small() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/longhorn");
        let manifest = folder.join("manifest.json");
        Self::new(folder, &manifest, None)
    }

    /// The one that `LHRUN_FIXTURES` names the folder of, packed as `longhorn-backupstore.tar.zst`.
    pub fn larger() -> Option<Self> {
        let Some(folder) = std::env::var_os("LHRUN_FIXTURES").map(PathBuf::from) else {
            eprintln!("NOT CHECKED: LHRUN_FIXTURES names no folder with larger backups");
            return None;
        };
        let unpacked = tempfile::tempdir().unwrap();
        let mut tar = Command::new("tar");
        tar.arg("--zstd").arg("-xf").arg(folder.join("longhorn-backupstore.tar.zst")).arg("-C").arg(unpacked.path());
        Said::of(tar).success();
        let manifest = folder.join("longhorn-backupstore.json");
        Some(Self::new(unpacked.path().to_owned(), &manifest, Some(unpacked)))
    }

    fn new(folder: PathBuf, manifest: &Path, unpacked: Option<TempDir>) -> Self {
        let manifest = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        Self { folder, manifest, _unpacked: unpacked }
    }

    /// The folder that holds `backupstore/`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Restores everything from that store and verifies every block of it.
    pub fn is_whole_in(&self, store: &Place) {
        let target = tempfile::tempdir().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let restore = |what: &[&str]| {
            let mut command = store.backups("restore");
            command.args(what).args(["-o", "a.img", "--force", "--no-lock"]).current_dir(target.path());
            Said::of(command).success()
        };
        let mut count = 0;
        for entry in self.manifest["backups"].as_array().unwrap() {
            let reference = format!("{}@{}", text(&entry["volume"]), text(&entry["backup"]));
            let said = restore(&[&reference, "--sha256", "--result", "json"]);
            let result: Value = serde_json::from_str(&said.stdout()).unwrap();
            assert_eq!(sha256(&target.path().join("a.img")), text(&entry["source_sha256"]), "{reference}");
            assert_eq!(result["sha256"], entry["source_sha256"], "{reference}");
            assert_eq!(result["size"], entry["source_size"], "{reference}");
            assert_eq!(result["reused"], 0);
            count += 1;
        }
        for entry in self.manifest["backing_images"].as_array().unwrap() {
            let name = text(&entry["name"]);
            restore(&["--backing-image", &name]).says(&name);
            assert_eq!(sha256(&target.path().join("a.img")), text(&entry["sha256"]), "{name}");
            count += 1;
        }
        assert!(count >= 6);
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1, "only the image is left");

        let mut command = store.backups("verify");
        command.args(["--level", "deep", "--no-lock", "-o", "json"]);
        let said = Said::of(command).success();
        let report: Value = serde_json::from_str(&said.stdout()).unwrap();
        assert_eq!(report["verdict"], "whole", "{said}");
        let totals = &report["totals"];
        assert!(totals["blocks_read"].as_u64().unwrap() > 0, "{said}");
        println!("{count} images restored and {} blocks verified from {}", totals["blocks_read"], store.url);
    }
}

/// A store, as the command line names it, and the variables that go with it.
pub struct Place {
    url: String,
    variables: Vec<(&'static str, String)>,
}

impl Place {
    pub fn folder(folder: &Path) -> Self {
        Self { url: format!("file://{}", folder.display()), variables: Vec::new() }
    }

    pub fn bucket(s3: &S3) -> Self {
        let variables = vec![
            ("AWS_ENDPOINT_URL", s3.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", s3.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", s3.secret_key.clone()),
        ];
        Self { url: format!("s3://{}@{}/", s3.bucket, s3.region), variables }
    }

    fn backups(&self, operation: &str) -> Command {
        let mut command = lhrun();
        command.args(["backups", operation, "--store", &self.url]).envs(self.variables.iter().map(|(k, v)| (k, v)));
        command
    }
}

#[test]
fn all_is_restored_and_whole_from_a_folder() {
    for archive in Archive::all() {
        archive.is_whole_in(&Place::folder(archive.folder()));
    }
}

#[test]
fn all_is_restored_and_whole_from_the_embedded_bucket() {
    for archive in Archive::all() {
        let lab = Lab::up();
        folders::copy(&archive.folder().join("backupstore"), &lab.bucket().join("backupstore"));
        archive.is_whole_in(&Place::bucket(&lab.access.s3));
    }
}
