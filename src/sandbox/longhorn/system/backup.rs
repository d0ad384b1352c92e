//! System backups: volumes first, as the policy says, then the bundle (`system_backup_controller`).

use std::time::Duration;

use kube::ResourceExt;
use serde_json::json;

use super::{bundle, failure};
use crate::{
    Error, Kind, Result,
    backupstore::{Catalog, config::SystemBackupConfig, layout, system},
    sandbox::longhorn::{
        cache::Object,
        context::Context,
        names,
        queue::Again,
        resource::{Fields, Meta, Resource},
        store::{self, Target},
    },
};

/// Time for one volume's snapshot, as in Longhorn.
const SNAPSHOT_LIMIT: Duration = Duration::from_hours(1);
/// Time for all volumes' backups, as in Longhorn.
const BACKUP_LIMIT: Duration = Duration::from_hours(24);
/// The commit of the version that is reproduced.
const GIT_COMMIT: &str = "020cf3d4c6935a38b57fe6e1305e1e7fb048bd20";

pub(in super::super) async fn reconcile(context: &Context, name: &str) -> Result<Again> {
    let Some(backup) = context.get(Resource::SystemBackup, name) else { return Ok(None) };
    if backup.deleting() {
        remove(context, &backup).await?;
        return Ok(None);
    }
    if matches!(backup.text("/status/state"), "Ready" | "Error") {
        return Ok(None);
    }
    let target = store::open_available(context, names::DEFAULT_TARGET)?;
    let mut version = backup.label(names::LABEL_VERSION).to_owned();
    if version.is_empty() && backup.text("/status/state").is_empty() {
        // A name that the bucket knows is not backed up again: the object becomes that of the old bundle.
        let known = Catalog::new(target.store.clone()).system_backups().await?;
        if let Some(old) = known.into_iter().find(|entry| entry.name == name) {
            version = old.version;
            let label = json!({"metadata": {"labels": {names::LABEL_VERSION: version}}});
            context.merge(Resource::SystemBackup, &backup, label).await?;
        }
    }
    if version.is_empty() {
        if let Err((reason, error)) = make(context, &backup, &target).await {
            if error.kind() == Kind::Cancelled {
                return Ok(None);
            }
            let status = failure(&backup, reason, &error.to_string());
            context.set_status(Resource::SystemBackup, &backup, status).await?;
        }
        return Ok(None);
    }
    let backup = context.set_status(Resource::SystemBackup, &backup, json!({"state": "Syncing"})).await?;
    let status = match Catalog::new(target.store).system_backup(&version, name).await {
        Ok(config) => ready(context, &config),
        Err(error) => failure(&backup, "Sync", &error.to_string()),
    };
    context.set_status(Resource::SystemBackup, &backup, status).await?;
    Ok(None)
}

fn ready(context: &Context, config: &SystemBackupConfig) -> serde_json::Value {
    json!({
        "ownerID": context.options.node, "state": "Ready", "version": config.longhorn_version,
        "gitCommit": config.longhorn_git_commit, "managerImage": config.manager_image, "createdAt": config.created_at,
        "lastSyncedAt": names::now(),
    })
}

/// Makes a new one; the error comes with the reason for the condition.
async fn make(context: &Context, backup: &Object, target: &Target) -> Result<(), (&'static str, Error)> {
    let state = |state: &'static str| {
        let status = json!({"ownerID": context.options.node, "state": state});
        context.set_status(Resource::SystemBackup, backup, status)
    };
    let at = |reason: &'static str| move |error: Error| (reason, error);
    state("CreatingVolumeBackups").await.map_err(at("Start"))?;
    back_up_volumes(context, backup).await.map_err(at("Start"))?;
    state("CreatingBackingImageBackups").await.map_err(at("Start"))?;
    state("Generating").await.map_err(at("Generate"))?;
    let objects = bundle::collect(context).await.map_err(at("Generate"))?;
    state("Uploading").await.map_err(at("Upload"))?;
    let options = &context.options;
    let config = SystemBackupConfig {
        name: backup.name_any(),
        longhorn_version: options.version.clone(),
        longhorn_git_commit: GIT_COMMIT.to_owned(),
        backup_target_url: target.url.to_string(),
        manager_image: options.manager_image(),
        engine_image: options.engine_image(),
        created_at: names::now(),
        checksum: String::new(),
    };
    let kubernetes = context.client().apiserver_version().await;
    let metadata = system::Metadata {
        longhorn_version: options.version.clone(),
        longhorn_git_commit: GIT_COMMIT.to_owned(),
        kubernetes_version: kubernetes.map(|version| version.git_version).unwrap_or_default(),
        longhorn_namespace_uuid: namespace_uid(context).await,
        created_at: "0001-01-01T00:00:00Z".to_owned(),
        manager_image: options.manager_image(),
    };
    let written = system::write(&target.store, config, metadata, objects).await.map_err(at("Upload"))?;
    let label = json!({"metadata": {"labels": {names::LABEL_VERSION: options.version}}});
    context.merge(Resource::SystemBackup, backup, label).await.map_err(at("Upload"))?;
    context.set_status(Resource::SystemBackup, backup, ready(context, &written)).await.map(drop).map_err(at("Upload"))
}

async fn namespace_uid(context: &Context) -> String {
    let api: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(context.client());
    api.get_opt(&context.options.namespace)
        .await
        .ok()
        .flatten()
        .and_then(|namespace| namespace.uid())
        .unwrap_or_default()
}

/// Backs volumes up one after the other, as the policy says. Every policy but `disabled` takes a snapshot of every
/// volume, and one volume that gives none fails the whole.
async fn back_up_volumes(context: &Context, backup: &Object) -> Result<()> {
    let policy = backup.text("/spec/volumeBackupPolicy");
    if policy == "disabled" {
        return Ok(());
    }
    let mut waiting_for = Vec::new();
    for volume in context.list(Resource::Volume) {
        if volume.flag("/spec/Standby") || volume.deleting() {
            continue;
        }
        let name = volume.name_any();
        let point = names::generated("system-backup");
        let snapshot = json!({"metadata": {"name": point}, "spec": {"volume": name, "createSnapshot": true}});
        context.create(Resource::Snapshot, snapshot).await?;
        let what = format!("snapshot {point} of volume {name}");
        let snapshot = wait(context, backup, &what, SNAPSHOT_LIMIT, |context| {
            context.get(Resource::Snapshot, &point).filter(|snapshot| snapshot.flag("/status/readyToUse"))
        })
        .await?;
        if policy == "if-not-present" && is_current(context, &volume, &snapshot) {
            continue;
        }
        // Without what claim it belongs to: nobody adds that here.
        let labels = json!({names::LABEL_TARGET: volume.text("/spec/backupTargetName")});
        let object = json!({"metadata": {"name": point, "labels": labels}, "spec": {"snapshotName": point}});
        context.create(Resource::Backup, object).await?;
        waiting_for.push((name, point));
    }
    for (volume, point) in waiting_for {
        let what = format!("backup {point} of volume {volume}");
        let done = wait(context, backup, &what, BACKUP_LIMIT, |context| {
            let made = context.get(Resource::Backup, &point)?;
            if made.text("/status/state") == "Error" {
                return Some(Err(Error::new(Kind::Failed, format!("{what} failed: {}", made.text("/status/error")))));
            }
            // A newer backup of the same volume keeps this waiting, as does a snapshot that was removed.
            let last = context.get(Resource::Volume, &volume)?.text("/status/lastBackup") == point;
            let complete = made.text("/status/state") == "Completed" && !made.text("/status/lastSyncedAt").is_empty();
            (complete && last && context.get(Resource::Snapshot, &point).is_some()).then_some(Ok(()))
        });
        done.await??;
    }
    Ok(())
}

/// Whether the volume's last backup has all its data.
fn is_current(context: &Context, volume: &Object, snapshot: &Object) -> bool {
    let last = volume.text("/status/lastBackup");
    let Some(last) = context.get(Resource::Backup, last).filter(|_| !last.is_empty()) else { return false };
    let Some(saved) = context.get(Resource::Snapshot, last.text("/status/snapshotName")) else { return false };
    let since = names::seconds(saved.text("/status/creationTime"));
    let all = context.list(Resource::Snapshot);
    let newer = all.iter().filter(|other| {
        other.text("/spec/volume") == volume.name_any()
            && other.name_any() != saved.name_any()
            && names::seconds(other.text("/status/creationTime")) >= since
            && other.version() > saved.version()
    });
    snapshot.number("/status/size") == 0 && newer.into_iter().all(|other| other.number("/status/size") == 0)
}

/// [`Context::wait_for`], given up when the system backup is deleted.
async fn wait<T>(
    context: &Context,
    backup: &Object,
    what: &str,
    limit: Duration,
    mut found: impl FnMut(&Context) -> Option<T>,
) -> Result<T> {
    let name = backup.name_any();
    let found = context.wait_for(what, limit, |context| match context.get(Resource::SystemBackup, &name) {
        Some(backup) if !backup.deleting() => found(context).map(Some),
        _ => Some(None),
    });
    found.await?.ok_or_else(|| Error::new(Kind::Cancelled, format!("system backup {name} was deleted")))
}

/// Deletes the bundle in the bucket, unless only the object was meant.
async fn remove(context: &Context, backup: &Object) -> Result<()> {
    let version = backup.text("/status/version");
    let wanted = backup.label(names::LABEL_ONLY_OBJECT).is_empty() && !version.is_empty();
    if wanted && let Ok(target) = store::open_available(context, names::DEFAULT_TARGET) {
        let backup = context.set_status(Resource::SystemBackup, backup, json!({"state": "Deleting"})).await?;
        let folder = layout::system_backup(version, &backup.name_any())?;
        for object in target.store.list(&folder).await? {
            target.store.delete(&object.key).await?;
        }
    }
    context.release(Resource::SystemBackup, backup).await
}
