//! Stores for tests: what Longhorn wrote, read-only or as a copy to damage, and empty ones.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::objectstore::Store;

/// Where the objects written by Longhorn are.
pub fn fixture_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/longhorn")
}

/// The store Longhorn wrote. Tests only read it.
pub fn fixtures() -> Store {
    Store::folder(fixture_folder()).unwrap()
}

/// A folder of one test, with a store in it.
pub struct Scratch {
    folder: TempDir,
}

/// An empty store.
pub fn scratch() -> Scratch {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("store")).unwrap();
    Scratch { folder }
}

/// A copy of the store Longhorn wrote.
pub fn copy_of_fixtures() -> Scratch {
    let scratch = scratch();
    copy(&fixture_folder().join("backupstore"), &scratch.folder.path().join("store/backupstore"));
    scratch
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl Scratch {
    /// The store.
    pub fn store(&self) -> Store {
        Store::folder(self.folder.path().join("store")).unwrap()
    }

    /// The file of an object.
    pub fn object(&self, key: &str) -> PathBuf {
        self.folder.path().join("store").join(key)
    }

    /// A path beside the store.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A server with the bucket `backups`, whose folder lies beside the store, and a store below a prefix of it.
#[cfg(feature = "sandbox")]
pub async fn bucket(place: &Scratch) -> (crate::sandbox::s3::S3Server, Store) {
    let config = crate::sandbox::s3::S3Config {
        listen: ([127, 0, 0, 1], 0).into(),
        root: place.path("server"),
        access_key: "id".into(),
        secret_key: String::from("hush").into(),
    };
    let server = crate::sandbox::s3::S3Server::start(config).await.unwrap();
    server.create_bucket("backups").await.unwrap();
    let store = Store::connect(&crate::objectstore::StoreConfig {
        endpoint: Some(server.endpoint()),
        bucket: "backups".into(),
        prefix: "offsite".into(),
        access_key: Some("id".into()),
        secret_key: Some(String::from("hush").into()),
        ..crate::objectstore::StoreConfig::default()
    });
    (server, store.unwrap())
}
