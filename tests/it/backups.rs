//! `lhrun backups`: looking at a store without a cluster.

use std::path::Path;

use crate::lab::{Said, lhrun};

/// The store the real Longhorn wrote.
fn fixtures() -> String {
    format!("file://{}", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/longhorn").display())
}

/// `lhrun backups` on that store.
fn backups(store: &str, arguments: &[&str]) -> Said {
    let mut command = lhrun();
    command.arg("backups").args(arguments).args(["--store", store]);
    Said::of(command)
}

#[test]
fn the_volumes_of_a_folder_are_listed() {
    let said = backups(&fixtures(), &["ls"]).success();
    assert!(said.stdout().starts_with("VOLUME "), "{said}");
    let said = said.says("prod/data-postgres-0").says("16.0 MiB");
    assert!(said.stderr().is_empty(), "{said}");
    for form in ["json", "yaml"] {
        let said = backups(&fixtures(), &["ls", "-o", form]).success();
        let volumes: serde_json::Value = serde_saphyr::from_str(&said.stdout()).unwrap();
        assert_eq!(volumes[1]["claim"], "prod/data-postgres-0", "{said}");
    }
}

#[test]
fn a_store_that_is_not_there_or_badly_named_is_told() {
    backups("file:///no/such/folder", &["ls"]).code(1).says("/no/such/folder");
    backups("file://relative", &["ls"]).code(2).says("full path").says("file:///folder");
    backups("nfs://server/x", &["ls"]).code(2).says("s3://bucket@region/path/");
    backups(&fixtures(), &["ls", "--endpoint", "http://s3"]).code(2).says("a folder has no --endpoint");
}
