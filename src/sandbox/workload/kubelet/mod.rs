//! The kubelet stand-in, with the scheduler and the CSI attacher it needs: runs every pod of the cluster as local
//! processes.
//!
//! A container's image only chooses a stand-in (see [`images`]); its command runs with the machine's own programs, as
//! one unprivileged user, without a container around it. Volumes are folders; how mount paths reach them is told in
//! [`super::runtime::paths`]. Not done: networks, limits, security contexts, lifecycle hooks, other volume kinds than
//! persistentVolumeClaim, emptyDir, configMap, secret and projected.

mod attach;
mod container;
mod ending;
mod environment;
pub mod images;
mod probe;
mod projected;
mod status;
mod task;
mod volumes;
mod wait;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    attach::Attacher,
    task::{PodTask, Seen},
};
use super::{events::Recorder, runtime::Runtime};
use crate::sandbox::longhorn::disk::Disk;

/// What all pods share.
pub struct Kubelet {
    client: Client,
    runtime: Arc<Runtime>,
    attacher: Attacher,
    events: Recorder,
    scheduler: Recorder,
    attach_detach: Recorder,
    stop: CancellationToken,
}

/// Runs the cluster's pods until `stop`, then ends them all and waits for them.
pub async fn run(client: Client, disk: Disk, runtime: Arc<Runtime>, stop: CancellationToken) {
    let kubelet = Arc::new(Kubelet {
        attacher: Attacher::new(client.clone(), disk),
        events: Recorder::new(client.clone(), "kubelet"),
        scheduler: Recorder::new(client.clone(), "default-scheduler"),
        attach_detach: Recorder::new(client.clone(), "attachdetach-controller"),
        client: client.clone(),
        runtime,
        stop: stop.clone(),
    });
    let tasks = TaskTracker::new();
    let mut pods = Pods { kubelet, tasks: tasks.clone(), known: HashMap::new(), listed: HashSet::new() };
    let mut changes = watcher(Api::<Pod>::all(client), watcher::Config::default()).default_backoff().boxed();
    loop {
        tokio::select! {
            event = changes.next() => match event {
                Some(Ok(event)) => pods.on(event),
                Some(Err(error)) => tracing::debug!(%error, "watching pods"),
                None => break,
            },
            () = stop.cancelled() => break,
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// The tasks of all pods.
struct Pods {
    kubelet: Arc<Kubelet>,
    tasks: TaskTracker,
    known: HashMap<String, watch::Sender<Seen>>,
    /// Uids of the list that is being received.
    listed: HashSet<String>,
}

impl Pods {
    fn on(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.insert(pod.uid().unwrap_or_default());
                self.seen(pod);
            }
            Event::InitDone => {
                // What vanished while the watch was broken.
                let gone: Vec<_> = self.known.keys().filter(|uid| !self.listed.contains(*uid)).cloned().collect();
                for uid in gone {
                    self.gone(&uid);
                }
            }
            Event::Apply(pod) => self.seen(pod),
            Event::Delete(pod) => self.gone(&pod.uid().unwrap_or_default()),
        }
    }

    fn seen(&mut self, pod: Pod) {
        let pod = Arc::new(pod);
        let uid = pod.uid().unwrap_or_default();
        if let Some(task) = self.known.get(&uid) {
            task.send_replace(Seen::Present(pod));
            return;
        }
        let (sender, receiver) = watch::channel(Seen::Present(pod.clone()));
        self.known.insert(uid, sender);
        self.tasks.spawn(PodTask::run(self.kubelet.clone(), pod, receiver));
    }

    fn gone(&mut self, uid: &str) {
        if let Some(task) = self.known.remove(uid) {
            task.send_replace(Seen::Gone);
        }
    }
}
