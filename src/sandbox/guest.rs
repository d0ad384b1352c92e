//! Longhorn and a node on somebody else's Kubernetes: everything of the sandbox that is not Kubernetes itself.
//!
//! Claims are bound, garbage is collected and workloads make their pods by that cluster's own controllers; here are the
//! node that runs the pods, Longhorn's controllers and its webhooks. The cluster must know Longhorn's kinds already. It
//! must not attach volumes itself, because the node does, nor watch over the node's heartbeat.

use std::{fmt, path::PathBuf, sync::Arc};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    api::{Endpoint, Pki, kubelet, webhook},
    folder::Folder,
    lifecycle::{S3Access, loopback},
    longhorn::{self, LonghornControllers, admission::LonghornAdmission, disk::Disk},
    programs::Programs,
    workload::{
        self, Workload,
        runtime::{Runtime, process::Processes},
    },
};
use crate::Result;

/// How to join a cluster.
#[derive(Clone, Debug)]
pub struct GuestOptions {
    /// How to reach it, with all rights.
    pub kubeconfig: PathBuf,
    /// The bucket of Longhorn's backup target.
    pub s3: S3Access,
    /// Certificates of the node and of the webhooks. The API server must trust their authority for kubelets.
    pub pki: Pki,
    /// Authority (PEM) of the certificate that the API server shows to kubelets.
    pub client_ca: String,
}

/// A node and Longhorn, as clients of a cluster that runs elsewhere. Dropping it kills the pods.
pub struct Guest {
    // The order matters when it is dropped: clients before servers, files last.
    _cancel: DropGuard,
    longhorn: LonghornControllers,
    workload: Workload,
    servers: [Endpoint; 2],
    processes: Arc<Processes>,
    _folder: Folder,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").finish_non_exhaustive()
    }
}

impl Guest {
    /// Joins the cluster and installs Longhorn's objects in it; returns when its controllers know what is there.
    ///
    /// Errors: `not-found` for a missing system program, with its package; `unreachable` when the cluster does not list
    /// Longhorn's kinds.
    pub async fn join(options: GuestOptions) -> Result<Self> {
        let programs = Programs::find()?;
        let folder = Folder::open(None)?;
        let processes = Processes::start(folder.run())?;
        let runtime = Arc::new(Runtime::new(folder.pods(), programs, processes.clone()));
        let client = workload::connect(&options.kubeconfig).await?;
        let disk = Disk::new(folder.volumes());
        let installed = options.s3.longhorn();
        let cancel = CancellationToken::new();
        let guard = cancel.clone().drop_guard();
        let longhorn =
            LonghornControllers::start(client.clone(), disk.clone(), runtime.clone(), installed.clone(), cancel)
                .await?;
        let kubelet = kubelet::serve(loopback(0), &options.pki, &options.client_ca, runtime.clone()).await?;
        let admission = Arc::new(LonghornAdmission::called(installed.namespace.as_str()));
        let webhooks = webhook::serve(loopback(0), &options.pki, admission, longhorn.objects()).await?;
        // Longhorn's own objects go through its webhooks, as in a real installation.
        longhorn::register_webhooks(&client, webhooks.addr(), &options.pki.ca).await?;
        longhorn::install(client.clone(), &installed).await?;
        let workload = Workload::start_node(client, disk, runtime, Some(kubelet.addr().port())).await?;
        Ok(Self { _cancel: guard, longhorn, workload, servers: [kubelet, webhooks], processes, _folder: folder })
    }

    /// Ends the pods and everything else of it, and waits for that. Nothing is taken out of the cluster.
    pub async fn leave(self) {
        self.longhorn.stop().await;
        self.workload.stop().await;
        for server in self.servers {
            server.stop().await;
        }
        self.processes.end();
    }
}
