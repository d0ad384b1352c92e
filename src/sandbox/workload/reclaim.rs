//! What the CSI provisioner does at the end of a volume: deletes the storage behind a released PersistentVolume whose
//! policy says so, and lets the object go.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind},
    runtime::{Controller, controller::Action, watcher},
};
use tokio_util::sync::CancellationToken;

use super::{
    LONGHORN_NAMESPACE,
    binder::{LONGHORN, PROVISIONED_BY, finalizers_patch},
    controller::{self, Context},
    objects::{deleting, if_found, merge},
};
use crate::Result;

/// Held by volumes a provisioner made, until the storage behind them is dealt with.
const PROVISIONER_FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

/// Runs the controller until `stop`.
pub async fn run(client: Client, stop: CancellationToken) {
    let context = Context::new(&client, LONGHORN);
    let volumes = Controller::new(Api::<PersistentVolume>::all(client), watcher::Config::default());
    controller::run(volumes, context, stop, reconcile).await;
}

async fn reconcile(volume: Arc<PersistentVolume>, context: Arc<Context>) -> Result<Action> {
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let Some(volume) = if_found(volumes.get(&volume.name_any()).await)? else { return Ok(Action::await_change()) };
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Released") && policy(&volume) == "Delete" && provisioned(&volume) {
        delete_storage(&volume, &context).await?;
        if !deleting(&volume) {
            if_found(volumes.delete(&volume.name_any(), &DeleteParams::default()).await)?;
        }
    }
    if deleting(&volume)
        && phase != Some("Bound")
        && let Some(patch) = finalizers_patch(&volume, PROVISIONER_FINALIZER, false)
    {
        merge(&volumes, &volume.name_any(), patch).await?;
    }
    Ok(Action::await_change())
}

/// `Delete`, `Retain` or `Recycle`.
pub fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

/// Whether this provisioner made it, and alone may delete what is behind it.
pub fn provisioned(volume: &PersistentVolume) -> bool {
    volume.annotations().get(PROVISIONED_BY).is_some_and(|provisioner| provisioner == LONGHORN)
}

/// Deletes the Longhorn volume behind the PersistentVolume.
async fn delete_storage(volume: &PersistentVolume, context: &Context) -> Result<()> {
    let Some(csi) = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()) else { return Ok(()) };
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("longhorn.io", "v1beta2", "Volume"));
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), LONGHORN_NAMESPACE, &kind);
    if_found(api.delete(&csi.volume_handle, &DeleteParams::default()).await)?;
    Ok(())
}
