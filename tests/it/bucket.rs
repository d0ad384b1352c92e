//! The embedded S3 endpoint under somebody else's client, and backups that the real Longhorn wrote.

use std::{fs, process::Command};

use crate::{
    folders::copy,
    lab::{Lab, Said, has},
    restore_image::sha256,
    written_by_longhorn::Archive,
};

fn rclone(lab: &Lab, secret: &str, arguments: &[&str]) -> Said {
    let s3 = &lab.access.s3;
    let mut command = Command::new("rclone");
    command
        .args(["--config", "/dev/null", "--retries", "1", "--low-level-retries", "1"])
        .args(arguments)
        .env("RCLONE_CONFIG_LAB_TYPE", "s3")
        .env("RCLONE_CONFIG_LAB_PROVIDER", "Other")
        .env("RCLONE_CONFIG_LAB_ENDPOINT", &s3.endpoint)
        .env("RCLONE_CONFIG_LAB_REGION", &s3.region)
        .env("RCLONE_CONFIG_LAB_ACCESS_KEY_ID", &s3.access_key)
        .env("RCLONE_CONFIG_LAB_SECRET_ACCESS_KEY", secret)
        // rclone fails on a CA bundle that it was not asked to use.
        .env_remove("AWS_CA_BUNDLE");
    Said::of(command)
}

#[test]
fn a_foreign_client_lists_and_reads_the_bucket() {
    if !has("rclone") {
        return;
    }
    let lab = Lab::up();
    let secret = lab.access.s3.secret_key.clone();
    let bucket = format!("lab:{}", lab.access.s3.bucket);
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("note.txt"), "twelve bytes").expect("a file");

    rclone(&lab, &secret, &["copy", &folder.path().to_string_lossy(), &bucket]).success();
    rclone(&lab, &secret, &["ls", &bucket]).success().says("12 note.txt");
    rclone(&lab, &secret, &["cat", &format!("{bucket}/note.txt")]).success().says("twelve bytes");
    rclone(&lab, &secret, &["check", "--download", &folder.path().to_string_lossy(), &bucket]).success();

    rclone(&lab, "not-the-secret", &["ls", &bucket]).failure().says("SignatureDoesNotMatch");
    rclone(&lab, "not-the-secret", &["cat", &format!("{bucket}/note.txt")]).failure().never_says("twelve bytes");
}

/// The volume, the backup and the SHA-256 of its image, as recorded when the real Longhorn restored it.
const SMALL: (&str, &str, &str) =
    ("pvc-legacy", "backup-0000000000001403", "ce8196eb15afbb5e5f29541c1743405153467d9a7d25a1e801056a5b862e6b3f");
const EXT4: (&str, &str, &str) =
    ("pvc-ext4-gzip", "backup-00000000000000e2", "63b4224e9737f03e6ad4c3910f6dc809ef841c8a9482524af7e2017adc4dcc7b");

#[test]
fn backups_of_the_real_longhorn_appear_and_restore() {
    appear_and_restore(&Archive::small(), SMALL);
}

#[test]
fn a_larger_ext4_backup_of_the_real_longhorn_restores() {
    if let Some(archive) = Archive::larger() {
        appear_and_restore(&archive, EXT4);
    }
}

fn appear_and_restore(archive: &Archive, (volume, backup, sum): (&str, &str, &str)) {
    let lab = Lab::up();
    let script = format!(
        r#"
        longhorn::sync("2m");
        let found = longhorn::backups("{volume}").filter(|b| b.name == "{backup}");
        check::equal("the backup appears", found.len(), 1);
        longhorn::restore(#{{ backup: "{backup}", volume: "restored", timeout: "2m" }});
        "#
    );
    copy(&archive.folder().join("backupstore"), &lab.bucket().join("backupstore"));
    lab.script(&script).success();
    assert_eq!(sha256(&lab.image("restored")), sum);
}
