//! A copy of the backups at a second place, and what they take: the first place is lost, and the cluster comes back from
//! the second.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::lab::{Lab, Said};

/// A runbook of one cluster with the keys of the other one's bucket for the copy.
fn towards(here: &Lab, there: &Lab, runbook: &str, parameters: &[&str]) -> Said {
    let s3 = &there.access.s3;
    let (url, endpoint) = (url(there), format!("endpoint={}", s3.endpoint));
    let mut all = vec![url.as_str(), &endpoint];
    all.extend(parameters);
    let keys = [("OFFSITE_ACCESS_KEY_ID", s3.access_key.as_str()), ("OFFSITE_SECRET_ACCESS_KEY", &s3.secret_key)];
    here.runbook_with(runbook, &all, &keys)
}

fn url(there: &Lab) -> String {
    format!("url=s3://{}@{}/offsite/", there.access.s3.bucket, there.access.s3.region)
}

/// The files below the folder, by name.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() { found.extend(below(&entry.path())) } else { found.push(entry.path()) }
    }
    found.sort();
    found
}

#[test]
fn a_cluster_comes_back_from_the_copy_when_the_first_store_is_lost() {
    let here = Lab::up().with_files();
    let there = Lab::up();
    towards(&here, &there, "offsite-verify", &[]).code(1).says("holds no volume").says("offsite-copy");
    towards(&here, &there, "offsite-copy", &[]).code(1).says("holds no backups: nothing is copied");
    here.runbook("backup-now", &[]).success();
    here.runbook("system-backup", &[]).success();

    towards(&here, &there, "offsite-copy", &[]).success().says("0 objects").never_says(&there.access.s3.secret_key);
    towards(&here, &there, "offsite-copy", &["prune=true"]).success().says("nothing was changed");
    towards(&here, &there, "offsite-verify", &["level=deep"]).success().says("files-test/data").says("level deep");
    towards(&here, &there, "offsite-verify", &["max-age=1ms"]).code(3).says("files-test/data: is not older than 1ms");
    towards(&here, &there, "offsite-verify", &["level=some"]).code(2).says("no level");

    // A block of the copy goes bad; its name alone does not tell.
    let copy = there.bucket().join("offsite/backupstore/volumes");
    let block = below(&copy).into_iter().find(|path| path.extension().is_some_and(|kind| kind == "blk"));
    let block = block.expect("a block in the copy");
    let mut content = fs::read(&block).expect("a block");
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&block, content).expect("it is written");
    let name = block.file_name().expect("a name").to_string_lossy().into_owned();
    towards(&here, &there, "offsite-verify", &[]).success();
    towards(&here, &there, "offsite-verify", &["level=deep"]).code(3).says(&name).says("the copy is whole");
    fs::remove_file(&block).expect("it is removed");
    towards(&here, &there, "offsite-verify", &[]).code(3).says(&name);
    towards(&here, &there, "offsite-copy", &[]).success().says("1 objects");
    towards(&here, &there, "offsite-verify", &["level=deep"]).success();

    // The first cluster is lost with its bucket.
    here.down();
    let restore = |parameters: &[&str]| {
        let (url, endpoint) = (url(&there), format!("endpoint={}", there.access.s3.endpoint));
        let mut all = vec![url.as_str(), &endpoint];
        all.extend(parameters);
        there.runbook("restore-from-offsite", &all)
    };
    restore(&["only=files-test/nothing"]).code(1).says("nothing is known of the claim files-test/nothing");
    restore(&[]).success().says("1 of 1 volumes are back");
    there
        .script(
            "kube::apply(kube::manifest(\"apps/files-test.yaml\"));
             kube::wait(\"deployment\", \"files-test/files-test\", \"rollout\", \"1m\");",
        )
        .success();
    there.runbook("verify-restore", &[]).success().says("files-test/data: checksum over a sample of files");
    restore(&[]).success().says("nothing to do");
}

#[test]
fn a_copy_in_a_folder_leaves_out_what_is_damaged_and_says_so() {
    let lab = Lab::up().with_files();
    lab.runbook("backup-now", &[]).success();
    let folder = lab.folder().join("usb");
    fs::create_dir(&folder).expect("a folder");
    let url = format!("url=file://{}", folder.display());
    lab.runbook("offsite-copy", &[]).code(2).says("no copy is named");
    for wrong in ["at-most=much", "at-most=0", "at-most=99999999999T"] {
        lab.runbook("offsite-copy", &[&url, wrong]).code(2).says("is no number of bytes");
    }
    lab.runbook("restore-from-offsite", &[&url]).code(2).says("cannot restore from a folder");

    let block = below(&lab.bucket()).into_iter().find(|path| path.extension().is_some_and(|kind| kind == "blk"));
    let block = block.expect("a block in the bucket");
    let whole = fs::read(&block).expect("a block");
    fs::write(&block, &whole[..whole.len() / 2]).expect("it is cut");
    let name = block.file_name().expect("a name").to_string_lossy().into_owned();
    lab.runbook("offsite-copy", &[&url]).code(5).says(&name).says("lhrun backups verify --level deep");
    lab.runbook("offsite-verify", &[&url]).code(3).says("the copy has no complete backup of it");
    fs::write(&block, &whole).expect("it is whole again");
    lab.runbook("offsite-copy", &[&url, "at-most=10M"]).success();
    lab.runbook("offsite-verify", &[&url, "level=deep"]).success();
}

#[test]
fn the_capacity_is_told_with_the_growth_and_the_formula() {
    let lab = Lab::up().with_files();
    lab.runbook("backup-now", &[]).success();
    lab.runbook("capacity", &["size=1G"]).code(6).says("files-test/data").says("no growth is known yet");
    lab.script(
        "import \"lib/pods\" as pods;
         pods::shell(\"files-test/data\", \"head -c 3000000 /dev/urandom > $1/more; sync\", [\"/data\"]);
         wait::sleep(1.1);
         runbook(\"backup-now\");",
    )
    .success();
    // Three megabytes in seconds are tens of gigabytes a day.
    lab.runbook("capacity", &["size=1G"]).code(3).says("the store has room for 30 days").says("days until full");
    lab.runbook("capacity", &["size=1G", "days=0"]).success().says("span less than a day");
    lab.runbook("capacity", &["size=1K"]).code(3).says("the store has room").says("of 1.0 KiB");
    lab.runbook("capacity", &["ratio=1.0", "copies=1.0"]).success().says("volume sizes × 1.0 × 1.0");
    lab.runbook("capacity", &["size=lots"]).code(2).says("is no number of bytes");
}
