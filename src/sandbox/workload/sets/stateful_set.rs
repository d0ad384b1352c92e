//! StatefulSets: pods with a number and a claim each, made, replaced and removed in order.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume},
};
use kube::{
    Api, Client, ResourceExt,
    runtime::{Controller, controller::Action, watcher},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    sandbox::workload::{
        controller::{self, Context},
        objects::{
            create, deleting, if_found, owned_pods, owner, pod_ended, pod_of, pod_ready, revision, write_status,
        },
    },
};

const REVISION: &str = "controller-revision-hash";

/// Runs the controller until `stop`.
pub async fn run(client: Client, stop: CancellationToken) {
    let context = Context::new(&client, "statefulset-controller");
    let sets = Controller::new(Api::<StatefulSet>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Pod>::all(client), watcher::Config::default());
    controller::run(sets, context, stop, reconcile).await;
}

async fn reconcile(set: Arc<StatefulSet>, context: Arc<Context>) -> Result<Action> {
    let namespace = set.namespace().unwrap_or_default();
    let sets: Api<StatefulSet> = Api::namespaced(context.client.clone(), &namespace);
    let Some(set) = if_found(sets.get(&set.name_any()).await)? else { return Ok(Action::await_change()) };
    let Some(plan) = Plan::of(&set).filter(|_| !deleting(&set)) else { return Ok(Action::await_change()) };
    let pods_api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let pods = plan.pods(&pods_api).await?;
    plan.act(&pods, &pods_api, &context).await?;
    write_status(&sets, &set, plan.status(&plan.pods(&pods_api).await?)).await?;
    Ok(Action::await_change())
}

type Numbered = BTreeMap<i32, Pod>;

/// What one StatefulSet asks for.
struct Plan<'a> {
    set: &'a StatefulSet,
    name: String,
    first: i32,
    replicas: i32,
    /// One pod at a time, each waiting for the one before it.
    ordered: bool,
    /// Revision of the present template.
    update: String,
}

impl<'a> Plan<'a> {
    fn of(set: &'a StatefulSet) -> Option<Self> {
        let spec = set.spec.as_ref()?;
        let name = set.name_any();
        Some(Self {
            first: spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0),
            replicas: spec.replicas.unwrap_or(1),
            ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
            update: format!("{name}-{}", revision(&spec.template)),
            set,
            name,
        })
    }

    async fn pods(&self, api: &Api<Pod>) -> Result<Numbered> {
        let Some(spec) = &self.set.spec else { return Ok(Numbered::new()) };
        let pods = owned_pods(api, &spec.selector, &self.set.uid().unwrap_or_default()).await?;
        Ok(pods.into_iter().filter_map(|pod| Some((self.number(&pod.name_any())?, pod))).collect())
    }

    fn number(&self, pod: &str) -> Option<i32> {
        pod.strip_prefix(&self.name)?.strip_prefix('-')?.parse().ok()
    }

    /// Takes the next steps: missing pods first, then pods too many, then pods of an old revision.
    async fn act(&self, pods: &Numbered, api: &Api<Pod>, context: &Context) -> Result<()> {
        let mut settled = true;
        for number in self.first..self.first + self.replicas {
            let ready = match pods.get(&number) {
                None => {
                    self.create(number, api, context).await?;
                    false
                }
                Some(pod) if pod_ended(pod) && !deleting(pod) => {
                    self.delete(pod, api, context).await?;
                    false
                }
                Some(pod) => pod_ready(pod),
            };
            settled &= ready;
            if self.ordered && !ready {
                return self.replace_broken(pods, api, context).await;
            }
        }
        for (_, pod) in pods.iter().rev().filter(|(number, _)| !self.wants(**number)) {
            settled = false;
            if !deleting(pod) {
                self.delete(pod, api, context).await?;
            }
            if self.ordered {
                return Ok(());
            }
        }
        if settled {
            self.update_next(pods, api, context).await?;
        }
        Ok(())
    }

    fn wants(&self, number: i32) -> bool {
        (self.first..self.first + self.replicas).contains(&number)
    }

    /// A pod that never became ready must not block the template that repairs it.
    async fn replace_broken(&self, pods: &Numbered, api: &Api<Pod>, context: &Context) -> Result<()> {
        let broken = pods.values().find(|pod| !pod_ready(pod) && !deleting(*pod) && self.outdated(pod));
        match broken {
            Some(pod) => self.delete(pod, api, context).await,
            None => Ok(()),
        }
    }

    fn outdated(&self, pod: &Pod) -> bool {
        self.rolling() && pod.labels().get(REVISION) != Some(&self.update)
    }

    fn rolling(&self) -> bool {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }

    /// Replaces one pod of an old revision, from the highest number down to the partition.
    async fn update_next(&self, pods: &Numbered, api: &Api<Pod>, context: &Context) -> Result<()> {
        let partition = (self.set.spec.as_ref())
            .and_then(|spec| spec.update_strategy.as_ref()?.rolling_update.as_ref()?.partition)
            .unwrap_or(0);
        match pods.range(partition..).rev().find(|(_, pod)| self.outdated(pod)) {
            Some((_, pod)) => self.delete(pod, api, context).await,
            None => Ok(()),
        }
    }

    async fn create(&self, number: i32, api: &Api<Pod>, context: &Context) -> Result<()> {
        let Some(spec) = &self.set.spec else { return Ok(()) };
        let namespace = self.set.namespace().unwrap_or_default();
        let pod_name = format!("{}-{number}", self.name);
        let mut pod = pod_of(&spec.template);
        pod.metadata.name = Some(pod_name.clone());
        pod.metadata.namespace = Some(namespace.clone());
        pod.metadata.owner_references = Some(owner(self.set));
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert("statefulset.kubernetes.io/pod-name".into(), pod_name.clone());
        labels.insert("apps.kubernetes.io/pod-index".into(), number.to_string());
        labels.insert(REVISION.into(), self.update.clone());

        let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
        for template in spec.volume_claim_templates.iter().flatten() {
            let volume = template.name_any();
            let claim_name = format!("{volume}-{pod_name}");
            let mut claim = template.clone();
            claim.metadata.name = Some(claim_name.clone());
            claim.metadata.namespace = Some(namespace.clone());
            claim
                .metadata
                .labels
                .get_or_insert_default()
                .extend(spec.selector.match_labels.clone().unwrap_or_default());
            claim.status = None;
            if create(&claims, &claim).await? {
                let message = format!("create Claim {claim_name} Pod {pod_name} in StatefulSet {} success", self.name);
                context.events.normal(self.set, "SuccessfulCreate", &message).await;
            }
            mount_claim(&mut pod, volume, claim_name);
        }
        if let Some(pod_spec) = &mut pod.spec {
            pod_spec.hostname = Some(pod_name.clone());
            pod_spec.subdomain.clone_from(&spec.service_name);
        }
        if create(api, &pod).await? {
            let message = format!("create Pod {pod_name} in StatefulSet {} successful", self.name);
            context.events.normal(self.set, "SuccessfulCreate", &message).await;
        }
        Ok(())
    }

    async fn delete(&self, pod: &Pod, api: &Api<Pod>, context: &Context) -> Result<()> {
        let name = pod.name_any();
        if_found(api.delete(&name, &super::only_this(pod)).await)?;
        let message = format!("delete Pod {name} in StatefulSet {} successful", self.name);
        context.events.normal(self.set, "SuccessfulDelete", &message).await;
        Ok(())
    }

    fn status(&self, pods: &Numbered) -> Value {
        let live = || pods.values().filter(|pod| !deleting(*pod));
        let ready = live().filter(|pod| pod_ready(pod)).count();
        let of =
            |revision: &str| live().filter(|pod| pod.labels().get(REVISION).is_some_and(|r| r == revision)).count();
        let updated = of(&self.update);
        let status = self.set.status.as_ref();
        let former = status.and_then(|status| status.current_revision.clone());
        let done = i32::try_from(updated) == Ok(self.replicas) && updated == ready;
        let current = if done { self.update.clone() } else { former.unwrap_or_else(|| self.update.clone()) };
        json!({
            "observedGeneration": self.set.metadata.generation,
            "replicas": pods.len(),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "currentReplicas": of(&current),
            "updatedReplicas": updated,
            "currentRevision": current,
            "updateRevision": self.update,
            "collisionCount": 0,
        })
    }
}

/// Points the pod's volume of that name to the claim, in place of what the template says.
fn mount_claim(pod: &mut Pod, volume: String, claim_name: String) {
    let Some(spec) = &mut pod.spec else { return };
    let volumes = spec.volumes.get_or_insert_default();
    volumes.retain(|other| other.name != volume);
    volumes.push(Volume {
        name: volume,
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name, read_only: None }),
        ..Volume::default()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i32) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "shop", "uid": "u1", "generation": 3},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "db"}}, "serviceName": "db",
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": []}}},
        }))
        .unwrap()
    }

    fn pod(revision: &str, ready: bool) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"labels": {REVISION: revision}},
            "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .unwrap()
    }

    #[test]
    fn only_own_pods_have_a_number() {
        let set = set(1);
        let plan = Plan::of(&set).unwrap();
        assert_eq!(plan.number("db-12"), Some(12));
        assert_eq!(plan.number("db-a"), None);
        assert_eq!(plan.number("dbx-0"), None);
    }

    #[test]
    fn the_current_revision_changes_only_when_every_pod_is_updated_and_ready() {
        let mut set = set(2);
        set.status = Some(serde_json::from_value(json!({"replicas": 2, "currentRevision": "db-old"})).unwrap());
        let plan = Plan::of(&set).unwrap();
        let update = plan.update.clone();
        let half = plan.status(&BTreeMap::from([(0, pod("db-old", true)), (1, pod(&update, true))]));
        assert_eq!((&half["currentRevision"], &half["updatedReplicas"]), (&json!("db-old"), &json!(1)));
        let starting = plan.status(&BTreeMap::from([(0, pod(&update, false)), (1, pod(&update, true))]));
        assert_eq!((&starting["currentRevision"], &starting["readyReplicas"]), (&json!("db-old"), &json!(1)));
        let done = plan.status(&BTreeMap::from([(0, pod(&update, true)), (1, pod(&update, true))]));
        assert_eq!((&done["currentRevision"], &done["observedGeneration"]), (&json!(update), &json!(3)));
    }
}
