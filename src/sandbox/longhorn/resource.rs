//! The kinds the controllers read and write, and short access to the fields of their objects.

use kube::{
    ResourceExt,
    core::{ApiResource, DynamicObject},
};
use serde_json::Value;

/// A kind that the controllers watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Resource {
    Backup,
    BackupTarget,
    BackupVolume,
    Engine,
    EngineImage,
    RecurringJob,
    Replica,
    Setting,
    Snapshot,
    SystemBackup,
    SystemRestore,
    Volume,
    VolumeAttachment,
    Claim,
    CronJob,
    Job,
    PersistentVolume,
    Pod,
    Secret,
    StorageClass,
}

/// Where the objects of a kind are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// In Longhorn's own namespace.
    Longhorn,
    /// In every namespace.
    Everywhere,
    /// They have no namespace.
    Cluster,
}

impl Resource {
    pub(super) const ALL: [Self; 20] = [
        Self::Backup,
        Self::BackupTarget,
        Self::BackupVolume,
        Self::Engine,
        Self::EngineImage,
        Self::RecurringJob,
        Self::Replica,
        Self::Setting,
        Self::Snapshot,
        Self::SystemBackup,
        Self::SystemRestore,
        Self::Volume,
        Self::VolumeAttachment,
        Self::Claim,
        Self::CronJob,
        Self::Job,
        Self::PersistentVolume,
        Self::Pod,
        Self::Secret,
        Self::StorageClass,
    ];

    /// Group, version, kind, plural.
    fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        const LONGHORN: (&str, &str) = ("longhorn.io", "v1beta2");
        let longhorn = |kind, plural| (LONGHORN.0, LONGHORN.1, kind, plural);
        match self {
            Self::Backup => longhorn("Backup", "backups"),
            Self::BackupTarget => longhorn("BackupTarget", "backuptargets"),
            Self::BackupVolume => longhorn("BackupVolume", "backupvolumes"),
            Self::Engine => longhorn("Engine", "engines"),
            Self::EngineImage => longhorn("EngineImage", "engineimages"),
            Self::RecurringJob => longhorn("RecurringJob", "recurringjobs"),
            Self::Replica => longhorn("Replica", "replicas"),
            Self::Setting => longhorn("Setting", "settings"),
            Self::Snapshot => longhorn("Snapshot", "snapshots"),
            Self::SystemBackup => longhorn("SystemBackup", "systembackups"),
            Self::SystemRestore => longhorn("SystemRestore", "systemrestores"),
            Self::Volume => longhorn("Volume", "volumes"),
            Self::VolumeAttachment => longhorn("VolumeAttachment", "volumeattachments"),
            Self::Claim => ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
            Self::CronJob => ("batch", "v1", "CronJob", "cronjobs"),
            Self::Job => ("batch", "v1", "Job", "jobs"),
            Self::PersistentVolume => ("", "v1", "PersistentVolume", "persistentvolumes"),
            Self::Pod => ("", "v1", "Pod", "pods"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::StorageClass => ("storage.k8s.io", "v1", "StorageClass", "storageclasses"),
        }
    }

    pub(super) fn named(group: &str, plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| (resource.names().0, resource.names().3) == (group, plural))
    }

    pub(super) fn kind(self) -> &'static str {
        self.names().2
    }

    pub(super) fn api_version(self) -> String {
        let (group, version, ..) = self.names();
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
    }

    pub(super) fn api_resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: self.api_version(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    pub(super) fn scope(self) -> Scope {
        match self {
            Self::Claim | Self::Pod => Scope::Everywhere,
            Self::PersistentVolume | Self::StorageClass => Scope::Cluster,
            _ => Scope::Longhorn,
        }
    }
}

/// Short access to fields; a missing field reads as empty, zero or false, as it does for Longhorn's own types.
pub(super) trait Fields {
    fn field(&self, pointer: &str) -> &Value;
    fn text(&self, pointer: &str) -> &str {
        self.field(pointer).as_str().unwrap_or_default()
    }
    fn flag(&self, pointer: &str) -> bool {
        self.field(pointer).as_bool().unwrap_or_default()
    }
    /// A number, also when written as a string (sizes are strings in most of Longhorn's specs).
    fn number(&self, pointer: &str) -> u64 {
        let value = self.field(pointer);
        value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or_default()
    }
}

impl Fields for Value {
    fn field(&self, pointer: &str) -> &Value {
        self.pointer(pointer).unwrap_or(&Value::Null)
    }
}

impl Fields for DynamicObject {
    fn field(&self, pointer: &str) -> &Value {
        self.data.pointer(pointer).unwrap_or(&Value::Null)
    }
}

/// What the metadata says.
pub(super) trait Meta {
    fn label(&self, key: &str) -> &str;
    fn annotation(&self, key: &str) -> &str;
    fn deleting(&self) -> bool;
    fn version(&self) -> u64;
    fn created(&self) -> String;
}

impl Meta for DynamicObject {
    fn label(&self, key: &str) -> &str {
        self.labels().get(key).map(String::as_str).unwrap_or_default()
    }

    fn annotation(&self, key: &str) -> &str {
        self.annotations().get(key).map(String::as_str).unwrap_or_default()
    }

    fn deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Resource versions of one server compare as numbers; an odd one counts as the oldest.
    fn version(&self) -> u64 {
        self.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    fn created(&self) -> String {
        self.metadata.creation_timestamp.as_ref().map(|time| super::names::time_text(time.0)).unwrap_or_default()
    }
}

/// The status of the condition of that type: `True`, `False`, or empty.
pub(super) fn condition<'a>(object: &'a impl Fields, kind: &str) -> &'a str {
    let conditions = object.field("/status/conditions").as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|c| c["type"] == kind).and_then(|c| c["status"].as_str()).unwrap_or_default()
}

/// The conditions with one of them set; its transition time moves only when its status changes.
pub(super) fn with_condition(conditions: &Value, kind: &str, status: bool, reason: &str, message: &str) -> Value {
    let mut list = conditions.as_array().cloned().unwrap_or_default();
    let status = if status { "True" } else { "False" };
    let found = list.iter().position(|c| c["type"] == kind);
    let since = match found {
        Some(at) if list[at]["status"] == status => list[at]["lastTransitionTime"].clone(),
        _ => Value::from(super::names::now()),
    };
    let new = serde_json::json!({"type": kind, "status": status, "reason": reason, "message": message,
        "lastProbeTime": "", "lastTransitionTime": since});
    match found {
        Some(at) => list[at] = new,
        None => list.push(new),
    }
    Value::Array(list)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_are_read_from_strings_and_numbers() {
        let object = json!({"spec": {"size": "2097152"}, "status": {"actualSize": 42, "odd": "x"}});
        assert_eq!(object.number("/spec/size"), 2_097_152);
        assert_eq!(object.number("/status/actualSize"), 42);
        assert_eq!(object.number("/status/odd"), 0);
        assert_eq!(object.number("/status/absent"), 0);
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let first = json!([{"type": "Restore", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z"}]);
        let same = with_condition(&first, "Restore", false, "", "again");
        assert_eq!(same[0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert_eq!(same[0]["message"], "again");
        let other = with_condition(&first, "Restore", true, "RestoreInProgress", "");
        assert_ne!(other[0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert_eq!(with_condition(&Value::Null, "Scheduled", true, "", "").as_array().map(Vec::len), Some(1));
    }
}
