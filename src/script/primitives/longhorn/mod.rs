//! `longhorn::`: backup targets, volumes, backups, restores, system backups, claims and recurring jobs.
//!
//! Volumes are named as in Longhorn (`pvc-…`), claims `"namespace/name"`.

mod backups;
mod claims;
mod jobs;
mod restores;
mod state;
mod system;
mod targets;
mod volumes;

use std::future::Future;

use rhai::{Dynamic, Module, NativeCallContext, exported_module};
use serde::Serialize;

use crate::{
    Error, Kind, Result,
    longhorn::{Longhorn, Progress, Target},
    objectstore::Store,
    script::{Host, RhaiResultOf, block, convert},
    terminal::{self, Unit},
};

/// The namespace's functions.
pub fn module() -> Module {
    let mut module = exported_module!(targets::api);
    module.combine(exported_module!(volumes::api));
    module.combine(exported_module!(backups::api));
    module.combine(exported_module!(restores::api));
    module.combine(exported_module!(state::api));
    module.combine(exported_module!(system::api));
    module.combine(exported_module!(claims::api));
    module.combine(exported_module!(jobs::api));
    module
}

/// Runs work on the Longhorn of the run's cluster.
fn on_longhorn<T, F>(ctx: &NativeCallContext, work: impl FnOnce(Host, Longhorn) -> F) -> RhaiResultOf<T>
where
    F: Future<Output = Result<T>>,
{
    block(ctx, |host| async move {
        let longhorn = Longhorn::find(&host.cluster().await?).await?;
        work(host, longhorn).await
    })
}

/// The store of a target: the configured one when it is the same bucket and prefix, else with Longhorn's own keys.
///
/// The endpoint in Longhorn's secret may be a name that only the cluster can resolve, so the configured one goes first.
async fn store_of(host: &Host, longhorn: &Longhorn, target: &Target) -> Result<Store> {
    let own = longhorn.store_config(target).await?;
    let clean = |prefix: &str| prefix.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    match &host.settings().store {
        Some(set) if set.bucket == own.bucket && clean(&set.prefix) == clean(&own.prefix) => host.store(),
        _ => Store::connect(&own),
    }
}

/// What the layer below tells, as a script value.
pub(super) fn data(value: &impl Serialize) -> Result<Dynamic> {
    let value = serde_json::to_value(value)
        .map_err(|error| Error::new(Kind::Failed, "a result cannot be shown to the script").source(error))?;
    Ok(convert::to_dynamic(&value))
}

/// Shows how far something is while it goes on.
fn shown(ctx: &NativeCallContext, label: &str) -> impl FnMut(Progress) + Send + use<> {
    let bar: terminal::Progress = Host::of(ctx).terminal().progress(label, Unit::Items);
    move |progress| {
        let note = match progress.percent {
            Some(percent) => format!("{}, {percent} %", progress.note),
            None => progress.note,
        };
        bar.note(&note);
    }
}

#[cfg(test)]
mod tests;
