//! URLs as operators and clusters write them.

#![no_main]

use lhrun::backupstore::{BackupRef, TargetUrl};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(target) = TargetUrl::parse(text) {
        assert_eq!(TargetUrl::parse(&target.to_string()).expect("what was written can be read"), target);
        assert!(target.prefix().split('/').all(|part| part != ".."));
    }
    if let Ok((target, backup)) = BackupRef::decode(text) {
        assert_eq!(BackupRef::decode(&backup.encode(&target)).expect("what was written can be read"), (target, backup));
    }
});
