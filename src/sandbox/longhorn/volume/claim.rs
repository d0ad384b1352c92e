//! Which claim and which pods use a volume: `status.kubernetesStatus`.

use kube::{ResourceExt, core::DynamicObject};
use serde_json::{Value, json};

use crate::sandbox::longhorn::{
    cache::Object,
    context::Context,
    names,
    resource::{Fields, Resource},
};

/// The PersistentVolume whose handle is this volume.
fn persistent_volume(context: &Context, volume: &str) -> Option<Object> {
    context.list(Resource::PersistentVolume).into_iter().find(|object| {
        object.text("/spec/csi/driver") == names::DRIVER && object.text("/spec/csi/volumeHandle") == volume
    })
}

/// The claim that has the volume now.
pub(super) fn of(context: &Context, volume: &DynamicObject) -> Option<Object> {
    bound_claim(context, &*persistent_volume(context, &volume.name_any())?)
}

fn bound_claim(context: &Context, object: &DynamicObject) -> Option<Object> {
    let (namespace, name) = (object.text("/spec/claimRef/namespace"), object.text("/spec/claimRef/name"));
    let claim = context.cache.get(Resource::Claim, namespace, name)?;
    (claim.text("/spec/volumeName") == object.name_any() && object.text("/status/phase") == "Bound").then_some(claim)
}

/// What is known now. What is over keeps its names and gets a time: claim and pods are current only as long as
/// `lastPVCRefAt` and `lastPodRefAt` are empty.
pub(super) fn status(context: &Context, volume: &DynamicObject) -> Value {
    let mut status = volume.field("/status/kubernetesStatus").clone();
    if !status.is_object() {
        status = json!({});
    }
    let over = |status: &mut Value, name: &str, time: &str| {
        let used =
            status[name].as_array().map_or_else(|| !status.text(&format!("/{name}")).is_empty(), |l| !l.is_empty());
        if used && status.text(&format!("/{time}")).is_empty() {
            status[time] = names::now().into();
        }
    };
    let found = persistent_volume(context, &volume.name_any());
    status["pvName"] = found.as_ref().map(|object| object.name_any()).unwrap_or_default().into();
    status["pvStatus"] =
        found.as_ref().map(|object| object.text("/status/phase").to_owned()).unwrap_or_default().into();
    let Some(claim) = found.and_then(|object| bound_claim(context, &object)) else {
        over(&mut status, "pvcName", "lastPVCRefAt");
        over(&mut status, "workloadsStatus", "lastPodRefAt");
        return status;
    };
    let namespace = claim.namespace().unwrap_or_default();
    status["namespace"] = namespace.clone().into();
    status["pvcName"] = claim.name_any().into();
    status["lastPVCRefAt"] = "".into();
    let pods = pods(context, &namespace, &claim.name_any());
    if pods.is_empty() {
        over(&mut status, "workloadsStatus", "lastPodRefAt");
    } else {
        status["workloadsStatus"] = pods.into();
        status["lastPodRefAt"] = "".into();
    }
    status
}

fn pods(context: &Context, namespace: &str, claim: &str) -> Vec<Value> {
    let uses = |pod: &DynamicObject| {
        let volumes = pod.field("/spec/volumes").as_array().map(Vec::as_slice).unwrap_or_default();
        volumes.iter().any(|volume| volume.text("/persistentVolumeClaim/claimName") == claim)
    };
    let all = context.list(Resource::Pod);
    let pods = all.iter().filter(|pod| pod.namespace().as_deref() == Some(namespace) && uses(pod));
    pods.map(|pod| {
        let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
        json!({
            "podName": pod.name_any(), "podStatus": pod.field("/status/phase"),
            "workloadName": owner.map(|owner| owner.name.clone()).unwrap_or_default(),
            "workloadType": owner.map(|owner| owner.kind.clone()).unwrap_or_default(),
        })
    })
    .collect()
}

/// What a backup knew about claim and pods, as something of the past; `at` is when the backup was begun.
pub(super) fn historic(labels: &Value, at: &str) -> Option<Value> {
    let text = labels.get(names::KUBERNETES_STATUS)?.as_str()?;
    let known: Value = serde_json::from_str(text).ok()?;
    let time = |used: bool, known: &Value| match known.as_str() {
        Some(time) if !time.is_empty() => time.to_owned(),
        _ if used => at.to_owned(),
        _ => String::new(),
    };
    let pods = known["workloadsStatus"].as_array().is_some_and(|pods| !pods.is_empty());
    Some(json!({
        "pvName": "", "pvStatus": "",
        "namespace": known.text("/namespace"), "pvcName": known.text("/pvcName"),
        "lastPVCRefAt": time(!known.text("/pvcName").is_empty(), &known["lastPVCRefAt"]),
        "workloadsStatus": known["workloadsStatus"],
        "lastPodRefAt": time(pods, &known["lastPodRefAt"]),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backup_knew_is_history() {
        let status = r#"{"pvName":"pv","pvStatus":"Bound","namespace":"app","pvcName":"data","workloadsStatus":null}"#;
        let past = historic(&json!({"KubernetesStatus": status}), "2026-01-02T03:04:05Z").expect("known");
        assert_eq!(past["pvcName"], "data");
        assert_eq!(past["lastPVCRefAt"], "2026-01-02T03:04:05Z");
        assert_eq!(past["lastPodRefAt"], "");
        assert_eq!(past["pvName"], "");
        assert_eq!(historic(&json!({"KubernetesStatus": "{cut"}), ""), None);
        assert_eq!(historic(&Value::Null, ""), None);
    }
}
