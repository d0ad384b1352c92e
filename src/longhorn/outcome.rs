//! What has become of a restore, told from the volume and its engine.
//!
//! `restoreRequired` is false before a restore has begun and after it has ended, and a volume that lost all its
//! replicas looks attached and healthy for a while. So several fields are judged together, as Longhorn's own
//! `IsVolumeReady` does (longhorn-manager `types/volumes.go`, `controller/volume_controller.go`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields;
use crate::{Error, Kind};

/// What has become of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Going on: percent done by the slowest replica, and what is seen.
    Running(Option<u8>, String),
    /// The data are there, and the volume is detached.
    Done,
    /// It has failed for good.
    Failed(Error),
}

/// Whether a restore into the volume has begun and ended well, whatever it is used for now.
pub(super) fn is_restored(volume: &Value) -> bool {
    fields::flag(volume, "/status/restoreInitiated")
        && !fields::flag(volume, "/status/restoreRequired")
        && fields::text(volume, "/status/robustness") != "faulted"
}

/// Whether a restore into the volume has failed, so that only a new one can help: Longhorn does not salvage it.
pub(super) fn has_failed(volume: &Value) -> bool {
    let required = fields::flag(volume, "/status/restoreRequired");
    let condition = fields::condition(volume, "Restore").is_some_and(|found| found["reason"] == "RestoreFailure");
    condition || (required && fields::text(volume, "/status/robustness") == "faulted")
}

/// Judges the volume; `source` names backup and volume for messages.
pub(super) fn judge(volume: &Value, engines: &[&Value], source: &str) -> Outcome {
    let name = fields::name(volume);
    let errors = replica_errors(engines);
    if has_failed(volume) {
        let condition = fields::condition(volume, "Restore").map(fields::why).unwrap_or_default();
        let why = if errors.is_empty() { condition } else { errors.into_iter().collect::<Vec<_>>().join("; ") };
        return Outcome::Failed(failed(name, source, &why));
    }
    let scheduled = fields::condition(volume, "Scheduled");
    let state = fields::text(volume, "/status/state");
    if is_restored(volume) && state == "detached" && scheduled.is_none_or(|condition| condition["status"] == "True") {
        return Outcome::Done;
    }
    let mut seen = vec![if state.is_empty() { "not begun".to_string() } else { state.to_string() }];
    if let Some(condition) = scheduled.filter(|condition| condition["status"] == "False") {
        seen.push(format!("not scheduled ({})", fields::why(condition)));
    }
    if let Some(condition) = fields::condition(volume, "WaitForBackingImage").filter(|found| found["status"] == "True")
    {
        seen.push(format!("waiting for its backing image ({})", fields::why(condition)));
    }
    seen.extend(errors);
    let percent = progress(engines);
    if state == "attached" && percent.is_none() && seen.len() == 1 {
        seen.push("queued: see the setting concurrent-volume-backup-restore-per-node-limit".to_string());
    }
    Outcome::Running(percent, seen.join(", "))
}

/// Percent done by the slowest replica.
fn progress(engines: &[&Value]) -> Option<u8> {
    let replicas = engines.iter().filter_map(|engine| engine.pointer("/status/restoreStatus")?.as_object());
    let done =
        replicas.flat_map(serde_json::Map::values).map(|replica| fields::number(replica, "/progress").unwrap_or(0));
    done.min().and_then(|percent| u8::try_from(percent.min(100)).ok())
}

/// What the replicas complain of at the moment; a restore that is tried again has no error meanwhile.
pub(super) fn replica_errors(engines: &[&Value]) -> BTreeSet<String> {
    let replicas = engines.iter().filter_map(|engine| engine.pointer("/status/restoreStatus")?.as_object());
    let errors = replicas.flat_map(serde_json::Map::values).filter_map(|replica| fields::owned(replica, "/error"));
    errors.map(|error| error.trim().to_string()).collect()
}

fn failed(volume: &str, source: &str, why: &str) -> Error {
    let why = if why.is_empty() { "Longhorn gives no reason" } else { why };
    let mentions = |signs: &[&str]| signs.iter().any(|sign| why.contains(sign));
    // A block that could not be fetched says nothing about what is stored.
    let unreached =
        mentions(&["connection refused", "timeout", "timed out", "no such host", "AccessDenied", "failed lock"]);
    let damaged = mentions(&[".blk", "checksum", "cannot find block"]) && !unreached;
    let kind = if damaged { Kind::Damaged } else { Kind::Failed };
    let error = Error::new(kind, format!("the restore of the volume {volume} from {source} failed: {why}"));
    if damaged {
        return error
            .hint("the backup is damaged in the store; restore an older one, and take a full backup of what is left");
    }
    error.hint("delete the volume and restore it again; see the logs of its instance-manager for more")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(state: &str, robustness: &str, initiated: bool, required: bool) -> Value {
        json!({"metadata": {"name": "v"}, "status": {"state": state, "robustness": robustness,
            "restoreInitiated": initiated, "restoreRequired": required,
            "conditions": [{"type": "Scheduled", "status": "True"}]}})
    }

    fn engine(progress: &[u8]) -> Value {
        let replicas: serde_json::Map<_, _> = progress
            .iter()
            .enumerate()
            .map(|(i, p)| (format!("10.0.0.{i}:10000"), json!({"progress": p, "error": ""})))
            .collect();
        json!({"status": {"restoreStatus": replicas}})
    }

    #[test]
    fn a_volume_that_has_not_begun_is_not_done() {
        assert!(matches!(judge(&volume("detached", "unknown", false, false), &[], "b"), Outcome::Running(None, _)));
        assert!(matches!(
            judge(&json!({"metadata": {"name": "v"}, "status": {"conditions": null}}), &[], "b"),
            Outcome::Running(..)
        ));
    }

    #[test]
    fn it_is_done_when_it_is_detached_again() {
        let engine = engine(&[100, 40]);
        let running = judge(&volume("attached", "healthy", true, true), &[&engine], "b");
        assert!(matches!(running, Outcome::Running(Some(40), _)), "{running:?}");
        assert!(matches!(judge(&volume("detaching", "unknown", true, false), &[&engine], "b"), Outcome::Running(..)));
        assert!(matches!(judge(&volume("detached", "unknown", true, false), &[&engine], "b"), Outcome::Done));
    }

    #[test]
    fn a_failure_names_the_block() {
        let mut broken = volume("detached", "faulted", true, true);
        broken["status"]["conditions"] = json!([{"type": "Restore", "status": "False", "reason": "RestoreFailure",
            "message": "All replica restore failed and the volume became Faulted"}]);
        let engine = json!({"status": {"restoreStatus": {"a": {"error": "cannot find 12/34/1234.blk in the store"},
            "b": {"error": "cannot find 12/34/1234.blk in the store"}}}});
        let Outcome::Failed(error) = judge(&broken, &[&engine], "backup-1 of pvc-1") else { panic!("not failed") };
        assert_eq!(error.kind(), Kind::Damaged);
        assert_eq!(
            error.message(),
            "the restore of the volume v from backup-1 of pvc-1 failed: cannot find 12/34/1234.blk in the store"
        );
        let away = json!({"status": {"restoreStatus": {"a": {"error": "reading 12/34/1234.blk: connection refused"}}}});
        let Outcome::Failed(error) = judge(&broken, &[&away], "backup-1 of pvc-1") else { panic!("not failed") };
        assert_eq!(error.kind(), Kind::Failed, "the store was away, which is no damage");
        let Outcome::Failed(error) = judge(&broken, &[], "backup-1 of pvc-1") else { panic!("not failed") };
        assert!(error.message().contains("All replica restore failed"), "{error}");
    }

    #[test]
    fn what_holds_it_up_is_seen() {
        let mut waiting = volume("detached", "unknown", true, true);
        waiting["status"]["conditions"] = json!([{"type": "Scheduled", "status": "False",
            "reason": "ReplicaSchedulingFailure", "message": "insufficient storage"}]);
        let Outcome::Running(_, seen) = judge(&waiting, &[], "b") else { panic!("not running") };
        assert!(seen.contains("not scheduled (ReplicaSchedulingFailure: insufficient storage)"), "{seen}");
        let Outcome::Running(_, seen) = judge(&volume("attached", "healthy", true, true), &[], "b") else { panic!() };
        assert!(seen.contains("queued"), "{seen}");
    }
}
