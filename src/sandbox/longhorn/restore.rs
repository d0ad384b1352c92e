//! Restores: what the engine of a volume does when it is asked for a backup. Progress and failure are told in the
//! engine's `restoreStatus`, one entry per replica; the volume's controller draws the conclusions.

use std::time::Duration;

use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    cache::Object,
    context::Context,
    queue::Again,
    resource::{Fields, Meta, Resource},
    settings,
    store::{self, LOCK_SETTLE, Target},
    volume::engine,
};
use crate::{
    Error, Kind, Result,
    backupstore::{BackupRef, Progress, restore},
};

/// How often progress is written at most.
const TELL: Duration = Duration::from_millis(100);
/// How soon a restore that may not begin yet is looked at again.
const QUEUED: Duration = Duration::from_millis(500);

pub(super) async fn reconcile(context: &Context, name: &str) -> Result<Again> {
    let (Some(volume), Some(engine)) = (context.get(Resource::Volume, name), engine::of(context, name)) else {
        return Ok(None);
    };
    let wanted = engine.text("/spec/requestedBackupRestore");
    let idle = wanted.is_empty()
        || volume.deleting()
        || !volume.flag("/status/restoreRequired")
        || volume.text("/status/state") != "attached"
        || volume.text("/status/robustness") == "faulted"
        || engine.text("/status/lastRestoredBackup") == wanted
        || engine::restore_failure(&engine).is_some();
    if idle {
        return Ok(None);
    }
    if !may_begin(context, &engine) {
        return Ok(Some(QUEUED));
    }
    let backups = engine.text("/spec/backupVolume");
    let Some(backups) = context.get(Resource::BackupVolume, backups) else {
        return Err(Error::new(Kind::NotFound, format!("cannot find backup volume {backups} of volume {name}")));
    };
    if !fits(context, &volume, &backups).await? {
        return Ok(Some(QUEUED));
    }
    let target = store::open_available(context, backups.text("/spec/backupTargetName"))?;
    let of = BackupRef::new(backups.text("/spec/volumeName"), wanted)?;
    run(context, &volume, &engine, &target, &of).await
}

/// Whether one more restore fits into the limit per node; a limit of 0 lets none begin.
fn may_begin(context: &Context, engine: &DynamicObject) -> bool {
    let limit = context.setting(settings::RESTORE_LIMIT).parse::<usize>().unwrap_or(5);
    let running = context.list(Resource::Engine);
    let others = running.iter().filter(|other| other.metadata.name != engine.metadata.name);
    others.filter(|other| is_restoring(other)).count() < limit
}

fn is_restoring(engine: &DynamicObject) -> bool {
    let replicas = engine.field("/status/restoreStatus").as_object();
    replicas.is_some_and(|replicas| replicas.values().any(|status| status.flag("/isRestoring")))
}

/// What Longhorn checks before it restores: a volume smaller than the bucket's is grown first, a larger one never
/// begins.
async fn fits(context: &Context, volume: &Object, backups: &DynamicObject) -> Result<bool> {
    let (size, stored) = (volume.number("/spec/size"), backups.number("/status/size"));
    if stored == 0 {
        return Ok(false);
    }
    if stored < size {
        return Err(Error::new(
            Kind::Conflict,
            format!("backup volume size {stored} is smaller than the volume size {size}"),
        ));
    }
    if stored > size {
        context.merge(Resource::Volume, volume, json!({"spec": {"size": stored.to_string()}})).await?;
    }
    Ok(true)
}

async fn run(context: &Context, volume: &Object, engine: &Object, target: &Target, of: &BackupRef) -> Result<Again> {
    let told = Told { context, volume: volume.clone(), engine: engine.clone(), of, url: of.encode(&target.url) };
    told.write("in_progress", 0, "").await?;
    let image = context.disk.image(&told.name())?;
    let (sender, progress) = watch::channel(0);
    let tell = Progress::new(move |done, total| {
        sender.send_replace(done.saturating_mul(99) / total.max(1));
    });
    let options = restore::RestoreOptions {
        overwrite: true,
        progress: Some(tell),
        lock: Some(LOCK_SETTLE),
        ..restore::RestoreOptions::default()
    };
    let permit = context.data_jobs.acquire().await;
    let mut restoring = Box::pin(restore::to_file(&target.store, of, &image, options));
    let mut shown = 0;
    let mut tick = tokio::time::interval(TELL);
    let restored = loop {
        tokio::select! {
            restored = &mut restoring => break restored,
            _ = tick.tick() => {
                if context.get(Resource::Volume, &told.name()).is_none_or(|volume| volume.deleting()) {
                    return Ok(None);
                }
                let percent = *progress.borrow();
                if percent != shown {
                    shown = percent;
                    told.write("in_progress", percent, "").await?;
                }
            }
        }
    };
    drop(permit);
    match restored {
        Ok(_) => {
            let bytes = context.disk.restored_bytes(&told.name());
            context.set_status(Resource::Volume, volume, json!({"actualSize": bytes})).await?;
            told.write("complete", 100, "").await?;
            Ok(None)
        }
        // A deletion holds the lock; it will be gone.
        Err(error) if error.kind() == Kind::Conflict => {
            told.write("", shown, &format!("failed lock: {error}")).await?;
            Err(error)
        }
        Err(error) => {
            told.write("error", shown, &error.to_string()).await?;
            Ok(None)
        }
    }
}

/// Who is told of a restore.
struct Told<'a> {
    context: &'a Context,
    volume: Object,
    engine: Object,
    of: &'a BackupRef,
    url: String,
}

impl Told<'_> {
    fn name(&self) -> String {
        self.volume.metadata.name.clone().unwrap_or_default()
    }

    async fn write(&self, state: &str, percent: u64, error: &str) -> Result<()> {
        let mut replicas = serde_json::Map::new();
        let done = state == "complete";
        for (address, replica) in engine::replica_addresses(self.context, &self.name()) {
            let status: Value = json!({
                "isRestoring": state == "in_progress", "state": state, "progress": percent, "error": error,
                "backupURL": self.url, "currentRestoringBackup": self.of.backup,
                "lastRestored": if done { self.of.backup.as_str() } else { "" },
                "filename": format!("volume-snap-{replica}.img"),
            });
            replicas.insert(address, status);
        }
        let mut status = json!({"restoreStatus": replicas});
        if done {
            status["lastRestoredBackup"] = self.of.backup.clone().into();
        }
        self.context.set_status(Resource::Engine, &self.engine, status).await.map(drop)
    }
}
