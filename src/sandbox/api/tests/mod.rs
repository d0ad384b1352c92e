//! The server as clients see it.

mod crud;
mod hostile;
mod kubectl;
mod streams;
mod writes;

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};

use super::{
    ApiConfig, ApiServer, Pki,
    admission::{Admission, AdmitAll},
    pods::{NoPods, Pods},
    write_kubeconfig,
};

pub(super) const TOKEN: &str = "test-token";

/// A server with a client.
pub(super) struct Lab {
    pub server: ApiServer,
    pub client: kube::Client,
    pub folder: tempfile::TempDir,
    pki: Pki,
}

impl Lab {
    pub async fn start() -> Self {
        Self::with(Arc::new(AdmitAll), Arc::new(NoPods)).await
    }

    pub async fn with(admission: Arc<dyn Admission>, pods: Arc<dyn Pods>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::generate().unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let config = ApiConfig { listen, pki: pki.clone(), token: TOKEN.into(), admission, pods };
        let server = ApiServer::start(config).await.unwrap();
        let path = folder.path().join("kubeconfig");
        write_kubeconfig(&path, "sandbox", server.addr(), &pki, &TOKEN.into()).unwrap();
        let client = connect(&path).await;
        Self { server, client, folder, pki }
    }

    /// Stops the server and starts an empty one in its place, for the same client.
    pub async fn rebuild(self) -> Self {
        let Self { server, client, folder, pki } = self;
        let listen = server.addr();
        server.stop().await;
        let (admission, pods) = (Arc::new(AdmitAll), Arc::new(NoPods));
        let config = ApiConfig { listen, pki: pki.clone(), token: TOKEN.into(), admission, pods };
        Self { server: ApiServer::start(config).await.unwrap(), client, folder, pki }
    }

    /// A client with another token.
    pub async fn client_with(&self, token: &str) -> kube::Client {
        let path = self.folder.path().join("other");
        write_kubeconfig(&path, "sandbox", self.server.addr(), &self.pki, &token.into()).unwrap();
        connect(&path).await
    }

    /// Sends a request and gives code and body, whatever the code.
    pub async fn send(&self, method: &str, path: &str, content_type: &str, body: &str) -> (u16, Value) {
        let request = axum::http::Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.body(kube::client::Body::from(body.as_bytes().to_vec())).unwrap();
        let response = self.client.send(request).await.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect_bytes().await.unwrap();
        let value = serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body)));
        (code, value)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "", "").await
    }

    pub async fn post(&self, path: &str, object: Value) -> (u16, Value) {
        self.send("POST", path, "application/json", &object.to_string()).await
    }

    pub async fn put(&self, path: &str, object: &Value) -> (u16, Value) {
        self.send("PUT", path, "application/json", &object.to_string()).await
    }

    pub async fn merge(&self, path: &str, change: Value) -> (u16, Value) {
        self.send("PATCH", path, "application/merge-patch+json", &change.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        self.send("DELETE", path, "", "").await
    }

    /// Waits until a path answers 404.
    pub async fn gone(&self, path: &str) {
        for _ in 0..200 {
            if self.get(path).await.0 == 404 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{path} is still there");
    }
}

async fn connect(kubeconfig: &Path) -> kube::Client {
    let config = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    kube::Client::try_from(kube::Config::from_custom_kubeconfig(config, &options).await.unwrap()).unwrap()
}

pub(super) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(super) const VOLUMES: &str = "/apis/longhorn.io/v1beta2/namespaces/longhorn-system/volumes";

pub(super) fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

pub(super) fn volume(name: &str) -> Value {
    json!({"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "metadata": {"name": name}, "spec": {"size": "1"}})
}
