//! Snapshots belong to their volume.

use serde_json::{Value, json};

use super::{Cluster, invalid, name_of, set_label, unfit};
use crate::sandbox::{
    api::admission::Refusal,
    longhorn::{
        names,
        resource::{Fields, Resource},
    },
};

pub(super) fn create(snapshot: &mut Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    let name = snapshot.text("/spec/volume").to_owned();
    let volume = cluster.get(Resource::Volume, &name);
    let volume = volume.map_err(|why| unfit(format!("failed to get volume {name}: {why}")))?;
    set_label(snapshot, names::LABEL_VOLUME, &name);
    if snapshot["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty) {
        snapshot["metadata"]["ownerReferences"] = json!([{"apiVersion": "longhorn.io/v1beta2", "kind": "Volume",
            "name": name, "uid": volume["metadata"]["uid"]}]);
    }
    if !names::is_valid_name(name_of(snapshot)) {
        return Err(invalid(format!("invalid name {}", name_of(snapshot))));
    }
    let labels = snapshot["metadata"]["labels"].as_object();
    if let Some((key, _)) = labels.and_then(|labels| {
        labels.iter().find(|(key, value)| key.contains('=') || value.as_str().is_some_and(|value| value.contains('=')))
    }) {
        return Err(invalid(format!("label {key} contains an invalid character '='")));
    }
    Ok(())
}

pub(super) fn update(old: &Value, new: &Value) -> Result<(), Refusal> {
    if old.text("/spec/volume") != new.text("/spec/volume") {
        return Err(invalid("spec.volume field is immutable"));
    }
    let owners = &old["metadata"]["ownerReferences"];
    if owners.as_array().is_some_and(|list| !list.is_empty()) && *owners != new["metadata"]["ownerReferences"] {
        return Err(invalid("snapshot OwnerReferences field is immutable"));
    }
    let label = |object: &Value| object["metadata"]["labels"].get(names::LABEL_VOLUME).cloned();
    if label(old).is_some() && label(old) != label(new) {
        return Err(invalid(format!("label {} is immutable", names::LABEL_VOLUME)));
    }
    Ok(())
}
