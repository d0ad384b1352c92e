//! Starts and stops everything, and decides what a change concerns.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use kube::{Client, ResourceExt};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    backup, backup_volume,
    cache::{Cache, Change},
    context::Context,
    disk::{Disk, Freezer},
    names,
    options::LonghornOptions,
    provision,
    queue::{self, Again, Queue, Task},
    recurring,
    resource::{Fields, Resource},
    restore, snapshot, system, target, volume,
};
use crate::{Error, Kind, Result, sandbox::api::admission::Objects};

/// How long the first look at the cluster may take.
const FIRST_LIST: Duration = Duration::from_secs(30);

/// Running controllers; they end when `cancel` is triggered or [`stop`](Self::stop) is called.
pub struct LonghornControllers {
    cancel: CancellationToken,
    tasks: TaskTracker,
    cache: Arc<Cache>,
}

impl std::fmt::Debug for LonghornControllers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LonghornControllers").finish_non_exhaustive()
    }
}

impl LonghornControllers {
    /// Starts the controllers on a cluster with Longhorn's kinds; returns when they know what is there.
    ///
    /// `disk` holds the volumes' data, `freezer` stops the writers of a volume while it is packed. Errors:
    /// `unreachable` when the API does not list every kind in time.
    pub async fn start(
        client: Client,
        disk: Disk,
        freezer: Arc<dyn Freezer>,
        options: LonghornOptions,
        cancel: CancellationToken,
    ) -> Result<Self> {
        let cancel = cancel.child_token();
        let (queue, wishes) = queue::queue();
        let context = Arc::new(Context::new(client, options, queue, disk, freezer, cancel.clone()));
        let tasks = TaskTracker::new();
        for resource in Resource::ALL {
            let noted = context.clone();
            let follow = Cache::follow(
                context.cache.clone(),
                context.client(),
                context.options.namespace.clone(),
                resource,
                cancel.clone(),
                move |change| affected(&noted, &change, &noted.queue),
            );
            tasks.spawn(follow);
        }
        let controllers = Self { cancel: cancel.clone(), tasks, cache: context.cache.clone() };
        let listed = context.wait_for("the cluster's objects", FIRST_LIST, |c| c.cache.is_ready().then_some(()));
        if let Err(error) = listed.await {
            controllers.stop().await;
            return Err(Error::new(Kind::Unreachable, "the Longhorn controllers cannot list the cluster's objects")
                .source(error));
        }
        let run = queue::run(wishes, cancel, move |task| {
            let context = context.clone();
            async move { reconcile(&context, &task).await }
        });
        controllers.tasks.spawn(run);
        controllers.tasks.close();
        Ok(controllers)
    }

    /// What the controllers know of the cluster, for reviews of writes: Longhorn's webhooks look things up there, too.
    pub fn objects(&self) -> Arc<dyn Objects> {
        self.cache.clone()
    }

    /// Ends all controllers and waits until nothing of theirs runs any more.
    pub async fn stop(&self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn reconcile(context: &Context, task: &Task) -> Result<Again> {
    tokio::select! {
        done = work(context, task) => match done {
            // It was deleted meanwhile; its deletion is a change of its own.
            Err(error) if error.kind() == Kind::NotFound && gone(context, task) => Ok(None),
            done => done,
        },
        () = context.cancel.cancelled() => Ok(None),
    }
}

fn work<'a>(context: &'a Context, task: &'a Task) -> BoxFuture<'a, Result<Again>> {
    match task {
        Task::Backup(name) => backup::reconcile(context, name).boxed(),
        Task::BackupTarget(name) => target::reconcile(context, name).boxed(),
        Task::BackupVolume(name) => backup_volume::reconcile(context, name).boxed(),
        Task::Claim(namespace, name) => provision::reconcile(context, namespace, name).boxed(),
        Task::Engine(volume) => restore::reconcile(context, volume).boxed(),
        Task::Job(name) => recurring::run_job(context, name).boxed(),
        Task::RecurringJob(name) => recurring::reconcile(context, name).boxed(),
        Task::Secret(name) => target::secret_changed(context, name).boxed(),
        Task::Snapshot(name) => snapshot::reconcile(context, name).boxed(),
        Task::SystemBackup(name) => system::backup::reconcile(context, name).boxed(),
        Task::SystemRestore(name) => system::restore::reconcile(context, name).boxed(),
        Task::Volume(name) => volume::reconcile(context, name).boxed(),
    }
}

fn gone(context: &Context, task: &Task) -> bool {
    let (resource, name) = match task {
        Task::Backup(name) => (Resource::Backup, name),
        Task::BackupTarget(name) => (Resource::BackupTarget, name),
        Task::BackupVolume(name) => (Resource::BackupVolume, name),
        Task::Job(name) => (Resource::Job, name),
        Task::RecurringJob(name) => (Resource::RecurringJob, name),
        Task::Secret(name) => (Resource::Secret, name),
        Task::Snapshot(name) => (Resource::Snapshot, name),
        Task::SystemBackup(name) => (Resource::SystemBackup, name),
        Task::SystemRestore(name) => (Resource::SystemRestore, name),
        Task::Engine(name) | Task::Volume(name) => (Resource::Volume, name),
        Task::Claim(namespace, name) => return context.cache.get(Resource::Claim, namespace, name).is_none(),
    };
    context.get(resource, name).is_none()
}

/// Asks for a look at everything a change concerns.
fn affected(context: &Context, change: &Change, queue: &Queue) {
    let object = &change.object;
    let name = object.name_any();
    let volume = |name: &str| {
        if !name.is_empty() {
            queue.add(Task::Volume(name.to_owned()));
        }
    };
    match change.resource {
        Resource::Backup => queue.add(Task::Backup(name)),
        Resource::BackupTarget => queue.add(Task::BackupTarget(name)),
        Resource::BackupVolume => {
            let of = object.text("/spec/volumeName");
            volume(of);
            for standby in context.list(Resource::Volume) {
                if standby.flag("/status/restoreRequired") {
                    volume(&standby.name_any());
                }
            }
            queue.add(Task::BackupVolume(name));
        }
        Resource::Engine | Resource::Replica => {
            let of = object.text("/spec/volumeName");
            volume(of);
        }
        Resource::Setting => {
            for engine in context.list(Resource::Engine) {
                queue.add(Task::Engine(engine.text("/spec/volumeName").to_owned()));
            }
        }
        Resource::Snapshot => {
            for backup in context.list(Resource::Backup) {
                if backup.text("/spec/snapshotName") == name {
                    queue.add(Task::Backup(backup.name_any()));
                }
            }
            queue.add(Task::Snapshot(name));
        }
        Resource::Volume => {
            for snapshot in context.list(Resource::Snapshot) {
                if snapshot.text("/spec/volume") == name && !snapshot.flag("/status/readyToUse") {
                    queue.add(Task::Snapshot(snapshot.name_any()));
                }
            }
            for backup in context.list(Resource::Backup) {
                if backup.labels().get(names::LABEL_BACKUP_VOLUME) == Some(&name) && backup::is_pending(&backup) {
                    queue.add(Task::Backup(backup.name_any()));
                }
            }
            if let Some(uid) = name.strip_prefix("pvc-") {
                for claim in context.list(Resource::Claim) {
                    if claim.metadata.uid.as_deref() == Some(uid) {
                        queue.add(claim_task(&claim));
                    }
                }
            }
            queue.add(Task::Volume(name));
        }
        Resource::VolumeAttachment => volume(object.text("/spec/volume")),
        Resource::Claim => {
            if let Some(bound) = context.get(Resource::PersistentVolume, object.text("/spec/volumeName")) {
                volume(bound.text("/spec/csi/volumeHandle"));
            }
            queue.add(claim_task(object));
        }
        Resource::PersistentVolume => volume(object.text("/spec/csi/volumeHandle")),
        Resource::Pod => {
            for used in object.field("/spec/volumes").as_array().into_iter().flatten() {
                let claim = used.text("/persistentVolumeClaim/claimName");
                let namespace = object.namespace().unwrap_or_default();
                let bound = context.cache.get(Resource::Claim, &namespace, claim);
                let bound =
                    bound.and_then(|claim| context.get(Resource::PersistentVolume, claim.text("/spec/volumeName")));
                if let Some(bound) = bound {
                    volume(bound.text("/spec/csi/volumeHandle"));
                }
            }
        }
        Resource::Secret => queue.add(Task::Secret(name)),
        Resource::EngineImage | Resource::StorageClass => {}
        Resource::CronJob | Resource::RecurringJob => queue.add(Task::RecurringJob(name)),
        Resource::Job => queue.add(Task::Job(name)),
        Resource::SystemBackup => queue.add(Task::SystemBackup(name)),
        Resource::SystemRestore => queue.add(Task::SystemRestore(name)),
    }
}

fn claim_task(claim: &kube::core::DynamicObject) -> Task {
    Task::Claim(claim.namespace().unwrap_or_default(), claim.name_any())
}
