//! The objects a cluster had: what a system backup or an export tells of volumes, PersistentVolumes and claims.

use std::{collections::BTreeMap, fs, io::Read, path::Path};

use serde_json::Value;

use super::{fields, volume::handle};
use crate::{Error, Kind, Result};

/// Larger files are no exported state.
const LARGEST: u64 = 64 << 20;
/// Folders below folders that are looked into.
const DEEPEST: usize = 8;

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

    /// Reads exported state: every YAML file of the folder and those below. Documents of other kinds are passed over.
    ///
    /// Errors: `not-found` when there is no such folder or nothing of volumes in it, `invalid` for a file that is not
    /// YAML: a state that can be read only in part must not look whole.
    pub fn read_folder(folder: &Path) -> Result<Self> {
        let mut objects = Vec::new();
        read_below(folder, DEEPEST, &mut objects)?;
        let inventory = Self::of(&objects);
        if inventory.volumes.is_empty() && inventory.persistent_volumes.is_empty() {
            let message = format!("the folder {} holds no volume", folder.display());
            return Err(Error::new(Kind::NotFound, message)
                .object(folder.display().to_string())
                .hint("name the folder that export-state wrote"));
        }
        Ok(inventory)
    }

    /// Names of all volumes that are told of in any way.
    pub fn volume_names(&self) -> impl Iterator<Item = &str> {
        self.volumes.keys().chain(self.persistent_volumes.keys()).map(String::as_str)
    }

    /// Volumes of which only the PersistentVolume is left, with its name: neither volume nor claim was there any more, as
    /// when a claim with the policy Retain and its volume were deleted. None when nobody wrote down what else there was.
    pub(super) fn leftovers(&self) -> BTreeMap<&str, &str> {
        let is_known = !(self.volumes.is_empty() && self.claims.is_empty());
        let is_left = |(volume, pv): &(&String, &Value)| {
            let has_claim = self.claim_of(volume).is_some_and(|claim| self.claims.contains_key(&claim));
            let is_released = fields::text(pv, "/status/phase") == "Released";
            !self.volumes.contains_key(*volume) && !has_claim && (is_known || is_released)
        };
        let left = self.persistent_volumes.iter().filter(is_left);
        left.map(|(volume, pv)| (volume.as_str(), fields::name(pv))).collect()
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

fn read_below(folder: &Path, depth: usize, objects: &mut Vec<Value>) -> Result<()> {
    let failed = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Failed };
        Error::new(kind, format!("reading the exported state in {}", folder.display())).source(error)
    };
    let mut entries = fs::read_dir(folder).map_err(failed)?.collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if kind.is_dir() && depth > 0 {
            read_below(&path, depth - 1, objects)?;
        } else if kind.is_file() && is_yaml {
            let mut text = String::new();
            fs::File::open(&path).and_then(|file| file.take(LARGEST).read_to_string(&mut text)).map_err(failed)?;
            let documents: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| {
                let what = error.without_snippet().to_string();
                Error::new(Kind::Invalid, format!("{}: {what}", path.display())).object(path.display().to_string())
            })?;
            for mut document in documents {
                match document.get_mut("items").map(Value::take) {
                    Some(Value::Array(items)) => objects.extend(items),
                    _ => objects.push(document),
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_folder_of_exported_state_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let empty = Inventory::read_folder(folder.path()).unwrap_err();
        assert_eq!(empty.kind(), Kind::NotFound, "{empty}");
        let volume = "apiVersion: longhorn.io/v1beta2\nkind: Volume\nmetadata:\n  name: v\n---\n---\nreplicas: 3\n";
        fs::create_dir(folder.path().join("below")).unwrap();
        fs::write(folder.path().join("below/volumes.yaml"), volume).unwrap();
        fs::write(folder.path().join("notes.txt"), "{ not yaml").unwrap();
        assert!(Inventory::read_folder(folder.path()).unwrap().volumes.contains_key("v"));
        fs::write(folder.path().join("cut.yml"), "a: [1,").unwrap();
        let cut = Inventory::read_folder(folder.path()).unwrap_err();
        assert!(cut.kind() == Kind::Invalid && cut.message().contains("cut.yml"), "{cut}");
        assert_eq!(Inventory::read_folder(Path::new("/nonexistent")).unwrap_err().kind(), Kind::NotFound);
    }

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
