//! The whole line: a real PostgreSQL is lost with its cluster and comes back, proven, and the proof can fail.

use crate::lab::{Said, lhrun};

fn drill(settings: &[&str]) -> Said {
    let mut command = lhrun();
    command.args(["--sandbox", "--yes", "run", concat!(env!("CARGO_MANIFEST_DIR"), "/runbooks/dr-drill.rhai")]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    // The state the drill exports goes to the current folder.
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    command.current_dir(folder.path());
    Said::of(command)
}

#[test]
fn a_lost_cluster_comes_back_with_every_row() {
    drill(&["rows=1000"])
        .success()
        .says("rows in table orders")
        .says("checksum over table orders")
        .says("recovery time (RTO)")
        .says("data age at the disaster (RPO)");
}

#[test]
fn a_flipped_bit_in_a_stored_block_is_named() {
    drill(&["damage=flip-bit"]).failure().says("pvc-").says("backup").says(".blk");
}

#[test]
fn a_deleted_block_is_named() {
    drill(&["damage=delete-block"]).failure().says("pvc-").says("backup").says(".blk");
}

#[test]
fn a_missing_row_is_found() {
    drill(&["damage=lose-row"])
        .code(3)
        .says("rows in table orders")
        .says("999")
        .says("1000")
        .says("postgres-test/data-postgres-test-0");
}

#[test]
fn damage_is_refused_by_name_before_anything_happens() {
    drill(&["damage=set-on-fire"])
        .code(2)
        .says("set-on-fire")
        .says("flip-bit")
        .never_says("deploy the test application");
}
