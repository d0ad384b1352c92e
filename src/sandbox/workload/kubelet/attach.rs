//! Attaching Longhorn volumes, as the CSI attacher and Longhorn's CSI plugin do together: one ticket per volume in
//! Longhorn's VolumeAttachment while any pod uses it.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use ring::digest;
use serde_json::{Value, json};

use super::wait::until;
use crate::{
    Result,
    sandbox::{
        NODE, hex,
        longhorn::disk::Disk,
        workload::{
            LONGHORN_NAMESPACE,
            objects::{if_found, merge},
        },
    },
};

const TICKET_TYPE: &str = "csi-attacher";

/// Volumes in use on the node.
pub struct Attacher {
    client: Client,
    disk: Disk,
    volumes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<HashSet<String>>>>>,
}

impl Attacher {
    /// Attaches volumes whose data is on `disk`.
    pub fn new(client: Client, disk: Disk) -> Self {
        Self { client, disk, volumes: Mutex::default() }
    }

    /// Asks Longhorn to attach the volume for that pod. The volume must exist: `Ok(false)` when it does not.
    pub async fn request(&self, volume: &str, pod_uid: &str) -> Result<bool> {
        let users = self.users(volume);
        let mut users = users.lock().await;
        users.insert(pod_uid.to_owned());
        let id = ticket_id(volume);
        let ticket = json!({
            "id": id,
            "type": TICKET_TYPE,
            "nodeID": NODE,
            "parameters": {"disableFrontend": "false", "lastAttachedBy": ""},
            "generation": 0,
        });
        self.set_ticket(volume, &id, ticket).await
    }

    /// Waits until the volume exists and has a VolumeAttachment.
    pub async fn known(&self, volume: &str) {
        until(&self.api("VolumeAttachment"), volume, |_| true).await;
    }

    /// Waits until the requested volume is attached to this node; forever when it never is.
    pub async fn attached(&self, volume: &str) {
        until(&self.api("Volume"), volume, |object| {
            let status = &object.data["status"];
            // While it is restored it is attached, too, but without a block device.
            status["state"] == "attached" && status["currentNodeID"] == NODE && status["frontendDisabled"] != true
        })
        .await;
    }

    /// How the volume stands, for messages.
    pub async fn describe(&self, volume: &str) -> String {
        let Ok(Some(object)) = if_found(self.api("Volume").get(volume).await) else {
            return format!("volume {volume} not found");
        };
        let status = &object.data["status"];
        let of = |field: &str| status[field].as_str().unwrap_or("unknown").to_owned();
        let mut text = format!("volume {volume} is {}, robustness {}", of("state"), of("robustness"));
        for condition in status["conditions"].as_array().into_iter().flatten() {
            let message = condition["message"].as_str().unwrap_or_default();
            if !message.is_empty() {
                text.push_str(": ");
                text.push_str(message);
            }
        }
        text
    }

    /// The attached volume's folder.
    pub async fn mount(&self, volume: &str) -> Result<PathBuf> {
        self.disk.mount(volume).await
    }

    /// The pod no longer uses any volume; the last user of one lets Longhorn detach it.
    pub async fn release(&self, pod_uid: &str) -> Result<()> {
        let volumes: Vec<_> = {
            let volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
            volumes.iter().map(|(volume, users)| (volume.clone(), users.clone())).collect()
        };
        for (volume, users) in volumes {
            let mut users = users.lock().await;
            if users.contains(pod_uid) && users.len() == 1 {
                self.set_ticket(&volume, &ticket_id(&volume), Value::Null).await?;
            }
            users.remove(pod_uid);
        }
        Ok(())
    }

    async fn set_ticket(&self, volume: &str, id: &str, ticket: Value) -> Result<bool> {
        let patch = json!({"spec": {"attachmentTickets": {id: ticket}}});
        Ok(merge(&self.api("VolumeAttachment"), volume, patch).await?.is_some())
    }

    fn users(&self, volume: &str) -> Arc<tokio::sync::Mutex<HashSet<String>>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner).entry(volume.to_owned()).or_default().clone()
    }

    fn api(&self, name: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), LONGHORN_NAMESPACE, &kind(name))
    }
}

fn kind(name: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("longhorn.io", "v1beta2", name))
}

/// The name that the CSI attacher gives an attachment, which Longhorn takes as its ticket's id.
fn ticket_id(volume: &str) -> String {
    let hash = digest::digest(&digest::SHA256, format!("{volume}driver.longhorn.io{NODE}").as_bytes());
    format!("csi-{}", hex(hash.as_ref()))
}
