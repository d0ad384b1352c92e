//! The controllers against the API server of this crate, as clients see them.

mod admission;
mod volumes;

use std::{sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    LonghornControllers, LonghornOptions,
    admission::LonghornAdmission,
    disk::{Disk, NoWriters},
    install,
    resource::Resource,
};
use crate::sandbox::api::{ApiConfig, ApiServer, Pki, pods::NoPods, write_kubeconfig};

const LIMIT: Duration = Duration::from_secs(20);

/// A cluster with Longhorn and nothing else.
pub(super) struct Lab {
    pub(super) client: Client,
    pub(super) disk: Disk,
    controllers: LonghornControllers,
    server: ApiServer,
    folder: tempfile::TempDir,
}

impl Lab {
    pub(super) async fn start(options: LonghornOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::generate().unwrap();
        let token: secrecy::SecretString = "test-token".into();
        let config = ApiConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            pki: pki.clone(),
            token: token.clone(),
            admission: Arc::new(LonghornAdmission::new(options.namespace.clone())),
            pods: Arc::new(NoPods),
        };
        let server = ApiServer::start(config).await.unwrap();
        let path = folder.path().join("kubeconfig");
        write_kubeconfig(&path, "sandbox", server.addr(), &pki, &token).unwrap();
        let config = kube::config::Kubeconfig::read_from(&path).unwrap();
        let config =
            kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        install(client.clone(), &options).await.unwrap();
        let disk = Disk::new(folder.path().join("disk"));
        std::fs::create_dir(disk.root()).unwrap();
        let cancel = CancellationToken::new();
        let controllers =
            LonghornControllers::start(client.clone(), disk.clone(), Arc::new(NoWriters), options, cancel)
                .await
                .unwrap();
        Self { client, disk, controllers, server, folder }
    }

    pub(super) async fn stop(self) {
        self.controllers.stop().await;
        self.server.stop().await;
        drop(self.folder);
    }

    pub(super) fn api(&self, resource: Resource) -> Api<DynamicObject> {
        match resource {
            Resource::PersistentVolume | Resource::StorageClass => {
                Api::all_with(self.client.clone(), &resource.api_resource())
            }
            Resource::Claim => Api::namespaced_with(self.client.clone(), "default", &resource.api_resource()),
            _ => Api::namespaced_with(self.client.clone(), "longhorn-system", &resource.api_resource()),
        }
    }

    pub(super) async fn get(&self, resource: Resource, name: &str) -> Value {
        serde_json::to_value(self.api(resource).get(name).await.unwrap()).unwrap()
    }

    pub(super) async fn create(&self, resource: Resource, mut object: Value) -> Result<Value, kube::core::Status> {
        object["apiVersion"] = resource.api_version().into();
        object["kind"] = resource.kind().into();
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        match self.api(resource).create(&PostParams::default(), &object).await {
            Ok(object) => Ok(serde_json::to_value(object).unwrap()),
            Err(kube::Error::Api(status)) => Err(*status),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) async fn patch(
        &self,
        resource: Resource,
        name: &str,
        change: Value,
    ) -> Result<Value, kube::core::Status> {
        match self.api(resource).patch(name, &PatchParams::default(), &Patch::Merge(change)).await {
            Ok(object) => Ok(serde_json::to_value(object).unwrap()),
            Err(kube::Error::Api(status)) => Err(*status),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) async fn delete(&self, resource: Resource, name: &str) -> Result<(), kube::core::Status> {
        match self.api(resource).delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(*status),
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until the object is so; shows it otherwise.
    pub(super) async fn wait(&self, resource: Resource, name: &str, met: impl Fn(&Value) -> bool) -> Value {
        let begun = tokio::time::Instant::now();
        loop {
            let found = self.api(resource).get_opt(name).await.unwrap();
            let value = found.map_or(Value::Null, |object| serde_json::to_value(object).unwrap());
            if met(&value) {
                return value;
            }
            assert!(begun.elapsed() < LIMIT, "{} {name} is still {value:#}", resource.kind());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn volume(&self, name: &str, spec: Value) -> Value {
        let mut whole = json!({"size": "16777216", "frontend": "blockdev", "numberOfReplicas": 1});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        self.create(Resource::Volume, json!({"metadata": {"name": name}, "spec": whole})).await.unwrap();
        self.wait(Resource::Volume, name, |v| v["status"]["state"] == "detached").await
    }

    /// Attaches a volume as a kubelet does.
    pub(super) async fn attach(&self, volume: &str) {
        let id = format!("csi-{}-{volume}", crate::sandbox::NODE);
        let ticket = json!({"id": id, "type": "csi-attacher", "nodeID": crate::sandbox::NODE,
            "parameters": {"disableFrontend": "false"}, "generation": 0});
        self.patch(Resource::VolumeAttachment, volume, json!({"spec": {"attachmentTickets": {id: ticket}}}))
            .await
            .unwrap();
        self.wait(Resource::Volume, volume, |v| v["status"]["state"] == "attached").await;
    }

    pub(super) async fn detach(&self, volume: &str) {
        let id = format!("csi-{}-{volume}", crate::sandbox::NODE);
        self.patch(Resource::VolumeAttachment, volume, json!({"spec": {"attachmentTickets": {id: null}}}))
            .await
            .unwrap();
        self.wait(Resource::Volume, volume, |v| v["status"]["state"] == "detached").await;
    }

    pub(super) fn other(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), "longhorn-system", &resource)
    }
}
