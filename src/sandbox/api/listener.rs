//! HTTPS on loopback: connections until the server stops.

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::pki::Pki;
use crate::{Error, Kind, Result};

/// How long a client may take for the TLS handshake, and how long open requests may take to end on stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// A port that is held, and the certificate to serve it with.
pub(super) struct Listener {
    socket: TcpListener,
    tls: TlsAcceptor,
    addr: SocketAddr,
}

impl Listener {
    /// Takes the port (0: a free one). With a `client_ca` (PEM) clients must show a certificate of that authority.
    /// Errors: `refused` when the address is in use, `invalid` for broken certificates.
    pub async fn bind(listen: SocketAddr, pki: &Pki, client_ca: Option<&str>) -> Result<Self> {
        let tls = TlsAcceptor::from(pki.server_config(client_ca)?);
        let socket = TcpListener::bind(listen).await.map_err(|error| cannot_listen(listen, error))?;
        let addr = socket.local_addr().map_err(|error| cannot_listen(listen, error))?;
        Ok(Self { socket, tls, addr })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves the router until `stopping`; `tasks` has every connection.
    pub fn serve(self, router: Router, stopping: &CancellationToken, tasks: &TaskTracker) {
        tasks.spawn(accept(self, router, stopping.clone(), tasks.clone()));
    }
}

/// A server beside the API server: it ends when the value is stopped or dropped.
#[derive(Debug)]
pub struct Endpoint {
    addr: SocketAddr,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Endpoint {
    pub(super) fn new(listener: Listener, router: Router, stopping: CancellationToken, tasks: TaskTracker) -> Self {
        let addr = listener.addr();
        listener.serve(router, &stopping, &tasks);
        Self { addr, stopping, tasks }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes all connections and waits for their end.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

fn cannot_listen(addr: SocketAddr, error: std::io::Error) -> Error {
    let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
    let failure = Error::new(if in_use { Kind::Refused } else { Kind::Failed }, format!("cannot listen on {addr}"))
        .object(addr.to_string())
        .source(error);
    if in_use { failure.hint("another sandbox may be running; stop it, or choose another port") } else { failure }
}

async fn accept(listener: Listener, router: Router, stopping: CancellationToken, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tasks.spawn(serve(stream, listener.tls.clone(), router.clone(), stopping.clone()));
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
