//! The columns of built-in kinds, as kubectl's users know them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    kinds::ResourceKind,
    object,
    table::{age, duration},
};

/// How a kind is shown.
pub(super) struct Layout {
    /// Headings, separated by bars; those with a star are shown by `-o wide` only.
    pub headings: &'static str,
    pub cells: Cells,
}

/// The cells of one object at a time.
type Cells = fn(&Value, Timestamp) -> Vec<Value>;

const NONE: &str = "<none>";

/// The layout of a kind; name and age for those nobody looks at closely.
pub(super) fn layout(kind: &ResourceKind) -> Layout {
    let (headings, cells): (&'static str, Cells) = match (kind.group, kind.kind) {
        ("", "Pod") => ("Name|Ready|Status|Restarts|Age|IP*|Node*|Nominated Node*", pod),
        ("", "PersistentVolumeClaim") => {
            ("Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|VolumeMode*", claim)
        }
        ("", "PersistentVolume") => (
            "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|VolumeMode*",
            persistent_volume,
        ),
        ("", "Namespace") => ("Name|Status|Age", |o, now| vec![name(o), phase(o), aged(o, now)]),
        ("", "Node") => ("Name|Status|Roles|Age|Version|Internal-IP*", node),
        ("", "Service") => ("Name|Type|Cluster-IP|External-IP|Port(s)|Age|Selector*", service),
        ("", "Secret") => {
            ("Name|Type|Data|Age", |o, now| vec![name(o), o["type"].clone(), count(&o["data"]), aged(o, now)])
        }
        ("", "ConfigMap") => ("Name|Data|Age", |o, now| {
            let entries = [&o["data"], &o["binaryData"]].map(|data| data.as_object().map_or(0, serde_json::Map::len));
            vec![name(o), json!(entries[0] + entries[1]), aged(o, now)]
        }),
        ("", "ServiceAccount") => ("Name|Secrets|Age", |o, now| vec![name(o), count(&o["secrets"]), aged(o, now)]),
        ("", "Event") => ("Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count*|Name*", event),
        ("apps", "StatefulSet") => ("Name|Ready|Age|Containers*|Images*", |o, now| {
            let [containers, images] = template(o);
            vec![name(o), ready(o), aged(o, now), containers, images]
        }),
        ("apps", "Deployment") => ("Name|Ready|Up-to-date|Available|Age|Containers*|Images*|Selector*", |o, now| {
            let [containers, images] = template(o);
            let (updated, available) =
                (number(&o["status"]["updatedReplicas"]), number(&o["status"]["availableReplicas"]));
            vec![name(o), ready(o), updated, available, aged(o, now), containers, images, selector(o)]
        }),
        ("apps", "ReplicaSet") => ("Name|Desired|Current|Ready|Age|Containers*|Images*|Selector*", |o, now| {
            let [containers, images] = template(o);
            let status = &o["status"];
            let counts = [&o["spec"]["replicas"], &status["replicas"], &status["readyReplicas"]].map(number);
            let [desired, current, ready] = counts;
            vec![name(o), desired, current, ready, aged(o, now), containers, images, selector(o)]
        }),
        ("apps", "DaemonSet") => ("Name|Desired|Current|Ready|Up-to-date|Available|Age", |o, now| {
            let fields = [
                "desiredNumberScheduled",
                "currentNumberScheduled",
                "numberReady",
                "updatedNumberScheduled",
                "numberAvailable",
            ];
            let mut cells = vec![name(o)];
            cells.extend(fields.map(|field| number(&o["status"][field])));
            cells.push(aged(o, now));
            cells
        }),
        ("batch", "Job") => ("Name|Status|Completions|Duration|Age|Containers*|Images*|Selector*", job),
        ("batch", "CronJob") => ("Name|Schedule|Timezone|Suspend|Active|Last Schedule|Age", |o, now| {
            let spec = &o["spec"];
            let last = &o["status"]["lastScheduleTime"];
            let last = if last.is_null() { json!(NONE) } else { json!(age(last, now)) };
            let suspended = json!(if spec["suspend"] == true { "True" } else { "False" });
            let active = json!(o["status"]["active"].as_array().map_or(0, Vec::len));
            vec![name(o), spec["schedule"].clone(), or_none(&spec["timeZone"]), suspended, active, last, aged(o, now)]
        }),
        ("storage.k8s.io", "StorageClass") => {
            ("Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age", class)
        }
        ("storage.k8s.io", "VolumeAttachment") => ("Name|Attacher|PV|Node|Attached|Age", |o, now| {
            let spec = &o["spec"];
            let volume = spec["source"]["persistentVolumeName"].clone();
            let attached = json!(o["status"]["attached"] == true);
            vec![name(o), spec["attacher"].clone(), volume, spec["nodeName"].clone(), attached, aged(o, now)]
        }),
        ("coordination.k8s.io", "Lease") => {
            ("Name|Holder|Age", |o, now| vec![name(o), o["spec"]["holderIdentity"].clone(), aged(o, now)])
        }
        ("apiextensions.k8s.io", _) => {
            ("Name|Created At", |o, _| vec![name(o), o["metadata"]["creationTimestamp"].clone()])
        }
        _ => ("Name|Age", |o, now| vec![name(o), aged(o, now)]),
    };
    Layout { headings, cells }
}

fn name(object: &Value) -> Value {
    json!(object::name(object))
}

fn aged(object: &Value, now: Timestamp) -> Value {
    json!(age(&object["metadata"]["creationTimestamp"], now))
}

fn number(value: &Value) -> Value {
    json!(value.as_i64().unwrap_or(0))
}

fn count(value: &Value) -> Value {
    json!(value.as_object().map(serde_json::Map::len).or(value.as_array().map(Vec::len)).unwrap_or(0))
}

fn or_none(value: &Value) -> Value {
    json!(value.as_str().filter(|text| !text.is_empty()).unwrap_or(NONE))
}

fn or_unset(value: &Value) -> Value {
    json!(value.as_str().filter(|text| !text.is_empty()).unwrap_or("<unset>"))
}

fn phase(object: &Value) -> Value {
    if object::terminating(object) { json!("Terminating") } else { object["status"]["phase"].clone() }
}

fn ready(workload: &Value) -> Value {
    json!(format!("{}/{}", number(&workload["status"]["readyReplicas"]), number(&workload["spec"]["replicas"])))
}

fn template(workload: &Value) -> [Value; 2] {
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array().map_or(&[][..], Vec::as_slice);
    ["name", "image"].map(|field| {
        let texts: Vec<&str> = containers.iter().filter_map(|container| container[field].as_str()).collect();
        json!(texts.join(","))
    })
}

fn labels(map: &Value) -> String {
    let pairs = map.as_object().into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

fn selector(workload: &Value) -> Value {
    json!(labels(&workload["spec"]["selector"]["matchLabels"]))
}

fn access_modes(modes: &Value) -> Value {
    let short = |mode: &Value| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        Some("ReadWriteOncePod") => "RWOP",
        _ => "",
    };
    json!(modes.as_array().into_iter().flatten().map(short).collect::<Vec<_>>().join(","))
}

fn pod(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let containers = status["containerStatuses"].as_array().map_or(&[][..], Vec::as_slice);
    let total = spec["containers"].as_array().map_or(0, Vec::len);
    let ready = containers.iter().filter(|state| state["ready"] == true).count();
    let restarts: i64 = containers.iter().filter_map(|state| state["restartCount"].as_i64()).sum();
    let last_restart =
        containers.iter().map(|state| &state["lastState"]["terminated"]["finishedAt"]).filter(|at| at.is_string());
    let restarts = match last_restart.max_by_key(|at| at.as_str()) {
        Some(at) if restarts > 0 => format!("{restarts} ({} ago)", age(at, now)),
        _ => restarts.to_string(),
    };
    vec![
        name(pod),
        json!(format!("{ready}/{total}")),
        json!(pod_state(pod, containers)),
        json!(restarts),
        aged(pod, now),
        or_none(&status["podIP"]),
        or_none(&spec["nodeName"]),
        or_none(&status["nominatedNodeName"]),
    ]
}

fn pod_state(pod: &Value, containers: &[Value]) -> String {
    let status = &pod["status"];
    if object::terminating(pod) {
        return "Terminating".to_owned();
    }
    let mut reason = status["reason"].as_str().or(status["phase"].as_str()).unwrap_or_default().to_owned();
    for state in containers.iter().rev() {
        let (waiting, terminated) = (&state["state"]["waiting"], &state["state"]["terminated"]);
        let given = waiting["reason"].as_str().or(terminated["reason"].as_str()).filter(|reason| !reason.is_empty());
        if let Some(given) = given {
            given.clone_into(&mut reason);
        } else if let Some(code) = terminated["exitCode"].as_i64() {
            reason = format!("ExitCode:{code}");
        }
    }
    reason
}

fn claim(claim: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&claim["spec"], &claim["status"]);
    let bound = spec["volumeName"].is_string();
    let capacity = if bound { status["capacity"]["storage"].clone() } else { json!("") };
    let modes = if bound { access_modes(&status["accessModes"]) } else { json!("") };
    vec![
        name(claim),
        phase(claim),
        spec["volumeName"].clone(),
        capacity,
        modes,
        spec["storageClassName"].clone(),
        or_unset(&spec["volumeAttributesClassName"]),
        aged(claim, now),
        or_unset(&spec["volumeMode"]),
    ]
}

fn persistent_volume(volume: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &volume["spec"];
    let claim = &spec["claimRef"];
    let claim =
        claim["name"].as_str().map(|name| format!("{}/{name}", claim["namespace"].as_str().unwrap_or_default()));
    vec![
        name(volume),
        spec["capacity"]["storage"].clone(),
        access_modes(&spec["accessModes"]),
        spec["persistentVolumeReclaimPolicy"].clone(),
        phase(volume),
        json!(claim.unwrap_or_default()),
        spec["storageClassName"].clone(),
        or_unset(&spec["volumeAttributesClassName"]),
        volume["status"]["reason"].clone(),
        aged(volume, now),
        or_unset(&spec["volumeMode"]),
    ]
}

fn node(node: &Value, now: Timestamp) -> Vec<Value> {
    let status = &node["status"];
    let ready = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let mut state = match ready.map(|ready| &ready["status"]) {
        Some(value) if value == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        state.push_str(",SchedulingDisabled");
    }
    let labels = node["metadata"]["labels"].as_object();
    let roles: Vec<&str> =
        labels.into_iter().flatten().filter_map(|(name, _)| name.strip_prefix("node-role.kubernetes.io/")).collect();
    let roles = if roles.is_empty() { NONE.to_owned() } else { roles.join(",") };
    let addresses = status["addresses"].as_array();
    let address = addresses.into_iter().flatten().find(|address| address["type"] == "InternalIP");
    let address = address.map_or(json!(NONE), |address| address["address"].clone());
    vec![name(node), json!(state), json!(roles), aged(node, now), status["nodeInfo"]["kubeletVersion"].clone(), address]
}

fn service(service: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &service["spec"];
    let ports: Vec<String> = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| format!("{}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP")))
        .collect();
    let ports = if ports.is_empty() { NONE.to_owned() } else { ports.join(",") };
    vec![
        name(service),
        spec["type"].clone(),
        or_none(&spec["clusterIP"]),
        or_none(&spec["externalName"]),
        json!(ports),
        aged(service, now),
        json!(labels(&spec["selector"])),
    ]
}

fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let seen = |fields: &[&Value]| {
        let time = fields.iter().find(|time| time.is_string());
        time.map_or_else(|| "<unknown>".to_owned(), |time| age(time, now))
    };
    let (first, last, at) = (&event["firstTimestamp"], &event["lastTimestamp"], &event["eventTime"]);
    let involved = &event["involvedObject"];
    let about = format!(
        "{}/{}",
        involved["kind"].as_str().unwrap_or_default().to_lowercase(),
        involved["name"].as_str().unwrap_or_default()
    );
    let source = event["source"]["component"].as_str().or(event["reportingComponent"].as_str()).unwrap_or_default();
    let times = event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(1);
    vec![
        json!(seen(&[&event["series"]["lastObservedTime"], last, at, first])),
        event["type"].clone(),
        event["reason"].clone(),
        json!(about),
        involved["fieldPath"].clone(),
        json!(source),
        json!(event["message"].as_str().unwrap_or_default().trim()),
        json!(seen(&[first, at])),
        json!(times),
        name(event),
    ]
}

fn job(job: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&job["spec"], &job["status"]);
    let holds = |kind: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
    };
    let state = if holds("Complete") {
        "Complete"
    } else if holds("Failed") {
        "Failed"
    } else if object::terminating(job) {
        "Terminating"
    } else if holds("Suspended") {
        "Suspended"
    } else {
        "Running"
    };
    let wanted = spec["completions"].as_i64().map_or_else(|| "1".to_owned(), |wanted| wanted.to_string());
    let time = |field: &str| status[field].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let took =
        time("startTime").map(|start| duration(time("completionTime").unwrap_or(now).as_second() - start.as_second()));
    let [containers, images] = template(job);
    vec![
        name(job),
        json!(state),
        json!(format!("{}/{wanted}", number(&status["succeeded"]))),
        json!(took.unwrap_or_default()),
        aged(job, now),
        containers,
        images,
        selector(job),
    ]
}

fn class(class: &Value, now: Timestamp) -> Vec<Value> {
    let is_default = class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true";
    let shown = format!("{}{}", object::name(class), if is_default { " (default)" } else { "" });
    vec![
        json!(shown),
        class["provisioner"].clone(),
        class["reclaimPolicy"].clone(),
        class["volumeBindingMode"].clone(),
        json!(class["allowVolumeExpansion"] == true),
        aged(class, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::api::kinds::KINDS;

    #[test]
    fn every_row_has_a_cell_per_heading() {
        for kind in KINDS {
            let Layout { headings, cells } = layout(kind);
            assert_eq!(
                cells(&json!({}), Timestamp::UNIX_EPOCH).len(),
                headings.split('|').count(),
                "{}",
                kind.qualified()
            );
        }
    }

    #[test]
    fn a_pod_says_what_it_waits_for() {
        let state =
            |waiting: &str| json!({"ready": false, "restartCount": 2, "state": {"waiting": {"reason": waiting}}});
        let shown = json!({
            "metadata": {"name": "p"}, "spec": {"containers": [{}, {}]},
            "status": {"phase": "Pending", "containerStatuses": [state("CrashLoopBackOff"), {"ready": true}]},
        });
        let cells = pod(&shown, Timestamp::UNIX_EPOCH);
        assert_eq!(cells[..4], [json!("p"), json!("1/2"), json!("CrashLoopBackOff"), json!("2")]);
    }

    #[test]
    fn a_claim_shows_its_size_once_bound() {
        let mut shown = json!({"metadata": {"name": "c"}, "spec": {}, "status": {"phase": "Pending", "capacity": {"storage": "1Gi"}}});
        assert_eq!(claim(&shown, Timestamp::UNIX_EPOCH)[3], json!(""));
        shown["spec"]["volumeName"] = json!("pv");
        shown["status"]["accessModes"] = json!(["ReadWriteOnce", "ReadOnlyMany"]);
        assert_eq!(claim(&shown, Timestamp::UNIX_EPOCH)[2..5], [json!("pv"), json!("1Gi"), json!("RWO,ROX")]);
    }
}
