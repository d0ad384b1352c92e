//! The claims' half of the binder.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    runtime::{Controller, controller::Action, reflector::ObjectRef, watcher},
};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, CLAIM_PROTECTION, PROVISIONER, SELECTED_NODE, bind_completed, claim_ref,
    finalizers_patch, matching, refers_to, volume_name,
};
use crate::{
    Result,
    sandbox::workload::{
        controller::{self, Context},
        events::full_name,
        objects::{api_error, deleting, if_found, merge, pod_ended, write_status},
    },
};

/// Runs the controller until `stop`.
pub async fn run(client: Client, stop: CancellationToken) {
    let context = Context::new(&client, "persistentvolume-controller");
    let claims = Controller::new(Api::<PersistentVolumeClaim>::all(client.clone()), watcher::Config::default());
    // What a changed volume, class or pod may mean for which claims.
    let (of_volume, of_class, of_pod) = (claims.store(), claims.store(), claims.store());
    let claims = claims
        .watches(Api::<PersistentVolume>::all(client.clone()), watcher::Config::default(), move |volume| {
            let concerns = |claim: &PersistentVolumeClaim| {
                !bind_completed(claim)
                    || volume_name(claim) == volume.metadata.name.as_deref()
                    || claim_ref(&volume).is_some_and(|reference| refers_to(reference, claim))
            };
            let claims = of_volume.state();
            claims.iter().filter(|claim| concerns(claim)).map(|claim| ObjectRef::from_obj(&**claim)).collect::<Vec<_>>()
        })
        .watches(Api::<StorageClass>::all(client.clone()), watcher::Config::default(), move |_| {
            let claims = of_class.state();
            claims.iter().filter(|c| !bind_completed(c)).map(|claim| ObjectRef::from_obj(&**claim)).collect::<Vec<_>>()
        })
        .watches(Api::<Pod>::all(client), watcher::Config::default(), move |pod| {
            let claims = of_pod.state();
            let concerned = claims.iter().filter(|claim| deleting(&***claim) && uses(&pod, claim));
            concerned.map(|claim| ObjectRef::from_obj(&**claim)).collect::<Vec<_>>()
        });
    // Two claims must not be given the same volume: one decision at a time.
    let turn = Arc::new(Mutex::new(()));
    controller::run(claims, context, stop, move |claim, context| {
        let turn = turn.clone();
        async move {
            let _turn = turn.lock().await;
            Box::pin(reconcile(&claim, &context)).await
        }
    })
    .await;
}

fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    pod.namespace() == claim.namespace()
        && pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten())
            .filter_map(|volume| volume.persistent_volume_claim.as_ref())
            .any(|source| Some(&source.claim_name) == claim.metadata.name.as_ref())
}

async fn reconcile(claim: &PersistentVolumeClaim, context: &Context) -> Result<Action> {
    let namespace = claim.namespace().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    let Some(claim) = if_found(claims.get(&claim.name_any()).await)? else { return Ok(Action::await_change()) };
    let binder = Binder { context, claims, volumes: Api::all(context.client.clone()) };
    if deleting(&claim) {
        binder.release_when_unused(&claim).await?;
    } else if let Some(patch) = finalizers_patch(&claim, CLAIM_PROTECTION, true) {
        // The write wakes this controller again, which then goes on with the newer object.
        merge(&binder.claims, &claim.name_any(), patch).await?;
    } else if bind_completed(&claim) {
        binder.keep(&claim).await?;
    } else {
        Box::pin(binder.unbound(&claim)).await?;
    }
    Ok(Action::await_change())
}

struct Binder<'a> {
    context: &'a Context,
    claims: Api<PersistentVolumeClaim>,
    volumes: Api<PersistentVolume>,
}

impl Binder<'_> {
    async fn release_when_unused(&self, claim: &PersistentVolumeClaim) -> Result<()> {
        let Some(patch) = finalizers_patch(claim, CLAIM_PROTECTION, false) else { return Ok(()) };
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &claim.namespace().unwrap_or_default());
        let pods = pods.list(&ListParams::default()).await.map_err(api_error)?;
        if !pods.items.iter().any(|pod| uses(pod, claim) && !pod_ended(pod)) {
            merge(&self.claims, &claim.name_any(), patch).await?;
        }
        Ok(())
    }

    /// A claim that was bound: it still has its volume, or it is lost.
    async fn keep(&self, claim: &PersistentVolumeClaim) -> Result<()> {
        let Some(name) = volume_name(claim) else {
            return self.lose(claim, "ClaimLost", "Bound claim has lost reference to PersistentVolume.").await;
        };
        let Some(volume) = if_found(self.volumes.get(name).await)? else {
            let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            return self.lose(claim, "ClaimLost", message).await;
        };
        match claim_ref(&volume) {
            None => self.bind(claim, &volume).await,
            Some(reference) if reference.uid.is_some() && refers_to(reference, claim) => {
                self.bound_status(claim, &volume).await
            }
            Some(reference) if refers_to(reference, claim) => self.bind(claim, &volume).await,
            Some(_) => {
                let message = "Two claims are bound to the same volume, this one is bound incorrectly";
                self.lose(claim, "ClaimMisbound", message).await
            }
        }
    }

    async fn lose(&self, claim: &PersistentVolumeClaim, reason: &str, message: &str) -> Result<()> {
        if phase(claim) != Some("Lost") {
            self.context.events.warning(claim, reason, message).await;
        }
        write_status(&self.claims, claim, json!({"phase": "Lost", "capacity": null, "accessModes": null})).await
    }

    async fn unbound(&self, claim: &PersistentVolumeClaim) -> Result<()> {
        if let Some(name) = volume_name(claim) {
            return match if_found(self.volumes.get(name).await)? {
                Some(volume) => self.wanted(claim, &volume).await,
                None => self.pending(claim).await,
            };
        }
        let Some(class) = self.class(claim).await? else { return Ok(()) };
        let volumes = self.volumes.list(&ListParams::default()).await.map_err(api_error)?;
        match matching::best(claim, &volumes.items) {
            Some(volume) => self.bind(claim, volume).await,
            None => self.ask_for_one(claim, &class).await,
        }
    }

    /// The claim names this volume: it gets it, or waits for it.
    async fn wanted(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<()> {
        if claim_ref(volume).is_some_and(|reference| !refers_to(reference, claim)) {
            let message = format!("volume {:?} already bound to a different claim.", volume.name_any());
            self.context.events.warning(claim, "FailedBinding", &message).await;
            return self.pending(claim).await;
        }
        if let Some(why) = matching::misfit(claim, volume) {
            let message = format!("Cannot bind to requested volume {:?}: {why}", volume.name_any());
            self.context.events.warning(claim, "VolumeMismatch", &message).await;
            return self.pending(claim).await;
        }
        self.bind(claim, volume).await
    }

    async fn pending(&self, claim: &PersistentVolumeClaim) -> Result<()> {
        write_status(&self.claims, claim, json!({"phase": "Pending"})).await
    }

    /// The claim's class, `""` for none; `None` after the default class was filled in, which brings the claim back.
    async fn class(&self, claim: &PersistentVolumeClaim) -> Result<Option<String>> {
        if let Some(class) = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone()) {
            return Ok(Some(class));
        }
        let classes: Api<StorageClass> = Api::all(self.context.client.clone());
        let classes = classes.list(&ListParams::default()).await.map_err(api_error)?.items;
        let default = |class: &&StorageClass| {
            class.annotations().get("storageclass.kubernetes.io/is-default-class").is_some_and(|value| value == "true")
        };
        // As in Kubernetes, the youngest one when several are marked.
        let Some(class) = classes.iter().filter(default).max_by_key(|class| class.creation_timestamp()) else {
            return Ok(Some(String::new()));
        };
        merge(&self.claims, &claim.name_any(), json!({"spec": {"storageClassName": class.name_any()}})).await?;
        Ok(None)
    }

    async fn ask_for_one(&self, claim: &PersistentVolumeClaim, class: &str) -> Result<()> {
        self.pending(claim).await?;
        let events = &self.context.events;
        if class.is_empty() {
            let message = "no persistent volumes available for this claim and no storage class is set";
            events.normal(claim, "FailedBinding", message).await;
            return Ok(());
        }
        let classes: Api<StorageClass> = Api::all(self.context.client.clone());
        let Some(found) = if_found(classes.get(class).await)? else {
            let message = format!("storageclass.storage.k8s.io {class:?} not found");
            events.warning(claim, "ProvisioningFailed", &message).await;
            return Ok(());
        };
        let waits = found.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
        if waits && !claim.annotations().contains_key(SELECTED_NODE) {
            let message = "waiting for first consumer to be created before binding";
            events.normal(claim, "WaitForFirstConsumer", message).await;
            return Ok(());
        }
        if claim.annotations().get(PROVISIONER) == Some(&found.provisioner) {
            return Ok(());
        }
        let annotations = json!({
            PROVISIONER: found.provisioner,
            "volume.beta.kubernetes.io/storage-provisioner": found.provisioner,
        });
        merge(&self.claims, &claim.name_any(), json!({"metadata": {"annotations": annotations}})).await?;
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system \
             administrator. If volume creation is delayed, please verify that the provisioner is running and correctly \
             registered.",
            found.provisioner
        );
        events.normal(claim, "ExternalProvisioning", &message).await;
        Ok(())
    }

    /// Ties both together: the volume first, so that nobody else takes it; each step may be repeated.
    async fn bind(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<()> {
        let name = volume.name_any();
        let Some(volume) = merge(&self.volumes, &name, volume_patch(claim, volume)).await? else {
            return self.pending(claim).await;
        };
        write_status(&self.volumes, &volume, json!({"phase": "Bound"})).await?;
        let mut annotations = json!({BIND_COMPLETED: "yes"});
        if volume_name(claim).is_none() {
            annotations[BOUND_BY_CONTROLLER] = json!("yes");
        }
        let patch = json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": name}});
        let Some(claim) = merge(&self.claims, &claim.name_any(), patch).await? else { return Ok(()) };
        tracing::debug!(claim = full_name(&claim), volume = name, "bound");
        self.bound_status(&claim, &volume).await
    }

    async fn bound_status(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<()> {
        let spec = volume.spec.clone().unwrap_or_default();
        let status = json!({"phase": "Bound", "accessModes": spec.access_modes, "capacity": spec.capacity});
        write_status(&self.claims, claim, status).await
    }
}

fn volume_patch(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Value {
    let mut patch = json!({
        "metadata": {"resourceVersion": volume.resource_version()},
        "spec": {"claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace(),
            "name": claim.name_any(),
            "uid": claim.uid(),
            "resourceVersion": claim.resource_version(),
        }},
    });
    // A reservation (a reference by name, or one made by a provisioner) is somebody's wish and not the binder's.
    if claim_ref(volume).is_none() {
        patch["metadata"]["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
    }
    patch
}

fn phase(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.phase.as_deref()
}
