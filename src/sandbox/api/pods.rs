//! What the API server asks of whoever runs the pods: logs and exec.

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Result;

/// Which container, as a client named it.
#[derive(Clone, Debug)]
pub struct ContainerRef {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Container; `None` means the pod's first.
    pub container: Option<String>,
}

/// Options of a log request.
#[derive(Clone, Debug, Default)]
pub struct LogRequest {
    /// Keep the stream open and send what is appended.
    pub follow: bool,
    /// Only the last lines.
    pub tail_lines: Option<usize>,
    /// Only lines of the last that many seconds.
    pub since_seconds: Option<u64>,
    /// Put the time in front of each line (RFC 3339).
    pub timestamps: bool,
    /// The instance before the last restart.
    pub previous: bool,
}

/// Streams of one exec request.
pub struct ExecStreams {
    /// Standard input; end of file when the client closes it. `None`: the command gets an empty one.
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Standard output.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// Standard error.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
}

/// Whoever runs the pods.
pub trait Pods: Send + Sync {
    /// The container's log. Errors: `not-found` for an unknown pod or container.
    fn logs(
        &self,
        container: ContainerRef,
        request: LogRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes>>>>;

    /// Runs a command beside the container's process and gives its exit code (128 + signal when killed).
    /// Dropping the future kills the command. Errors: `not-found`, `invalid` when it cannot be started.
    fn exec(&self, container: ContainerRef, command: Vec<String>, streams: ExecStreams) -> BoxFuture<'_, Result<i32>>;
}

/// No pods: every request is `not-found`.
#[derive(Debug, Default)]
pub struct NoPods;

impl Pods for NoPods {
    fn logs(&self, container: ContainerRef, _: LogRequest) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes>>>> {
        Box::pin(async move { Err(missing(&container)) })
    }

    fn exec(&self, container: ContainerRef, _: Vec<String>, _: ExecStreams) -> BoxFuture<'_, Result<i32>> {
        Box::pin(async move { Err(missing(&container)) })
    }
}

fn missing(container: &ContainerRef) -> crate::Error {
    crate::Error::new(crate::Kind::NotFound, format!("pods \"{}\" not found in {}", container.pod, container.namespace))
}
