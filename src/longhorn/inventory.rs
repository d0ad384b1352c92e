//! The objects a cluster had: what a system backup or an export tells of volumes, PersistentVolumes and claims.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{fields, volume::handle};

/// Objects of a cluster that may no longer be, by name.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Longhorn's volumes, by name.
    pub volumes: BTreeMap<String, Value>,
    /// PersistentVolumes of Longhorn, by the name of their volume.
    pub persistent_volumes: BTreeMap<String, Value>,
    /// Claims, by `namespace/name`.
    pub claims: BTreeMap<String, Value>,
}

impl Inventory {
    /// Picks the volumes, PersistentVolumes and claims out of any objects.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut inventory = Self::default();
        for object in objects {
            let name = fields::name(object).to_string();
            match (fields::text(object, "/kind"), fields::text(object, "/apiVersion")) {
                ("Volume", version) if version.starts_with("longhorn.io/") => {
                    inventory.volumes.insert(name, object.clone());
                }
                ("PersistentVolume", "v1") => {
                    if let Some(volume) = handle(object) {
                        inventory.persistent_volumes.insert(volume.to_string(), object.clone());
                    }
                }
                ("PersistentVolumeClaim", "v1") => {
                    let key = format!("{}/{name}", fields::text(object, "/metadata/namespace"));
                    inventory.claims.insert(key, object.clone());
                }
                _ => {}
            }
        }
        inventory
    }

    /// Names of all volumes that are told of in any way.
    pub fn volume_names(&self) -> impl Iterator<Item = &str> {
        self.volumes.keys().chain(self.persistent_volumes.keys()).map(String::as_str)
    }

    /// `namespace/name` of the claim of a volume: by its PersistentVolume, else by the volume's own memory of it.
    pub(super) fn claim_of(&self, volume: &str) -> Option<String> {
        let pv = self.persistent_volumes.get(volume);
        // An exported PersistentVolume may have lost its claimRef on purpose; its claim still names it.
        let by_claim = pv.and_then(|pv| {
            let of_pv =
                |(_, claim): &(&String, &Value)| fields::some(claim, "/spec/volumeName") == Some(fields::name(pv));
            self.claims.iter().find(of_pv).map(|(key, _)| key.clone())
        });
        let by_pv = pv.and_then(|pv| {
            let (namespace, name) =
                (fields::some(pv, "/spec/claimRef/namespace")?, fields::some(pv, "/spec/claimRef/name")?);
            Some(format!("{namespace}/{name}"))
        });
        by_claim.or(by_pv).or_else(|| super::Volume::read(self.volumes.get(volume)?).claim)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_found_by_the_volume_they_belong_to() {
        let objects = [
            json!({"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "metadata": {"name": "va"}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-va"}, "spec": {
                "claimRef": {"namespace": "app", "name": "old"},
                "csi": {"driver": "driver.longhorn.io", "volumeHandle": "va"}}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "nfs"}, "spec": {"nfs": {}}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "app"},
                "spec": {"volumeName": "pv-va"}}),
            json!({"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "metadata": {"name": "vb"}, "status": {
                "kubernetesStatus": {"namespace": "app", "pvcName": "logs", "lastPVCRefAt": ""}}}),
        ];
        let inventory = Inventory::of(&objects);
        assert_eq!(inventory.persistent_volumes.len(), 1);
        assert_eq!(inventory.claim_of("va").as_deref(), Some("app/data"));
        assert_eq!(inventory.claim_of("vb").as_deref(), Some("app/logs"));
        assert_eq!(inventory.claim_of("vc"), None);
        let mut without = inventory.clone();
        without.claims.clear();
        assert_eq!(without.claim_of("va").as_deref(), Some("app/old"));
    }
}
