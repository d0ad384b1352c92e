//! Values a server fills in where a manifest is silent, as far as clients and controllers look at them.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use super::{
    kinds::{self, ResourceKind},
    object,
    store::Store,
};

/// What only a new object gets: its first status, its default class, addresses, generated labels.
pub(super) fn on_create(kind: &ResourceKind, new: &mut Value, store: &Store) {
    match kind.qualified().as_str() {
        "namespaces" => {
            let name = object::name(new).to_owned();
            let labels = object::metadata(new).entry("labels").or_insert_with(|| json!({}));
            set(labels, "kubernetes.io/metadata.name", json!(name));
            new["spec"] = json!({"finalizers": ["kubernetes"]});
            new["status"] = json!({"phase": "Active"});
        }
        "pods" => {
            new["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
        }
        "persistentvolumes" => {
            new["status"] = json!({"phase": "Pending"});
            protect(new, "kubernetes.io/pv-protection");
        }
        "persistentvolumeclaims" => {
            new["status"] = json!({"phase": "Pending"});
            protect(new, "kubernetes.io/pvc-protection");
            if new["spec"].is_object()
                && new["spec"]["storageClassName"].is_null()
                && let Some(class) = default_class(store)
            {
                new["spec"]["storageClassName"] = json!(class);
            }
        }
        "services" if new["spec"].is_object() => {
            new["status"] = json!({"loadBalancer": {}});
            let headless = new["spec"]["clusterIP"].as_str().is_some_and(|ip| !ip.is_empty());
            if !headless && new["spec"]["type"] != "ExternalName" {
                new["spec"]["clusterIP"] = json!(free_address(store));
            }
            let ip = new["spec"]["clusterIP"].clone();
            if ip.is_string() {
                new["spec"]["clusterIPs"] = json!([ip]);
            }
        }
        "statefulsets.apps" | "deployments.apps" | "replicasets.apps" => new["status"] = json!({"replicas": 0}),
        "jobs.batch" if new["spec"].is_object() => {
            new["status"] = json!({});
            label_job(new);
        }
        _ => {}
    }
}

/// Claims and volumes are protected from the beginning, before any controller has seen them.
fn protect(new: &mut Value, finalizer: &str) {
    let finalizers = object::metadata(new).entry("finalizers").or_insert_with(|| json!([]));
    if let Some(finalizers) = finalizers.as_array_mut()
        && finalizers.iter().all(|other| other != finalizer)
    {
        finalizers.push(json!(finalizer));
    }
}

/// The name of the class marked as default; the newest when several are.
fn default_class(store: &Store) -> Option<String> {
    let classes = store.list(kinds::find("storage.k8s.io", "storageclasses")?, None).0;
    let is_default = |class: &Value| {
        let annotations = &class["metadata"]["annotations"];
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
            .iter()
            .any(|name| annotations[*name] == "true")
    };
    let created = |class: &Value| class["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
    let newest = classes.iter().filter(|class| is_default(class)).max_by_key(|class| created(class))?;
    Some(object::name(newest).to_owned())
}

/// An address of k3s' service network that no service has.
fn free_address(store: &Store) -> String {
    let used: Vec<String> = kinds::find("", "services").map_or_else(Vec::new, |services| {
        let services = store.list(services, None).0;
        services.iter().filter_map(|service| service["spec"]["clusterIP"].as_str().map(str::to_owned)).collect()
    });
    let mut addresses = (0..=255_u8).flat_map(|high| (10..=250_u8).map(move |low| format!("10.43.{high}.{low}")));
    addresses.find(|address| !used.contains(address)).unwrap_or_default()
}

/// A service that is replaced keeps its address.
pub(super) fn keep_address(old: &Value, new: &mut Value) {
    let Some(spec) = new.get_mut("spec").filter(|spec| spec["type"] != "ExternalName") else { return };
    for field in ["clusterIP", "clusterIPs"] {
        if let Some(address) = old["spec"].get(field) {
            set(spec, field, address.clone());
        }
    }
}

/// The selector and labels by which a job's pods are found.
fn label_job(job: &mut Value) {
    if job["spec"]["manualSelector"] == true || !job["spec"]["template"].is_object() {
        return;
    }
    let (uid, name) = (job["metadata"]["uid"].clone(), job["metadata"]["name"].clone());
    let template = &mut job["spec"]["template"];
    set(template, "metadata", json!({}));
    let Some(metadata) = template.get_mut("metadata") else { return };
    set(metadata, "labels", json!({}));
    let Some(labels) = metadata.get_mut("labels") else { return };
    for (label, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("job-name", &name),
    ] {
        set(labels, label, value.clone());
    }
    job["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
}

/// What any object of the kind has, also after it was replaced.
pub(super) fn fill(kind: &ResourceKind, object: &mut Value) {
    if kind.qualified() == "secrets" {
        fill_secret(object);
        return;
    }
    match kind.qualified().as_str() {
        "storageclasses.storage.k8s.io" => {
            set(object, "reclaimPolicy", json!("Delete"));
            set(object, "volumeBindingMode", json!("Immediate"));
            return;
        }
        "events" => {
            let namespace = object["metadata"]["namespace"].clone();
            if let Some(involved) = object.get_mut("involvedObject") {
                set(involved, "namespace", namespace);
            }
            return;
        }
        _ => {}
    }
    let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    match kind.qualified().as_str() {
        "pods" => fill_pod(spec),
        "persistentvolumes" => {
            set(spec, "persistentVolumeReclaimPolicy", json!("Retain"));
            set(spec, "volumeMode", json!("Filesystem"));
        }
        "persistentvolumeclaims" => set(spec, "volumeMode", json!("Filesystem")),
        "services" => {
            set(spec, "type", json!("ClusterIP"));
            set(spec, "sessionAffinity", json!("None"));
            for port in items(spec, "ports") {
                set(port, "protocol", json!("TCP"));
                let target = port["port"].clone();
                set(port, "targetPort", target);
            }
        }
        "statefulsets.apps" => {
            set(spec, "replicas", json!(1));
            set(spec, "podManagementPolicy", json!("OrderedReady"));
            set(spec, "revisionHistoryLimit", json!(10));
            set(spec, "updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
            set(spec, "persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
            for claim in items(spec, "volumeClaimTemplates") {
                set(claim, "apiVersion", json!("v1"));
                set(claim, "kind", json!("PersistentVolumeClaim"));
                set(claim, "status", json!({"phase": "Pending"}));
                if let Some(spec) = claim.get_mut("spec") {
                    set(spec, "volumeMode", json!("Filesystem"));
                }
            }
            fill_template(spec);
        }
        "deployments.apps" => {
            set(spec, "replicas", json!(1));
            set(spec, "revisionHistoryLimit", json!(10));
            set(spec, "progressDeadlineSeconds", json!(600));
            let rolling = json!({"maxSurge": "25%", "maxUnavailable": "25%"});
            set(spec, "strategy", json!({"type": "RollingUpdate", "rollingUpdate": rolling}));
            fill_template(spec);
        }
        "replicasets.apps" => {
            set(spec, "replicas", json!(1));
            fill_template(spec);
        }
        "daemonsets.apps" => fill_template(spec),
        "jobs.batch" => {
            set(spec, "backoffLimit", json!(6));
            if spec["completions"].is_null() && spec["parallelism"].is_null() {
                set(spec, "completions", json!(1));
            }
            set(spec, "parallelism", json!(1));
            set(spec, "suspend", json!(false));
            fill_template(spec);
        }
        "cronjobs.batch" => {
            set(spec, "suspend", json!(false));
            set(spec, "concurrencyPolicy", json!("Allow"));
            set(spec, "successfulJobsHistoryLimit", json!(3));
            set(spec, "failedJobsHistoryLimit", json!(1));
        }
        _ => {}
    }
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(fields) = object.as_object_mut()
        && fields.get(name).is_none_or(Value::is_null)
    {
        fields.insert(name.to_owned(), value);
    }
}

/// The items of a list, if there is one.
fn items<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn fill_template(spec: &mut Value) {
    if let Some(pod) = spec.get_mut("template").and_then(|template| template.get_mut("spec")) {
        fill_pod(pod);
    }
}

fn fill_pod(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    set(spec, "restartPolicy", json!("Always"));
    set(spec, "terminationGracePeriodSeconds", json!(30));
    set(spec, "dnsPolicy", json!("ClusterFirst"));
    set(spec, "schedulerName", json!("default-scheduler"));
    set(spec, "securityContext", json!({}));
    for list in ["initContainers", "containers"] {
        for container in items(spec, list).filter(|container| container.is_object()) {
            set(container, "imagePullPolicy", json!("IfNotPresent"));
            set(container, "resources", json!({}));
            for port in items(container, "ports") {
                set(port, "protocol", json!("TCP"));
            }
        }
    }
}

/// `stringData` is for writing only: it ends up in `data`.
fn fill_secret(secret: &mut Value) {
    set(secret, "type", json!("Opaque"));
    let Some(plain) = secret.as_object_mut().and_then(|fields| fields.remove("stringData")) else { return };
    let Value::Object(plain) = plain else { return };
    if !secret["data"].is_object() {
        secret["data"] = json!({});
    }
    for (name, text) in plain {
        if let Some(text) = text.as_str() {
            secret["data"][name] = json!(BASE64.encode(text));
        }
    }
}
