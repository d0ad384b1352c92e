//! Checks of objects that a real server makes and that runbooks and controllers rely on.

use serde_json::Value;

use super::{
    kinds::ResourceKind,
    object,
    status::{Answer, Failure},
};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
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
    content(kind, new)
}

/// What controllers rely on in the built-in kinds they work with.
fn content(kind: &ResourceKind, new: &Value) -> Answer<()> {
    let spec = &new["spec"];
    let mut causes: Vec<(&str, String)> = Vec::new();
    let required = "Required value".to_owned();
    match kind.qualified().as_str() {
        "pods" => pod(&mut causes, spec),
        "persistentvolumeclaims" => {
            if spec["accessModes"].as_array().is_none_or(Vec::is_empty) {
                causes.push(("spec.accessModes", "Required value: at least 1 access mode is required".to_owned()));
            }
            if !spec["resources"]["requests"]["storage"].is_string()
                && !spec["resources"]["requests"]["storage"].is_u64()
            {
                causes.push(("spec.resources[storage]", required));
            }
        }
        "persistentvolumes" => {
            if spec["accessModes"].as_array().is_none_or(Vec::is_empty) {
                causes.push(("spec.accessModes", required.clone()));
            }
            if spec["capacity"].as_object().is_none_or(serde_json::Map::is_empty) {
                causes.push(("spec.capacity", required));
            }
        }
        "storageclasses.storage.k8s.io" if !new["provisioner"].is_string() => causes.push(("provisioner", required)),
        "statefulsets.apps" | "deployments.apps" | "replicasets.apps" | "daemonsets.apps" | "jobs.batch" => {
            let replicas = &spec["replicas"];
            if !replicas.is_null() && replicas.as_u64().is_none_or(|count| i32::try_from(count).is_err()) {
                causes
                    .push(("spec.replicas", format!("Invalid value: {replicas}: must be greater than or equal to 0")));
            }
            let labels = &spec["template"]["metadata"]["labels"];
            match spec["selector"]["matchLabels"].as_object() {
                Some(wanted) if wanted.iter().any(|(name, value)| labels.get(name) != Some(value)) => {
                    let why = format!("Invalid value: {labels}: `selector` does not match template `labels`");
                    causes.push(("spec.template.metadata.labels", why));
                }
                None if spec["selector"]["matchExpressions"].is_null() => causes.push(("spec.selector", required)),
                _ => {}
            }
            pod(&mut causes, &spec["template"]["spec"]);
        }
        _ => {}
    }
    if causes.is_empty() { Ok(()) } else { Err(Failure::invalid(kind, object::name(new), &causes)) }
}

fn pod(causes: &mut Vec<(&str, String)>, spec: &Value) {
    let Some(containers) = spec["containers"].as_array().filter(|containers| !containers.is_empty()) else {
        causes.push(("spec.containers", "Required value".to_owned()));
        return;
    };
    for field in ["name", "image"] {
        if containers.iter().any(|container| container[field].as_str().is_none_or(str::is_empty)) {
            let name = if field == "name" { "spec.containers[].name" } else { "spec.containers[].image" };
            causes.push((name, "Required value".to_owned()));
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
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label =
        |part: &str| !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-');
    if label_only {
        return (name.len() > 63 || !label(name)).then_some(LABEL);
    }
    (name.len() > 253 || !name.split('.').all(label)).then_some(SUBDOMAIN)
}
