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
    Error, Kind, Result,
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

    /// Asks Longhorn to attach the volume for that pod. Error: `not-found` when the volume is gone.
    pub async fn request(&self, volume: &str, pod_uid: &str) -> Result<()> {
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
        if self.set_ticket(volume, &id, ticket).await? {
            return Ok(());
        }
        Err(Error::new(Kind::NotFound, format!("volume {volume} has no VolumeAttachment")))
    }

    /// Waits until the volume exists; tells when it does not yet.
    pub async fn known_or<F: Future<Output = ()>>(&self, volume: &str, tell: impl FnOnce() -> F) {
        if !matches!(if_found(self.api("VolumeAttachment").get(volume).await), Ok(Some(_))) {
            tell().await;
            until(&self.api("VolumeAttachment"), volume, |_| true).await;
        }
    }

    /// Waits until the volume may be used by pods; forever when it never may.
    pub async fn usable(&self, volume: &str) {
        until(&self.api("Volume"), volume, |object| usable(&object.data)).await;
    }

    /// Waits until the requested volume is attached to this node for use; forever when it never is.
    pub async fn attached(&self, volume: &str) {
        until(&self.api("Volume"), volume, |object| {
            let status = &object.data["status"];
            let here = status["state"] == "attached" && status["currentNodeID"] == NODE;
            usable(&object.data) && here && status["frontendDisabled"] != true
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

/// Longhorn's CSI plugin refuses volumes that are still being restored, although they are attached for that, and standby
/// and faulted ones.
fn usable(volume: &Value) -> bool {
    let (spec, status) = (&volume["spec"], &volume["status"]);
    let is = |value: &Value| value.as_bool().unwrap_or(false);
    // `restoreRequired` is false also before a restore has begun.
    let from_backup = spec["fromBackup"].as_str().is_some_and(|url| !url.is_empty());
    let restored = !is(&status["restoreRequired"]) && (!from_backup || is(&status["restoreInitiated"]));
    restored && !is(&spec["Standby"]) && status["robustness"] != "faulted"
}

fn kind(name: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("longhorn.io", "v1beta2", name))
}

/// The name that the CSI attacher gives an attachment, which Longhorn takes as its ticket's id.
fn ticket_id(volume: &str) -> String {
    let hash = digest::digest(&digest::SHA256, format!("{volume}driver.longhorn.io{NODE}").as_bytes());
    format!("csi-{}", hex(hash.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_not_used_before_its_restore_has_ended() {
        let volume = |spec: Value, status: Value| json!({"spec": spec, "status": status});
        let from = json!({"fromBackup": "s3://b@r/?backup=b&volume=v"});
        assert!(usable(&volume(json!({"fromBackup": ""}), json!({"state": "detached"}))));
        assert!(!usable(&volume(from.clone(), json!({"state": "creating"}))), "the restore has not begun");
        let running = json!({"restoreInitiated": true, "restoreRequired": true, "state": "attached"});
        assert!(!usable(&volume(from.clone(), running)));
        let done = json!({"restoreInitiated": true, "restoreRequired": false, "robustness": "unknown"});
        assert!(usable(&volume(from.clone(), done.clone())));
        assert!(!usable(&volume(json!({"Standby": true}), done)));
        assert!(!usable(&volume(from, json!({"restoreInitiated": true, "robustness": "faulted"}))));
    }
}
