//! The client against an API server.

#![cfg(feature = "sandbox")]

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{fake::Lab, *};
use crate::{
    Error, Kind, Result,
    sandbox::api::{
        admission::{Admission, Objects, Refusal, Review},
        pods::{ContainerRef, ExecStreams, LogRequest, NoPods, Pods},
    },
};

const SHORT: Duration = Duration::from_secs(10);

fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}})
}

fn reference(kind: &str, name: &str) -> ObjectRef {
    ObjectRef::new(kind, name).unwrap()
}

async fn apply(cluster: &Cluster, object: &Value) -> Change {
    cluster.apply(object, ApplyOptions::default()).await.unwrap().change
}

#[tokio::test]
async fn apply_tells_what_it_did() {
    let lab = Lab::start().await;
    let cluster = lab.cluster().await;
    assert_eq!(apply(&cluster, &config_map("a", "1")).await, Change::Created);
    assert_eq!(apply(&cluster, &config_map("a", "1")).await, Change::Unchanged);
    let dry = ApplyOptions { dry_run: true, force: false };
    assert_eq!(cluster.apply(&config_map("a", "2"), dry).await.unwrap().change, Change::Configured);
    assert_eq!(cluster.get(&reference("cm", "a")).await.unwrap()["data"]["key"], "1");
    assert_eq!(apply(&cluster, &config_map("a", "2")).await, Change::Configured);
    // An object as it was read, with all the server's bookkeeping, can be applied again.
    let read = cluster.get(&reference("configmaps", "default/a")).await.unwrap();
    assert_eq!(apply(&cluster, &read).await, Change::Unchanged);
}

#[tokio::test]
async fn reading_finds_lists_and_misses() {
    let lab = Lab::start().await;
    let cluster = lab.cluster().await;
    for name in ["b", "a"] {
        apply(&cluster, &config_map(name, "1")).await;
    }
    cluster.label(&reference("cm", "a"), &json!({"tier": "db"})).await.unwrap();
    let all = cluster.list("cm", &ListOptions::default()).await.unwrap();
    assert_eq!(all.iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((&all[0]["kind"], &all[0]["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    let some = cluster.list("ConfigMap", &ListOptions::default().selector("tier=db")).await.unwrap();
    assert_eq!(some.len(), 1);
    let named = ListOptions { fields: Some("metadata.name=b".into()), ..ListOptions::everywhere() };
    assert_eq!(cluster.list("configmaps", &named).await.unwrap().len(), 1);
    assert!(cluster.list("cm", &ListOptions::namespace("elsewhere")).await.unwrap().is_empty());
    assert_eq!(cluster.find(&reference("cm", "c")).await.unwrap(), None);
    assert!(cluster.exists(&reference("cm", "default/b")).await.unwrap());
    let missing = cluster.get(&reference("cm", "c")).await.unwrap_err();
    assert_eq!((missing.kind(), missing.object_name()), (Kind::NotFound, Some("cm/c")));
    // A kind nobody serves is a mistake, also for `find`.
    let unknown = cluster.find(&reference("cmap", "c")).await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
    let scoped = cluster.get(&reference("namespace", "default/x")).await.unwrap_err();
    assert_eq!(scoped.kind(), Kind::Usage);
}

#[tokio::test]
async fn patches_and_deletion() {
    let lab = Lab::start().await;
    let cluster = lab.cluster().await;
    apply(&cluster, &config_map("a", "1")).await;
    let map = reference("cm", "a");
    let operations = json!([{"op": "replace", "path": "/data/key", "value": "2"}]);
    let patched = cluster.patch(&map, &operations, PatchKind::Json, None).await.unwrap();
    assert_eq!(patched["data"]["key"], "2");
    let patched = cluster.merge(&map, &json!({"data": {"key": null, "other": "3"}})).await.unwrap();
    assert_eq!(patched["data"], json!({"other": "3"}));
    let wrong = cluster.patch(&map, &json!({"op": "replace"}), PatchKind::Json, None).await.unwrap_err();
    assert_eq!(wrong.kind(), Kind::Usage);
    let waited = DeleteOptions { wait: Some(SHORT), ..DeleteOptions::default() };
    assert!(cluster.delete(&map, waited).await.unwrap());
    assert!(!cluster.delete(&map, waited).await.unwrap());
}

#[tokio::test]
async fn a_deletion_that_is_held_up_names_the_finalizer() {
    let lab = Lab::start().await;
    let cluster = lab.cluster().await;
    let mut object = config_map("held", "1");
    object["metadata"]["finalizers"] = json!(["example.org/hold"]);
    apply(&cluster, &object).await;
    let waited = DeleteOptions { wait: Some(Duration::from_secs(1)), ..DeleteOptions::default() };
    let error = cluster.delete(&reference("cm", "held"), waited).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    assert!(error.message().contains("example.org/hold"), "{error}");
}

#[tokio::test]
async fn conflicting_managers_are_told_apart() {
    let lab = Lab::start().await;
    let cluster = lab.cluster().await;
    let client = cluster.inner.client.clone();
    let api: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::namespaced(client, "default");
    let other = kube::api::PatchParams::apply("other");
    api.patch("a", &other, &kube::api::Patch::Apply(config_map("a", "theirs"))).await.unwrap();
    let error = cluster.apply(&config_map("a", "ours"), ApplyOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.hint_text().unwrap().contains("force"));
    let forced = cluster.apply(&config_map("a", "ours"), ApplyOptions { force: true, dry_run: false }).await.unwrap();
    assert_eq!(forced.object["data"]["key"], "ours");
}

#[tokio::test]
async fn waits_follow_the_object() {
    let lab = Lab::start().await;
    let cluster = lab.cluster().await;
    let map = reference("cm", "later");
    let what = WaitFor::parse("jsonpath={.data.key}=ready").unwrap();
    let waiting = tokio::spawn({
        let (cluster, map, what) = (cluster.clone(), map.clone(), what.clone());
        async move { cluster.wait(&map, &what, SHORT).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    apply(&cluster, &config_map("later", "not yet")).await;
    apply(&cluster, &config_map("later", "ready")).await;
    assert_eq!(waiting.await.unwrap().unwrap()["data"]["key"], "ready");
    let gone = tokio::spawn({
        let (cluster, map) = (cluster.clone(), map.clone());
        async move { cluster.wait(&map, &WaitFor::Delete, SHORT).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.delete(&map, DeleteOptions::default()).await.unwrap();
    assert_eq!(gone.await.unwrap().unwrap(), Value::Null);
}

#[tokio::test]
async fn a_wait_that_ends_says_what_it_saw_and_the_events() {
    let lab = Lab::start().await;
    let cluster = lab.cluster().await;
    apply(&cluster, &config_map("a", "1")).await;
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a.1", "namespace": "default"},
        "involvedObject": {"kind": "ConfigMap", "name": "a", "namespace": "default"}, "type": "Warning",
        "reason": "Stuck", "message": "nobody sets the key", "lastTimestamp": "2026-01-01T00:00:00Z"});
    apply(&cluster, &event).await;
    let what = WaitFor::parse("jsonpath={.data.key}=2").unwrap();
    let error = cluster.wait(&reference("cm", "a"), &what, Duration::from_millis(700)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    assert!(error.message().contains("last seen: {.data.key} is \"1\""), "{error}");
    assert!(error.hint_text().unwrap().contains("Warning Stuck: nobody sets the key"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_goes_away_is_told_from_an_object_that_does_not_change() {
    let lab = Lab::start().await;
    let cluster = lab.cluster().await;
    let queries = [Query::list("configmaps", ListOptions::default())];
    let waiting = tokio::spawn({
        let cluster = cluster.clone();
        async move {
            let never = |_: &Observer| Ok(ControlFlow::<(), _>::Continue("nothing".to_string()));
            cluster.watch(&queries, Duration::from_secs(3), "waiting for nothing", never).await
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    lab.server.stop().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), Kind::Unreachable);
}

#[tokio::test]
async fn wrong_credentials_are_denied() {
    let lab = Lab::start().await;
    let path = lab.folder.path().join("config");
    let text = std::fs::read_to_string(&path).unwrap().replace("test-token", "wrong-token");
    std::fs::write(&path, text).unwrap();
    let error = Cluster::connect(&lab.options()).await.unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (Kind::Denied, 6), "{error}");
    assert!(!error.to_string().contains("wrong-token"));
}

/// Fails each write a few times as a webhook does whose pods restart.
#[derive(Default)]
struct Restarting(std::sync::atomic::AtomicUsize);

impl Admission for Restarting {
    fn review(&self, _: &Review<'_>, _: &mut Value, _: &dyn Objects) -> Result<(), Refusal> {
        let count = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if count < 2 {
            let message =
                "Internal error occurred: failed calling webhook \"validator.longhorn.io\": no endpoints available";
            return Err(Refusal { code: 500, message: message.into() });
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_webhook_that_restarts_is_waited_for() {
    let lab = Lab::with(Arc::new(Restarting::default()), Arc::new(NoPods)).await;
    let cluster = lab.cluster().await;
    assert_eq!(apply(&cluster, &config_map("a", "1")).await, Change::Created);
}

/// Runs a few made-up commands.
struct Shell;

impl Pods for Shell {
    fn logs(
        &self,
        container: ContainerRef,
        request: LogRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes>>>> {
        Box::pin(async move {
            let text = format!("{} of {:?}, {:?} lines\n", container.pod, container.container, request.tail_lines);
            Ok(futures::stream::iter([Ok(Bytes::from(text))]).boxed())
        })
    }

    fn exec(&self, _: ContainerRef, command: Vec<String>, mut streams: ExecStreams) -> BoxFuture<'_, Result<i32>> {
        Box::pin(async move {
            match command[0].as_str() {
                "cat" => {
                    let mut input = Vec::new();
                    if let Some(stdin) = &mut streams.stdin {
                        stdin.read_to_end(&mut input).await.unwrap();
                    }
                    streams.stdout.write_all(&input).await.unwrap();
                    streams.stderr.write_all(b"done").await.unwrap();
                    Ok(0)
                }
                "fail" => Ok(3),
                "sleep" => {
                    tokio::time::sleep(Duration::from_mins(1)).await;
                    Ok(0)
                }
                _ => Err(Error::new(Kind::Invalid, "no such program")),
            }
        })
    }
}

async fn pod(cluster: &Cluster) -> ObjectRef {
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "main", "image": "x"}]}});
    apply(cluster, &object).await;
    reference("pod", "p")
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn commands_get_their_input_and_give_their_code() {
    let lab = Lab::with(Arc::new(crate::sandbox::api::admission::AdmitAll), Arc::new(Shell)).await;
    let cluster = lab.cluster().await;
    let pod = pod(&cluster).await;
    // More than any buffer on the way, so that both directions flow at once.
    let input: Vec<u8> = (0..300_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let options = ExecOptions { stdin: Some(input.clone()), timeout: Some(SHORT), ..ExecOptions::default() };
    let output = cluster.exec(&pod, &words(&["cat"]), &options).await.unwrap();
    assert_eq!((output.code, output.stdout == input, output.stderr.as_slice()), (0, true, b"done".as_slice()));
    let output = cluster.exec(&pod, &words(&["fail"]), &ExecOptions::default()).await.unwrap();
    assert_eq!(output.code, 3);
    let limited = ExecOptions { timeout: Some(Duration::from_millis(300)), ..ExecOptions::default() };
    assert_eq!(cluster.exec(&pod, &words(&["sleep"]), &limited).await.unwrap_err().kind(), Kind::Timeout);
    assert_eq!(cluster.exec(&pod, &[], &limited).await.unwrap_err().kind(), Kind::Usage);
    assert!(cluster.exec(&pod, &words(&["nope"]), &ExecOptions::default()).await.is_err());
}

#[tokio::test]
async fn logs_are_read_from_pods_only() {
    let lab = Lab::with(Arc::new(crate::sandbox::api::admission::AdmitAll), Arc::new(Shell)).await;
    let cluster = lab.cluster().await;
    let pod = pod(&cluster).await;
    let options = LogOptions { container: Some("main".into()), tail: Some(5), previous: false };
    assert_eq!(cluster.logs(&pod, &options).await.unwrap(), "p of Some(\"main\"), Some(5) lines\n");
    let wrong = cluster.logs(&reference("cm", "p"), &options).await.unwrap_err();
    assert_eq!(wrong.kind(), Kind::Usage);
}

#[tokio::test]
async fn a_scale_that_changes_nothing_is_told() {
    let lab = Lab::start().await;
    let cluster = lab.cluster().await;
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {"replicas": 2,
        "serviceName": "web", "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]}}}});
    apply(&cluster, &set).await;
    let web = reference("sts", "web");
    assert!(!cluster.scale(&web, 2).await.unwrap());
    assert!(cluster.scale(&web, 0).await.unwrap());
    assert_eq!(cluster.get(&web).await.unwrap()["spec"]["replicas"], 0);
}

#[tokio::test]
async fn secrets_are_written_and_read_and_not_shown() {
    use secrecy::{ExposeSecret, SecretString};
    let lab = Lab::start().await;
    let cluster = lab.cluster().await;
    let values = std::collections::BTreeMap::from([("KEY".to_string(), SecretString::from("hush"))]);
    assert_eq!(cluster.apply_secret("default", "s", &values).await.unwrap(), Change::Created);
    assert_eq!(cluster.apply_secret("default", "s", &values).await.unwrap(), Change::Unchanged);
    let read = cluster.secret("default", "s").await.unwrap();
    assert_eq!(read["KEY"].expose_secret(), "hush");
    assert!(!format!("{read:?}").contains("hush"));
}
