//! Backup targets: is the bucket there, and what is in it. The steps and their order are those of Longhorn's
//! `backup_target_controller`, with its two pitfalls: nothing happens until `spec.syncRequestedAt` passes
//! `status.lastSyncedAt`, and a target is available before it has been looked through.

use std::{collections::BTreeSet, sync::PoisonError, time::Duration};

use kube::{ResourceExt, core::DynamicObject};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    context::Context,
    names,
    queue::{Again, Task},
    resource::{Fields, Meta, Resource, with_condition},
    store::{self, Target},
};
use crate::{
    Result,
    backupstore::{Catalog, layout},
};

pub(super) async fn reconcile(context: &Context, name: &str) -> Result<Again> {
    let Some(target) = context.get(Resource::BackupTarget, name) else { return Ok(None) };
    if target.deleting() {
        forget_everything(context, name).await?;
        context.release(Resource::BackupTarget, &target).await?;
        return Ok(None);
    }
    let target = context.set_status(Resource::BackupTarget, &target, json!({"ownerID": context.options.node})).await?;
    let again = poll(context, &target).await?;
    let last = target.text("/status/lastSyncedAt");
    if !last.is_empty() && names::seconds(target.text("/spec/syncRequestedAt")) <= names::seconds(last) {
        return Ok(again);
    }
    sync(context, &target).await?;
    Ok(again)
}

/// Asks for a sync each time the poll interval is over; gives the time until then.
async fn poll(context: &Context, target: &DynamicObject) -> Result<Again> {
    let interval = go_duration(target.text("/spec/pollInterval")).unwrap_or_default();
    let name = target.name_any();
    let due = {
        let mut polls = context.polls.lock().unwrap_or_else(PoisonError::into_inner);
        if interval.is_zero() || target.text("/spec/backupTargetURL").is_empty() {
            polls.remove(&name);
            return Ok(None);
        }
        let poll = polls.entry(name).or_insert((interval, Instant::now()));
        if poll.0 != interval {
            *poll = (interval, Instant::now());
        }
        let left = interval.saturating_sub(poll.1.elapsed());
        if !left.is_zero() {
            return Ok(Some(left));
        }
        poll.1 = Instant::now();
        interval
    };
    request_sync(context, Resource::BackupTarget, target).await?;
    Ok(Some(due))
}

/// Asks for a new look into the bucket. Times have whole seconds, and a second look within the same one would not take
/// place: then the next second is asked for.
pub(super) async fn request_sync(context: &Context, resource: Resource, object: &DynamicObject) -> Result<()> {
    let last = object.text("/status/lastSyncedAt").parse::<jiff::Timestamp>();
    let next = last.ok().and_then(|last| last.checked_add(jiff::SignedDuration::from_secs(1)).ok());
    let time = next.map_or(jiff::Timestamp::now(), |next| next.max(jiff::Timestamp::now()));
    context.merge(resource, object, json!({"spec": {"syncRequestedAt": names::time_text(time)}})).await.map(drop)
}

/// The time to note for a look that began then: never before the request that it answers.
pub(super) fn synced_at(object: &DynamicObject, started: &str) -> String {
    let requested = object.text("/spec/syncRequestedAt");
    let ahead = names::seconds(requested).saturating_sub(names::seconds(started));
    if (1..=60).contains(&ahead) { requested.to_owned() } else { started.to_owned() }
}

/// A changed credential Secret of the target `default` is tried at once; other targets wait for their next poll.
pub(super) async fn secret_changed(context: &Context, secret: &str) -> Result<Again> {
    if let Some(target) = context.get(Resource::BackupTarget, names::DEFAULT_TARGET)
        && target.text("/spec/credentialSecret") == secret
    {
        request_sync(context, Resource::BackupTarget, &target).await?;
        // Twice within a second the request is the same, and no change would tell of it.
        context.queue.add(Task::BackupTarget(names::DEFAULT_TARGET.to_owned()));
    }
    Ok(None)
}

async fn sync(context: &Context, target: &DynamicObject) -> Result<()> {
    let name = target.name_any();
    if target.text("/spec/backupTargetURL").is_empty() {
        forget_everything(context, &name).await?;
        return unavailable(context, target, "backup target URL is empty").await;
    }
    let started = names::now();
    // As in Longhorn, a missing Secret is no condition: the target keeps saying what it said before.
    let opened = match store::open(context, target) {
        Ok(opened) => opened,
        Err(error) if error.kind() == crate::Kind::Invalid => {
            return unavailable(context, target, &error.to_string()).await;
        }
        Err(error) => return Err(error.context("failed to init backup target clients")),
    };
    if let Err(error) = opened.store.list_names(layout::SYSTEM_BACKUPS).await {
        let message = format!("failed to list system backups in {}: {error}", target.text("/spec/backupTargetURL"));
        return unavailable(context, target, &message).await;
    }
    if !target.flag("/status/available") {
        // The change of the status brings us back, and then the bucket is looked through.
        let conditions = with_condition(target.field("/status/conditions"), "Unavailable", false, "", "");
        let status = json!({"available": true, "conditions": conditions});
        return context.set_status(Resource::BackupTarget, target, status).await.map(drop);
    }
    sync_volumes(context, &opened, &started).await?;
    if name == names::DEFAULT_TARGET {
        sync_system_backups(context, &opened).await?;
    }
    context
        .set_status(Resource::BackupTarget, target, json!({"lastSyncedAt": synced_at(target, &started)}))
        .await
        .map(drop)
}

async fn unavailable(context: &Context, target: &DynamicObject, message: &str) -> Result<()> {
    let conditions = target.field("/status/conditions");
    let conditions = with_condition(conditions, "Unavailable", true, "Unavailable", message);
    let mut status = json!({"available": false, "conditions": conditions});
    if target.text("/spec/backupTargetURL").is_empty() {
        status["lastSyncedAt"] = Value::Null;
    }
    context.set_status(Resource::BackupTarget, target, status).await.map(drop)
}

/// One BackupVolume per volume in the bucket; those that are gone there go here, too.
async fn sync_volumes(context: &Context, target: &Target, started: &str) -> Result<()> {
    let found = Catalog::new(target.store.clone()).volume_names().await?;
    // A name that no object can have is passed over without a word.
    let found: BTreeSet<String> = found.into_iter().filter(|name| is_object_name(name)).collect();
    let known = of_target(context, Resource::BackupVolume, &target.name);
    for volume in &known {
        if !found.contains(volume.text("/spec/volumeName")) {
            context.forget(Resource::BackupVolume, volume).await?;
        }
    }
    for volume in found {
        if let Some(object) = known.iter().find(|object| object.text("/spec/volumeName") == volume) {
            request_sync(context, Resource::BackupVolume, object).await?;
        } else {
            let object = json!({
                "metadata": {
                    "name": names::backup_volume_name(&volume, &target.name),
                    "labels": {names::LABEL_TARGET: target.name, names::LABEL_BACKUP_VOLUME: volume},
                },
                "spec": {"backupTargetName": target.name, "volumeName": volume, "syncRequestedAt": started},
            });
            context.ensure(Resource::BackupVolume, object).await?;
        }
    }
    Ok(())
}

/// One SystemBackup per bundle in the bucket; only those that were `Ready` are compared with it.
async fn sync_system_backups(context: &Context, target: &Target) -> Result<()> {
    let found = Catalog::new(target.store.clone()).system_backups().await?;
    let known = context.list(Resource::SystemBackup);
    for backup in &known {
        let gone = found.iter().all(|entry| entry.name != backup.name_any());
        if gone && backup.text("/status/state") == "Ready" {
            context.forget(Resource::SystemBackup, backup).await?;
        }
    }
    for entry in found {
        if known.iter().all(|backup| backup.name_any() != entry.name) && is_object_name(&entry.name) {
            let object = json!({
                "metadata": {"name": entry.name, "labels": {names::LABEL_VERSION: entry.version}},
                "spec": {},
            });
            context.ensure(Resource::SystemBackup, object).await?;
        }
    }
    Ok(())
}

/// The objects that stand for what a target holds.
pub(super) fn of_target(context: &Context, resource: Resource, target: &str) -> Vec<super::cache::Object> {
    let mut objects = context.list(resource);
    objects.retain(|object| object.label(names::LABEL_TARGET) == target);
    objects
}

/// Without a target its objects say nothing any more. What is in the bucket stays.
async fn forget_everything(context: &Context, target: &str) -> Result<()> {
    for volume in of_target(context, Resource::BackupVolume, target) {
        context.forget(Resource::BackupVolume, &volume).await?;
    }
    if target == names::DEFAULT_TARGET {
        for backup in context.list(Resource::SystemBackup) {
            context.forget(Resource::SystemBackup, &backup).await?;
        }
    }
    Ok(())
}

fn is_object_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(names::is_dns_label)
}

/// A duration as Go writes it: `5m0s`, `300s`, `1h30m`. A number without a unit is none.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(go_duration("5m0s"), Some(Duration::from_mins(5)));
        assert_eq!(go_duration("1h30m"), Some(Duration::from_mins(90)));
        assert_eq!(go_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(go_duration("0s"), Some(Duration::ZERO));
        for bad in ["300", "", "5x", "m", "-5s"] {
            assert_eq!(go_duration(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn names_that_no_object_can_have_are_known() {
        assert!(is_object_name("pvc-1"));
        assert!(is_object_name("a.b"));
        for bad in ["UPPER", "a_b", "-a", "a..b", ""] {
            assert!(!is_object_name(bad), "{bad:?}");
        }
    }
}
