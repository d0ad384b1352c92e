//! The claim binder: brings claims and volumes together, and protects them while in use.
//!
//! Behaves as Kubernetes' persistent volume controller: a claim
//! that names its volume gets that one or waits; a volume whose `claimRef` carries the uid of a claim that is gone is
//! `Released` and stays so until somebody clears it; a bound claim whose volume is gone or belongs to another claim is
//! `Lost`. Making new volumes for a class, and deleting them, is the provisioner's work; the binder only asks for it.

mod claims;
mod matching;
mod volumes;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// On claims: binding is complete, so a missing volume is a loss and not a wish.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The binder chose this partner; nobody asked for it by name.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On volumes: the provisioner that made it, and that alone may delete it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On claims: the provisioner that is to make the volume.
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// On claims of a class that waits for a pod: the node of that pod.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
/// The only provisioner there is.
pub const LONGHORN: &str = "driver.longhorn.io";

/// Runs both halves until `stop`.
pub async fn run(client: Client, stop: CancellationToken) {
    tokio::join!(claims::run(client.clone(), stop.clone()), volumes::run(client, stop));
}

/// Whether the reference means this claim; a reference without uid means any claim of that name.
fn refers_to(reference: &ObjectReference, claim: &PersistentVolumeClaim) -> bool {
    reference.name.as_deref() == claim.metadata.name.as_deref()
        && reference.namespace.as_deref() == claim.metadata.namespace.as_deref()
        && reference.uid.as_ref().is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref())
}

fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

fn bind_completed(claim: &PersistentVolumeClaim) -> bool {
    claim.annotations().contains_key(BIND_COMPLETED)
}

/// A merge patch of the finalizers that only applies to this version of the object; `None` when nothing changes.
pub fn finalizers_patch<K: Resource>(object: &K, name: &str, present: bool) -> Option<Value> {
    let mut finalizers = object.finalizers().to_vec();
    match (finalizers.iter().position(|other| other == name), present) {
        (None, true) => finalizers.push(name.into()),
        (Some(index), false) => drop(finalizers.remove(index)),
        _ => return None,
    }
    Some(json!({"metadata": {"finalizers": finalizers, "resourceVersion": object.resource_version()}}))
}
