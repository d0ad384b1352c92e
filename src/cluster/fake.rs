//! An API server for tests, in the process and reached over HTTP as any other.

#![cfg(feature = "sandbox")]

use std::sync::Arc;

use super::{Cluster, ConnectOptions};
use crate::sandbox::api::{
    ApiConfig, ApiServer, Pki,
    admission::{Admission, AdmitAll},
    pods::{NoPods, Pods},
    write_kubeconfig,
};

const TOKEN: &str = "test-token";

/// A server, its kubeconfig, and the folder that is in.
pub(crate) struct Lab {
    pub(crate) server: ApiServer,
    pub(crate) folder: tempfile::TempDir,
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::with(Arc::new(AdmitAll), Arc::new(NoPods)).await
    }

    pub(crate) async fn with(admission: Arc<dyn Admission>, pods: Arc<dyn Pods>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::generate().unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let config = ApiConfig { listen, pki: pki.clone(), token: TOKEN.into(), admission, pods };
        let server = ApiServer::start(config).await.unwrap();
        write_kubeconfig(&folder.path().join("config"), "lab", server.addr(), &pki, &TOKEN.into()).unwrap();
        Self { server, folder }
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions { kubeconfig: Some(self.folder.path().join("config")), ..ConnectOptions::default() }
    }

    pub(crate) async fn cluster(&self) -> Cluster {
        Cluster::connect(&self.options()).await.unwrap()
    }
}
