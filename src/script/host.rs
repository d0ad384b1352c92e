//! What primitives may use: the cluster, the store, the terminal, the run, and the operator's wish to stop.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use futures::future::BoxFuture;
use rhai::NativeCallContext;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Library;
use crate::{
    Error, Kind, Result,
    cluster::{Cluster, ConnectOptions},
    objectstore::{Store, StoreConfig},
    run::Run,
    terminal::Terminal,
};

/// What the operator asked for.
#[derive(Clone, Default)]
pub struct Settings {
    /// Where imports and manifests are looked up.
    pub library: Library,
    /// The cluster to use.
    pub cluster: ConnectOptions,
    /// The bucket to use, if one is configured.
    pub store: Option<StoreConfig>,
    /// Values of the runbook's parameters (`--set name=value`).
    pub parameters: BTreeMap<String, String>,
    /// The cluster's own life cycle, if it can be controlled.
    pub site: Option<Arc<dyn Site>>,
}

/// The cluster's own life cycle, for drills: the sandbox's, or the commands the operator configured.
pub trait Site: Send + Sync {
    /// Its name: `sandbox`, or the cluster's context.
    fn name(&self) -> String;
    /// Where files about this cluster belong: beside the configuration, or what goes with the sandbox.
    fn folder(&self) -> PathBuf;
    /// Destroys the cluster; what is in the bucket stays.
    fn teardown(&self) -> BoxFuture<'_, Result<()>>;
    /// Makes an empty cluster with Longhorn in it.
    fn rebuild(&self) -> BoxFuture<'_, Result<()>>;
    /// Installs what belongs on the rebuilt cluster besides Longhorn.
    fn deploy(&self) -> BoxFuture<'_, Result<()>>;
}

/// What primitives may use. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    settings: Settings,
    runtime: Handle,
    cancel: RwLock<CancellationToken>,
    terminal: Terminal,
    run: Run,
    cluster: Arc<tokio::sync::Mutex<Option<Cluster>>>,
    store: Arc<Mutex<Option<Store>>>,
    sources: Sources,
    /// The runbooks that are parts of runbooks, outermost first, down to this host's.
    parts: Vec<String>,
}

/// The texts of all scripts read so far, by the name errors show them under.
pub type Sources = Arc<Mutex<BTreeMap<String, String>>>;

impl Host {
    /// A host for one run. `cancel` stops the run's scripts and everything they wait for.
    pub fn new(settings: Settings, runtime: Handle, cancel: CancellationToken, terminal: Terminal, run: Run) -> Self {
        let (sources, cancel) = (Sources::default(), RwLock::new(cancel));
        Self(Arc::new(Inner {
            settings,
            runtime,
            cancel,
            terminal,
            run,
            cluster: Arc::default(),
            store: Arc::default(),
            sources,
            parts: Vec::new(),
        }))
    }

    /// The host of a runbook that another one runs: the same run, cluster and bucket, with parameters of its own.
    pub(super) fn for_part(&self, name: &str, parameters: BTreeMap<String, String>) -> Self {
        let Inner { settings, runtime, terminal, run, cluster, store, sources, parts, .. } = &*self.0;
        Self(Arc::new(Inner {
            settings: Settings { parameters, ..settings.clone() },
            runtime: runtime.clone(),
            cancel: RwLock::new(self.cancel()),
            terminal: terminal.clone(),
            run: run.clone(),
            cluster: cluster.clone(),
            store: store.clone(),
            sources: sources.clone(),
            parts: parts.iter().cloned().chain([name.to_owned()]).collect(),
        }))
    }

    /// The host of the engine a primitive was called from.
    ///
    /// # Panics
    ///
    /// If the engine was not made by [`engine::build`](super::engine::build).
    pub fn of(ctx: &NativeCallContext) -> Self {
        ctx.tag().and_then(|tag| tag.clone().try_cast::<Self>()).expect("engines are built with their host")
    }

    /// The runbooks that are parts of runbooks, outermost first, down to this host's; none for the operator's own.
    pub(super) fn parts(&self) -> &[String] {
        &self.0.parts
    }

    /// What the operator asked for.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The runtime asynchronous work runs on.
    pub fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// Cancelled when the operator interrupts the run.
    pub fn cancel(&self) -> CancellationToken {
        self.0.cancel.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Minds another token from now on: a session outlives the interrupts of its lines.
    pub fn renew(&self, cancel: CancellationToken) {
        *self.0.cancel.write().unwrap_or_else(PoisonError::into_inner) = cancel;
    }

    /// Where the run talks to the operator.
    pub fn terminal(&self) -> &Terminal {
        &self.0.terminal
    }

    /// The run: steps, checks, changes.
    pub fn run(&self) -> &Run {
        &self.0.run
    }

    /// The texts of the scripts read so far.
    pub fn sources(&self) -> &Sources {
        &self.0.sources
    }

    /// The cluster's life cycle. Fails with [`Kind::Usage`] when none is configured.
    pub fn site(&self) -> Result<Arc<dyn Site>> {
        self.0.settings.site.clone().ok_or_else(|| {
            Error::new(Kind::Usage, "no commands are configured that tear down and rebuild this cluster")
                .hint("run with --sandbox, or put them into the [site] table of lhrun.toml")
        })
    }

    /// The name of the site, if one is configured.
    pub fn site_name(&self) -> Option<String> {
        self.0.settings.site.as_ref().map(|site| site.name())
    }

    /// The cluster, connected to at the first call. Fails as [`Cluster::connect`].
    pub async fn cluster(&self) -> Result<Cluster> {
        let mut cluster = self.0.cluster.lock().await;
        if let Some(cluster) = &*cluster {
            return Ok(cluster.clone());
        }
        Ok(cluster.insert(Cluster::connect(&self.0.settings.cluster).await?).clone())
    }

    /// Forgets the connections, so that the next use connects again: after the cluster was rebuilt.
    pub async fn disconnect(&self) {
        *self.0.cluster.lock().await = None;
        *self.0.store.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The configured bucket or folder. Fails with [`Kind::Usage`] when none is configured.
    pub fn store(&self) -> Result<Store> {
        let mut store = self.0.store.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &*store {
            return Ok(store.clone());
        }
        let config = self.0.settings.store.as_ref().ok_or_else(|| {
            Error::new(Kind::Usage, "no bucket is configured")
                .hint("set it in the [store] table of lhrun.toml, or open one with s3::open(#{…})")
        })?;
        Ok(store.insert(Store::connect(config)?).clone())
    }

    /// Makes that store the configured one, as when a backup target's own credentials are used.
    pub fn use_store(&self, other: Store) {
        *self.0.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(other);
    }
}

#[cfg(test)]
pub(crate) mod fake {
    use std::sync::OnceLock;

    use super::*;
    use crate::{run::Silent, terminal::screen::fake::Captured};

    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();

    /// A host without cluster and bucket whose terminal is kept in memory.
    pub(crate) fn host(settings: Settings) -> (Host, Captured) {
        let (terminal, captured) = Terminal::captured();
        let runtime = RUNTIME.get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
        });
        let run = Run::new("test.rhai", Silent);
        let host = Host::new(settings, runtime.handle().clone(), CancellationToken::new(), terminal, run);
        (host, captured)
    }
}
