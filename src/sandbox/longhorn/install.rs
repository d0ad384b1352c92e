//! What an installation of Longhorn leaves in a cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject},
};
use ring::digest;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{
    context::api_error,
    names,
    options::{LonghornOptions, TargetOptions},
    resource::{Resource, Scope},
    settings,
};
use crate::{Error, Kind, Result};

/// Puts Longhorn's own objects into a cluster whose API knows its kinds: namespace, settings, node, engine image,
/// storage classes `longhorn` (the default) and `longhorn-static`, the backup target `default` and its credential
/// Secret. What exists already is left as it is, except that a target without a URL gets the one of the options.
pub async fn install(client: Client, options: &LonghornOptions) -> Result<()> {
    let installer = Installer { client, options };
    installer.namespace().await?;
    installer.webhook().await?;
    let objects = settings::objects(options);
    futures::future::try_join_all(objects.into_iter().map(|object| installer.create(Resource::Setting, object, None)))
        .await?;
    installer.engine_image().await?;
    installer.node().await?;
    for class in storage_classes() {
        installer.create(Resource::StorageClass, class, None).await?;
    }
    installer.daemon_set().await?;
    installer.target().await
}

struct Installer<'a> {
    client: Client,
    options: &'a LonghornOptions,
}

impl Installer<'_> {
    async fn namespace(&self) -> Result<()> {
        let object = Namespace {
            metadata: kube::core::ObjectMeta { name: Some(self.options.namespace.clone()), ..Default::default() },
            ..Default::default()
        };
        let api: Api<Namespace> = Api::all(self.client.clone());
        exists_is_fine(api.create(&PostParams::default(), &object).await, &self.options.namespace)
    }

    /// The address the API server calls the webhooks at. Without it every write of Longhorn's kinds fails.
    async fn webhook(&self) -> Result<()> {
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&());
        let object = json!({
            "metadata": {"name": names::WEBHOOK_SERVICE, "labels": {"app": names::WEBHOOK_SERVICE}},
            "spec": {"type": "ClusterIP", "selector": {"longhorn.io/admission-webhook": names::WEBHOOK_SERVICE},
                "ports": [{"name": "admission-webhook", "port": 9502, "targetPort": "admission-wh"}]},
        });
        self.create_as(&resource, Some(&self.options.namespace), object, None).await
    }

    async fn engine_image(&self) -> Result<()> {
        let image = self.options.engine_image();
        let name = format!("ei-{}", &names::hex(digest::digest(&digest::SHA512, image.as_bytes()).as_ref())[..8]);
        let object = json!({
            "metadata": {"name": name, "labels": {"longhorn.io/component": "engine-image",
                "longhorn.io/engine-image": name, "longhorn.io/managed-by": "longhorn-manager"}},
            "spec": {"image": image},
        });
        let status = json!({
            "ownerID": self.options.node, "state": "deployed", "version": self.options.version, "incompatible": false,
            "cliAPIVersion": 10, "cliAPIMinVersion": 8, "controllerAPIVersion": 5, "controllerAPIMinVersion": 4,
            "dataFormatVersion": 1, "dataFormatMinVersion": 1, "refCount": 0, "noRefSince": "",
            "nodeDeploymentMap": {&self.options.node: true},
            "conditions": [{"type": "ready", "status": "True", "reason": "", "lastProbeTime": "",
                "lastTransitionTime": names::now(),
                "message": format!("Engine image {name} ({image}) is fully deployed on all ready nodes")}],
        });
        self.create(Resource::EngineImage, object, Some(status)).await
    }

    async fn node(&self) -> Result<()> {
        let resource = ApiResource {
            group: names::GROUP.to_owned(),
            version: "v1beta2".to_owned(),
            api_version: "longhorn.io/v1beta2".to_owned(),
            kind: "Node".to_owned(),
            plural: "nodes".to_owned(),
        };
        let node = &self.options.node;
        let disk = "default-disk";
        let maximum: u64 = 1 << 40;
        let ready = |kind: &str| {
            json!({"type": kind, "status": "True", "reason": "", "message": "", "lastProbeTime": "",
                "lastTransitionTime": names::now()})
        };
        let object = json!({
            "metadata": {"name": node},
            "spec": {"name": node, "allowScheduling": true, "evictionRequested": false, "tags": [],
                "disks": {disk: {"diskType": "filesystem", "path": "/var/lib/longhorn/", "allowScheduling": true,
                    "evictionRequested": false, "storageReserved": 0, "tags": []}}},
        });
        let status = json!({
            "conditions": [ready("Ready"), ready("Schedulable"), ready("MountPropagation")],
            "diskStatus": {disk: {"diskName": disk, "diskUUID": "00000000-0000-4000-8000-000000000001",
                "diskType": "filesystem", "filesystemType": "ext2/ext3", "storageMaximum": maximum,
                "storageAvailable": maximum, "storageScheduled": 0, "scheduledReplica": {},
                "conditions": [ready("Ready"), ready("Schedulable")]}},
        });
        self.create_as(&resource, Some(&self.options.namespace), object, Some(status)).await
    }

    /// The manager, so that whoever looks for its version or image finds it; its pod does nothing.
    async fn daemon_set(&self) -> Result<()> {
        use k8s_openapi::api::apps::v1::DaemonSet;
        let resource = ApiResource::erase::<DaemonSet>(&());
        let labels = json!({"app": "longhorn-manager"});
        let object = json!({
            "metadata": {"name": "longhorn-manager", "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{
                        "name": "longhorn-manager", "image": self.options.manager_image(),
                        "command": ["longhorn-manager", "daemon"],
                    }]},
                },
            },
        });
        self.create_as(&resource, Some(&self.options.namespace), object, None).await
    }

    async fn target(&self) -> Result<()> {
        if let Some(target) = &self.options.target {
            self.secret(target).await?;
        }
        let spec = match &self.options.target {
            Some(target) => json!({"backupTargetURL": target.url, "credentialSecret": target.secret,
                "pollInterval": target.poll_interval}),
            None => json!({"backupTargetURL": "", "credentialSecret": "", "pollInterval": "5m0s"}),
        };
        let api = self.api(&Resource::BackupTarget.api_resource(), Some(&self.options.namespace));
        let found = api.get_opt(names::DEFAULT_TARGET).await;
        let found = found.map_err(|error| api_error(&error, "BackupTarget default"))?;
        match found {
            None => {
                let object = json!({"metadata": {"name": names::DEFAULT_TARGET}, "spec": spec});
                self.create(Resource::BackupTarget, object, None).await
            }
            Some(object) if object.data["spec"]["backupTargetURL"] == "" && self.options.target.is_some() => {
                let mut change = json!({"spec": spec});
                change["spec"]["syncRequestedAt"] = names::now().into();
                let patched = api.patch(names::DEFAULT_TARGET, &PatchParams::default(), &Patch::Merge(change)).await;
                patched.map(|_| ()).map_err(|error| api_error(&error, "BackupTarget default"))
            }
            Some(_) => Ok(()),
        }
    }

    /// The Secret, and the `ConfigMap` from which a real installation makes its default target.
    async fn secret(&self, target: &TargetOptions) -> Result<()> {
        let meta = |name: &str| kube::core::ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.options.namespace.clone()),
            ..Default::default()
        };
        let values = target
            .credentials
            .iter()
            .map(|(name, value)| (name.clone(), k8s_openapi::ByteString(value.expose_secret().as_bytes().to_vec())));
        let secret = Secret {
            metadata: meta(&target.secret),
            data: Some(values.collect::<BTreeMap<_, _>>()),
            type_: Some("Opaque".to_owned()),
            ..Default::default()
        };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.options.namespace);
        exists_is_fine(api.create(&PostParams::default(), &secret).await, &format!("Secret {}", target.secret))?;
        let text = format!(
            "backup-target: {}\nbackup-target-credential-secret: {}\nbackupstore-poll-interval: 300\n",
            target.url, target.secret
        );
        let config = ConfigMap {
            metadata: meta("longhorn-default-resource"),
            data: Some(BTreeMap::from([("default-resource.yaml".to_owned(), text)])),
            ..Default::default()
        };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.options.namespace);
        exists_is_fine(api.create(&PostParams::default(), &config).await, "ConfigMap longhorn-default-resource")
    }

    fn api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }

    async fn create(&self, resource: Resource, object: Value, status: Option<Value>) -> Result<()> {
        let namespace = (resource.scope() != Scope::Cluster).then_some(self.options.namespace.as_str());
        self.create_as(&resource.api_resource(), namespace, object, status).await
    }

    async fn create_as(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        mut object: Value,
        status: Option<Value>,
    ) -> Result<()> {
        object["apiVersion"] = resource.api_version.clone().into();
        object["kind"] = resource.kind.clone().into();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let what = format!("{} {name}", resource.kind);
        let object: DynamicObject = serde_json::from_value(object)
            .map_err(|error| Error::new(Kind::Invalid, format!("{what} cannot be written")).source(error))?;
        let api = self.api(resource, namespace);
        exists_is_fine(api.create(&PostParams::default(), &object).await, &what)?;
        if let Some(status) = status {
            let change = Patch::Merge(json!({"status": status}));
            api.patch_status(&name, &PatchParams::default(), &change)
                .await
                .map_err(|error| api_error(&error, &what))?;
        }
        Ok(())
    }
}

fn storage_classes() -> [Value; 2] {
    // One replica: there is one node.
    let longhorn = json!({
        "metadata": {"name": "longhorn", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": names::DRIVER, "allowVolumeExpansion": true, "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
        "parameters": {"numberOfReplicas": "1", "staleReplicaTimeout": "30", "fromBackup": "", "fsType": "ext4",
            "dataLocality": "disabled", "unmapMarkSnapChainRemoved": "ignored", "disableRevisionCounter": "true",
            "dataEngine": "v1", "backupTargetName": "default"},
    });
    let fixed = json!({
        "metadata": {"name": "longhorn-static"}, "provisioner": names::DRIVER, "allowVolumeExpansion": true,
        "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate", "parameters": {"staleReplicaTimeout": "30"},
    });
    [longhorn, fixed]
}

fn exists_is_fine<T: std::fmt::Debug>(result: kube::Result<T>, what: &str) -> Result<()> {
    match result.map_err(|error| api_error(&error, what)) {
        Err(error) if error.kind() == Kind::Conflict => Ok(()),
        other => other.map(|_| ()),
    }
}
