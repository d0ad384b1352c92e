//! What a recurring job does to its volumes. One volume's failure is noted and stops nothing.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    Error, Kind, Result,
    sandbox::longhorn::{
        cache::Object,
        context::Context,
        names,
        resource::{Fields, Meta, Resource},
        snapshot,
    },
};

const LIMIT: Duration = Duration::from_hours(24);

/// Runs the job once; `count` is the number of this run.
pub(super) async fn run(context: &Context, job: &Object, count: u64) {
    let task = job.text("/spec/task");
    if task == "system-backup" {
        if let Err(error) = system_backup(context, job).await {
            tracing::warn!(job = job.name_any(), %error, "recurring system backup failed");
        }
        return;
    }
    let volumes = volumes(context, job);
    let at_once = usize::try_from(job.number("/spec/concurrency")).unwrap_or(1).max(1);
    let works = volumes.into_iter().map(|volume| {
        let work = async move {
            let done = match task {
                "backup" | "backup-force-create" => backup(context, job, &volume, count).await,
                "snapshot" | "snapshot-force-create" => take_snapshot(context, job, &volume).await.map(drop),
                "snapshot-delete" => retain_snapshots(context, &volume, None, job.number("/spec/retain")).await,
                // Trimming and removing system snapshots: nothing here leaves either behind.
                _ => Ok(()),
            };
            if let Err(error) = done {
                tracing::warn!(job = job.name_any(), volume = volume.name_any(), %error, "recurring job failed");
            }
        };
        futures::FutureExt::boxed(work)
    });
    stream::iter(works).for_each_concurrent(at_once, |work| work).await;
}

/// Volumes of the job, by its own label or a group's, that can be worked on.
fn volumes(context: &Context, job: &Object) -> Vec<Object> {
    let mut keys = vec![format!("{}{}", names::LABEL_JOB, job.name_any())];
    let groups = job.field("/spec/groups").as_array().into_iter().flatten().filter_map(Value::as_str);
    keys.extend(groups.map(|group| format!("{}{group}", names::LABEL_JOB_GROUP)));
    let detached_too = context.setting("allow-recurring-job-while-volume-detached") == "true";
    let mut volumes = context.list(Resource::Volume);
    volumes.retain(|volume| {
        keys.iter().any(|key| volume.label(key) == "enabled")
            && !volume.deleting()
            && !volume.flag("/status/restoreRequired")
            && volume.text("/status/robustness") != "faulted"
            && (detached_too || volume.text("/status/state") == "attached")
    });
    volumes
}

/// A name as the job's pod makes it: the first eight characters of the job's, and a UUID.
fn name_of(job: &Object) -> String {
    let name: String = job.name_any().chars().take(8).collect();
    let id = names::random_hex(32);
    let id = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
    format!("{}-{id}", name.trim_end_matches(['-', '.', '_']))
}

fn labels(job: &Object) -> BTreeMap<String, String> {
    let own = job.field("/spec/labels").as_object().into_iter().flatten();
    let mut labels: BTreeMap<String, String> =
        own.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    labels.insert(names::RECURRING_JOB.to_owned(), job.name_any());
    labels
}

/// Takes a snapshot, unless nothing has changed since the last one; gives its name when there is something new.
async fn take_snapshot(context: &Context, job: &Object, volume: &Object) -> Result<Option<String>> {
    let forced = job.text("/spec/task").ends_with("force-create");
    let volume_name = volume.name_any();
    let had_one = snapshot::newest(context, &volume_name).is_some();
    let name = name_of(job);
    let object = json!({"metadata": {"name": name},
        "spec": {"volume": volume_name, "createSnapshot": true, "labels": labels(job)}});
    context.create(Resource::Snapshot, object).await?;
    let what = format!("snapshot {name}");
    let taken = context.wait_for(&what, LIMIT, |context| {
        context.get(Resource::Snapshot, &name).filter(|snapshot| snapshot.flag("/status/readyToUse"))
    });
    let taken = taken.await?;
    if had_one && !forced && taken.number("/status/size") == 0 && !volume.text("/status/lastBackup").is_empty() {
        context.delete(Resource::Snapshot, &taken).await?;
        return Ok(None);
    }
    if job.text("/spec/task").starts_with("snapshot") {
        retain_snapshots(context, volume, Some(job), job.number("/spec/retain")).await?;
    }
    Ok(Some(name))
}

async fn backup(context: &Context, job: &Object, volume: &Object, count: u64) -> Result<()> {
    let Some(point) = take_snapshot(context, job, volume).await? else { return Ok(()) };
    let interval = job.field("/spec/parameters")["full-backup-interval"].as_str().and_then(|text| text.parse().ok());
    let full = interval.is_some_and(|interval: u64| interval > 0 && count.is_multiple_of(interval));
    let mut labels = labels(job);
    labels.insert(names::KUBERNETES_STATUS.to_owned(), volume.field("/status/kubernetesStatus").to_string());
    labels.insert(names::LABEL_ACCESS_MODE.to_owned(), volume.text("/spec/accessMode").to_owned());
    let target = volume.text("/spec/backupTargetName");
    let object = json!({
        "metadata": {"name": point,
            "labels": {names::LABEL_BACKUP_VOLUME: volume.name_any(), names::LABEL_TARGET: target}},
        "spec": {"snapshotName": point, "labels": labels,
            "backupMode": if full { "full" } else { "incremental" }},
    });
    context.create(Resource::Backup, object).await?;
    let what = format!("backup {point}");
    let made = context.wait_for(&what, LIMIT, |context| match context.get(Resource::Backup, &point) {
        None => Some(Err(Error::new(Kind::NotFound, format!("{what} was deleted")))),
        Some(made) => match made.text("/status/state") {
            "Error" | "Unknown" => Some(Err(Error::new(Kind::Failed, made.text("/status/error").to_owned()))),
            "Completed" if !made.text("/status/lastSyncedAt").is_empty() => Some(Ok(())),
            _ => None,
        },
    });
    made.await??;
    retain_backups(context, job, volume).await?;
    // The newest snapshot stays: the next backup is compared with it.
    if context.setting("auto-cleanup-recurring-job-backup-snapshot") == "true" {
        retain_snapshots(context, volume, Some(job), 1).await?;
    }
    Ok(())
}

/// Deletes the job's own oldest backups of a volume on its target; all others are nobody's business.
async fn retain_backups(context: &Context, job: &Object, volume: &Object) -> Result<()> {
    let target = volume.text("/spec/backupTargetName");
    let mut backups = super::super::backup_volume::of_volume(context, target, &volume.name_any());
    backups.retain(|backup| {
        backup.field("/status/labels")[names::RECURRING_JOB] == *job.name_any()
            && backup.text("/status/state") == "Completed"
            && !backup.deleting()
    });
    backups.sort_by_key(|backup| (names::seconds(backup.text("/status/backupCreatedAt")), backup.version()));
    let retain = usize::try_from(job.number("/spec/retain")).unwrap_or(usize::MAX);
    for backup in backups.iter().rev().skip(retain) {
        context.delete(Resource::Backup, backup).await?;
    }
    Ok(())
}

/// Deletes the oldest snapshots of a volume: those of a job, or all.
async fn retain_snapshots(context: &Context, volume: &Object, job: Option<&Object>, retain: u64) -> Result<()> {
    let mut snapshots = context.list(Resource::Snapshot);
    snapshots.retain(|snapshot| {
        let of_job = job.is_none_or(|job| snapshot.field("/spec/labels")[names::RECURRING_JOB] == *job.name_any());
        snapshot.text("/spec/volume") == volume.name_any()
            && of_job
            && snapshot.flag("/status/readyToUse")
            && !snapshot.deleting()
    });
    snapshots.sort_by_key(|snapshot| (names::seconds(snapshot.text("/status/creationTime")), snapshot.version()));
    let retain = usize::try_from(retain).unwrap_or(usize::MAX);
    for snapshot in snapshots.iter().rev().skip(retain) {
        context.delete(Resource::Snapshot, snapshot).await?;
    }
    Ok(())
}

async fn system_backup(context: &Context, job: &Object) -> Result<()> {
    let label = format!("{}system-backup", names::LABEL_JOB);
    let policy = job.field("/spec/parameters")["volume-backup-policy"].as_str().unwrap_or("if-not-present").to_owned();
    let name = name_of(job);
    let object = json!({"metadata": {"name": name, "labels": {&label: job.name_any()}},
        "spec": {"volumeBackupPolicy": policy}});
    context.create(Resource::SystemBackup, object).await?;
    let what = format!("system backup {name}");
    let made = context.wait_for(&what, LIMIT, |context| match context.get(Resource::SystemBackup, &name) {
        None => Some(Err(Error::new(Kind::NotFound, format!("{what} was deleted")))),
        Some(made) => match made.text("/status/state") {
            "Error" => Some(Err(Error::new(Kind::Failed, format!("{what} failed")))),
            "Ready" => Some(Ok(())),
            _ => None,
        },
    });
    made.await??;
    let mut backups = context.list(Resource::SystemBackup);
    backups.retain(|backup| backup.label(&label) == job.name_any() && backup.text("/status/state") == "Ready");
    backups.sort_by_key(|backup| (names::seconds(backup.text("/status/createdAt")), backup.version()));
    let retain = usize::try_from(job.number("/spec/retain")).unwrap_or(usize::MAX);
    for backup in backups.iter().rev().skip(retain) {
        context.delete(Resource::SystemBackup, backup).await?;
    }
    Ok(())
}
