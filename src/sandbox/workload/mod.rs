//! Workloads: controllers that make pods, the claim binder, and a kubelet stand-in that runs pods as processes.
//!
//! All of it talks to the API server as any other client does, and follows it by watches.

mod binder;
mod controller;
mod events;
mod kubelet;
mod node;
mod objects;
mod reclaim;
pub mod runtime;
mod sets;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::runtime::Runtime;
use super::longhorn::disk::Disk;
use crate::{Error, Kind, Result};

/// Where Longhorn lives.
const LONGHORN_NAMESPACE: &str = "longhorn-system";

/// The running controllers of one cluster.
#[derive(Debug)]
pub struct Workload {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Workload {
    /// Registers the node and starts everything. `disk` holds the volumes' data, `runtime` runs the pods.
    pub async fn start(client: Client, disk: Disk, runtime: Arc<Runtime>) -> Result<Self> {
        let this = Self::start_node(client.clone(), disk, runtime, None).await?;
        let (stop, tasks) = (&this.stop, &this.tasks);
        tasks.spawn(binder::run(client.clone(), stop.clone()));
        tasks.spawn(sets::stateful_set::run(client.clone(), stop.clone()));
        tasks.spawn(sets::deployment::run(client.clone(), stop.clone()));
        tasks.spawn(sets::replica_set::run(client.clone(), stop.clone()));
        tasks.spawn(sets::daemon_set::run(client.clone(), stop.clone()));
        tasks.spawn(sets::job::run(client, stop.clone()));
        Ok(this)
    }

    /// The part that no Kubernetes has of its own: the node with what runs its pods, and Longhorn's provisioner. For a
    /// cluster whose controllers run elsewhere; `kubelet_port` is where its API server reaches this node.
    pub async fn start_node(
        client: Client,
        disk: Disk,
        runtime: Arc<Runtime>,
        kubelet_port: Option<u16>,
    ) -> Result<Self> {
        node::register(&client, kubelet_port).await?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(reclaim::run(client.clone(), stop.clone()));
        tasks.spawn(kubelet::run(client, disk, runtime, stop.clone()));
        Ok(Self { stop, tasks })
    }

    /// Ends all pods and controllers, and waits for them.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A client of the cluster that the kubeconfig describes.
pub async fn connect(kubeconfig: &Path) -> Result<Client> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(Kind::Failed, format!("connecting by {}", kubeconfig.display())).source(error)
    };
    let file = Kubeconfig::read_from(kubeconfig).map_err(|error| failed(error.into()))?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options).await.map_err(|error| failed(error.into()))?;
    Client::try_from(config).map_err(|error| failed(error.into()))
}
