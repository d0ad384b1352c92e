//! One pod's life on the node.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Binding, Container, ObjectReference, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;
use tokio::sync::watch;

use super::{
    Kubelet,
    container::Restart,
    ending::{Ending, Pace},
    status::{ContainerState, PodState},
};
use crate::{
    Kind, Result,
    sandbox::{
        NODE,
        workload::{
            objects::{api_error, deleting, if_found, pod_ended},
            runtime::PodRecord,
        },
    },
};

const DEFAULT_GRACE: u64 = 30;
/// Pause before something that failed is tried again; doubled each time up to the longest.
const RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What the API last showed of the pod.
#[derive(Clone, Debug)]
pub enum Seen {
    /// The object.
    Present(Arc<Pod>),
    /// It is there no more.
    Gone,
}

/// The task that runs one pod.
pub struct PodTask {
    pub(super) kubelet: Arc<Kubelet>,
    pub(super) pod: Arc<Pod>,
    pub(super) record: Arc<PodRecord>,
    state: Mutex<PodState>,
    /// Statuses are written one after the other.
    writing: tokio::sync::Mutex<()>,
}

impl PodTask {
    /// Runs the pod from where it is until its object is gone.
    pub async fn run(kubelet: Arc<Kubelet>, pod: Arc<Pod>, seen: watch::Receiver<Seen>) {
        let uid = pod.uid().unwrap_or_default();
        let record = match kubelet.runtime.add(&pod.namespace().unwrap_or_default(), &pod.name_any(), &uid) {
            Ok(record) => record,
            Err(error) => {
                kubelet.events.warning(&*pod, "FailedCreatePodSandBox", &error.to_string()).await;
                return;
            }
        };
        let state = Mutex::new(PodState::new(&pod));
        let task = Self { kubelet: kubelet.clone(), pod, record, state, writing: tokio::sync::Mutex::default() };
        let ending = Ending::default();
        if !pod_ended(&task.pod) {
            tokio::select! {
                () = task.live(&ending) => {}
                () = task.watch_for_end(seen.clone(), &ending) => {}
            }
        }
        // A torn-down cluster has no API server any more: nothing to tell it.
        if !kubelet.stop.is_cancelled() {
            let let_go = async {
                task.retried("FailedUnmount", || task.kubelet.attacher.release(&uid)).await;
                let ending = Ending::default();
                tokio::select! {
                    () = task.watch_for_end(seen, &ending) => {}
                    () = ending.wait() => {}
                }
                task.retried("FailedDelete", || task.finalize()).await;
            };
            tokio::select! {
                () = let_go => {}
                () = kubelet.stop.cancelled() => {}
            }
        }
        kubelet.runtime.remove(&uid);
    }

    /// From claims to the end of the last container.
    async fn live(&self, ending: &Ending) {
        let prepared = tokio::select! {
            volumes = self.prepare() => Some(volumes),
            () = ending.wait() => None,
        };
        if let Some(volumes) = prepared {
            self.run_containers(&volumes, ending).await;
        }
    }

    /// Begins the end when the pod is deleted or the cluster stops, and goes on watching until it is gone.
    async fn watch_for_end(&self, mut seen: watch::Receiver<Seen>, ending: &Ending) {
        loop {
            let grace = match &*seen.borrow_and_update() {
                Seen::Present(pod) if deleting(&**pod) => Some(grace(pod)),
                Seen::Present(_) => None,
                Seen::Gone => {
                    ending.begin(Pace::Graceful(Duration::ZERO));
                    ending.force();
                    None
                }
            };
            if let Some(grace) = grace
                && !ending.has_begun()
            {
                ending.begin(Pace::Graceful(grace));
            }
            tokio::select! {
                changed = seen.changed() => if changed.is_err() { std::future::pending().await },
                () = self.kubelet.stop.cancelled() => {
                    ending.begin(Pace::Teardown);
                    return std::future::pending().await;
                }
            }
        }
    }

    async fn prepare(&self) -> HashMap<String, PathBuf> {
        self.retried("FailedScheduling", || self.claims_bound()).await;
        self.retried("FailedScheduling", || self.schedule()).await;
        self.change(|state| state.scheduled = Ok(())).await;
        let volumes = self.retried("FailedMount", || self.mount_all()).await;
        self.change(|state| state.prepared = true).await;
        volumes
    }

    async fn schedule(&self) -> Result<()> {
        if self.pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
            return Ok(());
        }
        let binding = Binding {
            metadata: ObjectMeta { name: Some(self.pod_name()), uid: self.pod.uid(), ..ObjectMeta::default() },
            target: ObjectReference {
                kind: Some("Node".into()),
                name: Some(NODE.into()),
                ..ObjectReference::default()
            },
        };
        let bound = self.api().create_subresource("binding", &self.pod_name(), &PostParams::default(), &binding).await;
        let _: serde_json::Value = bound.map_err(api_error)?;
        let text = format!("Successfully assigned {}/{} to {NODE}", self.namespace(), self.pod_name());
        self.kubelet.scheduler.normal(&*self.pod, "Scheduled", &text).await;
        Ok(())
    }

    async fn run_containers(&self, volumes: &HashMap<String, PathBuf>, ending: &Ending) {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let restart = match spec.restart_policy.as_deref() {
            Some("Never") => Restart::Never,
            Some("OnFailure") => Restart::OnFailure,
            _ => Restart::Always,
        };
        if let Some(first) = spec.containers.first() {
            self.record.set_first(&first.name);
        }
        // An init container that restarts always is a sidecar: it runs beside the others.
        let init = spec.init_containers.unwrap_or_default().into_iter();
        let (sidecars, init): (Vec<Container>, Vec<Container>) =
            init.partition(|container| container.restart_policy.as_deref() == Some("Always"));
        for container in &init {
            let policy = if restart == Restart::Always { Restart::OnFailure } else { restart };
            if !self.run_container(container, policy, volumes, ending).await {
                if !ending.has_begun() {
                    self.change(|state| state.over = true).await;
                }
                return;
            }
        }
        let beside = join_all(sidecars.iter().map(|c| self.run_container(c, Restart::Always, volumes, ending)));
        let main = join_all(spec.containers.iter().map(|c| self.run_container(c, restart, volumes, ending)));
        tokio::select! {
            _ = main => {}
            () = async { beside.await; std::future::pending().await } => {}
        }
        if !ending.has_begun() {
            self.change(|state| state.over = true).await;
        }
    }

    /// Lets the deleted pod's object go.
    async fn finalize(&self) -> Result<()> {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: self.pod.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        match if_found(self.api().delete(&self.pod_name(), &params).await) {
            // Another pod has the name by now.
            Err(error) if error.kind() == Kind::Conflict => Ok(()),
            other => other.map(drop),
        }
    }

    /// Changes the status and writes it.
    pub(super) async fn change(&self, change: impl FnOnce(&mut PodState)) {
        change(&mut self.state());
        tokio::select! {
            () = self.retried("FailedStatus", || self.write()) => {}
            () = self.kubelet.stop.cancelled() => {}
        }
    }

    /// Changes one container's status and writes it.
    pub(super) async fn change_container(&self, name: &str, change: impl FnOnce(&mut ContainerState)) {
        self.change(|state| {
            if let Some(container) = state.container(name) {
                change(container);
            }
        })
        .await;
    }

    pub(super) fn with_state<T>(&self, look: impl FnOnce(&mut PodState) -> T) -> T {
        look(&mut self.state())
    }

    async fn write(&self) -> Result<()> {
        let _turn = self.writing.lock().await;
        let status = self.state().render(&self.pod);
        // The uid keeps it off another pod that took the name.
        let patch = json!({"metadata": {"uid": self.pod.uid()}, "status": status});
        let written = self.api().patch_status(&self.pod_name(), &PatchParams::default(), &Patch::Merge(patch)).await;
        match written.map_err(api_error) {
            Err(error) if error.kind() == Kind::Invalid => {
                let now = if_found(self.api().get(&self.pod_name()).await)?;
                if now.is_some_and(|pod| pod.uid() == self.pod.uid()) { Err(error) } else { Ok(()) }
            }
            Err(error) if !matches!(error.kind(), Kind::NotFound | Kind::Conflict) => Err(error),
            _ => Ok(()),
        }
    }

    /// Tries until it works, with growing pauses; an event says what stands in the way.
    pub(super) async fn retried<T, F: Future<Output = Result<T>>>(&self, reason: &str, attempt: impl Fn() -> F) -> T {
        let mut pause = RETRY;
        loop {
            let error = match attempt().await {
                Ok(value) => return value,
                Err(error) => error,
            };
            if matches!(error.kind(), Kind::Unreachable | Kind::Failed) {
                tracing::debug!(%error, pod = self.pod_name(), reason, "trying again");
            }
            let hint = error.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
            self.kubelet.events.warning(&*self.pod, reason, &format!("{error}{hint}")).await;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
    }

    fn state(&self) -> MutexGuard<'_, PodState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.kubelet.client.clone(), &self.namespace())
    }

    pub(super) fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }

    pub(super) fn pod_name(&self) -> String {
        self.pod.name_any()
    }

    pub(super) fn uid(&self) -> String {
        self.pod.uid().unwrap_or_default()
    }
}

fn grace(pod: &Pod) -> Duration {
    let from = |seconds: Option<i64>| seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let seconds = from(pod.metadata.deletion_grace_period_seconds)
        .or_else(|| from(pod.spec.as_ref()?.termination_grace_period_seconds))
        .unwrap_or(DEFAULT_GRACE);
    Duration::from_secs(seconds)
}
