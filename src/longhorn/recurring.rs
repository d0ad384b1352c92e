//! Recurring jobs: reading, setting, and suspending them while a restore runs.

use std::collections::BTreeMap;

use jiff::{ToSpan, Zoned, tz::TimeZone};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{API_VERSION, Longhorn, RECURRING_JOB, fields};
use crate::{
    Error, Kind, Result,
    cluster::{ApplyOptions, Change},
};

/// Annotation that keeps the schedule of a suspended job.
const SUSPENDED: &str = "lhrun.io/suspended-schedule";

/// What Longhorn does at certain times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecurringJob {
    /// Name, at most 40 characters.
    pub name: String,
    /// `backup`, `snapshot`, `system-backup`, …
    pub task: String,
    /// When, in cron's five fields and the cluster's time zone.
    pub cron: String,
    /// How many results are kept.
    #[serde(default = "one")]
    pub retain: u64,
    /// How many volumes at once.
    #[serde(default = "one")]
    pub concurrency: u64,
    /// Groups of volumes it applies to; `default` means all volumes without a job of their own.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Labels of the backups and snapshots it makes.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Further parameters of the task.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Whether it is suspended; `cron` is the schedule it will have again.
    #[serde(default)]
    pub suspended: bool,
}

fn one() -> u64 {
    1
}

impl RecurringJob {
    pub(super) fn read(object: &Value) -> Self {
        let schedule = fields::map(object, "/metadata/annotations").remove(SUSPENDED);
        let groups = fields::list(object, "/spec/groups").iter().filter_map(Value::as_str).map(str::to_string);
        Self {
            name: fields::name(object).to_string(),
            task: fields::text(object, "/spec/task").to_string(),
            suspended: schedule.is_some(),
            cron: schedule.unwrap_or_else(|| fields::text(object, "/spec/cron").to_string()),
            retain: fields::number(object, "/spec/retain").unwrap_or(0),
            concurrency: fields::number(object, "/spec/concurrency").unwrap_or(0),
            groups: groups.collect(),
            labels: fields::map(object, "/spec/labels"),
            parameters: fields::map(object, "/spec/parameters"),
        }
    }

    fn check(&self) -> Result<()> {
        let wrong = |why: String| Err(Error::new(Kind::Usage, format!("the recurring job {:?}: {why}", self.name)));
        if let Err(error) = self.cron.parse::<croner::Cron>() {
            return wrong(format!("{:?} is no schedule: {error}", self.cron));
        }
        if self.cron.split_whitespace().count() != 5 {
            return wrong(format!("the schedule {:?} has not five fields", self.cron));
        }
        // With 0 Longhorn's job waits for ever.
        if self.concurrency == 0 {
            return wrong("concurrency must be at least 1".to_string());
        }
        Ok(())
    }
}

impl Longhorn {
    /// All recurring jobs, by name.
    pub async fn recurring_jobs(&self) -> Result<Vec<RecurringJob>> {
        Ok(self.cluster.list(RECURRING_JOB, &self.all()).await?.iter().map(RecurringJob::read).collect())
    }

    /// Creates or changes a recurring job. One that is suspended stays so, with the new schedule for later.
    ///
    /// Errors: `usage` for a schedule that is none.
    pub async fn set_recurring_job(&self, job: &RecurringJob) -> Result<Change> {
        job.check()?;
        let reference = self.object(RECURRING_JOB, &job.name)?;
        let existing = self.cluster.find(&reference).await?;
        let suspended = existing.as_ref().map(RecurringJob::read).filter(|existing| existing.suspended);
        let mut metadata = json!({"name": job.name, "namespace": self.namespace});
        let mut cron = job.cron.clone();
        if let (Some(_), Some(existing)) = (suspended, &existing) {
            metadata["annotations"] = json!({SUSPENDED: job.cron});
            cron = fields::text(existing, "/spec/cron").to_string();
        }
        let object = json!({"apiVersion": API_VERSION, "kind": "RecurringJob", "metadata": metadata,
            "spec": {"name": job.name, "task": job.task, "cron": cron, "retain": job.retain,
                "concurrency": job.concurrency, "groups": job.groups, "labels": job.labels, "parameters": job.parameters}});
        Ok(self.cluster.apply(&object, ApplyOptions { force: true, dry_run: false }).await?.change)
    }

    /// Suspends all recurring jobs, or those named, and gives the names of those that were not suspended before.
    ///
    /// Longhorn has no switch for it; the schedule is set to a day almost a year away, and kept in an annotation.
    pub async fn suspend_jobs(&self, names: Option<&[String]>) -> Result<Vec<String>> {
        let mut suspended = Vec::new();
        for job in self.chosen_jobs(names).await?.into_iter().filter(|job| !job.suspended) {
            let patch = json!({"metadata": {"annotations": {SUSPENDED: job.cron}},
                "spec": {"cron": far_away(&Zoned::now().with_time_zone(TimeZone::UTC))?}});
            self.cluster.merge(&self.object(RECURRING_JOB, &job.name)?, &patch).await?;
            suspended.push(job.name);
        }
        Ok(suspended)
    }

    /// Gives suspended jobs their schedule back; the names of those that had been suspended.
    pub async fn resume_jobs(&self, names: Option<&[String]>) -> Result<Vec<String>> {
        let mut resumed = Vec::new();
        for job in self.chosen_jobs(names).await?.into_iter().filter(|job| job.suspended) {
            let patch = json!({"metadata": {"annotations": {SUSPENDED: null}}, "spec": {"cron": job.cron}});
            self.cluster.merge(&self.object(RECURRING_JOB, &job.name)?, &patch).await?;
            resumed.push(job.name);
        }
        Ok(resumed)
    }

    async fn chosen_jobs(&self, names: Option<&[String]>) -> Result<Vec<RecurringJob>> {
        let mut jobs = self.recurring_jobs().await?;
        let Some(names) = names else { return Ok(jobs) };
        if let Some(missing) = names.iter().find(|name| !jobs.iter().any(|job| job.name == **name)) {
            let known: Vec<_> = jobs.iter().map(|job| job.name.as_str()).collect();
            return Err(Error::new(Kind::NotFound, format!("there is no recurring job {missing:?}"))
                .hint(format!("there are: {}", known.join(", "))));
        }
        jobs.retain(|job| names.contains(&job.name));
        Ok(jobs)
    }
}

/// Midnight of the day before the day before: the next time that comes is almost a year away.
fn far_away(now: &Zoned) -> Result<String> {
    let day = now
        .checked_sub(2.days())
        .map_err(|error| Error::new(Kind::Failed, "the clock shows no usable date").source(error))?;
    // The 29th of February would be up to four years away, and no schedule for some checkers.
    let date = day.day().min(28);
    Ok(format!("0 0 {date} {} *", day.month()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(cron: &str, concurrency: u64) -> RecurringJob {
        serde_json::from_value(json!({"name": "daily", "task": "backup", "cron": cron, "concurrency": concurrency}))
            .unwrap()
    }

    #[test]
    fn a_job_is_read_with_the_schedule_it_will_have_again() {
        let object = json!({"metadata": {"name": "daily", "annotations": {"lhrun.io/suspended-schedule": "0 2 * * *"}},
            "spec": {"task": "backup", "cron": "0 0 21 11 *", "retain": 7, "concurrency": 2, "groups": ["default"],
                "labels": {}}});
        let job = RecurringJob::read(&object);
        assert_eq!((job.cron.as_str(), job.suspended, job.retain), ("0 2 * * *", true, 7));
        assert_eq!(job.groups, ["default"]);
    }

    #[test]
    fn schedules_are_checked_before_longhorn_sees_them() {
        assert!(job("0 2 * * *", 1).check().is_ok());
        for cron in ["", "daily", "61 2 * * *", "0 0 2 * * *", "* * * *"] {
            assert_eq!(job(cron, 1).check().unwrap_err().kind(), Kind::Usage, "{cron}");
        }
        assert!(job("0 2 * * *", 0).check().unwrap_err().message().contains("concurrency"));
    }

    #[test]
    fn a_suspended_schedule_is_almost_a_year_away() {
        for (now, cron) in [
            ("2026-11-23T13:00:00+00:00[UTC]", "0 0 21 11 *"),
            ("2027-01-01T00:00:00+00:00[UTC]", "0 0 28 12 *"),
            ("2028-03-02T00:00:00+00:00[UTC]", "0 0 28 2 *"),
        ] {
            let far = far_away(&now.parse().unwrap()).unwrap();
            assert_eq!(far, cron);
            let now: Zoned = now.parse().unwrap();
            let next: Zoned = far.parse::<croner::Cron>().unwrap().find_next_occurrence(&now, false).unwrap();
            let days = (next.timestamp().as_second() - now.timestamp().as_second()) / 86_400;
            assert!((350..=366).contains(&days), "{now}: {days} days");
        }
    }
}
