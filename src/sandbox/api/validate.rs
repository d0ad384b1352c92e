//! Checks of objects that a real server makes and that runbooks and controllers rely on.

use serde_json::Value;

use super::{
    kinds::ResourceKind,
    object,
    status::{Answer, Failure},
};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
    an alphanumeric character";
const DATA_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
    and must start and end with an alphanumeric character";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
    and must start and end with an alphanumeric character";

/// Checks that the parts every object has are of their types, before anything looks into them; 400 otherwise.
pub(super) fn shape(kind: &ResourceKind, new: &Value) -> Answer<()> {
    for (field, texts) in [("labels", true), ("annotations", true), ("finalizers", false), ("ownerReferences", false)] {
        let value = &new["metadata"][field];
        let fits = value.is_null()
            || if texts {
                value.as_object().is_some_and(|fields| fields.values().all(Value::is_string))
            } else {
                value.is_array()
            };
        if !fits {
            let message = format!(
                "{} in version {:?} cannot be handled: metadata.{field} has a wrong type",
                kind.kind, kind.version
            );
            return Err(Failure::bad_request(message));
        }
    }
    for field in ["spec", "status"] {
        if !matches!(new[field], Value::Null | Value::Object(_)) {
            let message =
                format!("{} in version {:?} cannot be handled: {field} is not an object", kind.kind, kind.version);
            return Err(Failure::bad_request(message));
        }
    }
    Ok(())
}

/// Checks one object by itself; 422 with the field otherwise.
pub(super) fn object(kind: &ResourceKind, new: &Value) -> Answer<()> {
    let name = object::name(new);
    let fail = |field: &str, why: String| Err(Failure::invalid(kind, name, &[(field, why)]));
    if name.is_empty() {
        return fail("metadata.name", "Required value: name or generateName is required".to_owned());
    }
    if let Some(why) = bad_name(kind, name) {
        return fail("metadata.name", format!("Invalid value: {name:?}: {why}"));
    }
    for (key, value) in new["metadata"]["labels"].as_object().into_iter().flatten() {
        if !qualified_name(key) {
            return fail("metadata.labels", format!("Invalid value: {key:?}: {QUALIFIED}"));
        }
        let value = value.as_str().unwrap_or_default();
        if !value.is_empty() && !label_part(value) {
            return fail("metadata.labels", format!("Invalid value: {value:?}: {LABEL_VALUE}"));
        }
    }
    content(kind, new)
}

/// A label's key: a name, perhaps behind a domain and a slash.
fn qualified_name(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => is_subdomain(domain) && label_part(name),
        None => label_part(key),
    }
}

/// Up to 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
fn label_part(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// What controllers rely on in the built-in kinds they work with.
fn content(kind: &ResourceKind, new: &Value) -> Answer<()> {
    let spec = &new["spec"];
    let mut causes: Vec<(String, String)> = Vec::new();
    let mut fault = |field: &str, why: &str| causes.push((field.to_owned(), why.to_owned()));
    let required = "Required value";
    match kind.qualified().as_str() {
        "pods" => pod(&mut causes, "", spec),
        "configmaps" | "secrets" => {
            let keys = ["data", "binaryData"].into_iter().flat_map(|of| {
                new[of].as_object().into_iter().flat_map(move |fields| fields.keys().map(move |key| (of, key)))
            });
            for (of, key) in keys.filter(|(_, key)| !is_data_key(key)) {
                causes.push((format!("{of}[{key}]"), format!("Invalid value: {key:?}: {DATA_KEY}")));
            }
        }
        "persistentvolumeclaims" => {
            if spec["accessModes"].as_array().is_none_or(Vec::is_empty) {
                fault("spec.accessModes", "Required value: at least 1 access mode is required");
            }
            if !spec["resources"]["requests"]["storage"].is_string()
                && !spec["resources"]["requests"]["storage"].is_u64()
            {
                fault("spec.resources[storage]", required);
            }
        }
        "persistentvolumes" => {
            if spec["accessModes"].as_array().is_none_or(Vec::is_empty) {
                fault("spec.accessModes", required);
            }
            if spec["capacity"].as_object().is_none_or(serde_json::Map::is_empty) {
                fault("spec.capacity", required);
            }
            let plain = [
                "accessModes",
                "capacity",
                "claimRef",
                "mountOptions",
                "nodeAffinity",
                "persistentVolumeReclaimPolicy",
                "storageClassName",
                "volumeAttributesClassName",
                "volumeMode",
            ];
            if without(spec, &plain).as_object().is_none_or(serde_json::Map::is_empty) {
                fault("spec", "Required value: must specify a volume type");
            }
        }
        "storageclasses.storage.k8s.io" if !new["provisioner"].is_string() => fault("provisioner", required),
        "statefulsets.apps" | "deployments.apps" | "replicasets.apps" | "daemonsets.apps" | "jobs.batch" => {
            let replicas = &spec["replicas"];
            if !replicas.is_null() && replicas.as_u64().is_none_or(|count| i32::try_from(count).is_err()) {
                fault("spec.replicas", &format!("Invalid value: {replicas}: must be greater than or equal to 0"));
            }
            let labels = &spec["template"]["metadata"]["labels"];
            match spec["selector"]["matchLabels"].as_object() {
                Some(wanted) if wanted.iter().any(|(name, value)| labels.get(name) != Some(value)) => {
                    let why = format!("Invalid value: {labels}: `selector` does not match template `labels`");
                    fault("spec.template.metadata.labels", &why);
                }
                None if spec["selector"]["matchExpressions"].is_null() => fault("spec.selector", required),
                _ => {}
            }
            pod(&mut causes, "spec.template.", &spec["template"]["spec"]);
        }
        _ => {}
    }
    if causes.is_empty() {
        return Ok(());
    }
    let causes: Vec<(&str, String)> = causes.iter().map(|(field, why)| (field.as_str(), why.clone())).collect();
    Err(Failure::invalid(kind, object::name(new), &causes))
}

fn is_data_key(key: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !key.is_empty() && key.len() <= 253 && key.chars().all(fits) && !matches!(key, "." | "..") && !key.starts_with("..")
}

/// The spec of a pod, or of the pods of a workload `at` whose template it stands.
fn pod(causes: &mut Vec<(String, String)>, at: &str, spec: &Value) {
    let Some(containers) = spec["containers"].as_array().filter(|containers| !containers.is_empty()) else {
        causes.push((format!("{at}spec.containers"), "Required value".to_owned()));
        return;
    };
    for (index, container) in containers.iter().enumerate() {
        for field in ["name", "image"] {
            if container[field].as_str().is_none_or(str::is_empty) {
                causes.push((format!("{at}spec.containers[{index}].{field}"), "Required value".to_owned()));
            }
        }
    }
}

/// Checks what may not change; 422 with the field otherwise.
pub(super) fn change(kind: &ResourceKind, old: &Value, new: &Value) -> Answer<()> {
    let (before, after) = (object::finalizers(old), object::finalizers(new));
    let added: Vec<&str> = after.into_iter().filter(|finalizer| !before.contains(finalizer)).collect();
    if object::terminating(old) && !added.is_empty() {
        let why = format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
        );
        return Err(Failure::invalid(kind, object::name(new), &[("metadata.finalizers", why)]));
    }
    let mut causes: Vec<(&str, String)> = Vec::new();
    for (pointer, field) in fixed(kind) {
        let (before, after) =
            (old.pointer(pointer).unwrap_or(&Value::Null), new.pointer(pointer).unwrap_or(&Value::Null));
        if before != after {
            causes.push((field, format!("Invalid value: {after}: field is immutable")));
        }
    }
    match kind.qualified().as_str() {
        "persistentvolumeclaims" if claim_spec(old) != claim_spec(new) || volume_name_changes(old, new) => {
            let why = "Forbidden: spec is immutable after creation except resources.requests and \
                       volumeAttributesClassName for bound claims";
            causes.push(("spec", why.to_owned()));
        }
        "pods" if pod_spec(old) != pod_spec(new) => {
            let why = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
                       `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions \
                       to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                       previously negative)";
            causes.push(("spec", why.to_owned()));
        }
        "configmaps" | "secrets"
            if old["immutable"] == true && (old["data"] != new["data"] || new["immutable"] != true) =>
        {
            causes.push(("data", "Forbidden: field is immutable when `immutable` is set".to_owned()));
        }
        "statefulsets.apps" if stateful_spec(old) != stateful_spec(new) => {
            let why = "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                       'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                       'minReadySeconds' are forbidden";
            causes.push(("spec", why.to_owned()));
        }
        _ => {}
    }
    if causes.is_empty() { Ok(()) } else { Err(Failure::invalid(kind, object::name(new), &causes)) }
}

/// Fields that stay as they were created, as JSON pointer and as messages name them.
fn fixed(kind: &ResourceKind) -> &'static [(&'static str, &'static str)] {
    match kind.qualified().as_str() {
        "storageclasses.storage.k8s.io" => &[
            ("/provisioner", "provisioner"),
            ("/parameters", "parameters"),
            ("/reclaimPolicy", "reclaimPolicy"),
            ("/volumeBindingMode", "volumeBindingMode"),
        ],
        "persistentvolumes" => &[("/spec/csi", "spec.persistentvolumesource"), ("/spec/volumeMode", "spec.volumeMode")],
        "deployments.apps" | "replicasets.apps" => &[("/spec/selector", "spec.selector")],
        "jobs.batch" => &[
            ("/spec/selector", "spec.selector"),
            ("/spec/template", "spec.template"),
            ("/spec/completions", "spec.completions"),
        ],
        "secrets" => &[("/type", "type")],
        _ => &[],
    }
}

/// What of a claim's spec may not change.
fn claim_spec(claim: &Value) -> Value {
    without(&claim["spec"], &["resources", "volumeName", "volumeAttributesClassName"])
}

/// The binder fills the name in once.
fn volume_name_changes(old: &Value, new: &Value) -> bool {
    let (before, after) = (&old["spec"]["volumeName"], &new["spec"]["volumeName"]);
    before.is_string() && before != "" && before != after
}

/// A pod's spec without what may change.
fn pod_spec(pod: &Value) -> Value {
    let mut spec = without(&pod["spec"], &["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"]);
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            container.remove("image");
        }
    }
    spec
}

fn stateful_spec(set: &Value) -> Value {
    const MAY: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    without(&set["spec"], &MAY)
}

fn without(object: &Value, names: &[&str]) -> Value {
    let fields = object.as_object().into_iter().flatten().filter(|(name, _)| !names.contains(&name.as_str()));
    Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn bad_name(kind: &ResourceKind, name: &str) -> Option<&'static str> {
    // Roles and the like are path segments, not host names.
    if kind.group == "rbac.authorization.k8s.io" {
        let bad = matches!(name, "." | "..") || name.contains(['/', '%']);
        return bad.then_some("may not be '.' or '..' or contain '/' or '%'");
    }
    let label_only = matches!(kind.qualified().as_str(), "namespaces" | "services");
    if label_only {
        return (name.len() > 63 || !is_label(name)).then_some(LABEL);
    }
    (!is_subdomain(name)).then_some(SUBDOMAIN)
}

fn is_label(part: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-')
}

fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}
