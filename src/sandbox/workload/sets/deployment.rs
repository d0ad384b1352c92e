//! Deployments: one replica set for each template they ever had; the newest grows as the older ones shrink.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    runtime::{Controller, controller::Action, watcher},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    sandbox::workload::{
        controller::{self, Context},
        objects::{api_error, create, deleting, if_found, merge, now, owned_by, owner, revision, write_status},
    },
};

const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Runs the controller until `stop`.
pub async fn run(client: Client, stop: CancellationToken) {
    let context = Context::new(&client, "deployment-controller");
    let deployments = Controller::new(Api::<Deployment>::all(client.clone()), watcher::Config::default())
        .owns(Api::<ReplicaSet>::all(client), watcher::Config::default());
    controller::run(deployments, context, stop, reconcile).await;
}

async fn reconcile(deployment: Arc<Deployment>, context: Arc<Context>) -> Result<Action> {
    let namespace = deployment.namespace().unwrap_or_default();
    let deployments: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace);
    let found = if_found(deployments.get(&deployment.name_any()).await)?;
    let Some(deployment) = found.filter(|deployment| !deleting(deployment)) else { return Ok(Action::await_change()) };
    let Some(spec) = &deployment.spec else { return Ok(Action::await_change()) };
    let sets_api: Api<ReplicaSet> = Api::namespaced(context.client.clone(), &namespace);
    let uid = deployment.uid().unwrap_or_default();
    let mut sets = sets_api.list(&ListParams::default()).await.map_err(api_error)?.items;
    sets.retain(|set| owned_by(set, &uid) && !deleting(set));

    let hash = revision(&spec.template);
    let name = format!("{}-{hash}", deployment.name_any());
    let (newest, older): (Vec<_>, Vec<_>) = sets.into_iter().partition(|set| set.name_any() == name);
    let wanted = spec.replicas.unwrap_or(1);
    let recreate = spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate");
    let Some(newest) = newest.into_iter().next() else {
        let start = if recreate && older.iter().any(has_pods) { 0 } else { wanted };
        let number = older.iter().map(number_of).max().unwrap_or(0) + 1;
        create(&sets_api, &replica_set(&deployment, &name, &hash, start, number)).await?;
        let message = format!("Scaled up replica set {name} from 0 to {start}");
        context.events.normal(&deployment, "ScalingReplicaSet", &message).await;
        merge(
            &deployments,
            &deployment.name_any(),
            json!({"metadata": {"annotations": {REVISION: number.to_string()}}}),
        )
        .await?;
        return Ok(Action::await_change());
    };

    let available = newest.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
    let keep = if recreate { 0 } else { (wanted - available).max(0) };
    let mut left = keep;
    for set in &older {
        let share = replicas(set).min(left);
        left -= share;
        scale(&sets_api, &deployment, set, share, &context).await?;
    }
    if !(recreate && older.iter().any(has_pods)) {
        scale(&sets_api, &deployment, &newest, wanted, &context).await?;
    }
    write_status(&deployments, &deployment, status(&deployment, wanted, &newest, &older)).await?;
    Ok(Action::await_change())
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn has_pods(set: &ReplicaSet) -> bool {
    replicas(set) > 0 || set.status.as_ref().is_some_and(|status| status.ready_replicas.unwrap_or(0) > 0)
}

fn number_of(set: &ReplicaSet) -> i64 {
    set.annotations().get(REVISION).and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn replica_set(deployment: &Deployment, name: &str, hash: &str, replicas: i32, number: i64) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH.into(), hash.into());
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH.into(), hash.into());
    let mut set = ReplicaSet::default();
    set.metadata.name = Some(name.into());
    set.metadata.namespace = deployment.namespace();
    set.metadata.labels = Some(labels.clone());
    set.metadata.annotations = Some([(REVISION.into(), number.to_string())].into());
    set.metadata.owner_references = Some(owner(deployment));
    set.spec = Some(k8s_openapi::api::apps::v1::ReplicaSetSpec {
        replicas: Some(replicas),
        selector,
        template: Some(template),
        ..Default::default()
    });
    set
}

async fn scale(
    api: &Api<ReplicaSet>,
    deployment: &Deployment,
    set: &ReplicaSet,
    to: i32,
    context: &Context,
) -> Result<()> {
    let from = replicas(set);
    if from == to {
        return Ok(());
    }
    merge(api, &set.name_any(), json!({"spec": {"replicas": to}})).await?;
    let way = if to > from { "up" } else { "down" };
    let message = format!("Scaled {way} replica set {} from {from} to {to}", set.name_any());
    context.events.normal(deployment, "ScalingReplicaSet", &message).await;
    Ok(())
}

fn status(deployment: &Deployment, wanted: i32, newest: &ReplicaSet, older: &[ReplicaSet]) -> Value {
    let count = |set: &ReplicaSet, field: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> Option<i32>| {
        set.status.as_ref().and_then(field).unwrap_or(0)
    };
    let total = |field: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> Option<i32>| {
        count(newest, field) + older.iter().map(|set| count(set, field)).sum::<i32>()
    };
    let available = total(|status| status.available_replicas);
    let updated = count(newest, |status| Some(status.replicas));
    let all = total(|status| Some(status.replicas));
    let done = updated == wanted && all == wanted && available >= wanted;
    let conditions = [
        condition(
            deployment,
            "Available",
            available >= wanted,
            if available >= wanted { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" },
        ),
        condition(deployment, "Progressing", true, if done { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" }),
    ];
    json!({
        "observedGeneration": deployment.metadata.generation,
        "replicas": all,
        "updatedReplicas": updated,
        "readyReplicas": total(|status| status.ready_replicas),
        "availableReplicas": available,
        "unavailableReplicas": (wanted - available).max(0),
        "conditions": conditions,
    })
}

/// The condition, with the time of its last change kept.
fn condition(deployment: &Deployment, type_: &str, holds: bool, reason: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    let former = (deployment.status.iter())
        .flat_map(|status| status.conditions.iter().flatten())
        .find(|condition| condition.type_ == type_ && condition.status == status);
    let changed = former.and_then(|condition| condition.last_transition_time.clone()).unwrap_or_else(now);
    let updated = (former.filter(|condition| condition.reason.as_deref() == Some(reason)))
        .and_then(|condition| condition.last_update_time.clone())
        .unwrap_or_else(now);
    json!({"type": type_, "status": status, "reason": reason, "message": "",
        "lastTransitionTime": changed, "lastUpdateTime": updated})
}
