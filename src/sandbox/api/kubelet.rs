//! The part of a kubelet that API servers in other processes need: logs and exec of this node's pods.
//!
//! Paths and parameters are those of the kubelet of Kubernetes 1.33 to 1.36. Only API servers get in: clients show a
//! certificate of the authority that is named at the start. Exec is WebSocket only, as between client and API server.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{Path, Query, Request, State},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    listener::{Endpoint, Listener},
    pki::Pki,
    pods::{ContainerRef, Pods},
    routes::Params,
    streams::{self, Streams, Wants},
};
use crate::Result;

/// Serves logs and exec of `pods` at `listen` to the holders of a certificate of `client_ca` (PEM).
///
/// Errors: `refused` when the address is in use, `invalid` for broken certificates.
pub async fn serve(listen: SocketAddr, pki: &Pki, client_ca: &str, pods: Arc<dyn Pods>) -> Result<Endpoint> {
    let listener = Listener::bind(listen, pki, Some(client_ca)).await?;
    let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
    let streams = Streams { pods, stopping: stopping.clone(), tasks: tasks.clone() };
    let router = Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs))
        .route("/exec/{namespace}/{pod}/{container}", get(exec).post(exec))
        .with_state(streams);
    Ok(Endpoint::new(listener, router, stopping, tasks))
}

type Names = (String, String, String);

fn container((namespace, pod, container): Names) -> ContainerRef {
    ContainerRef { namespace, pod, container: Some(container) }
}

async fn logs(
    State(streams): State<Streams>,
    Path(names): Path<Names>,
    Query(params): Query<Vec<(String, String)>>,
) -> Response {
    let answer = streams::serve_logs(&streams, container(names), &Params(params)).await;
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn exec(
    State(streams): State<Streams>,
    Path(names): Path<Names>,
    Query(params): Query<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let params = Params(params);
    // What clients of an API server call `stdin` is `input` here.
    let wants = Wants { stdin: params.flag("input"), tty: params.flag("tty") };
    let (mut parts, _) = request.into_parts();
    let answer = streams::serve_exec(&streams, container(names), &params, wants, &mut parts).await;
    answer.unwrap_or_else(IntoResponse::into_response)
}
