//! Logs and exec of pods, as an API server and as a kubelet serve them.
//!
//! Exec is the WebSocket protocol `v5.channel.k8s.io` (and `v4`, which cannot close its input): each message begins
//! with a channel number.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{
        FromRequestParts as _,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    http::{HeaderValue, header, request::Parts},
    response::IntoResponse,
};
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    pods::{ContainerRef, ExecStreams, LogRequest, Pods},
    read,
    routes::{Call, Params},
    status::{Answer, Failure},
};
use crate::{Error, Kind};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const CLOSE: u8 = 255;
/// Bytes on their way between client and command, each direction.
const PIPE: usize = 64 << 10;
/// Largest message a client may send.
const MAX_MESSAGE: usize = 4 << 20;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (code, reason) = match error.kind() {
            Kind::NotFound => (404, "NotFound"),
            Kind::Invalid | Kind::Usage => (400, "BadRequest"),
            Kind::Denied | Kind::Refused => (403, "Forbidden"),
            Kind::Conflict => (409, "Conflict"),
            Kind::Timeout => (504, "Timeout"),
            _ => (500, "InternalError"),
        };
        Self::new(code, reason, error.to_string())
    }
}

/// Whom streams come from, and what ends them.
#[derive(Clone)]
pub(super) struct Streams {
    pub pods: Arc<dyn Pods>,
    /// Cancelled when the server stops.
    pub stopping: CancellationToken,
    /// Sessions that outlive their request.
    pub tasks: TaskTracker,
}

impl Streams {
    fn of(call: &Call) -> Self {
        let cluster = &call.cluster;
        Self { pods: cluster.pods.clone(), stopping: cluster.stopping.clone(), tasks: cluster.tasks.clone() }
    }
}

/// `GET …/pods/NAME/log`.
pub(super) async fn logs(call: Call) -> Answer {
    serve_logs(&Streams::of(&call), container(&call)?, &call.params).await
}

/// The log of a container that is known to exist.
pub(super) async fn serve_logs(streams: &Streams, container: ContainerRef, params: &Params) -> Answer {
    let count =
        |name: &str| Ok::<_, Failure>(params.number(name)?.map(|value| usize::try_from(value).unwrap_or(usize::MAX)));
    let since_time = params.get("sinceTime").map(|text| {
        let since: Timestamp = text.parse().map_err(|_| Failure::bad_request(format!("invalid sinceTime {text:?}")))?;
        Ok::<_, Failure>(u64::try_from(Timestamp::now().as_second() - since.as_second()).unwrap_or_default())
    });
    let request = LogRequest {
        follow: params.flag("follow"),
        tail_lines: count("tailLines")?,
        since_seconds: params.number("sinceSeconds")?.or(since_time.transpose()?),
        timestamps: params.flag("timestamps"),
        previous: params.flag("previous"),
    };
    let lines = streams.pods.logs(container, request).await?;
    let body = Body::from_stream(lines.take_until(streams.stopping.clone().cancelled_owned()));
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The container a call is about; the pod has to exist and to have it.
fn container(call: &Call) -> Answer<ContainerRef> {
    let pod = read::find(call)?;
    let name = call.name()?;
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let containers: Vec<&str> = lists
        .iter()
        .flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten())
        .filter_map(|container| container["name"].as_str())
        .collect();
    let wanted = call.params.get("container").filter(|container| !container.is_empty());
    if let Some(wanted) = wanted
        && !containers.contains(&wanted)
    {
        return Err(Failure::bad_request(format!("container {wanted} is not valid for pod {name}")));
    }
    if wanted.is_none() && pod["spec"]["containers"].as_array().is_some_and(|own| own.len() > 1) {
        let message =
            format!("a container name must be specified for pod {name}, choose one of: [{}]", containers.join(" "));
        return Err(Failure::bad_request(message));
    }
    Ok(ContainerRef {
        namespace: call.target.namespace().to_owned(),
        pod: name.to_owned(),
        container: wanted.map(str::to_owned),
    })
}

/// `GET …/pods/NAME/exec`, upgraded to a WebSocket.
pub(super) async fn exec(call: Call, parts: &mut Parts) -> Answer {
    let container = container(&call)?;
    let wants = Wants { stdin: call.params.flag("stdin"), tty: call.params.flag("tty") };
    serve_exec(&Streams::of(&call), container, &call.params, wants, parts).await
}

/// A command in a container that is known to exist.
pub(super) async fn serve_exec(
    streams: &Streams,
    container: ContainerRef,
    params: &Params,
    wants: Wants,
    parts: &mut Parts,
) -> Answer {
    let command: Vec<String> = params.all("command").map(str::to_owned).collect();
    if command.is_empty() {
        return Err(Failure::bad_request("you must specify at least 1 container command"));
    }
    let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await;
    let upgrade =
        upgrade.map_err(|_| Failure::bad_request("exec needs an upgrade to WebSocket (kubectl 1.31 or later)"))?;
    let upgrade = upgrade.protocols(["v5.channel.k8s.io", "v4.channel.k8s.io"]).max_message_size(MAX_MESSAGE);
    if upgrade.selected_protocol().is_none() {
        return Err(Failure::bad_request("exec speaks v5.channel.k8s.io and v4.channel.k8s.io only"));
    }
    let streams = streams.clone();
    let tasks = streams.tasks.clone();
    Ok(upgrade
        .on_upgrade(move |socket| tasks.track_future(session(streams, socket, Ask { container, command, wants }))))
}

struct Ask {
    container: ContainerRef,
    command: Vec<String>,
    wants: Wants,
}

/// What a client of a command wants beside its output.
#[derive(Clone, Copy)]
pub(super) struct Wants {
    pub stdin: bool,
    /// A terminal has one output, and its lines end in CR LF.
    pub tty: bool,
}

/// Runs the command until it ends, the client leaves, or the server stops.
async fn session(served: Streams, socket: WebSocket, ask: Ask) {
    let (mut sink, stream) = socket.split();
    let (input, stdin) = tokio::io::duplex(PIPE);
    let (stdout, out) = tokio::io::duplex(PIPE);
    let (stderr, err) = tokio::io::duplex(PIPE);
    let wants = ask.wants;
    let streams = ExecStreams {
        stdin: wants.stdin.then(|| Box::new(stdin) as Box<dyn AsyncRead + Send + Unpin>),
        stdout: Box::new(stdout),
        stderr: Box::new(stderr),
    };
    let run = async {
        let exit = served.pods.exec(ask.container, ask.command, streams);
        let (exit, sent) = tokio::join!(exit, send_output(&mut sink, out, err, wants.tty));
        sent.map(|()| exit)
    };
    let exit = tokio::select! {
        exit = run => exit,
        () = receive_input(stream, input, wants.tty) => None,
        // Clients wait for a status; one that never comes leaves some of them reading for ever.
        () = served.stopping.cancelled() => Some(Err(Error::new(Kind::Cancelled, "the server is shutting down"))),
    };
    if let Some(exit) = exit {
        let status = exit_status(&exit).to_string();
        let _ = sink.send(frame(STATUS, status.as_bytes())).await;
    }
    // kubectl takes any other code, or none, for a broken connection and forgets the status.
    let normal = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    let _ = sink.send(Message::Close(Some(normal))).await;
}

/// What a client is told at the end. A command that ran and failed is no failure of the server.
fn exit_status(exit: &crate::Result<i32>) -> Value {
    match exit {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => Failure::from(error.clone()).to_value(),
    }
}

fn frame(channel: u8, data: &[u8]) -> Message {
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(channel);
    message.extend_from_slice(data);
    Message::Binary(message.into())
}

/// Sends both outputs to their ends; `None` when the client has left.
async fn send_output(
    sink: &mut (impl Sink<Message> + Unpin),
    mut out: DuplexStream,
    mut err: DuplexStream,
    tty: bool,
) -> Option<()> {
    let (mut out_open, mut err_open) = (true, true);
    let (mut out_data, mut err_data) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    while out_open || err_open {
        let (channel, data) = tokio::select! {
            read = out.read(&mut out_data), if out_open => {
                let length = read.unwrap_or(0);
                out_open = length > 0;
                (STDOUT, &out_data[..length])
            }
            read = err.read(&mut err_data), if err_open => {
                let length = read.unwrap_or(0);
                err_open = length > 0;
                (if tty { STDOUT } else { STDERR }, &err_data[..length])
            }
        };
        if !data.is_empty() {
            let message = if tty { frame(channel, &with_carriage_returns(data)) } else { frame(channel, data) };
            sink.send(message).await.ok()?;
        }
    }
    Some(())
}

fn with_carriage_returns(data: &[u8]) -> Vec<u8> {
    data.iter()
        .flat_map(|byte| if *byte == b'\n' { &b"\r\n"[..] } else { std::slice::from_ref(byte) })
        .copied()
        .collect()
}

/// Feeds what the client sends; returns when the client has left.
async fn receive_input<E>(mut stream: impl Stream<Item = Result<Message, E>> + Unpin, input: DuplexStream, tty: bool) {
    let mut input = Some(input);
    while let Some(Ok(message)) = stream.next().await {
        let data = match &message {
            Message::Binary(data) => &data[..],
            Message::Close(_) => return,
            _ => continue,
        };
        match data.split_first() {
            Some((&STDIN, data)) => {
                let Some(pipe) = &mut input else { continue };
                let (data, ends) = if tty { typed(data) } else { (data.to_vec(), false) };
                // A command that has stopped reading does not care for more.
                if pipe.write_all(&data).await.is_err() || ends {
                    input = None;
                }
            }
            Some((&CLOSE, [STDIN])) => input = None,
            _ => {}
        }
    }
}

/// What a raw terminal sends, as a command without a terminal understands it: Enter ends a line, Ctrl-D the input.
fn typed(data: &[u8]) -> (Vec<u8>, bool) {
    const CTRL_D: u8 = 4;
    let end = data.iter().position(|byte| *byte == CTRL_D);
    let data = &data[..end.unwrap_or(data.len())];
    (data.iter().map(|byte| if *byte == b'\r' { b'\n' } else { *byte }).collect(), end.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_a_cause() {
        assert_eq!(exit_status(&Ok(0))["status"], "Success");
        let status = exit_status(&Ok(3));
        assert_eq!((&status["status"], &status["reason"]), (&json!("Failure"), &json!("NonZeroExitCode")));
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        let error = Error::new(Kind::NotFound, "no such container");
        assert_eq!(exit_status(&Err(error))["code"], 404);
    }

    #[test]
    fn a_terminal_speaks_its_own_way() {
        assert_eq!(with_carriage_returns(b"a\nb"), b"a\r\nb");
        assert_eq!(typed(b"ls\r"), (b"ls\n".to_vec(), false));
        assert_eq!(typed(b"x\x04y"), (b"x".to_vec(), true));
    }
}
