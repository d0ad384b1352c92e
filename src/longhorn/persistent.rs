//! The PersistentVolume and the claim of a volume, as Longhorn's "Create PV/PVC" writes them, or as they were.
//!
//! Fields: longhorn-manager `datastore/kubernetes.go` (`NewPVManifestForVolume`, `NewPVCManifest`).

use serde_json::{Map, Value, json};

use super::{CSI_DRIVER, Volume, fields, hold, quantity};
use crate::{Error, Kind, Result, cluster::ObjectRef};

/// Secret of encrypted volumes unless their former PersistentVolume named another.
const CRYPTO_SECRET: &str = "longhorn-crypto";

/// What is known of the two objects; what is `None` is taken from the former objects, else is Longhorn's default.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Name of the PersistentVolume; else its former one, else the volume's.
    pub pv: Option<String>,
    /// Storage class.
    pub class: Option<String>,
    /// File system; `ext4` if nobody knows.
    pub fs_type: Option<String>,
    /// `Filesystem` or `Block`.
    pub volume_mode: Option<String>,
    /// `ReadWriteOnce`, …; else by the volume's access mode.
    pub access_modes: Option<Vec<String>>,
    /// Bytes the claim asks for; else those of its former self, else the volume's size.
    pub size: Option<u64>,
    /// The former PersistentVolume, from a system backup or an export.
    pub former_pv: Option<Value>,
    /// The former claim.
    pub former_claim: Option<Value>,
}

/// Annotation of a claim whose binding is decided.
pub(super) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Annotations that describe a binding or a tool's last action, not the object.
const BINDING_ANNOTATIONS: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    BIND_COMPLETED,
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/selected-node",
    "longhorn.io/volume-scheduling-error",
];

impl Wishes {
    /// Name of the PersistentVolume of that volume.
    pub(super) fn pv_name(&self, volume: &str) -> String {
        let former = self.former_pv.as_ref().and_then(|pv| fields::owned(pv, "/metadata/name"));
        self.pv.clone().or(former).unwrap_or_else(|| volume.to_string())
    }

    /// The class, if a wish or a former object names one. The empty class is one as well.
    pub(super) fn class(&self) -> Option<String> {
        let of =
            |object: &Option<Value>| object.as_ref()?.pointer("/spec/storageClassName")?.as_str().map(str::to_string);
        self.class.clone().or_else(|| of(&self.former_claim)).or_else(|| of(&self.former_pv))
    }

    fn access_modes(&self, volume: &Volume) -> Value {
        if let Some(modes) = &self.access_modes {
            return json!(modes);
        }
        let former = [&self.former_claim, &self.former_pv].into_iter().flatten();
        let mut modes =
            former.filter_map(|object| object.pointer("/spec/accessModes").filter(|modes| modes.is_array()));
        modes.next().cloned().unwrap_or_else(|| {
            json!([match volume.access_mode.as_str() {
                "rwx" => "ReadWriteMany",
                "rwop" => "ReadWriteOncePod",
                _ => "ReadWriteOnce",
            }])
        })
    }

    fn volume_mode(&self) -> String {
        let former = [&self.former_claim, &self.former_pv].into_iter().flatten();
        let mut modes = former.filter_map(|object| fields::owned(object, "/spec/volumeMode"));
        self.volume_mode.clone().or_else(|| modes.next()).unwrap_or_else(|| "Filesystem".to_string())
    }

    /// The PersistentVolume. Its policy is Retain: with Delete, removing the claim would remove the restored data. A former
    /// policy is noted, for whoever lets go of what a restore holds.
    ///
    /// `claim` reserves it for one claim, by name; with a uid it would be taken for released once that claim is
    /// another.
    pub(super) fn pv_object(
        &self,
        volume: &Volume,
        class: &str,
        claim: Option<&ObjectRef>,
        uid: Option<&str>,
    ) -> Value {
        let former = self.former_pv.as_ref().map_or(&Value::Null, |pv| pv.pointer("/spec").unwrap_or(&Value::Null));
        let mut spec = Map::new();
        for key in ["mountOptions", "nodeAffinity", "volumeAttributesClassName"] {
            spec.extend(former.get(key).filter(|value| !value.is_null()).map(|value| (key.to_string(), value.clone())));
        }
        spec.insert("capacity".to_string(), json!({"storage": quantity::format(volume.size)}));
        spec.insert("accessModes".to_string(), self.access_modes(volume));
        spec.insert("volumeMode".to_string(), self.volume_mode().into());
        spec.insert("storageClassName".to_string(), class.into());
        spec.insert("persistentVolumeReclaimPolicy".to_string(), "Retain".into());
        spec.insert("csi".to_string(), self.csi(volume, former.get("csi").unwrap_or(&Value::Null)));
        if let Some(claim) = claim {
            let mut reference = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim.name,
                "namespace": claim.namespace});
            if let Some(uid) = uid {
                reference["uid"] = uid.into();
            }
            spec.insert("claimRef".to_string(), reference);
        }
        let mut metadata = metadata(&self.pv_name(&volume.name), None, self.former_pv.as_ref());
        let policy = fields::some(former, "/persistentVolumeReclaimPolicy").filter(|policy| *policy != "Retain");
        if let Some(policy) = policy {
            metadata["annotations"][hold::POLICY] = policy.into();
        }
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec})
    }

    fn csi(&self, volume: &Volume, former: &Value) -> Value {
        let mut csi = match former {
            Value::Object(fields) => fields.clone(),
            _ => Map::new(),
        };
        csi.insert("driver".to_string(), CSI_DRIVER.into());
        csi.insert("volumeHandle".to_string(), volume.name.clone().into());
        if self.volume_mode() == "Filesystem" {
            let former = fields::owned(former, "/fsType");
            let fs_type = self.fs_type.clone().or(former).unwrap_or_else(|| "ext4".to_string());
            csi.insert("fsType".to_string(), fs_type.into());
        }
        if !csi.contains_key("volumeAttributes") {
            let mut attributes = json!({"numberOfReplicas": volume.replicas.to_string(), "staleReplicaTimeout": "30"});
            if volume.encrypted {
                attributes["encrypted"] = "true".into();
            }
            if volume.access_mode == "rwx" {
                attributes["migratable"] = "false".into();
            }
            csi.insert("volumeAttributes".to_string(), attributes);
        }
        if volume.encrypted {
            for key in ["nodeStageSecretRef", "nodePublishSecretRef"] {
                let secret = json!({"name": CRYPTO_SECRET, "namespace": super::USUAL_NAMESPACE});
                csi.entry(key).or_insert(secret);
            }
        }
        Value::Object(csi)
    }

    /// Bytes the claim asks for. Errors: `invalid` when its former self asks for what is no size.
    pub(super) fn asked(&self, volume: &Volume, claim: &ObjectRef) -> Result<u64> {
        let former =
            self.former_claim.as_ref().and_then(|claim| fields::some(claim, "/spec/resources/requests/storage"));
        match (self.size, former) {
            (Some(bytes), _) => Ok(bytes),
            (None, Some(text)) => quantity::parse(text).ok_or_else(|| {
                Error::new(Kind::Invalid, format!("the former claim {claim} asks for {text:?}, which is no size"))
            }),
            (None, None) => Ok(volume.size),
        }
    }

    /// The claim.
    ///
    /// Errors: `invalid` when it asks for more than the volume has, which would never bind.
    pub(super) fn claim_object(&self, volume: &Volume, class: &str, claim: &ObjectRef) -> Result<Value> {
        let size = self.asked(volume, claim)?;
        if size > volume.size {
            let (asked, has) = (quantity::format(size), quantity::format(volume.size));
            let message = format!("the claim {claim} asks for {asked}, but its volume {} has {has}", volume.name);
            return Err(Error::new(Kind::Invalid, message)
                .object(claim.to_string())
                .hint("the backup was taken before the volume grew: restore a newer one, or expand the volume first"));
        }
        let spec = json!({"accessModes": self.access_modes(volume), "storageClassName": class,
            "resources": {"requests": {"storage": quantity::format(size)}}, "volumeMode": self.volume_mode(),
            "volumeName": self.pv_name(&volume.name)});
        let metadata = metadata(&claim.name, claim.namespace.as_deref(), self.former_claim.as_ref());
        Ok(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}))
    }
}

fn metadata(name: &str, namespace: Option<&str>, former: Option<&Value>) -> Value {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    let Some(former) = former else { return metadata };
    let labels = fields::map(former, "/metadata/labels");
    if !labels.is_empty() {
        metadata["labels"] = json!(labels);
    }
    let mut annotations = fields::map(former, "/metadata/annotations");
    annotations.retain(|key, _| !BINDING_ANNOTATIONS.contains(&key.as_str()) && !key.starts_with("longhorn.io/last-"));
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(access_mode: &str) -> Volume {
        Volume::read(&json!({"metadata": {"name": "pvc-1"}, "spec": {"size": "10737418240", "numberOfReplicas": 3,
            "accessMode": access_mode}}))
    }

    fn claim() -> ObjectRef {
        ObjectRef::namespaced("PersistentVolumeClaim", "app", "data").unwrap()
    }

    #[test]
    fn with_nothing_known_they_are_what_longhorn_makes() {
        let wishes = Wishes::default();
        assert_eq!(
            wishes.pv_object(&volume("rwo"), "longhorn-static", None, None),
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pvc-1"}, "spec": {
                "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
                "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "longhorn-static",
                "csi": {"driver": "driver.longhorn.io", "fsType": "ext4", "volumeHandle": "pvc-1",
                    "volumeAttributes": {"numberOfReplicas": "3", "staleReplicaTimeout": "30"}}}})
        );
        assert_eq!(
            wishes.claim_object(&volume("rwo"), "longhorn-static", &claim()).unwrap(),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "app"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}},
                    "storageClassName": "longhorn-static", "volumeMode": "Filesystem", "volumeName": "pvc-1"}})
        );
        let shared = wishes.pv_object(&volume("rwx"), "longhorn", None, None);
        assert_eq!(shared["spec"]["accessModes"], json!(["ReadWriteMany"]));
        assert_eq!(shared["spec"]["csi"]["volumeAttributes"]["migratable"], "false");
    }

    #[test]
    fn former_objects_lose_their_binding_and_keep_the_rest() {
        let former_pv = json!({"metadata": {"name": "pv-data", "uid": "u", "resourceVersion": "5",
                "finalizers": ["kubernetes.io/pv-protection"], "labels": {"tier": "db"},
                "annotations": {"pv.kubernetes.io/provisioned-by": "driver.longhorn.io",
                    "pv.kubernetes.io/bound-by-controller": "yes", "longhorn.io/last-system-restored": "x"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "5Gi"}, "mountOptions": ["noatime"],
                "claimRef": {"name": "data", "namespace": "app", "uid": "old", "resourceVersion": "9"},
                "csi": {"driver": "driver.longhorn.io", "fsType": "xfs", "volumeHandle": "old-name",
                    "volumeAttributes": {"numberOfReplicas": "2", "fromBackup": ""}},
                "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "fast", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound"}});
        let former_claim = json!({"metadata": {"name": "data", "namespace": "app", "labels": {"app": "web"},
                "annotations": {"pv.kubernetes.io/bind-completed": "yes", "note": "kept"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}},
                "storageClassName": "fast", "volumeName": "pv-data", "dataSource": {"kind": "VolumeSnapshot", "name": "s"}}});
        let wishes = Wishes { former_pv: Some(former_pv), former_claim: Some(former_claim), ..Wishes::default() };
        assert_eq!(wishes.class().as_deref(), Some("fast"));
        let pv = wishes.pv_object(&volume("rwo"), "fast", Some(&claim()), None);
        assert_eq!(
            pv["metadata"],
            json!({"name": "pv-data", "labels": {"tier": "db"},
            "annotations": {"pv.kubernetes.io/provisioned-by": "driver.longhorn.io",
                "lhrun.io/held-reclaim-policy": "Delete"}})
        );
        assert_eq!(pv["spec"]["persistentVolumeReclaimPolicy"], "Retain");
        assert_eq!(
            pv["spec"]["claimRef"],
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "data",
            "namespace": "app"})
        );
        assert_eq!(pv["spec"]["csi"]["volumeHandle"], "pvc-1");
        assert_eq!((&pv["spec"]["csi"]["fsType"], &pv["spec"]["mountOptions"]), (&json!("xfs"), &json!(["noatime"])));
        assert_eq!(pv["spec"]["capacity"]["storage"], "10Gi", "the restored volume's real size");
        assert_eq!(pv.get("status"), None);
        let object = wishes.claim_object(&volume("rwo"), "fast", &claim()).unwrap();
        assert_eq!(object["metadata"]["annotations"], json!({"note": "kept"}));
        assert_eq!(object["spec"]["volumeName"], "pv-data");
        assert_eq!(object["spec"].get("dataSource"), None);
        assert_eq!(object["spec"]["resources"]["requests"]["storage"], "5Gi");
    }

    #[test]
    fn a_claim_larger_than_its_volume_is_refused() {
        let wishes = Wishes { size: Some(20 << 30), ..Wishes::default() };
        let error = wishes.claim_object(&volume("rwo"), "longhorn", &claim()).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.message().contains("asks for 20Gi, but its volume pvc-1 has 10Gi"), "{error}");
    }

    #[test]
    fn encrypted_volumes_name_their_secret() {
        let mut encrypted = volume("rwo");
        encrypted.encrypted = true;
        let pv = Wishes::default().pv_object(&encrypted, "longhorn", None, None);
        assert_eq!(pv["spec"]["csi"]["volumeAttributes"]["encrypted"], "true");
        assert_eq!(pv["spec"]["csi"]["nodeStageSecretRef"]["name"], "longhorn-crypto");
    }

    #[test]
    fn a_block_volume_has_no_file_system() {
        let wishes = Wishes { volume_mode: Some("Block".to_string()), ..Wishes::default() };
        let pv = wishes.pv_object(&volume("rwo"), "longhorn", None, None);
        assert_eq!(pv["spec"]["csi"].get("fsType"), None);
        assert_eq!(pv["spec"]["volumeMode"], "Block");
    }
}
