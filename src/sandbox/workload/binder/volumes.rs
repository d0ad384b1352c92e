//! The volumes' half of the binder: phases, protection, and what a volume is whose claim is gone.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, Client, ResourceExt,
    runtime::{Controller, controller::Action, reflector::ObjectRef, watcher},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{BOUND_BY_CONTROLLER, VOLUME_PROTECTION, claim_ref, finalizers_patch, refers_to, volume_name};
use crate::{
    Result,
    sandbox::workload::{
        controller::{self, Context},
        objects::{deleting, if_found, merge, write_status},
        reclaim::{policy, provisioned},
    },
};

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
                let_go(&volumes, &volume).await?;
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

/// Marks the volume released. The provisioner that made it takes it from there.
async fn release(volumes: &Api<PersistentVolume>, volume: &PersistentVolume, context: &Context) -> Result<()> {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase != Some("Failed") {
        write_status(volumes, volume, json!({"phase": "Released"})).await?;
    }
    if deleting(volume) {
        return let_go(volumes, volume).await;
    }
    if policy(volume) != "Delete" || provisioned(volume) {
        return Ok(());
    }
    // Nobody can delete what no provisioner made: Kubernetes calls such a volume failed and keeps it.
    let message = "error getting deleter volume plugin for volume: no deletable volume plugin matched";
    if phase != Some("Failed") {
        context.events.warning(volume, "VolumeFailedDelete", message).await;
    }
    write_status(volumes, volume, json!({"phase": "Failed", "message": message})).await
}

/// Ends the protection of a volume that somebody deletes and no claim holds.
async fn let_go(volumes: &Api<PersistentVolume>, volume: &PersistentVolume) -> Result<()> {
    if let Some(patch) = finalizers_patch(volume, VOLUME_PROTECTION, false) {
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
