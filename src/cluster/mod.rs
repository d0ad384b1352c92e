//! Kubernetes without Longhorn: connecting, kinds, objects, apply, waiting, exec and logs.
//!
//! Objects are `serde_json::Value`s as the server sent them; [`ObjectRef`] names one with its kind as a user types it.

mod apply;
mod connect;
mod events;
mod exec;
#[cfg(test)]
pub(crate) mod fake;
mod fault;
mod helm;
mod jsonpath;
mod kinds;
mod logs;
pub mod manifest;
mod objects;
mod observe;
mod reference;
mod request;
mod rollout;
mod secrets;
#[cfg(test)]
mod tests;
mod wait;

use std::sync::{Arc, RwLock};

pub use apply::{Applied, ApplyOptions, Change};
pub use connect::ConnectOptions;
pub use events::Event;
pub use exec::{ExecOptions, ExecOutput};
pub use helm::HelmRelease;
pub use kinds::{ApiKind, KindIndex};
pub use logs::LogOptions;
pub use objects::{DeleteOptions, ListOptions, PatchKind, Propagation};
pub use observe::{Observer, Query};
pub use reference::ObjectRef;
pub use wait::WaitFor;

/// A connection to one cluster; cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    client: kube::Client,
    server: String,
    context: Option<String>,
    namespace: String,
    version: String,
    kinds: RwLock<Option<Arc<KindIndex>>>,
}

impl Cluster {
    fn new(client: kube::Client, server: String, context: Option<String>, namespace: String, version: String) -> Self {
        let kinds = RwLock::new(None);
        Self { inner: Arc::new(Inner { client, server, context, namespace, version, kinds }) }
    }

    /// URL of the API server.
    pub fn server(&self) -> &str {
        &self.inner.server
    }

    /// Context of the kubeconfig; `None` inside a pod.
    pub fn context(&self) -> Option<&str> {
        self.inner.context.as_deref()
    }

    /// Namespace of objects that are named without one.
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// Version of the server, for example `v1.33.5+k3s1`.
    pub fn version(&self) -> &str {
        &self.inner.version
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("server", &self.inner.server).field("context", &self.inner.context).finish()
    }
}
