//! A copy of the backups at a second place, and what they take: the first place is lost, and the cluster comes back from
//! the second.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use nix::unistd::Pid;

use crate::{
    folders::below,
    lab::{Lab, RUNBOOKS, Said, lhrun},
};

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
    towards(&here, &there, "offsite-copy", &[]).success().says("nothing was changed");
    towards(&here, &there, "offsite-verify", &["level=deep", "heal=true"]).success().says("copied 1 objects");
    towards(&here, &there, "offsite-verify", &["level=deep", "heal=true"]).success().says("nothing was changed");
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
    restore(&["replace=true", "release=true"]).success().says("nothing to do");
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

/// A backup uploads what changed since the one before it, which retention may have deleted.
#[test]
fn the_growth_is_the_same_before_and_after_retention() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("growth.rhai");
    let script = r#"
        import "lib/growth" as growth;
        fn kept(days) { days.map(|day| #{ begun: `2026-11-${if day < 10 { "0" } else { "" }}${day}T02:00:00Z`, new_bytes: 1073741824 }) }
        fn rounded(found) { (found.per_day / 1073741824.0 * 100.0).round().to_int() }
        let days = []; for day in 1..29 { days.push(day); }
        check::equal("all of them", rounded(growth::of(kept(days))), 100);
        // Seven daily and three weekly ones; a sum over the time between them would say a third.
        let found = growth::of(kept([1, 8, 15, 22, 23, 24, 25, 26, 27, 28]));
        check::equal("after retention", rounded(found), 100);
        check::equal("gaps", [found.used, found.gaps], [6, 9]);
        check::equal("mostly weekly", rounded(growth::of(kept([1, 8, 15, 22, 26, 27, 28]))), 100);
        check::equal("one", growth::of(kept([1])).per_day, ());
        check::equal("none", growth::of([]).gaps, 0);
        check::equal("two", rounded(growth::of(kept([1, 3]))), 50);
    "#;
    fs::write(&file, script).expect("the script");
    let mut command = lhrun();
    command.arg("run").arg(&file);
    Said::of(command).success().says("7 of 7 checks passed");
}

#[test]
fn pruning_names_what_goes_and_keeps_what_may_be_the_last() {
    let lab = Lab::up().with_files();
    lab.runbook("backup-now", &[]).success();
    let folder = lab.folder().join("usb");
    let url = format!("url=file://{}", folder.display());
    lab.runbook("offsite-copy", &[&url]).code(1).says("is the disk mounted?");
    fs::create_dir(&folder).expect("a folder");
    lab.runbook("offsite-copy", &[&url, "prune-volumes=true"]).code(2).says("only with prune");
    lab.runbook("offsite-copy", &[&url]).success();
    let volume = lab.script("print(longhorn::volume_of(\"files-test/data\"));").success().stdout().trim().to_owned();
    let of_it = || below(&folder).iter().filter(|path| path.to_string_lossy().contains(&volume)).count();
    let copied = of_it();
    assert!(copied > 2);

    // The first place is lost and begun anew: another volume, of the same claim.
    lab.script("kube::delete(\"namespace\", \"files-test\", #{wait: true});").success();
    fs::remove_dir_all(lab.bucket().join("backupstore")).expect("the bucket is emptied");
    lab.runbook("offsite-copy", &[&url, "prune=true"])
        .code(1)
        .says("holds no backups: nothing is copied, and nothing deleted");
    let lab = lab.with_files();
    lab.runbook("backup-now", &[]).success();
    lab.runbook("offsite-copy", &[&url, "prune=true"])
        .success()
        .says("kept, though the bucket no longer has it: volume pvc-")
        .says("of the claim files-test/data: 1 backups, the newest of 20")
        .says("--set prune-volumes=true")
        .says("pruned:         0 objects");
    assert_eq!(of_it(), copied);
    lab.runbook("offsite-copy", &[&url, "prune=true", "prune-volumes=true"]).success().says("pruned: volume pvc-");
    assert_eq!(of_it(), 0);
    lab.runbook("offsite-verify", &[&url, "level=deep"]).success();
}

#[test]
fn a_copy_that_is_interrupted_says_what_it_wrote() {
    use nix::sys::signal::{Signal, kill};

    let lab = Lab::up().with_files();
    lab.script(
        "import \"lib/pods\" as pods;
         pods::shell(\"files-test/data\", \"head -c 12000000 /dev/urandom > $1/more; sync\", [\"/data\"]);
         runbook(\"backup-now\");",
    )
    .success();
    let folder = lab.folder().join("usb");
    fs::create_dir(&folder).expect("a folder");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut command = lhrun();
        command
            .args(["run", &format!("{RUNBOOKS}/offsite-copy.rhai"), "--set", "at-most=1M", "--set"])
            .arg(format!("url=file://{}", folder.display()))
            .env("KUBECONFIG", &lab.access.kubeconfig)
            .env("AWS_ACCESS_KEY_ID", &lab.access.s3.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &lab.access.s3.secret_key)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let blocks = || below(&folder).iter().filter(|path| path.extension().is_some_and(|kind| kind == "blk")).count();
        let before = blocks();
        let process = command.spawn().expect("lhrun starts");
        let begun = Instant::now();
        while blocks() < before + 2 && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(20));
        }
        kill(Pid::from_raw(i32::try_from(process.id()).expect("an id")), signal).expect("a signal");
        let output = process.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(130), "{said}");
        for part in
            ["cut short: ", "were copied; run again, it goes on", "1 change, not finished", "the copy to file://"]
        {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
        assert!(!said.contains("nothing was changed"), "{said}");
    }
    lab.runbook("offsite-copy", &[&format!("url=file://{}", folder.display())]).success();
}

#[test]
fn a_copy_is_no_copy_of_itself_and_has_parameters_of_its_own() {
    let lab = Lab::up().with_files();
    lab.runbook("backup-now", &[]).success();
    let s3 = &lab.access.s3;
    let (url, endpoint) = (format!("url=s3://{}@{}/", s3.bucket, s3.region), format!("endpoint={}", s3.endpoint));
    lab.runbook("offsite-copy", &[&url, &endpoint]).code(2).says("is the place that is to be copied");
    // Parameters for one runbook alone.
    let folder = lab.folder().join("usb");
    fs::create_dir(&folder).expect("a folder");
    let config = format!("[params.offsite-copy]\nurl = \"file://{}\"\n", folder.display());
    fs::write(lab.folder().join("lhrun.toml"), config).expect("the configuration");
    lab.runbook("offsite-copy", &[]).success().says("moved:");
    lab.runbook("offsite-verify", &[]).code(2).says("no copy is named");
    fs::write(lab.folder().join("lhrun.toml"), "[params.offsite-copy]\nulr = \"x\"\n").expect("the configuration");
    lab.runbook("offsite-copy", &[]).code(2).says("no parameter ulr");
}
