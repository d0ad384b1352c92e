//! Recurring jobs: a `CronJob` for each, a Job when its time has come or somebody makes one from it, and what the job
//! does (`app/recurringjob`).

mod run;

use std::{str::FromStr, sync::PoisonError, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use kube::{ResourceExt, core::DynamicObject};
use serde_json::{Value, json};

use super::{
    cache::Object,
    context::Context,
    names,
    queue::Again,
    resource::{Fields, Meta, Resource},
};
use crate::{Error, Kind, Result};

/// Label on a `CronJob`, its Jobs and their pods: the recurring job's name.
const LABEL: &str = "recurring-job.longhorn.io";
/// Says to Kubernetes' own controller that these Jobs are not for it: nothing is there to run their pods.
const MANAGED_BY: &str = "longhorn.io/recurring-job";
/// The clock is looked at again at least that often, because it may be set.
const LONGEST_SLEEP: Duration = Duration::from_mins(5);

/// Keeps the `CronJob`, and makes a Job when it is time.
pub(super) async fn reconcile(context: &Context, name: &str) -> Result<Again> {
    let crons = |context: &Context| context.crons.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    let Some(job) = context.get(Resource::RecurringJob, name).filter(|job| !job.deleting()) else {
        crons(context);
        if let Some(cron) = context.get(Resource::CronJob, name) {
            context.delete(Resource::CronJob, &cron).await?;
        }
        return Ok(None);
    };
    let cron = ensure_cron_job(context, &job).await?;
    let job = context.set_status(Resource::RecurringJob, &job, json!({"ownerID": context.options.node})).await?;
    let text = job.text("/spec/cron");
    let now = Timestamp::now();
    let due = {
        let mut crons = context.crons.lock().unwrap_or_else(PoisonError::into_inner);
        match crons.get(name) {
            Some((known, next)) if known == text => *next,
            _ => {
                let next = next_time(text, now)?;
                crons.insert(name.to_owned(), (text.to_owned(), next));
                next
            }
        }
    };
    if now < due {
        let left = Duration::try_from(due.duration_since(now)).unwrap_or_default();
        return Ok(Some(left.min(LONGEST_SLEEP)));
    }
    let next = next_time(text, now)?;
    context.crons.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), (text.to_owned(), next));
    if !cron.flag("/spec/suspend") {
        start(context, &cron, due).await?;
    }
    Ok(Some(Duration::ZERO))
}

fn next_time(cron: &str, after: Timestamp) -> Result<Timestamp> {
    let parsed = croner::Cron::from_str(cron)
        .map_err(|error| Error::new(Kind::Invalid, format!("{cron:?} is no schedule")).source(error))?;
    let next = parsed.find_next_occurrence(&after.to_zoned(TimeZone::UTC), false);
    let next = next.map_err(|error| Error::new(Kind::Invalid, format!("{cron:?} never comes")).source(error))?;
    Ok(next.timestamp())
}

async fn ensure_cron_job(context: &Context, job: &Object) -> Result<Object> {
    let name = job.name_any();
    let labels = json!({LABEL: name});
    let container = json!({
        "name": name, "image": context.options.manager_image(),
        "command": ["longhorn-manager", "-d", "recurring-job", name, "--manager-url", "http://longhorn-backend:9500/v1"],
    });
    let spec = json!({
        "schedule": job.text("/spec/cron"), "concurrencyPolicy": "Forbid",
        "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1,
        "jobTemplate": {
            "metadata": {"labels": labels},
            "spec": {
                "backoffLimit": 3, "managedBy": MANAGED_BY,
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [container], "restartPolicy": "OnFailure",
                        "serviceAccountName": "longhorn-service-account"},
                },
            },
        },
    });
    if let Some(known) = context.get(Resource::CronJob, &name) {
        let change = json!({"spec": {"schedule": spec["schedule"]}});
        return context.merge(Resource::CronJob, &known, change).await;
    }
    let owner = json!([{"apiVersion": "longhorn.io/v1beta2", "kind": "RecurringJob", "name": name, "uid": job.uid()}]);
    let object = json!({"metadata": {"name": name, "labels": labels, "ownerReferences": owner}, "spec": spec});
    context.create(Resource::CronJob, object).await
}

/// Makes the Job of that time, under the name that Kubernetes' own controller would give it: where one runs, too, one
/// of both is first and the other finds it there.
async fn start(context: &Context, cron: &Object, due: Timestamp) -> Result<()> {
    let running = context.list(Resource::Job);
    if running.iter().any(|job| job.label(LABEL) == cron.name_any() && is_unfinished(job)) {
        return Ok(());
    }
    let template = cron.field("/spec/jobTemplate");
    let owner = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": cron.name_any(), "uid": cron.uid(),
        "controller": true, "blockOwnerDeletion": true}]);
    let object = json!({
        "metadata": {"name": format!("{}-{}", cron.name_any(), due.as_second() / 60),
            "labels": template["metadata"]["labels"], "ownerReferences": owner},
        "spec": template["spec"],
    });
    context.ensure(Resource::Job, object).await?;
    let status = json!({"lastScheduleTime": names::time_text(due)});
    context.set_status(Resource::CronJob, cron, status).await.map(drop)
}

fn is_unfinished(job: &DynamicObject) -> bool {
    let conditions = job.field("/status/conditions").as_array();
    !conditions.is_some_and(|all| all.iter().any(|c| matches!(c.text("/type"), "Complete" | "Failed")))
}

/// Runs a Job that belongs to a recurring job, whoever made it.
pub(super) async fn run_job(context: &Context, name: &str) -> Result<Again> {
    let Some(job) = context.get(Resource::Job, name) else { return Ok(None) };
    if job.deleting() || !is_unfinished(&job) || job.text("/spec/managedBy") != MANAGED_BY {
        return Ok(None);
    }
    let recurring = job.text("/spec/template/metadata/labels/recurring-job.longhorn.io");
    let Some(recurring) = context.get(Resource::RecurringJob, recurring) else { return Ok(None) };
    let started = names::now();
    let status = json!({"startTime": started, "active": 1, "ready": 1});
    let job = context.set_status(Resource::Job, &job, status).await?;
    if recurring.number("/spec/concurrency") == 0 {
        // Every worker waits for a place, and there is none: the real pod hangs here for good.
        return Ok(None);
    }
    let count = recurring.number("/status/executionCount") + 1;
    let recurring = context.set_status(Resource::RecurringJob, &recurring, json!({"executionCount": count})).await?;
    run::run(context, &recurring, count).await;
    // Green whatever became of the volumes.
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "CompletionsReached",
            "message": "Reached expected number of succeeded pods", "lastProbeTime": names::now(),
            "lastTransitionTime": names::now()})
    };
    let conditions: Value = json!([condition("SuccessCriteriaMet"), condition("Complete")]);
    let status =
        json!({"active": 0, "ready": 0, "succeeded": 1, "completionTime": names::now(), "conditions": conditions});
    context.set_status(Resource::Job, &job, status).await?;
    if let Some(cron) = context.get(Resource::CronJob, &recurring.name_any()) {
        context.set_status(Resource::CronJob, &cron, json!({"lastSuccessfulTime": names::now()})).await?;
    }
    prune(context, &recurring.name_any()).await?;
    Ok(None)
}

/// Keeps the newest finished Job of each recurring job.
async fn prune(context: &Context, recurring: &str) -> Result<()> {
    let mut done = context.list(Resource::Job);
    done.retain(|job| job.label(LABEL) == recurring && !is_unfinished(job) && !job.owner_references().is_empty());
    done.sort_by_key(|job| job.version());
    for job in done.iter().rev().skip(1) {
        context.delete(Resource::Job, job).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_in_utc_and_after_now() {
        let now: Timestamp = "2026-11-23T02:00:00Z".parse().expect("a time");
        assert_eq!(next_time("0 2 * * *", now).expect("a time").to_string(), "2026-11-24T02:00:00Z");
        assert_eq!(next_time("0 3 * * 0", now).expect("a time").to_string(), "2026-11-29T03:00:00Z");
        assert!(next_time("nonsense", now).is_err());
    }
}
