//! The volumes' half of the binder: phases, protection, and what happens to a volume whose claim is gone.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind},
    runtime::{Controller, controller::Action, reflector::ObjectRef, watcher},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    BOUND_BY_CONTROLLER, LONGHORN, PROVISIONED_BY, VOLUME_PROTECTION, claim_ref, finalizers_patch, refers_to,
    volume_name,
};
use crate::{
    Result,
    sandbox::workload::{
        LONGHORN_NAMESPACE,
        controller::{self, Context},
        objects::{deleting, if_found, merge, write_status},
    },
};

/// Held by volumes a provisioner made, until the storage behind them is dealt with.
const PROVISIONER_FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

/// Runs the controller until `stop`.
pub async fn run(client: Client, stop: CancellationToken) {
    let context = Context::new(&client, "persistentvolume-controller");
    let volumes = Controller::new(Api::<PersistentVolume>::all(client.clone()), watcher::Config::default());
    let known = volumes.store();
    let claims = Api::<PersistentVolumeClaim>::all(client);
    let volumes = volumes.watches(claims, watcher::Config::default(), move |claim| {
        let names_it = |reference: &ObjectReference| {
            reference.name == claim.metadata.name && reference.namespace == claim.metadata.namespace
        };
        let concerns = |volume: &PersistentVolume| {
            claim_ref(volume).is_some_and(names_it) || volume_name(&claim) == volume.metadata.name.as_deref()
        };
        let volumes = known.state();
        volumes
            .iter()
            .filter(|volume| concerns(volume))
            .map(|volume| ObjectRef::from_obj(&**volume))
            .collect::<Vec<_>>()
    });
    controller::run(volumes, context, stop, reconcile).await;
}

async fn reconcile(volume: Arc<PersistentVolume>, context: Arc<Context>) -> Result<Action> {
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let Some(volume) = if_found(volumes.get(&volume.name_any()).await)? else { return Ok(Action::await_change()) };
    if !deleting(&volume)
        && let Some(patch) = finalizers_patch(&volume, VOLUME_PROTECTION, true)
    {
        merge(&volumes, &volume.name_any(), patch).await?;
        return Ok(Action::await_change());
    }
    match standing(&volume, &context).await? {
        Standing::Phase(phase) => {
            write_status(&volumes, &volume, json!({"phase": phase})).await?;
            if deleting(&volume) && phase != "Bound" {
                let_go(&volumes, &volume, &context).await?;
            }
        }
        Standing::Released => release(&volumes, &volume, &context).await?,
        Standing::Unwanted => unbind(&volumes, &volume).await?,
        Standing::Binding => {}
    }
    Ok(Action::await_change())
}

/// How a volume stands to its claim.
enum Standing {
    /// Nothing to do but to say so.
    Phase(&'static str),
    /// The claims' half is about to finish.
    Binding,
    /// The claim it was bound to is gone.
    Released,
    /// Its claim has another volume.
    Unwanted,
}

async fn standing(volume: &PersistentVolume, context: &Context) -> Result<Standing> {
    let Some(reference) = claim_ref(volume) else { return Ok(Standing::Phase("Available")) };
    if reference.uid.as_deref().unwrap_or_default().is_empty() {
        // Reserved for a claim that may not exist yet.
        return Ok(Standing::Phase("Available"));
    }
    let namespace = reference.namespace.clone().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    let claim = if_found(claims.get(reference.name.as_deref().unwrap_or_default()).await)?;
    Ok(match claim.filter(|claim| refers_to(reference, claim)) {
        None => Standing::Released,
        Some(claim) => match volume_name(&claim) {
            None => Standing::Binding,
            Some(name) if name == volume.name_any() => Standing::Phase("Bound"),
            Some(_) => Standing::Unwanted,
        },
    })
}

/// Marks the volume released and applies its reclaim policy.
async fn release(volumes: &Api<PersistentVolume>, volume: &PersistentVolume, context: &Context) -> Result<()> {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase != Some("Failed") {
        write_status(volumes, volume, json!({"phase": "Released"})).await?;
    }
    if deleting(volume) {
        return let_go(volumes, volume, context).await;
    }
    if policy(volume) != "Delete" {
        return Ok(());
    }
    if !provisioned(volume) {
        // Nobody can delete what no provisioner made: Kubernetes calls such a volume failed and keeps it.
        let message = "error getting deleter volume plugin for volume: no deletable volume plugin matched";
        if phase != Some("Failed") {
            context.events.warning(volume, "VolumeFailedDelete", message).await;
        }
        return write_status(volumes, volume, json!({"phase": "Failed", "message": message})).await;
    }
    delete_storage(volume, context).await?;
    if_found(volumes.delete(&volume.name_any(), &DeleteParams::default()).await)?;
    Ok(())
}

/// Lets a volume object go that somebody deletes and no claim holds.
async fn let_go(volumes: &Api<PersistentVolume>, volume: &PersistentVolume, context: &Context) -> Result<()> {
    if volume.finalizers().iter().any(|finalizer| finalizer == PROVISIONER_FINALIZER) {
        let was_bound = claim_ref(volume).is_some_and(|reference| reference.uid.is_some());
        if was_bound && policy(volume) == "Delete" && provisioned(volume) {
            delete_storage(volume, context).await?;
        }
        if let Some(patch) = finalizers_patch(volume, PROVISIONER_FINALIZER, false) {
            merge(volumes, &volume.name_any(), patch).await?;
        }
    } else if let Some(patch) = finalizers_patch(volume, VOLUME_PROTECTION, false) {
        merge(volumes, &volume.name_any(), patch).await?;
    }
    Ok(())
}

/// Takes the claim off the volume: all of it when the binder chose it, only the uid when somebody reserved it.
async fn unbind(volumes: &Api<PersistentVolume>, volume: &PersistentVolume) -> Result<()> {
    let chosen = volume.annotations().contains_key(BOUND_BY_CONTROLLER);
    let reference = if chosen { json!(null) } else { json!({"uid": null, "resourceVersion": null}) };
    let patch = json!({
        "metadata": {"annotations": {BOUND_BY_CONTROLLER: null}, "resourceVersion": volume.resource_version()},
        "spec": {"claimRef": reference},
    });
    merge(volumes, &volume.name_any(), patch).await.map(drop)
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

fn provisioned(volume: &PersistentVolume) -> bool {
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
