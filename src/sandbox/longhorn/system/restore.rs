//! System restores: from `Pending` to `Completed`, which says only that everything was tried
//! (`system_restore_controller`).

use kube::ResourceExt;
use serde_json::json;

use super::{failure, rollout::Rollout};
use crate::{
    Error, Kind, Result,
    backupstore::{layout, system},
    sandbox::longhorn::{
        cache::Object,
        context::Context,
        names,
        queue::Again,
        resource::{Fields, Meta, Resource},
        store,
    },
};

pub(in super::super) async fn reconcile(context: &Context, name: &str) -> Result<Again> {
    let Some(restore) = context.get(Resource::SystemRestore, name) else { return Ok(None) };
    if restore.deleting() || matches!(restore.text("/status/state"), "Completed" | "Error") {
        return Ok(None);
    }
    let label = |value: serde_json::Value| json!({"metadata": {"labels": {names::LABEL_SYSTEM_RESTORE: value}}});
    context.merge(Resource::SystemRestore, &restore, label("InProgress".into())).await?;
    let ended = match run(context, &restore).await {
        Ok(()) => json!({"state": "Completed"}),
        Err((_, error)) if error.kind() == Kind::Cancelled => return Ok(None),
        Err((reason, error)) => failure(&restore, reason, &error.to_string()),
    };
    context.set_status(Resource::SystemRestore, &restore, ended).await?;
    context.merge(Resource::SystemRestore, &restore, label(serde_json::Value::Null)).await?;
    Ok(None)
}

async fn run(context: &Context, restore: &Object) -> Result<(), (&'static str, Error)> {
    let state = |state: &'static str| {
        let status = json!({"ownerID": context.options.node, "state": state});
        context.set_status(Resource::SystemRestore, restore, status)
    };
    let at = |reason: &'static str| move |error: Error| (reason, error);
    state("Pending").await.map_err(at("Restore"))?;
    let name = restore.text("/spec/systemBackup");
    let backup = context.get(Resource::SystemBackup, name);
    let version = backup.map(|backup| backup.text("/status/version").to_owned()).unwrap_or_default();
    if version.is_empty() {
        let error = Error::new(Kind::NotFound, format!("system backup {name} has no version: it is not ready"));
        return Err(("Restore", error));
    }
    state("Initializing").await.map_err(at("Restore"))?;
    let target = store::open_available(context, names::DEFAULT_TARGET).map_err(at("Restore"))?;
    let folder = layout::system_backup(&version, name).map_err(at("Restore"))?;
    let source = format!("{}{folder}system-backup.zip", target.url);
    let status = json!({"state": "Downloading", "sourceURL": source});
    context.set_status(Resource::SystemRestore, restore, status).await.map_err(at("Restore"))?;
    let bundle = system::read(&target.store, &version, name).await.map_err(at("Restore"))?;
    state("Unpacking").await.map_err(at("Unpack"))?;
    let rollout = Rollout::unpack(context, restore.clone(), &bundle, &target).map_err(at("Unpack"))?;
    context.event((Resource::SystemRestore, restore), false, "Fetched", "Unpacked system backup").await;
    state("Restoring").await.map_err(at("Restore"))?;
    rollout.run().await.map_err(at("Restore"))?;
    context.event((Resource::SystemRestore, restore), false, "Restored", "System rollout completed").await;
    Ok(())
}

/// Whether somebody deleted the restore, which aborts what is left of it.
pub(super) fn is_over(context: &Context, restore: &Object) -> bool {
    context.get(Resource::SystemRestore, &restore.name_any()).is_none_or(|restore| restore.deleting())
}
