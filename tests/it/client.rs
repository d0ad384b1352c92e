//! Requests to a Kubernetes API as they are on the wire, and what was answered: for tests that compare servers.

use std::{path::Path, sync::Arc, time::Duration};

use kube::{
    Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use tokio::runtime::Runtime;

/// A client that hides nothing: status codes and bodies.
#[derive(Clone)]
pub struct Client {
    client: kube::Client,
    runtime: Arc<Runtime>,
}

impl Client {
    /// For the cluster and user of the kubeconfig.
    pub fn new(kubeconfig: &Path) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let file = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let client = runtime.block_on(async {
            let mut config =
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("a cluster");
            config.read_timeout = Some(Duration::from_secs(30));
            kube::Client::try_from(config).expect("a client")
        });
        Self { client, runtime: Arc::new(runtime) }
    }

    /// One request. The status is 0 when no answer came.
    pub fn send(&self, method: &str, path: &str, content_type: &str, body: &str) -> (u16, Value) {
        let request = axum::http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .header("accept", "application/json")
            .body(Body::from(body.as_bytes().to_vec()))
            .expect("a request");
        self.runtime.block_on(async {
            let Ok(response) = self.client.send(request).await else { return (0, Value::Null) };
            let code = response.status().as_u16();
            let bytes = response.into_body().collect_bytes().await.unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            (code, serde_json::from_str(&text).unwrap_or(Value::String(text)))
        })
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "application/json", "")
    }

    /// The body of an answer that is no JSON.
    pub fn text(&self, path: &str) -> Option<String> {
        self.get(path).1.as_str().map(str::to_owned)
    }

    pub fn post(&self, path: &str, object: &Value) -> (u16, Value) {
        self.send("POST", path, "application/json", &object.to_string())
    }

    pub fn put(&self, path: &str, object: &Value) -> (u16, Value) {
        self.send("PUT", path, "application/json", &object.to_string())
    }

    pub fn merge(&self, path: &str, change: &Value) -> (u16, Value) {
        self.send("PATCH", path, "application/merge-patch+json", &change.to_string())
    }

    pub fn patch(&self, path: &str, operations: &Value) -> (u16, Value) {
        self.send("PATCH", path, "application/json-patch+json", &operations.to_string())
    }

    pub fn strategic(&self, path: &str, change: &Value) -> (u16, Value) {
        self.send("PATCH", path, "application/strategic-merge-patch+json", &change.to_string())
    }

    /// Server-side apply in the name of a manager; `more` are further query parameters, `&force=true`.
    pub fn apply(&self, path: &str, manager: &str, more: &str, object: &Value) -> (u16, Value) {
        let path = format!("{path}?fieldManager={manager}{more}");
        self.send("PATCH", &path, "application/apply-patch+yaml", &object.to_string())
    }

    pub fn delete(&self, path: &str) -> (u16, Value) {
        self.send("DELETE", path, "application/json", "")
    }

    pub fn delete_with(&self, path: &str, options: &Value) -> (u16, Value) {
        self.send("DELETE", path, "application/json", &options.to_string())
    }

    /// Asks until the object is as it should be; shows it otherwise.
    #[track_caller]
    pub fn wait(&self, path: &str, what: &str, met: impl Fn(u16, &Value) -> bool) -> Value {
        let begun = std::time::Instant::now();
        loop {
            let (code, value) = self.get(path);
            if met(code, &value) {
                return value;
            }
            assert!(begun.elapsed() < Duration::from_mins(2), "{path} is not {what}: {code} {value:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until there is no such object any more.
    #[track_caller]
    pub fn gone(&self, path: &str) {
        self.wait(path, "gone", |code, _| code == 404);
    }
}
