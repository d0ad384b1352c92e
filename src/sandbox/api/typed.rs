//! Types of the built-in kinds, as their clients decode them: one object that cannot be decoded would end every watch
//! of its kind.

use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch, core::v1 as core, storage::v1 as storage};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    kinds::ResourceKind,
    status::{Answer, Failure},
};

/// Fails with 400 unless every known field of a built-in kind that controllers watch has its type.
pub(super) fn check(kind: &ResourceKind, object: &Value) -> Answer<()> {
    let decode = match kind.qualified().as_str() {
        "configmaps" => decodes::<core::ConfigMap>,
        "events" => decodes::<core::Event>,
        "namespaces" => decodes::<core::Namespace>,
        "nodes" => decodes::<core::Node>,
        "persistentvolumeclaims" => decodes::<core::PersistentVolumeClaim>,
        "persistentvolumes" => decodes::<core::PersistentVolume>,
        "pods" => decodes::<core::Pod>,
        "secrets" => decodes::<core::Secret>,
        "services" => decodes::<core::Service>,
        "daemonsets.apps" => decodes::<apps::DaemonSet>,
        "deployments.apps" => decodes::<apps::Deployment>,
        "replicasets.apps" => decodes::<apps::ReplicaSet>,
        "statefulsets.apps" => decodes::<apps::StatefulSet>,
        "cronjobs.batch" => decodes::<batch::CronJob>,
        "jobs.batch" => decodes::<batch::Job>,
        "storageclasses.storage.k8s.io" => decodes::<storage::StorageClass>,
        _ => return Ok(()),
    };
    decode(object).map_err(|error| {
        let message =
            format!("{} in version {:?} cannot be handled as a {}: {error}", kind.kind, kind.version, kind.kind);
        Failure::bad_request(message)
    })
}

fn decodes<T: DeserializeOwned>(object: &Value) -> Result<(), serde_json::Error> {
    T::deserialize(object).map(drop)
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
        let unwatched = kinds::find("policy", "poddisruptionbudgets").unwrap();
        assert!(check(unwatched, &json!({"spec": 1})).is_ok());
    }
}
