//! System backups and restores: the objects of an installation, to the bucket and back.

pub(super) mod backup;
mod bundle;
pub(super) mod restore;
mod rollout;

use kube::{
    Api,
    core::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};

use super::{
    context::Context,
    resource::{Fields, with_condition},
};

/// A kind that bundles hold and that the controllers do not watch.
struct BundleKind {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
}

impl BundleKind {
    const fn new(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self { group, version, kind, plural, namespaced: true }
    }

    const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    /// Its objects in a namespace (ignored for kinds without).
    fn api(&self, context: &Context, namespace: &str) -> Api<DynamicObject> {
        let api_version =
            if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) };
        let resource = ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version,
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
        };
        if self.namespaced {
            Api::namespaced_with(context.client(), namespace, &resource)
        } else {
            Api::all_with(context.client(), &resource)
        }
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const DEFINITIONS: BundleKind =
    BundleKind::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions").cluster();
const DAEMON_SETS: BundleKind = BundleKind::new("apps", "v1", "DaemonSet", "daemonsets");
const DEPLOYMENTS: BundleKind = BundleKind::new("apps", "v1", "Deployment", "deployments");
const CONFIG_MAPS: BundleKind = BundleKind::new("", "v1", "ConfigMap", "configmaps");
const SERVICES: BundleKind = BundleKind::new("", "v1", "Service", "services");
const SERVICE_ACCOUNTS: BundleKind = BundleKind::new("", "v1", "ServiceAccount", "serviceaccounts");
const ROLES: BundleKind = BundleKind::new(RBAC, "v1", "Role", "roles");
const ROLE_BINDINGS: BundleKind = BundleKind::new(RBAC, "v1", "RoleBinding", "rolebindings");
const CLUSTER_ROLES: BundleKind = BundleKind::new(RBAC, "v1", "ClusterRole", "clusterroles").cluster();
const CLUSTER_ROLE_BINDINGS: BundleKind =
    BundleKind::new(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings").cluster();
const STORAGE_CLASSES: BundleKind = BundleKind::new("storage.k8s.io", "v1", "StorageClass", "storageclasses").cluster();
const VOLUMES_OF_CLUSTER: BundleKind = BundleKind::new("", "v1", "PersistentVolume", "persistentvolumes").cluster();
const CLAIMS: BundleKind = BundleKind::new("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims");
const SETTINGS: BundleKind = BundleKind::new("longhorn.io", "v1beta2", "Setting", "settings");
const ENGINE_IMAGES: BundleKind = BundleKind::new("longhorn.io", "v1beta2", "EngineImage", "engineimages");
const BACKING_IMAGES: BundleKind = BundleKind::new("longhorn.io", "v1beta2", "BackingImage", "backingimages");
const BACKUP_TARGETS: BundleKind = BundleKind::new("longhorn.io", "v1beta2", "BackupTarget", "backuptargets");
const RECURRING_JOBS: BundleKind = BundleKind::new("longhorn.io", "v1beta2", "RecurringJob", "recurringjobs");
const VOLUMES: BundleKind = BundleKind::new("longhorn.io", "v1beta2", "Volume", "volumes");

/// Status of a system backup or restore that has failed.
fn failure(object: &DynamicObject, reason: &str, message: &str) -> Value {
    let conditions = with_condition(object.field("/status/conditions"), "Error", true, reason, message);
    json!({"state": "Error", "conditions": conditions})
}
