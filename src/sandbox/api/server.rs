//! Starting and stopping the server: TLS, the token, connections.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{admission::Admission, gc, pki::Pki, pods::Pods, routes, status::Failure, store::Store, write};
use crate::{Error, Kind, Result};

/// How long a client may take for the TLS handshake, and how long open requests may take to end on stop.
const PATIENCE: Duration = Duration::from_secs(5);

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
        let tls = TlsAcceptor::from(config.pki.server_config()?);
        let listener = TcpListener::bind(config.listen).await.map_err(|error| cannot_listen(config.listen, error))?;
        let addr = listener.local_addr().map_err(|error| cannot_listen(config.listen, error))?;
        let cluster = Arc::new(Cluster::new(config.token, config.admission, config.pods));
        cluster.tasks.spawn(gc::run(cluster.clone()));
        cluster.tasks.spawn(accept(listener, tls, cluster.clone()));
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

fn cannot_listen(addr: SocketAddr, error: std::io::Error) -> Error {
    let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
    let failure = Error::new(if in_use { Kind::Refused } else { Kind::Failed }, format!("cannot listen on {addr}"))
        .object(addr.to_string())
        .source(error);
    if in_use { failure.hint("another sandbox may be running; stop it, or choose another port") } else { failure }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, cluster: Arc<Cluster>) {
    let router = Router::new().fallback(handle).with_state(cluster.clone());
    loop {
        let accepted = tokio::select! {
            () = cluster.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve(stream, tls.clone(), router.clone(), cluster.stopping.clone());
                cluster.tasks.spawn(connection);
            }
            // Out of file descriptors, or a client gone before it was served: the next one may have more luck.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, router: Router, stopping: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(PATIENCE, tls.accept(stream));
    let stream = tokio::select! {
        () = stopping.cancelled() => return,
        stream = handshake => stream,
    };
    // A client that does not speak TLS, or does not trust us, has been told so by the handshake.
    let Ok(Ok(stream)) = stream else { return };
    let server = auto::Builder::new(TokioExecutor::new());
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(PATIENCE, connection).await;
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
