//! Running a command in a container.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::{Cluster, ObjectRef, fault};
use crate::{Error, Kind, Result};

/// Most bytes of standard output, and of standard error, that a command may write.
const MOST_OUTPUT: u64 = 64 << 20;
/// Buffer between the connection and the reader.
const BUFFER: usize = 64 << 10;

/// How to run a command.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// Container; the pod's first when not named.
    pub container: Option<String>,
    /// Standard input, ended after the last byte.
    pub stdin: Option<Vec<u8>>,
    /// Longest time; the connection is closed then, on which the kubelet ends the command or lets it run on.
    pub timeout: Option<Duration>,
}

/// What a command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Cluster {
    /// Runs a command in a pod and gives its exit code and output. An exit code other than 0 is no error here.
    ///
    /// Errors: `not-found` for the pod or container, `timeout`, `invalid` when the command cannot be started or writes
    /// more than 64 MiB, `unreachable` when the connection breaks before the exit code is known.
    pub async fn exec(&self, pod: &ObjectRef, command: &[String], options: &ExecOptions) -> Result<ExecOutput> {
        let kind = self.kind(&pod.kind).await?;
        if kind.full_name() != "pods" {
            return Err(Error::new(Kind::Usage, format!("commands run in pods, not in {}", kind.full_name())));
        }
        let program = command.first().ok_or_else(|| Error::new(Kind::Usage, format!("no command for {pod}")))?;
        let doing = format!("run {program} in {pod}");
        let run = self.run(pod, command, options, &doing);
        let output = match options.timeout {
            Some(limit) => tokio::time::timeout(limit, run).await.unwrap_or_else(|_| {
                Err(Error::new(Kind::Timeout, format!("{doing}: not finished within {} s", limit.as_secs())))
            }),
            None => run.await,
        };
        output.map_err(|error| error.object(pod.to_string()))
    }

    async fn run(&self, pod: &ObjectRef, command: &[String], options: &ExecOptions, doing: &str) -> Result<ExecOutput> {
        let kind = self.kind(&pod.kind).await?;
        let api: kube::Api<k8s_openapi::api::core::v1::Pod> = {
            let namespace = self.object_namespace(&kind, pod)?.unwrap_or(self.namespace());
            kube::Api::namespaced(self.inner.client.clone(), namespace)
        };
        let params = AttachParams {
            container: options.container.clone(),
            stdin: options.stdin.is_some(),
            max_stdin_buf_size: Some(BUFFER),
            max_stdout_buf_size: Some(BUFFER),
            max_stderr_buf_size: Some(BUFFER),
            ..AttachParams::default()
        };
        let attached = api.exec(&pod.name, command.iter().map(String::as_str), &params).await;
        let mut attached = attached.map_err(|error| fault::describe(error, doing))?;
        let status = attached.take_status();
        let (stdin, stdout, stderr) = (attached.stdin(), attached.stdout(), attached.stderr());
        let feed = async {
            if let (Some(mut writer), Some(bytes)) = (stdin, options.stdin.as_deref()) {
                // A command may end without reading its input; its exit code tells what became of it.
                let _ = writer.write_all(bytes).await;
                let _ = writer.shutdown().await;
                // Dropping the writer early would lose the end-of-file mark, so it lives until the command has ended.
                Some(writer)
            } else {
                None
            }
        };
        let ended = async {
            match status {
                Some(status) => status.await,
                None => None,
            }
        };
        let (_writer, stdout, stderr, status) =
            tokio::join!(feed, bounded(stdout, doing), bounded(stderr, doing), ended);
        let (stdout, stderr) = (stdout?, stderr?);
        Ok(ExecOutput { code: exit_code(status.as_ref(), doing)?, stdout, stderr })
    }
}

async fn bounded(stream: Option<impl AsyncRead + Unpin>, doing: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(stream) = stream else { return Ok(bytes) };
    let read = stream.take(MOST_OUTPUT + 1).read_to_end(&mut bytes).await;
    read.map_err(|error| Error::new(Kind::Unreachable, format!("{doing}: the output broke off")).source(error))?;
    if bytes.len() as u64 > MOST_OUTPUT {
        return Err(Error::new(Kind::Invalid, format!("{doing}: it wrote more than {} MiB", MOST_OUTPUT >> 20))
            .hint("write to a file in the container, or print a checksum or a count instead"));
    }
    Ok(bytes)
}

/// The exit code out of the status that ends the stream.
fn exit_code(status: Option<&Status>, doing: &str) -> Result<i32> {
    let Some(status) = status else {
        let message = format!("{doing}: the connection ended before the command's exit code was known");
        return Err(Error::new(Kind::Unreachable, message).hint("the command may still run in the container"));
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let code = causes
        .filter(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .find_map(|cause| cause.message.as_deref()?.parse().ok());
    let why = status.message.as_deref().unwrap_or("the command could not be run").trim();
    code.ok_or_else(|| Error::new(Kind::Invalid, format!("{doing}: {why}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code(status: serde_json::Value) -> Result<i32> {
        exit_code(Some(&serde_json::from_value(status).unwrap()), "run false in pod/a")
    }

    #[test]
    fn the_exit_code_is_in_the_causes() {
        assert_eq!(code(json!({"status": "Success"})).unwrap(), 0);
        let failed = json!({"status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with 3",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
        assert_eq!(code(failed).unwrap(), 3);
    }

    #[test]
    fn a_command_that_did_not_start_and_a_broken_stream_are_errors() {
        let failed = json!({"status": "Failure", "reason": "InternalError", "message": "exec: \"nope\": not found"});
        assert_eq!(code(failed).unwrap_err().kind(), Kind::Invalid);
        assert_eq!(exit_code(None, "run x").unwrap_err().kind(), Kind::Unreachable);
    }
}
