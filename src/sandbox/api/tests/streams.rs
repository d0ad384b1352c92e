use bytes::Bytes;
use futures::{
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt as _},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{AttachParams, LogParams},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{
    Result,
    sandbox::api::pods::{ContainerRef, ExecStreams, LogRequest},
};

/// `exec`: copies its input to its output, says its command on the other, and exits with the number it was called with.
pub(super) struct FakePods;

impl Pods for FakePods {
    fn logs(
        &self,
        container: ContainerRef,
        request: LogRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes>>>> {
        Box::pin(async move {
            let text = format!("{} {:?} {:?}\n", container.pod, container.container, request.tail_lines);
            let first = stream::iter([Ok(Bytes::from(text))]);
            Ok(if request.follow { first.chain(stream::pending()).boxed() } else { first.boxed() })
        })
    }

    fn exec(&self, _: ContainerRef, command: Vec<String>, streams: ExecStreams) -> BoxFuture<'_, Result<i32>> {
        Box::pin(async move {
            let ExecStreams { stdin, mut stdout, mut stderr } = streams;
            if let Some(mut stdin) = stdin {
                tokio::io::copy(&mut stdin, &mut stdout).await.unwrap();
            }
            stderr.write_all(command.join(" ").as_bytes()).await.unwrap();
            if command[0] == "sleep" {
                std::future::pending::<()>().await;
            }
            Ok(command.last().unwrap().parse().unwrap_or(0))
        })
    }
}

pub(super) async fn lab_with_pod() -> Lab {
    let lab = Lab::with(Arc::new(AdmitAll), Arc::new(FakePods)).await;
    let spec = json!({"containers": [{"name": "main", "image": "i"}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec});
    assert_eq!(lab.post("/api/v1/namespaces/default/pods", pod).await.0, 201);
    lab
}

#[tokio::test]
async fn exec_carries_input_outputs_and_the_exit_code() {
    let lab = lab_with_pod().await;
    let pods: Api<Pod> = Api::namespaced(lab.client.clone(), "default");
    let mut process = pods.exec("p", ["exit", "3"], &AttachParams::default().stdin(true)).await.unwrap();
    let large = "x".repeat(300_000);
    let mut stdin = process.stdin().unwrap();
    let (mut out, mut err) = (process.stdout().unwrap(), process.stderr().unwrap());
    let status = process.take_status().unwrap();
    let (mut text, mut error) = (String::new(), String::new());
    let writing = async {
        stdin.write_all(large.as_bytes()).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let ((), read, read_error) = tokio::join!(writing, out.read_to_string(&mut text), err.read_to_string(&mut error));
    read.unwrap();
    read_error.unwrap();
    assert_eq!(text.len(), large.len());
    assert_eq!(error, "exit 3");
    let status = status.await.unwrap();
    assert_eq!(status.status.as_deref(), Some("Failure"));
    let cause = &status.details.unwrap().causes.unwrap()[0];
    assert_eq!((cause.reason.as_deref(), cause.message.as_deref()), (Some("ExitCode"), Some("3")));
}

#[tokio::test]
async fn exec_needs_a_pod_a_container_and_a_command() {
    let lab = lab_with_pod().await;
    let path = "/api/v1/namespaces/default/pods";
    for (rest, code) in
        [("q/exec?command=x", 404), ("p/exec?command=x&container=no", 400), ("p/exec", 400), ("p/exec?command=x", 400)]
    {
        assert_eq!(lab.get(&format!("{path}/{rest}")).await.0, code, "{rest}");
    }
}

#[tokio::test]
async fn logs_come_with_their_options() {
    let lab = lab_with_pod().await;
    let pods: Api<Pod> = Api::namespaced(lab.client.clone(), "default");
    let options = LogParams { tail_lines: Some(2), container: Some("main".into()), ..LogParams::default() };
    assert_eq!(pods.logs("p", &options).await.unwrap(), "p Some(\"main\") Some(2)\n");
    let missing = pods.logs("q", &LogParams::default()).await.unwrap_err();
    assert!(matches!(missing, kube::Error::Api(status) if status.code == 404));
}

#[tokio::test]
async fn stopping_ends_sessions_and_followed_logs() {
    let lab = lab_with_pod().await;
    let pods: Api<Pod> = Api::namespaced(lab.client.clone(), "default");
    let mut process = pods.exec("p", ["sleep"], &AttachParams::default()).await.unwrap();
    let follow = LogParams { follow: true, ..LogParams::default() };
    let log = pods.log_stream("p", &follow).await.unwrap();
    let mut err = process.stderr().unwrap();
    let mut said = [0; 5];
    err.read_exact(&mut said).await.unwrap();
    let started = std::time::Instant::now();
    lab.server.stop().await;
    drop(log);
    assert!(started.elapsed() < std::time::Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(err.read(&mut said).await.unwrap(), 0);
    assert_eq!(process.take_status().unwrap().await.unwrap().status.as_deref(), Some("Failure"));
}
