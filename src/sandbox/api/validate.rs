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
    Ok(())
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
