//! Which lists are merged item by item, and which maps are replaced as one.
//!
//! Facts of the built-in kinds' published schema (`x-kubernetes-list-type`, `-list-map-keys`, `-map-type`, and the older
//! `patchMergeKey`, which is always the first key). Longhorn's definitions declare none, so their lists are atomic.

use serde_json::{Map, Value, json};

use super::kinds::ResourceKind;

/// How a list is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// Replaced as a whole.
    Atomic,
    /// A set of plain values.
    Set,
    /// Objects identified by these fields.
    Keyed(&'static [&'static str]),
}

/// How the list in that field is merged.
pub(super) fn list(kind: &ResourceKind, field: &str) -> List {
    match field {
        "ownerReferences" => return List::Keyed(&["uid"]),
        "finalizers" => return List::Set,
        _ if kind.custom() => return List::Atomic,
        _ => {}
    }
    let runs_pods = kind.kind == "Pod" || matches!(kind.group, "apps" | "batch");
    match field {
        "conditions" | "addresses" => List::Keyed(&["type"]),
        "ports" if kind.kind == "Service" => List::Keyed(&["port", "protocol"]),
        "ports" if runs_pods => List::Keyed(&["containerPort", "protocol"]),
        "imagePullSecrets" | "secrets" | "webhooks" => List::Keyed(&["name"]),
        "volumeMounts" if runs_pods => List::Keyed(&["mountPath"]),
        "volumeDevices" if runs_pods => List::Keyed(&["devicePath"]),
        "hostAliases" | "podIPs" if runs_pods => List::Keyed(&["ip"]),
        "topologySpreadConstraints" if runs_pods => List::Keyed(&["topologyKey", "whenUnsatisfiable"]),
        "containers" | "initContainers" | "ephemeralContainers" | "env" | "volumes" | "resourceClaims" if runs_pods => {
            List::Keyed(&["name"])
        }
        _ => List::Atomic,
    }
}

/// Whether the map in that field is replaced as a whole.
pub(super) fn atomic_map(kind: &ResourceKind, field: &str) -> bool {
    !kind.custom()
        && matches!(
            field,
            "selector"
                | "labelSelector"
                | "nodeSelector"
                | "configMapKeyRef"
                | "secretKeyRef"
                | "fieldRef"
                | "resourceFieldRef"
                | "dataSource"
                | "dataSourceRef"
                | "roleRef"
        )
}

/// The identifying fields of an item. A protocol that is not given is TCP. `None` when one is missing.
pub(super) fn key(keys: &[&str], item: &Value) -> Option<Value> {
    let mut found = Map::new();
    for name in keys {
        let value = match item.get(*name) {
            Some(value) if !value.is_null() && !value.is_object() && !value.is_array() => value.clone(),
            None if *name == "protocol" => json!("TCP"),
            _ => return None,
        };
        found.insert((*name).to_owned(), value);
    }
    Some(Value::Object(found))
}
