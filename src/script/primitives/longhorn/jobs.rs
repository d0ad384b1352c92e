//! Recurring jobs.

use rhai::{Array, Dynamic, Map, NativeCallContext, plugin::*};

use super::{data, on_longhorn};
use crate::{
    Error, Kind,
    cluster::Change,
    longhorn::RecurringJob,
    script::{Host, RhaiResultOf, changing, convert, primitives::OrThrow},
};

#[export_module]
pub mod api {
    /// The recurring jobs: `#{name, task, cron, retain, concurrency, groups, labels, parameters, suspended}`.
    #[rhai_fn(return_raw)]
    pub fn recurring_jobs(ctx: NativeCallContext) -> RhaiResultOf<Array> {
        on_longhorn(&ctx, |_, longhorn| async move { longhorn.recurring_jobs().await?.iter().map(data).collect() })
    }

    /// Creates or changes a recurring job: `name`, `task` (`"backup"`, `"snapshot"`, `"system-backup"`, …) and `cron`
    /// are needed. Further options: `retain` (1), `concurrency` (1), `groups` (`["default"]` means all volumes without
    /// a job of their own), `labels`, `parameters`. Says what came of it as `kube::apply` does.
    #[rhai_fn(return_raw)]
    pub fn set_recurring_job(ctx: NativeCallContext, job: Map) -> RhaiResultOf<String> {
        let job = convert::from_map(&job).or_throw(&ctx)?;
        let job: RecurringJob = serde_json::from_value(job)
            .map_err(|error| {
                Error::new(Kind::Script, format!("longhorn::set_recurring_job: {error}"))
                    .hint("the options are name, task, cron, retain, concurrency, groups, labels and parameters")
            })
            .or_throw(&ctx)?;
        let name = job.name.clone();
        let change = changing(
            &ctx,
            || format!("the recurring job {name}"),
            || on_longhorn(&ctx, |_, longhorn| async move { longhorn.set_recurring_job(&job).await }),
        )?;
        if change != Change::Unchanged {
            Host::of(&ctx).run().change(format!("{} the recurring job {name}", change.as_str()));
        }
        Ok(change.as_str().to_string())
    }

    /// Suspends all recurring jobs, so that none changes the store while something is restored. Gives the names of
    /// those that were not suspended before, for `longhorn::resume_jobs`.
    #[rhai_fn(return_raw)]
    pub fn suspend_jobs(ctx: NativeCallContext) -> RhaiResultOf<Array> {
        suspended(&ctx, None)
    }

    /// Suspends the recurring jobs of these names.
    #[rhai_fn(name = "suspend_jobs", return_raw)]
    pub fn suspend_some_jobs(ctx: NativeCallContext, names: Array) -> RhaiResultOf<Array> {
        let names = convert::texts(names).or_throw(&ctx)?;
        suspended(&ctx, Some(names))
    }

    /// Gives all suspended recurring jobs their schedule back; the names of those that had been suspended.
    #[rhai_fn(return_raw)]
    pub fn resume_jobs(ctx: NativeCallContext) -> RhaiResultOf<Array> {
        resumed(&ctx, None)
    }

    /// Gives the recurring jobs of these names their schedule back.
    #[rhai_fn(name = "resume_jobs", return_raw)]
    pub fn resume_some_jobs(ctx: NativeCallContext, names: Array) -> RhaiResultOf<Array> {
        let names = convert::texts(names).or_throw(&ctx)?;
        resumed(&ctx, Some(names))
    }
}

fn suspended(ctx: &NativeCallContext, names: Option<Vec<String>>) -> RhaiResultOf<Array> {
    let work = || on_longhorn(ctx, |_, longhorn| async move { longhorn.suspend_jobs(names.as_deref()).await });
    let done = changing(ctx, || "the suspension of the recurring jobs".to_string(), work)?;
    Ok(noted(ctx, "suspended", done))
}

fn resumed(ctx: &NativeCallContext, names: Option<Vec<String>>) -> RhaiResultOf<Array> {
    let work = || on_longhorn(ctx, |_, longhorn| async move { longhorn.resume_jobs(names.as_deref()).await });
    let done = changing(ctx, || "the resumption of the recurring jobs".to_string(), work)?;
    Ok(noted(ctx, "resumed", done))
}

fn noted(ctx: &NativeCallContext, what: &str, names: Vec<String>) -> Array {
    for name in &names {
        Host::of(ctx).run().change(format!("{what} the recurring job {name}"));
    }
    names.into_iter().map(Dynamic::from).collect()
}
