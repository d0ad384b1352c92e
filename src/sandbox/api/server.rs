//! Starting and stopping the server, and the token.

use std::{fmt, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    admission::Admission, gc, listener::Listener, pki::Pki, pods::Pods, routes, status::Failure, store::Store, write,
};
use crate::Result;

/// What a server is made of.
pub struct ApiConfig {
    /// Loopback address; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Certificates.
    pub pki: Pki,
    /// Bearer token that clients must send.
    pub token: SecretString,
    /// Reviews writes.
    pub admission: Arc<dyn Admission>,
    /// Serves logs and exec.
    pub pods: Arc<dyn Pods>,
}

impl fmt::Debug for ApiConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiConfig").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// What requests are served from.
pub(super) struct Cluster {
    pub store: Arc<Store>,
    pub admission: Arc<dyn Admission>,
    pub pods: Arc<dyn Pods>,
    /// Cancelled when the server stops.
    pub stopping: CancellationToken,
    /// Every task of the server.
    pub tasks: TaskTracker,
    token: SecretString,
}

impl Cluster {
    /// With the namespaces every cluster has from the start.
    pub fn new(token: SecretString, admission: Arc<dyn Admission>, pods: Arc<dyn Pods>) -> Self {
        // Versions begin at the time in milliseconds, so that a client of an earlier life of this cluster is told to list
        // again instead of waiting for versions that mean something else now.
        let version = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        let cluster = Self {
            store: Arc::new(Store::new(version)),
            admission,
            pods,
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            token,
        };
        write::seed(&cluster);
        cluster
    }
}

/// A running API server.
pub struct ApiServer {
    addr: SocketAddr,
    cluster: Arc<Cluster>,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Starts an empty cluster (only the system's namespaces). Errors: `refused` when the address is in use, `invalid`
    /// for broken certificates.
    pub async fn start(config: ApiConfig) -> Result<Self> {
        let listener = Listener::bind(config.listen, &config.pki, None).await?;
        let addr = listener.addr();
        let cluster = Arc::new(Cluster::new(config.token, config.admission, config.pods));
        cluster.tasks.spawn(gc::run(cluster.clone()));
        let router = Router::new().fallback(handle).with_state(cluster.clone());
        listener.serve(router, &cluster.stopping, &cluster.tasks);
        Ok(Self { addr, cluster })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends watches, logs and exec sessions, closes all connections and waits until nothing of it runs any more.
    pub async fn stop(self) {
        self.cluster.stopping.cancel();
        self.cluster.tasks.close();
        self.cluster.tasks.wait().await;
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.cluster.stopping.cancel();
    }
}

async fn handle(State(cluster): State<Arc<Cluster>>, request: Request) -> Response {
    let path = request.uri().path();
    let open = matches!(path, "/healthz" | "/livez" | "/readyz" | "/version");
    if !open && !authorized(&cluster, &request) {
        return Failure::new(401, "Unauthorized", "Unauthorized").into_response();
    }
    routes::dispatch(cluster, request).await.unwrap_or_else(IntoResponse::into_response)
}

/// Compares the whole token whatever differs, so that the time it takes says nothing about it.
fn authorized(cluster: &Cluster, request: &Request) -> bool {
    let expected = cluster.token.expose_secret().as_bytes();
    let sent = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let Some(sent) = sent.and_then(|value| value.strip_prefix(b"Bearer ")) else { return false };
    sent.len() == expected.len() && sent.iter().zip(expected).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
