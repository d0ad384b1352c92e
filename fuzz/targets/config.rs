//! The JSON objects of a store. What was read must be written and read again as the same.

#![no_main]

use lhrun::backupstore::{
    BackupRef,
    config::{BackingImageConfig, BackupConfig, LockConfig, SystemBackupConfig, VolumeConfig},
};
use libfuzzer_sys::fuzz_target;

/// The names in the backups kept for tests, which are the seeds.
const VOLUME: &str = "pvc-legacy";
const BACKUP: &str = "backup-0000000000001403";

fuzz_target!(|body: &[u8]| {
    let _ = LockConfig::parse("lock", body);
    let _ = BackingImageConfig::parse("base8", body);
    let _ = SystemBackupConfig::parse("v1.10.1", "weekly-1", body);
    let volume = VolumeConfig::parse(VOLUME, body);
    let of = BackupRef::new(VOLUME, BACKUP).expect("names that Longhorn accepts");
    let Ok(backup) = BackupConfig::parse(&of, body) else { return };
    let written = backup.to_bytes().expect("what was read can be written");
    assert_eq!(BackupConfig::parse(&of, &written).expect("what was written can be read").blocks, backup.blocks);
    if let Ok(volume) = volume {
        let _ = backup.check_restorable(&volume);
    }
});
