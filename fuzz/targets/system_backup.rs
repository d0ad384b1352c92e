//! The archive of a system backup: paths that lead elsewhere, bombs and broken lists are refused.

#![no_main]

use lhrun::backupstore::system;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(files) = system::unpack("system-backup.zip", body) else { return };
    for path in files.keys() {
        assert!(!path.starts_with('/') && path.split('/').all(|part| part != ".."), "{path}");
    }
    let bundle = system::SystemBundle { config: Default::default(), metadata: Default::default(), files };
    for kind in ["Volume", "PersistentVolume", "PersistentVolumeClaim", "Setting"] {
        let _ = bundle.objects(kind);
    }
});
