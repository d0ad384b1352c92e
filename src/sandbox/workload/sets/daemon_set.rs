//! Daemon sets: one pod, because there is one node.

use std::sync::Arc;

use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    runtime::{Controller, controller::Action, watcher},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    sandbox::{
        NODE,
        workload::{
            controller::{self, Context},
            objects::{
                create, deleting, if_found, owned_pods, owner, pod_ended, pod_of, pod_ready, revision, suffix,
                write_status,
            },
        },
    },
};

const REVISION: &str = "controller-revision-hash";

/// Runs the controller until `stop`.
pub async fn run(client: Client, stop: CancellationToken) {
    let context = Context::new(&client, "daemonset-controller");
    let sets = Controller::new(Api::<DaemonSet>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Pod>::all(client), watcher::Config::default());
    controller::run(sets, context, stop, reconcile).await;
}

async fn reconcile(set: Arc<DaemonSet>, context: Arc<Context>) -> Result<Action> {
    let namespace = set.namespace().unwrap_or_default();
    let sets: Api<DaemonSet> = Api::namespaced(context.client.clone(), &namespace);
    let Some(set) = if_found(sets.get(&set.name_any()).await)?.filter(|set| !deleting(set)) else {
        return Ok(Action::await_change());
    };
    let Some(spec) = &set.spec else { return Ok(Action::await_change()) };
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let pods = owned_pods(&api, &spec.selector, &set.uid().unwrap_or_default()).await?;
    let revision = revision(&spec.template);
    let current = |pod: &Pod| pod.labels().get(REVISION) == Some(&revision);
    for pod in pods.iter().filter(|pod| !deleting(*pod) && (pod_ended(pod) || !current(pod))) {
        if_found(api.delete(&pod.name_any(), &super::only_this(pod)).await)?;
    }
    if pods.is_empty() {
        let mut pod = pod_of(&spec.template);
        pod.metadata.name = Some(format!("{}-{}", set.name_any(), suffix()));
        pod.metadata.namespace = Some(namespace);
        pod.metadata.owner_references = Some(owner(&set));
        pod.metadata.labels.get_or_insert_default().insert(REVISION.into(), revision.clone());
        pod.spec.get_or_insert_default().node_name = Some(NODE.into());
        create(&api, &pod).await?;
    }
    let ready = pods.iter().filter(|pod| pod_ready(pod)).count();
    let status = json!({
        "observedGeneration": set.metadata.generation,
        "desiredNumberScheduled": 1,
        "currentNumberScheduled": pods.len().min(1),
        "updatedNumberScheduled": pods.iter().filter(|pod| current(pod)).count(),
        "numberReady": ready,
        "numberAvailable": ready,
        "numberUnavailable": 1 - ready.min(1),
        "numberMisscheduled": 0,
    });
    write_status(&sets, &set, status).await?;
    Ok(Action::await_change())
}
