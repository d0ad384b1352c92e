//! Recurring jobs. A missing concurrency is accepted, as in 1.10, and the job then never gets anywhere.

use std::str::FromStr;

use serde_json::{Value, json};

use super::{Cluster, invalid, name_of};
use crate::sandbox::{
    api::admission::Refusal,
    longhorn::{names, resource::Fields},
};

const TASKS: [&str; 8] = [
    "snapshot",
    "snapshot-force-create",
    "snapshot-cleanup",
    "snapshot-delete",
    "backup",
    "backup-force-create",
    "filesystem-trim",
    "system-backup",
];

pub(super) fn write(job: &mut Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    let name = name_of(job).to_owned();
    if job.text("/spec/name").is_empty() {
        job["spec"]["name"] = name.clone().into();
    }
    for (field, empty) in [("groups", json!([])), ("labels", json!({})), ("parameters", json!({}))] {
        if job["spec"][field].is_null() {
            job["spec"][field] = empty;
        }
    }
    let task = job.text("/spec/task").to_owned();
    if matches!(task.as_str(), "snapshot-cleanup" | "filesystem-trim") {
        job["spec"]["retain"] = 0.into();
    } else if job.number("/spec/retain") == 0 {
        job["spec"]["retain"] = 1.into();
    }
    if !names::is_valid_name(&name) {
        return Err(invalid(format!("invalid name {name}")));
    }
    if name.len() > 40 {
        return Err(invalid(format!("job name {name} is too long, must be 40 characters or less")));
    }
    let most = cluster.setting("recurring-job-max-retention").parse::<u64>().unwrap_or(100);
    if job.number("/spec/retain") > most {
        return Err(invalid(format!("retain value should be less than or equal to {most}")));
    }
    if !TASKS.contains(&task.as_str()) {
        return Err(invalid(format!("recurring job task {task} is not valid")));
    }
    let cron = job.text("/spec/cron");
    if cron.split_whitespace().count() != 5 || croner::Cron::from_str(cron).is_err() {
        return Err(invalid(format!("invalid cron format({cron})")));
    }
    for reserved in [names::KUBERNETES_STATUS, names::RECURRING_JOB] {
        if job["spec"]["labels"].get(reserved).is_some() {
            return Err(invalid(format!("failed to set the label {reserved}: it is reserved")));
        }
    }
    Ok(())
}
