//! What a run works on: the operator's cluster and bucket, or the embedded ones, which end with it.

use std::{collections::BTreeMap, sync::Arc};

use super::{Setting, site};
#[cfg(feature = "sandbox")]
use crate::sandbox::{Sandbox, SandboxOptions};
use crate::{
    Result,
    cluster::ConnectOptions,
    script::{Library, Settings, Site},
};

/// The cluster and the bucket of one run.
pub struct Place {
    /// How scripts reach them.
    pub settings: Settings,
    #[cfg(feature = "sandbox")]
    sandbox: Option<Arc<Sandbox>>,
}

impl Place {
    /// The operator's cluster and bucket, or the embedded ones with `--sandbox`, started now.
    pub fn open(setting: &Setting, library: Library, parameters: BTreeMap<String, String>) -> Result<Self> {
        if setting.globals.sandbox {
            return Self::embedded(setting, library, parameters);
        }
        let cluster = ConnectOptions {
            kubeconfig: setting.globals.kubeconfig.clone(),
            context: setting.globals.context.clone(),
            namespace: setting.globals.namespace.clone(),
        };
        let store = setting.config.store()?;
        let commands = setting.config.site.clone();
        let site = commands.map(|commands| Arc::new(site::Commands::new(setting, &cluster, commands)) as Arc<dyn Site>);
        let settings = Settings { library, cluster, store, parameters, site };
        Ok(Self {
            settings,
            #[cfg(feature = "sandbox")]
            sandbox: None,
        })
    }

    #[cfg(feature = "sandbox")]
    fn embedded(setting: &Setting, library: Library, parameters: BTreeMap<String, String>) -> Result<Self> {
        use crate::objectstore::StoreConfig;

        let sandbox = start(setting, SandboxOptions::default())?;
        let s3 = sandbox.s3();
        let store = StoreConfig {
            endpoint: Some(s3.endpoint.clone()),
            region: s3.region.clone(),
            bucket: s3.bucket.clone(),
            access_key: Some(s3.access_key.clone()),
            secret_key: Some(s3.secret_key.clone()),
            ..StoreConfig::default()
        };
        let cluster = ConnectOptions {
            kubeconfig: Some(sandbox.kubeconfig().to_owned()),
            context: None,
            namespace: setting.globals.namespace.clone(),
        };
        let sandbox = Arc::new(sandbox);
        let settings = Settings {
            library,
            cluster,
            store: Some(store),
            parameters,
            site: Some(Arc::new(site::Embedded(sandbox.clone()))),
        };
        Ok(Self { settings, sandbox: Some(sandbox) })
    }

    #[cfg(not(feature = "sandbox"))]
    fn embedded(_: &Setting, _: Library, _: BTreeMap<String, String>) -> Result<Self> {
        Err(missing())
    }

    /// Stops what was started.
    pub fn close(self, setting: &Setting) -> Result<()> {
        #[cfg(feature = "sandbox")]
        if let Some(sandbox) = self.sandbox {
            return stop(setting, &sandbox);
        }
        let _ = setting;
        Ok(())
    }
}

/// Starts an embedded cluster; an interrupt stops the start.
#[cfg(feature = "sandbox")]
pub fn start(setting: &Setting, options: SandboxOptions) -> Result<Sandbox> {
    use crate::{Error, Kind, terminal::Unit};

    let progress = setting.terminal.progress("starting the embedded cluster", Unit::Items);
    let cancel = setting.interrupts.token();
    let started = setting.runtime.block_on(async {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::new(Kind::Cancelled, "interrupted while the embedded cluster started")),
            started = Sandbox::start(options) => started,
        }
    });
    drop(progress);
    started
}

/// Stops an embedded cluster: its processes end, and its files are removed.
#[cfg(feature = "sandbox")]
pub fn stop(setting: &Setting, sandbox: &Sandbox) -> Result<()> {
    let progress = setting.terminal.progress("stopping the embedded cluster", crate::terminal::Unit::Items);
    let stopped = setting.runtime.block_on(sandbox.stop());
    drop(progress);
    stopped
}

/// Why there is no embedded cluster in a program built without it.
#[cfg(not(feature = "sandbox"))]
pub fn missing() -> crate::Error {
    crate::Error::new(crate::Kind::Usage, "this lhrun was built without the embedded cluster")
        .hint("use one built with the feature `sandbox`, or name a cluster with --kubeconfig or --context")
}
