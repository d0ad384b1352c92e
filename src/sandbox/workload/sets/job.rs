//! Jobs: pods until enough of them succeeded, or too many failed.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PropagationPolicy},
    runtime::{Controller, controller::Action, watcher},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    sandbox::workload::{
        controller::{self, Context},
        objects::{
            api_error, create, deleting, if_found, now, owned_by, owner, pod_ended, pod_of, pod_phase, pod_ready,
            suffix, write_status,
        },
    },
};

/// Runs the controller until `stop`.
pub async fn run(client: Client, stop: CancellationToken) {
    let context = Context::new(&client, "job-controller");
    let jobs = Controller::new(Api::<Job>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Pod>::all(client), watcher::Config::default());
    controller::run(jobs, context, stop, reconcile).await;
}

async fn reconcile(job: Arc<Job>, context: Arc<Context>) -> Result<Action> {
    let namespace = job.namespace().unwrap_or_default();
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), &namespace);
    let Some(job) = if_found(jobs.get(&job.name_any()).await)?.filter(|job| !deleting(job) && is_ours(job)) else {
        return Ok(Action::await_change());
    };
    let Some(spec) = &job.spec else { return Ok(Action::await_change()) };
    if let Some(ended) = ended_at(&job) {
        return expire(&jobs, &job, spec.ttl_seconds_after_finished, &ended).await;
    }
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let uid = job.uid().unwrap_or_default();
    let mut pods = api.list(&ListParams::default()).await.map_err(api_error)?.items;
    pods.retain(|pod| owned_by(pod, &uid));

    let tally = Tally::of(&pods);
    let verdict = verdict(&job, &tally);
    let mut wait = None;
    if verdict.is_some() {
        for pod in pods.iter().filter(|pod| !pod_ended(pod) && !deleting(*pod)) {
            if_found(api.delete(&pod.name_any(), &super::only_this(pod)).await)?;
        }
    } else if !spec.suspend.unwrap_or(false) {
        let missing = missing(&job, &tally);
        wait = if missing > 0 { backoff(&pods) } else { None };
        if wait.is_none() {
            for _ in 0..missing {
                start(&job, &api, &context).await?;
            }
        }
    }
    write_status(&jobs, &job, status(&job, &tally, verdict)).await?;
    if let Some((type_, reason, message)) = verdict {
        let reason = if type_ == "Complete" { "Completed" } else { reason };
        context.events.normal(&job, reason, message).await;
    }
    Ok(wait.or_else(|| deadline_left(&job)).map_or_else(Action::await_change, Action::requeue))
}

/// Whether no other controller says that it runs the job.
fn is_ours(job: &Job) -> bool {
    let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    manager.is_none_or(|manager| manager == "kubernetes.io/job-controller")
}

/// How the job's pods stand.
#[derive(Default)]
struct Tally {
    active: i32,
    ready: i32,
    succeeded: i32,
    failed: i32,
    /// Restarts in place count against the limit, too.
    restarts: i32,
}

impl Tally {
    fn of(pods: &[Pod]) -> Self {
        let mut tally = Self::default();
        for pod in pods {
            match pod_phase(pod) {
                "Succeeded" => tally.succeeded += 1,
                "Failed" => tally.failed += 1,
                _ if deleting(pod) => {}
                _ => {
                    tally.active += 1;
                    tally.ready += i32::from(pod_ready(pod));
                    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
                    tally.restarts += statuses.map(|status| status.restart_count).sum::<i32>();
                }
            }
        }
        tally
    }
}

type Verdict = (&'static str, &'static str, &'static str);

fn verdict(job: &Job, tally: &Tally) -> Option<Verdict> {
    let spec = job.spec.as_ref()?;
    let enough = match spec.completions {
        Some(completions) => tally.succeeded >= completions,
        // Without a number, the first success means the work is done; the others may finish.
        None => tally.succeeded > 0 && tally.active == 0,
    };
    if enough {
        return Some(("Complete", "CompletionsReached", "Reached expected number of succeeded pods"));
    }
    if tally.failed + tally.restarts > spec.backoff_limit.unwrap_or(6) {
        return Some(("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"));
    }
    if deadline_left(job).is_some_and(|left| left.is_zero()) {
        return Some(("Failed", "DeadlineExceeded", "Job was active longer than specified deadline"));
    }
    None
}

fn missing(job: &Job, tally: &Tally) -> i32 {
    let Some(spec) = &job.spec else { return 0 };
    let parallel = spec.parallelism.unwrap_or(1);
    let wanted = match spec.completions {
        Some(completions) => parallel.min(completions - tally.succeeded),
        None if tally.succeeded > 0 => 0,
        None => parallel,
    };
    (wanted - tally.active).max(0)
}

/// The time to wait after failures before another pod: 10 s, doubled each time, at most six minutes.
fn backoff(pods: &[Pod]) -> Option<Duration> {
    let failed = pods.iter().filter(|pod| pod_phase(pod) == "Failed");
    let last = failed.clone().filter_map(finished).max()?;
    let times = u32::try_from(failed.count()).unwrap_or(u32::MAX).saturating_sub(1).min(6);
    let pause = Duration::from_secs((10 << times).min(360));
    Some(pause.saturating_sub(since(&last))).filter(|left| !left.is_zero())
}

fn finished(pod: &Pod) -> Option<Time> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.clone()).max()
}

fn since(time: &Time) -> Duration {
    Duration::try_from(now().0.duration_since(time.0)).unwrap_or_default()
}

fn deadline_left(job: &Job) -> Option<Duration> {
    let limit = u64::try_from(job.spec.as_ref()?.active_deadline_seconds?).unwrap_or(0);
    let started = job.status.as_ref()?.start_time.as_ref()?;
    Some(Duration::from_secs(limit).saturating_sub(since(started)))
}

async fn start(job: &Job, api: &Api<Pod>, context: &Context) -> Result<()> {
    let Some(spec) = &job.spec else { return Ok(()) };
    let (job_name, uid) = (job.name_any(), job.uid().unwrap_or_default());
    let mut pod = pod_of(&spec.template);
    let name = format!("{job_name}-{}", suffix());
    pod.metadata.name = Some(name.clone());
    pod.metadata.namespace = job.namespace();
    pod.metadata.owner_references = Some(owner(job));
    let labels = pod.metadata.labels.get_or_insert_default();
    for prefix in ["", "batch.kubernetes.io/"] {
        labels.insert(format!("{prefix}job-name"), job_name.clone());
        labels.insert(format!("{prefix}controller-uid"), uid.clone());
    }
    create(api, &pod).await?;
    context.events.normal(job, "SuccessfulCreate", &format!("Created pod: {name}")).await;
    Ok(())
}

fn status(job: &Job, tally: &Tally, verdict: Option<Verdict>) -> Value {
    let started = job.status.as_ref().and_then(|status| status.start_time.clone()).unwrap_or_else(now);
    let mut status = json!({
        "startTime": started,
        "active": if verdict.is_some() { 0 } else { tally.active },
        "ready": if verdict.is_some() { 0 } else { tally.ready },
        "succeeded": tally.succeeded,
        "failed": tally.failed,
    });
    if let Some((type_, reason, message)) = verdict {
        let time = now();
        let condition = |type_: &str| {
            json!({"type": type_, "status": "True", "reason": reason, "message": message,
                "lastProbeTime": time, "lastTransitionTime": time})
        };
        if type_ == "Complete" {
            status["conditions"] = json!([condition("SuccessCriteriaMet"), condition("Complete")]);
            status["completionTime"] = json!(time);
        } else {
            status["conditions"] = json!([condition("FailureTarget"), condition("Failed")]);
        }
    }
    status
}

fn ended_at(job: &Job) -> Option<Time> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let end = conditions.iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    end.last_transition_time.clone()
}

/// Removes a finished job with its pods once its time to live is over.
async fn expire(jobs: &Api<Job>, job: &Job, ttl: Option<i32>, ended: &Time) -> Result<Action> {
    let Some(ttl) = ttl.and_then(|ttl| u64::try_from(ttl).ok()) else { return Ok(Action::await_change()) };
    let left = Duration::from_secs(ttl).saturating_sub(since(ended));
    if !left.is_zero() {
        return Ok(Action::requeue(left));
    }
    let background = Some(PropagationPolicy::Background);
    let params = DeleteParams { propagation_policy: background, ..super::only_this(job) };
    if_found(jobs.delete(&job.name_any(), &params).await)?;
    Ok(Action::await_change())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(spec: &Value) -> Job {
        serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": spec})).unwrap()
    }

    #[test]
    fn it_completes_with_enough_successes_and_fails_beyond_the_limit() {
        let two = job(&json!({"completions": 2, "backoffLimit": 1, "template": {}}));
        let tally = |succeeded, failed| Tally { succeeded, failed, ..Tally::default() };
        assert!(verdict(&two, &tally(1, 1)).is_none());
        assert_eq!(verdict(&two, &tally(2, 1)).unwrap().0, "Complete");
        assert_eq!(verdict(&two, &tally(1, 2)).unwrap().1, "BackoffLimitExceeded");
    }

    #[test]
    fn it_never_starts_more_pods_than_are_left_to_succeed() {
        let three = job(&json!({"completions": 3, "parallelism": 2, "template": {}}));
        let tally = |active, succeeded| Tally { active, succeeded, ..Tally::default() };
        assert_eq!(missing(&three, &tally(0, 0)), 2);
        assert_eq!(missing(&three, &tally(1, 1)), 1);
        assert_eq!(missing(&three, &tally(0, 2)), 1);
        assert_eq!(missing(&three, &tally(0, 3)), 0);
    }
}
