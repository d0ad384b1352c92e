//! Replica sets: so many pods of one template.

use std::sync::Arc;

use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    runtime::{Controller, controller::Action, watcher},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    sandbox::workload::{
        controller::{self, Context},
        objects::{create, deleting, if_found, owned_pods, owner, pod_ended, pod_of, pod_ready, suffix, write_status},
    },
};

/// Runs the controller until `stop`.
pub async fn run(client: Client, stop: CancellationToken) {
    let context = Context::new(&client, "replicaset-controller");
    let sets = Controller::new(Api::<ReplicaSet>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Pod>::all(client), watcher::Config::default());
    controller::run(sets, context, stop, reconcile).await;
}

async fn reconcile(set: Arc<ReplicaSet>, context: Arc<Context>) -> Result<Action> {
    let namespace = set.namespace().unwrap_or_default();
    let sets: Api<ReplicaSet> = Api::namespaced(context.client.clone(), &namespace);
    let Some(set) = if_found(sets.get(&set.name_any()).await)?.filter(|set| !deleting(set)) else {
        return Ok(Action::await_change());
    };
    let Some(spec) = &set.spec else { return Ok(Action::await_change()) };
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let mut pods = owned_pods(&api, &spec.selector, &set.uid().unwrap_or_default()).await?;
    pods.retain(|pod| !deleting(pod) && !pod_ended(pod));
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    // Pods that are not ready go first, then the youngest.
    pods.sort_by_key(|pod| (!pod_ready(pod), std::cmp::Reverse(pod.creation_timestamp())));
    for pod in pods.drain(..pods.len().saturating_sub(wanted)) {
        if_found(api.delete(&pod.name_any(), &super::only_this(&pod)).await)?;
        context.events.normal(&set, "SuccessfulDelete", &format!("Deleted pod: {}", pod.name_any())).await;
    }
    let ready = pods.iter().filter(|pod| pod_ready(pod)).count();
    let kept = pods.len();
    for _ in kept..wanted {
        let mut pod = pod_of(&spec.template.clone().unwrap_or_default());
        let name = format!("{}-{}", set.name_any(), suffix());
        pod.metadata.name = Some(name.clone());
        pod.metadata.namespace = Some(namespace.clone());
        pod.metadata.owner_references = Some(owner(&set));
        create(&api, &pod).await?;
        context.events.normal(&set, "SuccessfulCreate", &format!("Created pod: {name}")).await;
    }
    let status = json!({
        "observedGeneration": set.metadata.generation,
        "replicas": wanted,
        "fullyLabeledReplicas": wanted,
        "readyReplicas": ready,
        "availableReplicas": ready,
    });
    write_status(&sets, &set, status).await?;
    Ok(Action::await_change())
}
