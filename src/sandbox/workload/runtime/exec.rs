//! Logs and commands, as the API server asks for them.

use std::{os::unix::process::ExitStatusExt, process::Stdio, time::Duration};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::Runtime;
use crate::{
    Error, Kind, Result,
    sandbox::api::pods::{ContainerRef, ExecStreams, LogRequest, Pods},
};

/// How long output may still come after the command has ended, from children that kept its pipes.
const LINGER: Duration = Duration::from_secs(1);

impl Pods for Runtime {
    fn logs(
        &self,
        container: ContainerRef,
        request: LogRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes>>>> {
        Box::pin(async move {
            let (_, found) = self.container(&container)?;
            let log = if request.previous {
                found.previous.ok_or_else(|| {
                    let text = format!("previous terminated container in pod {} not found", container.pod);
                    Error::new(Kind::NotFound, text)
                })?
            } else {
                found.log
            };
            log.read(request).await
        })
    }

    fn exec(&self, container: ContainerRef, command: Vec<String>, streams: ExecStreams) -> BoxFuture<'_, Result<i32>> {
        Box::pin(async move {
            let (pod, found) = self.container(&container)?;
            if !found.running {
                return Err(Error::new(Kind::Invalid, format!("container of pod {} is not running", container.pod)));
            }
            let argv: Vec<_> = command.iter().map(|word| found.environment.paths.localize(word)).collect();
            let stdin = if streams.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
            let spawned = pod.spawn(&argv, &found.environment, stdin).await;
            let mut spawned = spawned.map_err(|error| {
                let program = command.first().map_or("", String::as_str);
                Error::new(Kind::Invalid, format!("cannot run {program:?} in pod {}", container.pod)).source(error)
            })?;
            let child = &mut spawned.running.child;
            let input = copy_input(streams.stdin, child.stdin.take());
            let output = copy(child.stdout.take(), streams.stdout);
            let errors = copy(child.stderr.take(), streams.stderr);
            let output = async { tokio::join!(output, errors) };
            tokio::pin!(input, output);
            let mut fed = false;
            let mut drained = false;
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status,
                    () = &mut input, if !fed => fed = true,
                    _ = &mut output, if !drained => drained = true,
                }
            };
            let status = status.map_err(|error| Error::new(Kind::Failed, "waiting for the command").source(error))?;
            if !drained && tokio::time::timeout(LINGER, &mut output).await.is_err() {
                tracing::debug!(pod = container.pod, "a child of a finished command keeps its output open");
            }
            Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
        })
    }
}

async fn copy_input(from: Option<Box<dyn AsyncRead + Send + Unpin>>, to: Option<tokio::process::ChildStdin>) {
    if let (Some(mut from), Some(mut to)) = (from, to)
        // A command that does not read its input to the end is no failure.
        && let Err(error) = tokio::io::copy(&mut from, &mut to).await
    {
        tracing::trace!(%error, "feeding a command");
    }
}

async fn copy(from: Option<impl AsyncRead + Unpin>, mut to: Box<dyn AsyncWrite + Send + Unpin>) {
    let Some(mut from) = from else { return };
    if let Err(error) = tokio::io::copy(&mut from, &mut to).await {
        tracing::trace!(%error, "the client went away");
    }
    if let Err(error) = to.shutdown().await {
        tracing::trace!(%error, "the client went away");
    }
}
