//! Types of the built-in kinds, as their clients decode them: one object that cannot be decoded would end every watch
//! of its kind.

use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch, core::v1 as core, storage::v1 as storage};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    kinds::ResourceKind,
    status::{Answer, Failure},
};

/// Fails with 400 unless every known field of a built-in kind that controllers watch has its type.
pub(super) fn check(kind: &ResourceKind, object: &Value) -> Answer<()> {
    decoded(kind, object).map(drop)
}

/// The object without the fields that its kind does not have; fails with 400 when there are any and the client is
/// strict. Kinds without a type here keep what they are given.
pub(super) fn known(kind: &ResourceKind, mut object: Value, strict: bool) -> Answer<Value> {
    let Some(typed) = decoded(kind, &object)? else { return Ok(object) };
    let mut unknown = Vec::new();
    prune(&mut object, &typed, "", &mut unknown);
    if strict && !unknown.is_empty() {
        let fields: Vec<_> = unknown.iter().map(|field| format!("unknown field {field:?}")).collect();
        return Err(cannot(kind, &format!("strict decoding error: {}", fields.join(", "))));
    }
    Ok(object)
}

/// The object as its type writes it; `None` for a kind without one.
fn decoded(kind: &ResourceKind, object: &Value) -> Answer<Option<Value>> {
    let decode = match kind.qualified().as_str() {
        "configmaps" => through::<core::ConfigMap>,
        "events" => through::<core::Event>,
        "namespaces" => through::<core::Namespace>,
        "nodes" => through::<core::Node>,
        "persistentvolumeclaims" => through::<core::PersistentVolumeClaim>,
        "persistentvolumes" => through::<core::PersistentVolume>,
        "pods" => through::<core::Pod>,
        "secrets" => through::<core::Secret>,
        "services" => through::<core::Service>,
        "daemonsets.apps" => through::<apps::DaemonSet>,
        "deployments.apps" => through::<apps::Deployment>,
        "replicasets.apps" => through::<apps::ReplicaSet>,
        "statefulsets.apps" => through::<apps::StatefulSet>,
        "cronjobs.batch" => through::<batch::CronJob>,
        "jobs.batch" => through::<batch::Job>,
        "storageclasses.storage.k8s.io" => through::<storage::StorageClass>,
        _ => return Ok(None),
    };
    decode(object).map(Some).map_err(|error| cannot(kind, &error.to_string()))
}

fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(T::deserialize(object)?)
}

fn cannot(kind: &ResourceKind, why: &str) -> Failure {
    let (name, version) = (kind.kind, kind.version);
    Failure::bad_request(format!("{name} in version {version:?} cannot be handled as a {name}: {why}"))
}

/// Removes what `typed` does not have and names it. A null means absent to every type.
fn prune(object: &mut Value, typed: &Value, path: &str, unknown: &mut Vec<String>) {
    match (object, typed) {
        (Value::Object(fields), Value::Object(typed)) => fields.retain(|name, value| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match typed.get(name) {
                Some(typed) => prune(value, typed, &path, unknown),
                None if value.is_null() => {}
                None => {
                    unknown.push(path);
                    return false;
                }
            }
            true
        }),
        (Value::Array(items), Value::Array(typed)) => {
            for (index, (item, typed)) in items.iter_mut().zip(typed).enumerate() {
                prune(item, typed, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sandbox::api::kinds;

    #[test]
    fn a_wrong_type_deep_inside_is_refused() {
        let kind = kinds::find("apps", "deployments").unwrap();
        let with_env = |name: Value| {
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"selector": {},
                "template": {"spec": {"containers": [{"name": "c", "env": [{"name": name}]}]}}}})
        };
        assert!(check(kind, &with_env(json!("N"))).is_ok());
        assert!(check(kind, &with_env(json!(true))).is_err());
        let unknown = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "imagine": "x", "command": null}]}});
        let pods = kinds::find("", "pods").unwrap();
        let error = known(pods, unknown.clone(), true).unwrap_err();
        assert!(error.message.ends_with("strict decoding error: unknown field \"spec.containers[0].imagine\""));
        let mut pruned = unknown.clone();
        pruned["spec"]["containers"][0].as_object_mut().unwrap().remove("imagine");
        assert_eq!(known(pods, unknown, false).unwrap(), pruned);
        let unwatched = kinds::find("policy", "poddisruptionbudgets").unwrap();
        assert!(check(unwatched, &json!({"spec": 1})).is_ok());
    }
}
