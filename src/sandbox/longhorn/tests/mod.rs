//! The controllers against the API server of this crate, as clients see them.

mod admission;
mod backups;
mod restores;
mod systems;
mod traps;
mod volumes;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    LonghornControllers, LonghornOptions, TargetOptions,
    admission::LonghornAdmission,
    disk::{Disk, NoWriters},
    install,
    resource::Resource,
};
use crate::sandbox::{
    api::{ApiConfig, ApiServer, Pki, pods::NoPods, write_kubeconfig},
    s3::{S3Config, S3Server},
};

/// Generous: other work may have the processors.
const LIMIT: Duration = Duration::from_mins(1);

/// A bucket that outlives clusters.
pub(super) struct Bucket {
    server: S3Server,
    folder: tempfile::TempDir,
}

impl Bucket {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = S3Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            root: folder.path().to_owned(),
            access_key: "sandbox".to_owned(),
            secret_key: "sandbox-secret".into(),
        };
        let server = S3Server::start(config).await.unwrap();
        server.create_bucket("backups").await.unwrap();
        Self { server, folder }
    }

    /// With what the real code wrote (see `tests/fixtures/longhorn`).
    pub(super) async fn with_fixtures() -> Self {
        let bucket = Self::start().await;
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/longhorn/backupstore");
        copy_folder(&from, &bucket.path("backupstore"));
        bucket
    }

    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join("backups").join(key)
    }

    /// The one file of that name, wherever it is.
    pub(super) fn find(&self, name: &str) -> Option<PathBuf> {
        fn below(folder: &Path, name: &str) -> Option<PathBuf> {
            std::fs::read_dir(folder).ok()?.filter_map(Result::ok).find_map(|entry| {
                if entry.file_name() == name { Some(entry.path()) } else { below(&entry.path(), name) }
            })
        }
        below(&self.path(""), name)
    }

    pub(super) fn options(&self) -> LonghornOptions {
        let credentials = [
            ("AWS_ACCESS_KEY_ID", "sandbox".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "sandbox-secret".to_owned()),
            ("AWS_ENDPOINTS", self.server.endpoint()),
            ("VIRTUAL_HOSTED_STYLE", "false".to_owned()),
        ];
        LonghornOptions {
            target: Some(TargetOptions {
                url: "s3://backups@us-east-1/".to_owned(),
                secret: "s3-keys".to_owned(),
                credentials: credentials.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect(),
                poll_interval: "5m0s".to_owned(),
            }),
            ..LonghornOptions::default()
        }
    }

    pub(super) async fn stop(self) {
        self.server.stop().await;
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

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

    /// Has the target looked through anew, and waits for it.
    pub(super) async fn sync(&self) {
        let target = self.get(Resource::BackupTarget, "default").await;
        let last = target["status"]["lastSyncedAt"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let next = last.map(|last| last + jiff::SignedDuration::from_secs(1));
        let at = next.map_or(jiff::Timestamp::now(), |next| next.max(jiff::Timestamp::now()));
        let at = super::names::time_text(at);
        self.patch(Resource::BackupTarget, "default", json!({"spec": {"syncRequestedAt": at}})).await.unwrap();
        self.wait(Resource::BackupTarget, "default", |t| {
            t["status"]["available"] == true
                && t["status"]["lastSyncedAt"].as_str().is_some_and(|last| last >= at.as_str())
        })
        .await;
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
}
