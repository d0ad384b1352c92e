//! Holding the cluster still while volumes are restored, and letting it go again.
//!
//! Three things could spoil a restore half done: a recurring job whose retention deletes the backup being restored, a
//! claim whose deletion takes its volume along, and an application that starts on data nobody has looked at. What is held
//! is written down on the held objects themselves, so that a later run, or a person with kubectl, can let it go.

use std::{ops::ControlFlow, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};

use super::{Expected, Longhorn, RECURRING_JOB, VOLUME, fields, volume::handle};
use crate::{
    Error, Kind, Result,
    cluster::{DeleteOptions, ListOptions, ObjectRef, Observer, Query},
};

/// On a recurring job that was suspended for a restore.
const JOB: &str = "lhrun.io/held-for-restore";
/// On a workload: the number of replicas it gets back.
const REPLICAS: &str = "lhrun.io/held-replicas";
/// On a PersistentVolume: the reclaim policy it gets back.
pub(super) const POLICY: &str = "lhrun.io/held-reclaim-policy";
/// Kinds of workloads that have a number of replicas.
const WORKLOADS: [&str; 2] = ["deployments.apps", "statefulsets.apps"];
/// Longest time until the pods of held workloads are gone.
const PODS_GONE: Duration = Duration::from_mins(3);
/// Longest time until a volume that nothing uses any more is detached.
const DETACHED: Duration = Duration::from_mins(1);

/// What was held, or let go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Names of recurring jobs.
    pub jobs: Vec<String>,
    /// Workloads, as `Kind namespace/name`.
    pub workloads: Vec<String>,
    /// Names of PersistentVolumes.
    pub persistent_volumes: Vec<String>,
}

impl Longhorn {
    /// Suspends the recurring jobs, sets the reclaim policy of the expected volumes to Retain, and scales the workloads of the
    /// expected claims to 0 and waits for the end of their pods, in this order: a claim that is being deleted goes with its
    /// last pod, and takes its volume along unless the policy says otherwise. Gives what had to be changed.
    ///
    /// Errors: `timeout` naming pods that do not end.
    pub async fn hold(&self, expected: &[Expected]) -> Result<Held> {
        let claims: Vec<&str> = expected.iter().filter_map(|expected| expected.claim.as_deref()).collect();
        let jobs = self.suspend_jobs(None).await?;
        for job in &jobs {
            self.cluster.annotate(&self.object(RECURRING_JOB, job)?, &json!({JOB: "true"})).await?;
        }
        let mut persistent_volumes = Vec::new();
        for pv in self.cluster.list("persistentvolumes", &ListOptions::everywhere()).await? {
            let is_expected = handle(&pv).is_some_and(|volume| expected.iter().any(|e| e.volume == volume));
            if is_expected && self.retain(&pv).await? {
                persistent_volumes.push(fields::name(&pv).to_string());
            }
        }
        let workloads = self.hold_workloads(&claims).await?;
        Ok(Held { jobs, workloads, persistent_volumes })
    }

    /// Gives the held workloads that use none of the `unproven` claims their replicas back; everything else stays held.
    /// Gives their names.
    pub async fn release_workloads(&self, unproven: &[String]) -> Result<Vec<String>> {
        let mut released = Vec::new();
        for (kind, workload) in self.held_workloads().await? {
            if unproven.iter().any(|claim| uses(&workload, claim)) {
                continue;
            }
            let reference = reference_of(kind, &workload)?;
            let replicas =
                fields::map(&workload, "/metadata/annotations").remove(REPLICAS).and_then(|text| text.parse().ok());
            // Somebody who scaled it meanwhile has decided already.
            if fields::number(&workload, "/spec/replicas") == Some(0)
                && let Some(replicas) = replicas
            {
                self.cluster.scale(&reference, replicas).await?;
            }
            self.cluster.annotate(&reference, &json!({REPLICAS: null})).await?;
            released.push(shown(&workload));
        }
        Ok(released)
    }

    /// Lets go of everything that is held, also by an earlier run.
    pub async fn release(&self) -> Result<Held> {
        let mut released = Held { workloads: self.release_workloads(&[]).await?, ..Held::default() };
        let pvs = self.cluster.list("persistentvolumes", &ListOptions::everywhere()).await?;
        for pv in pvs.iter().filter(|pv| is_bound(pv)) {
            if let Some(policy) = fields::map(pv, "/metadata/annotations").remove(POLICY) {
                let patch = json!({"metadata": {"annotations": {POLICY: null}}, "spec": {"persistentVolumeReclaimPolicy": policy}});
                self.cluster.merge(&ObjectRef::new("persistentvolumes", fields::name(pv))?, &patch).await?;
                released.persistent_volumes.push(fields::name(pv).to_string());
            }
        }
        let jobs = self.held_jobs().await?;
        self.resume_jobs(Some(&jobs)).await?;
        for job in &jobs {
            self.cluster.annotate(&self.object(RECURRING_JOB, job)?, &json!({JOB: null})).await?;
        }
        released.jobs = jobs;
        Ok(released)
    }

    /// The recurring jobs and workloads that are held at the moment.
    pub async fn held(&self) -> Result<Held> {
        let workloads = self.held_workloads().await?.iter().map(|(_, workload)| shown(workload)).collect();
        Ok(Held { jobs: self.held_jobs().await?, workloads, persistent_volumes: Vec::new() })
    }

    /// Has a PersistentVolume keep its data when its claim is deleted, and notes the policy it gets back; tells whether
    /// it would not have.
    async fn retain(&self, pv: &Value) -> Result<bool> {
        let policy = fields::text(pv, "/spec/persistentVolumeReclaimPolicy");
        if policy == "Retain" {
            return Ok(false);
        }
        let mut patch = retained();
        patch["metadata"]["annotations"][POLICY] = policy.into();
        self.cluster.merge(&ObjectRef::new("persistentvolumes", fields::name(pv))?, &patch).await?;
        Ok(true)
    }

    async fn hold_workloads(&self, claims: &[&str]) -> Result<Vec<String>> {
        let mut held = Vec::new();
        for kind in WORKLOADS {
            for workload in self.cluster.list(kind, &ListOptions::everywhere()).await? {
                let replicas = fields::number(&workload, "/spec/replicas").unwrap_or(1);
                if replicas == 0 || !claims.iter().any(|claim| uses(&workload, claim)) {
                    continue;
                }
                let reference = reference_of(kind, &workload)?;
                self.cluster.annotate(&reference, &json!({REPLICAS: replicas.to_string()})).await?;
                self.cluster.scale(&reference, 0).await?;
                held.push(shown(&workload));
            }
        }
        if !held.is_empty() {
            self.wait_for_pods(claims).await?;
        }
        Ok(held)
    }

    async fn wait_for_pods(&self, claims: &[&str]) -> Result<()> {
        let check = |observer: &Observer| {
            let is_user = |pod: &&Value| {
                fields::text(pod, "/status/phase") == "Running" && claims.iter().any(|claim| mounts(pod, claim))
            };
            let pods: Vec<_> = observer.objects(0).filter(is_user).map(shown).collect();
            Ok(if pods.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(pods.join(", ")) })
        };
        let pods = [Query::list("pods", ListOptions::everywhere())];
        let doing = "waiting for the end of the pods that use the claims";
        self.cluster.watch(&pods, PODS_GONE, doing, check).await.map_err(|error| match error.kind() {
            Kind::Timeout => error.hint("delete these pods, or what makes them, and run this again"),
            _ => error,
        })
    }

    async fn wait_unused(&self, volume: &str) -> Result<()> {
        let queries = [self.cluster.query(&self.object(VOLUME, volume)?).await?];
        let check = |observer: &Observer| {
            let state = observer.object(0).map_or("gone", |volume| fields::text(volume, "/status/state"));
            Ok(if matches!(state, "detached" | "gone") {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(state.to_string())
            })
        };
        let doing = format!("waiting for the volume {volume} to be detached");
        self.cluster.watch(&queries, DETACHED, &doing, check).await
    }

    async fn held_jobs(&self) -> Result<Vec<String>> {
        let jobs = self.cluster.list(RECURRING_JOB, &self.all()).await?;
        let is_held = |job: &&Value| fields::map(job, "/metadata/annotations").contains_key(JOB);
        Ok(jobs.iter().filter(is_held).map(|job| fields::name(job).to_string()).collect())
    }

    async fn held_workloads(&self) -> Result<Vec<(&'static str, Value)>> {
        let mut held = Vec::new();
        for kind in WORKLOADS {
            let workloads = self.cluster.list(kind, &ListOptions::everywhere()).await?;
            let is_held = |workload: &Value| fields::map(workload, "/metadata/annotations").contains_key(REPLICAS);
            held.extend(workloads.into_iter().filter(is_held).map(|workload| (kind, workload)));
        }
        Ok(held)
    }

    /// Frees a claim that something made before its data were back: the claim is deleted, the volume it had is kept.
    /// Gives the name of that volume.
    ///
    /// Errors: `refused` while a pod has the volume, or when it is the `wanted` one or not Longhorn's; `not-found`.
    pub async fn set_aside(&self, claim: &ObjectRef, wanted: &str) -> Result<String> {
        let refuse = |why: &str| {
            Error::new(Kind::Refused, format!("the claim {claim} cannot be replaced: {why}")).object(claim.to_string())
        };
        let object = self.cluster.get(claim).await?;
        let pv = fields::some(&object, "/spec/volumeName").ok_or_else(|| refuse("it has no volume"))?;
        let reference = ObjectRef::new("persistentvolumes", pv)?;
        let pv = self.cluster.get(&reference).await?;
        let other = handle(&pv).ok_or_else(|| refuse("its volume is not Longhorn's"))?;
        if other == wanted {
            return Err(refuse("it has the volume it must have"));
        }
        self.wait_unused(other).await.map_err(|error| match error.kind() {
            Kind::Timeout => refuse(&format!("its volume {other} is in use"))
                .hint("scale what uses it to 0, and suspend the tool that scales it up again"),
            _ => error,
        })?;
        // For good: with its former policy given back, the volume would be deleted after all.
        self.cluster.merge(&reference, &retained()).await?;
        // Only what the server answers counts: with any other policy the deletion would take the volume along.
        let kept = self.cluster.get(&reference).await?;
        if fields::text(&kept, "/spec/persistentVolumeReclaimPolicy") != "Retain" {
            return Err(refuse("the reclaim policy of its volume does not stay Retain"));
        }
        let wait = Some(Duration::from_mins(1));
        self.cluster.delete(claim, DeleteOptions { wait, ..DeleteOptions::default() }).await?;
        Ok(other.to_string())
    }
}

/// The patch that has a PersistentVolume keep its data, without a note of another policy.
fn retained() -> Value {
    json!({"metadata": {"annotations": {POLICY: null}}, "spec": {"persistentVolumeReclaimPolicy": "Retain"}})
}

/// Whether a PersistentVolume may have its former policy back: one that no claim has would be deleted at once.
fn is_bound(pv: &Value) -> bool {
    fields::text(pv, "/status/phase") == "Bound"
}

/// Whether the workload's pods use the claim, given as `namespace/name`: named in the pod template, or made from a claim
/// template of a StatefulSet.
fn uses(workload: &Value, claim: &str) -> bool {
    let Some((namespace, name)) = claim.split_once('/') else { return false };
    if fields::text(workload, "/metadata/namespace") != namespace {
        return false;
    }
    let is_ordinal = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    let from_template = fields::list(workload, "/spec/volumeClaimTemplates").iter().any(|template| {
        let prefix = format!("{}-{}-", fields::name(template), fields::name(workload));
        name.strip_prefix(&prefix).is_some_and(is_ordinal)
    });
    from_template || names_claim(fields::list(workload, "/spec/template/spec/volumes"), name)
}

/// Whether the pod has the claim among its volumes.
fn mounts(pod: &Value, claim: &str) -> bool {
    let Some((namespace, name)) = claim.split_once('/') else { return false };
    fields::text(pod, "/metadata/namespace") == namespace && names_claim(fields::list(pod, "/spec/volumes"), name)
}

fn names_claim(volumes: &[Value], name: &str) -> bool {
    volumes.iter().any(|volume| fields::text(volume, "/persistentVolumeClaim/claimName") == name)
}

fn reference_of(kind: &str, object: &Value) -> Result<ObjectRef> {
    ObjectRef::namespaced(kind, fields::text(object, "/metadata/namespace"), fields::name(object))
}

fn shown(object: &Value) -> String {
    let kind = fields::some(object, "/kind").unwrap_or("Pod");
    format!("{kind} {}/{}", fields::text(object, "/metadata/namespace"), fields::name(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_uses_the_claims_it_names_and_those_of_its_templates() {
        let set = json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": {
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
            "template": {"spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "shared"}}, {"emptyDir": {}}]}}}});
        for claim in ["shop/data-db-0", "shop/data-db-12", "shop/shared"] {
            assert!(uses(&set, claim), "{claim}");
        }
        for claim in ["shop/data-db-", "shop/data-db-x", "shop/data-dbx-0", "wiki/data-db-0", "wiki/shared", "shared"] {
            assert!(!uses(&set, claim), "{claim}");
        }
        let pod = json!({"metadata": {"name": "p", "namespace": "shop"},
            "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "shared"}}]}});
        assert!(mounts(&pod, "shop/shared") && !mounts(&pod, "wiki/shared") && !mounts(&pod, "shop/other"));
    }
}
