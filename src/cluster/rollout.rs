//! Whether a Deployment, StatefulSet or DaemonSet runs what its spec asks for, judged as `kubectl rollout status` does.

use serde_json::Value;

use crate::{Error, Kind, Result};

/// What a rollout has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Everything asked for runs.
    Done,
    /// Not yet, and what is missing.
    Waiting(String),
}

/// Judges one object.
///
/// Errors: `usage` for another kind, `failed` when the Deployment gave up (`ProgressDeadlineExceeded`).
pub(super) fn progress(object: &Value) -> Result<Progress> {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    if number(object, "/metadata/generation") > number(object, "/status/observedGeneration") {
        return waiting("the controller has not seen the latest spec yet");
    }
    match kind {
        "Deployment" => deployment(object),
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object),
        other => Err(Error::new(Kind::Usage, format!("a {other} has no rollout"))
            .hint("wait for \"rollout\" of a Deployment, StatefulSet or DaemonSet")),
    }
}

fn deployment(object: &Value) -> Result<Progress> {
    let conditions =
        object.pointer("/status/conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let gave_up =
        |condition: &&Value| condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded";
    if let Some(condition) = conditions.iter().find(gave_up) {
        let why = condition["message"].as_str().unwrap_or("progress deadline exceeded");
        return Err(Error::new(Kind::Failed, format!("the Deployment gave up: {why}"))
            .hint("look at its pods: kubectl describe pods"));
    }
    let wanted = wanted(object);
    let updated = number(object, "/status/updatedReplicas");
    let total = number(object, "/status/replicas");
    let available = number(object, "/status/availableReplicas");
    if updated < wanted {
        waiting(&format!("{updated} of {wanted} replicas are updated"))
    } else if total > updated {
        waiting(&format!("{} old replicas are still to end", total - updated))
    } else if available < updated {
        waiting(&format!("{available} of {updated} replicas are available"))
    } else {
        Ok(Progress::Done)
    }
}

fn stateful_set(object: &Value) -> Result<Progress> {
    let wanted = wanted(object);
    let ready = number(object, "/status/readyReplicas");
    if ready < wanted {
        return waiting(&format!("{ready} of {wanted} replicas are ready"));
    }
    if number(object, "/status/replicas") > wanted {
        return waiting(&format!("{} replicas are still to end", number(object, "/status/replicas") - wanted));
    }
    // With OnDelete nobody but the operator replaces pods, so there is nothing more to wait for.
    if object.pointer("/spec/updateStrategy/type").and_then(Value::as_str) == Some("OnDelete") {
        return Ok(Progress::Done);
    }
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition");
    let updated = number(object, "/status/updatedReplicas");
    if partition > 0 {
        return if updated < wanted - partition {
            waiting(&format!("{updated} of {} replicas are updated", wanted - partition))
        } else {
            Ok(Progress::Done)
        };
    }
    if object.pointer("/status/updateRevision") != object.pointer("/status/currentRevision") {
        return waiting(&format!("{updated} of {wanted} replicas are updated"));
    }
    Ok(Progress::Done)
}

fn daemon_set(object: &Value) -> Result<Progress> {
    let wanted = number(object, "/status/desiredNumberScheduled");
    let updated = number(object, "/status/updatedNumberScheduled");
    let available = number(object, "/status/numberAvailable");
    let on_delete = object.pointer("/spec/updateStrategy/type").and_then(Value::as_str) == Some("OnDelete");
    if updated < wanted && !on_delete {
        waiting(&format!("{updated} of {wanted} pods are updated"))
    } else if available < wanted {
        waiting(&format!("{available} of {wanted} pods are available"))
    } else {
        Ok(Progress::Done)
    }
}

/// Replicas asked for; one when nothing is said.
fn wanted(object: &Value) -> i64 {
    object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

#[allow(clippy::unnecessary_wraps)]
fn waiting(what: &str) -> Result<Progress> {
    Ok(Progress::Waiting(what.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stateful_set_is_done_when_its_pods_are_ready_and_of_the_last_revision() {
        let mut set = json!({"kind": "StatefulSet", "metadata": {"generation": 2}, "spec": {"replicas": 2},
            "status": {"observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2,
                "currentRevision": "a", "updateRevision": "a"}});
        assert!(matches!(progress(&set).unwrap(), Progress::Waiting(why) if why.contains("latest spec")));
        set["status"]["observedGeneration"] = 2.into();
        assert_eq!(progress(&set).unwrap(), Progress::Done);
        set["status"]["updateRevision"] = "b".into();
        assert!(matches!(progress(&set).unwrap(), Progress::Waiting(_)));
        set["status"]["readyReplicas"] = 1.into();
        assert_eq!(progress(&set).unwrap(), Progress::Waiting("1 of 2 replicas are ready".into()));
    }

    #[test]
    fn scaling_to_zero_waits_for_the_last_pod() {
        let mut set = json!({"kind": "StatefulSet", "spec": {"replicas": 0}, "status": {"replicas": 1}});
        assert!(matches!(progress(&set).unwrap(), Progress::Waiting(_)));
        set["status"]["replicas"] = 0.into();
        assert_eq!(progress(&set).unwrap(), Progress::Done);
    }

    #[test]
    fn a_deployment_that_gave_up_is_an_error() {
        let mut deployment = json!({"kind": "Deployment", "spec": {"replicas": 1}, "status": {"replicas": 1,
            "updatedReplicas": 1, "availableReplicas": 0}});
        assert!(matches!(progress(&deployment).unwrap(), Progress::Waiting(_)));
        deployment["status"]["conditions"] =
            json!([{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "has timed out"}]);
        assert_eq!(progress(&deployment).unwrap_err().kind(), Kind::Failed);
        deployment["status"]["conditions"] = json!([]);
        deployment["status"]["availableReplicas"] = 1.into();
        assert_eq!(progress(&deployment).unwrap(), Progress::Done);
    }

    #[test]
    fn a_daemon_set_counts_nodes_and_others_have_no_rollout() {
        let set = json!({"kind": "DaemonSet", "status": {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3,
            "numberAvailable": 2}});
        assert_eq!(progress(&set).unwrap(), Progress::Waiting("2 of 3 pods are available".into()));
        assert_eq!(progress(&json!({"kind": "Pod"})).unwrap_err().kind(), Kind::Usage);
    }
}
