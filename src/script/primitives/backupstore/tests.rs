use std::path::Path;

use rhai::Dynamic;
use serde_json::{Value, json};

use crate::{
    Error, Kind,
    objectstore::Store,
    script::{Fault, Host, Settings, convert, engine, host::fake},
};

fn fixtures() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/longhorn").to_string_lossy().into_owned()
}

/// A host whose configured store is what Longhorn wrote.
fn host() -> Host {
    let (host, _) = fake::host(Settings::default());
    host.use_store(Store::folder(fixtures()).unwrap());
    host
}

fn run(host: &Host, script: &str) -> Value {
    let value = engine::build(host).eval::<Dynamic>(script).unwrap_or_else(|error| panic!("{script}: {error}"));
    convert::to_json(&value).unwrap()
}

fn error(script: &str) -> Error {
    Fault::new(&engine::build(&host()).eval::<Dynamic>(script).unwrap_err()).error
}

#[test]
fn the_configured_store_and_an_opened_one_tell_the_same() {
    let host = host();
    let open = format!("let store = backupstore::open(\"file://{}\");", fixtures());
    for (call, expected) in [
        ("volumes().map(|v| v.volume)", json!(["pvc-backed", "pvc-empty", "pvc-legacy"])),
        ("backups(\"pvc-legacy\").map(|b| b.blocks)", json!([3, 3, 4])),
        ("backup(\"pvc-backed\", \"backup-00000000000000b1\").recurring_job", json!("daily")),
        ("system_backups()[0].name", json!("weekly-1")),
        ("usage().unreferenced.objects", json!(0)),
        ("usage(\"pvc-legacy\").backups.len", json!(3)),
        ("locks()", json!([])),
        ("locks(\"pvc-legacy\")", json!([])),
        ("protection().versioning", json!("never")),
        ("protection(#{until: \"30d\"}).object_lock", json!(null)),
        ("verify().verdict", json!("whole")),
        (
            "verify(#{level: \"deep\", lock: false, volumes: [\"pvc-legacy\"]}).items.map(|i| i.verdict)",
            json!(["whole", "whole", "whole"]),
        ),
        ("verify(#{backups: [\"pvc-legacy@backup-0000000000001403\"]}).totals.blocks", json!(4)),
        ("url()", json!(Store::folder(fixtures()).unwrap().describe())),
    ] {
        assert_eq!(run(&host, &format!("backupstore::{call}")), expected, "{call}");
        assert_eq!(run(&host, &format!("{open} store.{call}")), expected, "{call}");
    }
}

#[test]
fn a_backup_is_restored_and_told_as_a_change() {
    let (host, folder) = (host(), tempfile::tempdir().unwrap());
    let file = folder.path().join("image");
    let call = format!("restore(\"pvc-legacy@backup-0000000000001403\", \"{}\"", file.display());
    assert_eq!(run(&host, &format!("backupstore::{call}).size")), json!(24 << 20));
    assert_eq!(file.metadata().unwrap().len(), 24 << 20);
    let again = engine::build(&host).eval::<Dynamic>(&format!("backupstore::{call})")).unwrap_err();
    assert_eq!(Fault::new(&again).error.kind(), Kind::Conflict);
    let open = format!("let store = backupstore::open(#{{url: \"file://{}\"}});", fixtures());
    assert_eq!(run(&host, &format!("{open} store.{call}, #{{overwrite: true}}).blocks")), json!(4));
    assert_eq!(host.run().record().changes.len(), 2);
}

#[test]
fn a_copy_is_told_as_a_change_when_it_is_one() {
    let (host, folder) = (host(), tempfile::tempdir().unwrap());
    let place = format!("backupstore::open(\"file://{}\")", folder.path().display());
    let of = |call: &str| run(&host, &format!("let place = {place}; let c = {call}; [c.copied, c.skipped, c.failed]"));
    assert_eq!(of("backupstore::copy_to(place)"), json!([20, 0, 0]));
    assert_eq!(of("backupstore::copy_to(place, #{prune: true, at_once: 2})"), json!([0, 20, 0]));
    let open = format!("backupstore::open(\"file://{}\")", fixtures());
    assert_eq!(of(&format!("{open}.copy_to(place, #{{bytes_per_second: 1000000}})")), json!([0, 20, 0]));
    assert_eq!(of(&format!("{open}.copy_to(place)")), json!([0, 20, 0]));
    let changes = host.run().record().changes;
    assert_eq!(changes.len(), 1);
    assert!(changes[0].what.starts_with("copied 20 objects"), "{}", changes[0].what);
}

#[test]
fn what_goes_wrong_is_explained() {
    for (script, kind, said) in [
        ("backupstore::backup(\"pvc-legacy\", \"b-none\")", Kind::NotFound, "volume pvc-legacy, backup b-none"),
        ("backupstore::backup(\"pvc-legacy\", \"../x\")", Kind::Invalid, "is not the name of a backup"),
        ("backupstore::usage(\"pvc-none\")", Kind::NotFound, "there is no volume pvc-none"),
        ("backupstore::locks(\"pvc-none\")", Kind::NotFound, "there is no volume pvc-none"),
        ("backupstore::protection(#{until: \"some day\"})", Kind::Usage, "neither a time nor a length"),
        ("backupstore::verify(#{level: \"some\"})", Kind::Usage, "no level of verification"),
        ("backupstore::verify(#{lebel: \"deep\"})", Kind::Script, "no option `lebel`"),
        ("backupstore::verify(#{level: \"sample=9%\"})", Kind::Script, "needs the option `coverage`"),
        ("backupstore::copy_to(backupstore::open(\"file:///tmp\"), #{at_onec: 1})", Kind::Script, "`at_onec`"),
        ("backupstore::copy_to(backupstore::open(\"file:///tmp\"), #{bytes_per_second: 0})", Kind::Usage, "above 0"),
        ("backupstore::restore(\"pvc-legcay\", \"/tmp/x\")", Kind::NotFound, "no volume pvc-legcay"),
        ("backupstore::open(\"file://relative\")", Kind::Usage, "full path"),
        ("backupstore::open(#{endpoint: \"http://x\"})", Kind::Script, "`url` is missing"),
        ("backupstore::open(#{url: \"file:///tmp\", endpoint: \"http://x\"})", Kind::Script, "`endpoint`"),
        ("backupstore::open(#{url: \"s3://b/\", access_key: \"a\"})", Kind::Script, "give both"),
    ] {
        let error = error(script);
        assert_eq!(error.kind(), kind, "{script}: {error}");
        assert!(error.message().contains(said), "{script}: {error}");
    }
}
