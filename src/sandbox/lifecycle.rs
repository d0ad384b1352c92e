//! Starting, tearing down, rebuilding and stopping.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    api::{ApiConfig, ApiServer, Pki, write_kubeconfig},
    folder::{Folder, Keys},
    longhorn::{self, LonghornControllers, LonghornOptions, TargetOptions, admission::LonghornAdmission, disk::Disk},
    programs::Programs,
    s3::{Faults, S3Config, S3Server},
    workload::{
        self, Workload,
        runtime::{Runtime, process::Processes},
    },
};
use crate::Result;

/// The bucket that Longhorn's backup target points to.
const BUCKET: &str = "backups";
/// S3 wants a region; which one does not matter here.
const REGION: &str = "us-east-1";
/// Context, cluster and user of the kubeconfig.
const CONTEXT: &str = "lhrun-sandbox";

/// How to start a sandbox.
#[derive(Clone, Debug, Default)]
pub struct SandboxOptions {
    /// Keeps the bucket, keys and kubeconfig here; `None`: in a temporary folder that is removed at the end.
    pub folder: Option<PathBuf>,
    /// Port of the Kubernetes API on 127.0.0.1; 0 for a free one.
    pub api_port: u16,
    /// Port of S3 on 127.0.0.1; 0 for a free one.
    pub s3_port: u16,
}

/// How to reach the sandbox's S3.
#[derive(Clone, Debug)]
pub struct S3Access {
    /// `http://127.0.0.1:port`; requests are path-style.
    pub endpoint: String,
    /// Region of the signature.
    pub region: String,
    /// The bucket of the backup target.
    pub bucket: String,
    /// Access key id.
    pub access_key: String,
    /// Secret key.
    pub secret_key: SecretString,
}

impl S3Access {
    /// The backup target's URL.
    pub fn target_url(&self) -> String {
        format!("s3://{}@{}/", self.bucket, self.region)
    }

    /// A Longhorn whose backup target is this bucket.
    pub(super) fn longhorn(&self) -> LonghornOptions {
        let credentials = [
            ("AWS_ACCESS_KEY_ID", self.access_key.as_str()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_key.expose_secret()),
            ("AWS_ENDPOINTS", &self.endpoint),
            ("VIRTUAL_HOSTED_STYLE", "false"),
        ];
        let credentials = credentials.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        LonghornOptions {
            target: Some(TargetOptions {
                url: self.target_url(),
                secret: "s3-credentials".to_owned(),
                credentials,
                poll_interval: "5m0s".to_owned(),
            }),
            ..LonghornOptions::default()
        }
    }
}

/// An embedded cluster beside an S3 server.
///
/// Nothing of it outlives the process: dropping it kills the pods and removes what is temporary; a watchdog does so when
/// the process is killed.
pub struct Sandbox {
    // The order matters when it is dropped: clients before servers, files last.
    cluster: Mutex<Option<Cluster>>,
    processes: Arc<Processes>,
    s3: S3Server,
    access: S3Access,
    programs: Programs,
    pki: Pki,
    keys: Keys,
    api_address: SocketAddr,
    kubeconfig: PathBuf,
    folder: Folder,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("kubeconfig", &self.kubeconfig)
            .field("s3", &self.access)
            .finish_non_exhaustive()
    }
}

/// What a teardown takes away.
struct Cluster {
    /// Ends the controllers also when nobody waits for them.
    _cancel: DropGuard,
    longhorn: LonghornControllers,
    workload: Workload,
    api: ApiServer,
}

impl Sandbox {
    /// Starts S3 and a cluster with Longhorn installed, whose backup target is the S3 bucket.
    ///
    /// Errors: `not-found` for a missing system program, with its package; `refused` when the folder or a port belongs
    /// to another sandbox.
    pub async fn start(options: SandboxOptions) -> Result<Self> {
        let programs = Programs::find()?;
        let folder = Folder::open(options.folder.as_deref())?;
        let keys = folder.keys()?;
        let pki = Pki::load_or_generate(&folder.pki())?;
        let config = S3Config {
            listen: loopback(options.s3_port),
            root: folder.s3(),
            access_key: keys.access_key.clone(),
            secret_key: keys.secret_key.clone(),
        };
        let s3 = S3Server::start(config).await?;
        s3.create_bucket(BUCKET).await?;
        let access = S3Access {
            endpoint: s3.endpoint(),
            region: REGION.to_owned(),
            bucket: BUCKET.to_owned(),
            access_key: keys.access_key.clone(),
            secret_key: keys.secret_key.clone(),
        };
        let processes = Processes::start(folder.run())?;
        let mut sandbox = Self {
            cluster: Mutex::default(),
            processes,
            s3,
            access,
            programs,
            pki,
            keys,
            api_address: loopback(options.api_port),
            kubeconfig: folder.kubeconfig(),
            folder,
        };
        let cluster = sandbox.build().await?;
        // From now on every cluster of this sandbox is at the same place.
        sandbox.api_address = cluster.api.addr();
        sandbox.cluster = Mutex::new(Some(cluster));
        Ok(sandbox)
    }

    /// The kubeconfig of the cluster, readable by its owner only.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// How to reach S3.
    pub fn s3(&self) -> &S3Access {
        &self.access
    }

    /// Faults that S3 can be asked for.
    pub fn s3_faults(&self) -> Faults {
        self.s3.faults()
    }

    /// Destroys the cluster: its pods are killed, its objects and the data of its volumes are gone. S3 stays. Nothing
    /// to do when there is no cluster.
    pub async fn teardown(&self) -> Result<()> {
        let mut cluster = self.cluster.lock().await;
        self.destroy(cluster.take()).await
    }

    /// Makes an empty cluster in place of the present one, if there is one: same address and credentials, Longhorn
    /// installed, its backup target the same bucket.
    pub async fn rebuild(&self) -> Result<()> {
        let mut cluster = self.cluster.lock().await;
        self.destroy(cluster.take()).await?;
        *cluster = Some(self.build().await?);
        Ok(())
    }

    /// Stops everything and removes what is not kept. Nothing can be started again after it; the folder's lock is held
    /// until the sandbox is dropped.
    pub async fn stop(&self) -> Result<()> {
        let stopped = self.teardown().await;
        self.s3.stop().await;
        self.processes.end();
        stopped
    }

    #[cfg(test)]
    pub(super) fn folder_of_run(&self) -> &Path {
        self.folder.run()
    }

    async fn destroy(&self, cluster: Option<Cluster>) -> Result<()> {
        if let Some(cluster) = cluster {
            // First what reacts to others' ends, so that a teardown is not mistaken for a wish to delete anything.
            cluster.longhorn.stop().await;
            cluster.workload.stop().await;
            cluster.api.stop().await;
        }
        self.folder.wipe()
    }

    async fn build(&self) -> Result<Cluster> {
        let runtime = Arc::new(Runtime::new(self.folder.pods(), self.programs.clone(), self.processes.clone()));
        let options = self.access.longhorn();
        let config = ApiConfig {
            listen: self.api_address,
            pki: self.pki.clone(),
            token: self.keys.token.clone(),
            admission: Arc::new(LonghornAdmission::new(options.namespace.as_str())),
            pods: runtime.clone(),
        };
        let api = ApiServer::start(config).await?;
        write_kubeconfig(&self.kubeconfig, CONTEXT, api.addr(), &self.pki, &self.keys.token)?;
        let client = workload::connect(&self.kubeconfig).await?;
        longhorn::install(client.clone(), &options).await?;
        let disk = Disk::new(self.folder.volumes());
        let workload = Workload::start(client.clone(), disk.clone(), runtime.clone()).await?;
        let cancel = CancellationToken::new();
        let guard = cancel.clone().drop_guard();
        let longhorn = LonghornControllers::start(client, disk, runtime, options, cancel).await?;
        Ok(Cluster { _cancel: guard, longhorn, workload, api })
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.processes.end();
    }
}

pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
