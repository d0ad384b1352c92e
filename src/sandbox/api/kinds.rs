//! The kinds the API server knows: one table. Names, scopes and short names are those of Kubernetes 1.33 and of the
//! custom resource definitions of Longhorn 1.10.

use super::columns::{self, Column};

/// Group of Longhorn's kinds.
pub const LONGHORN: &str = "longhorn.io";

/// One resource kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Independent facts of a table, not a state.
pub struct ResourceKind {
    /// API group, `""` for core.
    pub group: &'static str,
    /// Version, for example `v1beta2`.
    pub version: &'static str,
    /// `Volume`.
    pub kind: &'static str,
    /// `volumes`.
    pub plural: &'static str,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Names kubectl accepts instead of the plural.
    pub short_names: &'static [&'static str],
    /// Whether `status` is written through its own subresource only.
    pub status: bool,
    /// Whether it has a `scale` subresource.
    pub scale: bool,
    /// Whether `kubectl get all` shows it.
    pub in_all: bool,
    /// Whether it is only a question: POST is answered, nothing is stored.
    pub review: bool,
    /// Columns of a custom resource; built-in kinds have theirs in [`super::table`].
    pub columns: &'static [Column],
}

impl ResourceKind {
    /// `v1`, or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `volume`: what kubectl prints for one object.
    pub fn singular(&self) -> String {
        self.kind.to_lowercase()
    }

    /// `pods`, or `volumes.longhorn.io`: how messages name the resource.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `VolumeList`.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// Whether it is defined by a custom resource definition: no strategic merge patch, updates name their version.
    pub fn custom(&self) -> bool {
        self.group == LONGHORN
    }

    /// Whether `metadata.generation` counts changes of what the user asks for.
    pub fn has_generation(&self) -> bool {
        self.custom()
            || matches!(self.group, "apps" | "batch" | "policy" | "networking.k8s.io")
            || (self.group.is_empty() && self.kind == "Pod")
    }

    const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn status(mut self) -> Self {
        self.status = true;
        self
    }

    const fn scale(mut self) -> Self {
        self.scale = true;
        self
    }

    const fn review(mut self) -> Self {
        self.review = true;
        self
    }

    const fn all(mut self) -> Self {
        self.in_all = true;
        self
    }
}

const fn kind(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    short_names: &'static [&'static str],
) -> ResourceKind {
    ResourceKind {
        group,
        version,
        kind,
        plural,
        namespaced: true,
        short_names,
        status: false,
        scale: false,
        in_all: false,
        review: false,
        columns: &[],
    }
}

const fn core(name: &'static str, plural: &'static str, short_names: &'static [&'static str]) -> ResourceKind {
    kind("", "v1", name, plural, short_names)
}

const fn longhorn(
    name: &'static str,
    plural: &'static str,
    short_names: &'static [&'static str],
    columns: &'static [Column],
) -> ResourceKind {
    let mut kind = kind(LONGHORN, "v1beta2", name, plural, short_names);
    kind.status = true;
    kind.columns = columns;
    kind
}

const RBAC: &str = "rbac.authorization.k8s.io";
const STORAGE: &str = "storage.k8s.io";

/// All kinds, grouped by API group.
pub static KINDS: &[ResourceKind] = &[
    core("ConfigMap", "configmaps", &["cm"]),
    core("Endpoints", "endpoints", &["ep"]),
    core("Event", "events", &["ev"]),
    core("LimitRange", "limitranges", &["limits"]),
    core("Namespace", "namespaces", &["ns"]).cluster().status(),
    core("Node", "nodes", &["no"]).cluster().status(),
    core("PersistentVolume", "persistentvolumes", &["pv"]).cluster().status(),
    core("PersistentVolumeClaim", "persistentvolumeclaims", &["pvc"]).status(),
    core("Pod", "pods", &["po"]).status().all(),
    core("ResourceQuota", "resourcequotas", &["quota"]).status(),
    core("Secret", "secrets", &[]),
    core("Service", "services", &["svc"]).status().all(),
    core("ServiceAccount", "serviceaccounts", &["sa"]),
    kind("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", &[])
        .cluster(),
    kind(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        &[],
    )
    .cluster(),
    kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", &["crd", "crds"])
        .cluster()
        .status(),
    kind("apps", "v1", "ControllerRevision", "controllerrevisions", &[]),
    kind("apps", "v1", "DaemonSet", "daemonsets", &["ds"]).status().all(),
    kind("apps", "v1", "Deployment", "deployments", &["deploy"]).status().scale().all(),
    kind("apps", "v1", "ReplicaSet", "replicasets", &["rs"]).status().scale().all(),
    kind("apps", "v1", "StatefulSet", "statefulsets", &["sts"]).status().scale().all(),
    kind("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", &[]).cluster().review(),
    kind("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", &[]).cluster().review(),
    kind("batch", "v1", "CronJob", "cronjobs", &["cj"]).status().all(),
    kind("batch", "v1", "Job", "jobs", &[]).status().all(),
    kind("coordination.k8s.io", "v1", "Lease", "leases", &[]),
    longhorn("BackingImage", "backingimages", &["lhbi"], columns::BACKING_IMAGE),
    longhorn("BackingImageDataSource", "backingimagedatasources", &["lhbids"], columns::BACKING_IMAGE_DATA_SOURCE),
    longhorn("BackingImageManager", "backingimagemanagers", &["lhbim"], columns::BACKING_IMAGE_MANAGER),
    longhorn("Backup", "backups", &["lhb"], columns::BACKUP),
    longhorn("BackupBackingImage", "backupbackingimages", &["lhbbi"], columns::BACKUP_BACKING_IMAGE),
    longhorn("BackupTarget", "backuptargets", &["lhbt"], columns::BACKUP_TARGET),
    longhorn("BackupVolume", "backupvolumes", &["lhbv"], columns::BACKUP_VOLUME),
    longhorn("Engine", "engines", &["lhe"], columns::ENGINE),
    longhorn("EngineImage", "engineimages", &["lhei"], columns::ENGINE_IMAGE),
    longhorn("InstanceManager", "instancemanagers", &["lhim"], columns::INSTANCE_MANAGER),
    longhorn("Node", "nodes", &["lhn"], columns::NODE),
    longhorn("Orphan", "orphans", &["lho"], columns::ORPHAN),
    longhorn("RecurringJob", "recurringjobs", &["lhrj"], columns::RECURRING_JOB),
    longhorn("Replica", "replicas", &["lhr"], columns::REPLICA),
    longhorn("Setting", "settings", &["lhs"], columns::SETTING),
    longhorn("ShareManager", "sharemanagers", &["lhsm"], columns::SHARE_MANAGER),
    longhorn("Snapshot", "snapshots", &["lhsnap"], columns::SNAPSHOT),
    longhorn("SupportBundle", "supportbundles", &["lhbundle"], columns::SUPPORT_BUNDLE),
    longhorn("SystemBackup", "systembackups", &["lhsb"], columns::SYSTEM_BACKUP),
    longhorn("SystemRestore", "systemrestores", &["lhsr"], columns::SYSTEM_RESTORE),
    longhorn("Volume", "volumes", &["lhv"], columns::VOLUME),
    longhorn("VolumeAttachment", "volumeattachments", &["lhva"], columns::VOLUME_ATTACHMENT),
    kind("networking.k8s.io", "v1", "Ingress", "ingresses", &["ing"]).status(),
    kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", &["netpol"]),
    kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", &["pdb"]).status(),
    kind(RBAC, "v1", "ClusterRole", "clusterroles", &[]).cluster(),
    kind(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", &[]).cluster(),
    kind(RBAC, "v1", "Role", "roles", &[]),
    kind(RBAC, "v1", "RoleBinding", "rolebindings", &[]),
    kind("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", &["pc"]).cluster(),
    kind(STORAGE, "v1", "CSIDriver", "csidrivers", &[]).cluster(),
    kind(STORAGE, "v1", "CSINode", "csinodes", &[]).cluster(),
    kind(STORAGE, "v1", "StorageClass", "storageclasses", &["sc"]).cluster(),
    kind(STORAGE, "v1", "VolumeAttachment", "volumeattachments", &[]).cluster().status(),
];

/// The kind with that plural.
pub fn find(group: &str, plural: &str) -> Option<&'static ResourceKind> {
    KINDS.iter().find(|kind| kind.group == group && kind.plural == plural)
}

/// The kind with that name (`Volume`).
pub fn find_kind(group: &str, name: &str) -> Option<&'static ResourceKind> {
    KINDS.iter().find(|kind| kind.group == group && kind.kind == name)
}

/// The groups in table order, core (`""`) first, each with its version.
pub fn groups() -> Vec<(&'static str, &'static str)> {
    let mut groups: Vec<(&str, &str)> = Vec::new();
    for kind in KINDS {
        if !groups.contains(&(kind.group, kind.version)) {
            groups.push((kind.group, kind.version));
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn resources_are_unique_within_their_group() {
        let mut seen = BTreeSet::new();
        for kind in KINDS {
            assert!(seen.insert((kind.group, kind.plural)), "{} twice", kind.qualified());
        }
        assert_eq!(KINDS.iter().filter(|kind| kind.custom()).count(), 22);
    }

    #[test]
    fn a_kind_is_found_by_group_because_names_repeat() {
        assert_eq!(find("", "nodes").map(ResourceKind::qualified).as_deref(), Some("nodes"));
        assert_eq!(find(LONGHORN, "nodes").map(ResourceKind::qualified).as_deref(), Some("nodes.longhorn.io"));
        assert!(find("storage.k8s.io", "volumeattachments").is_some_and(|kind| !kind.namespaced));
        assert!(find(LONGHORN, "volumeattachments").is_some_and(|kind| kind.namespaced));
        assert_eq!(find("", "volumes"), None);
    }
}
