//! Volumes: from creating to detached, attached while somebody holds a ticket, and what is known about their use.
//!
//! Each run makes one step and writes it; the change brings the next run. So a watcher sees every state in between.

mod attachment;
mod claim;
pub(super) mod engine;
mod restore;

use kube::{ResourceExt, core::DynamicObject};
use serde_json::{Value, json};

pub(super) use attachment::{add_ticket, remove_ticket};

use super::{
    backup_volume,
    cache::Object,
    context::Context,
    names,
    queue::Again,
    resource::{Fields, Meta, Resource},
};
use crate::Result;

pub(super) async fn reconcile(context: &Context, name: &str) -> Result<Again> {
    let Some(volume) = context.get(Resource::Volume, name) else { return Ok(None) };
    if volume.deleting() {
        remove(context, &volume).await?;
        return Ok(None);
    }
    let volume = follow_claim(context, &volume).await?;
    let volume = join_default_group(context, &volume).await?;
    attachment::ensure(context, &volume).await?;
    let engine = engine::ensure(context, &volume).await?;
    if volume.text("/status/state").is_empty() {
        context.set_status(Resource::Volume, &volume, created(context)).await?;
        return Ok(None);
    }
    let volume = restore::begin(context, &volume).await?;
    let volume = known_use(context, &volume).await?;
    grow(context, &volume, &engine).await?;
    restore::follow(context, &volume, &engine).await?;
    step(context, &volume).await?;
    Ok(None)
}

/// Status of a volume that has just been found.
fn created(context: &Context) -> Value {
    json!({
        "ownerID": context.options.node, "state": "creating", "robustness": "unknown", "currentNodeID": "",
        "currentImage": "", "conditions": [], "lastBackup": "", "lastBackupAt": "", "actualSize": 0,
        "restoreRequired": false, "restoreInitiated": false, "isStandby": false, "expansionRequired": false,
        "frontendDisabled": false, "currentMigrationNodeID": "", "remountRequestedAt": "", "lastDegradedAt": "",
        "shareEndpoint": "", "shareState": "",
        "kubernetesStatus": {"pvName": "", "pvStatus": "", "namespace": "", "pvcName": "", "lastPVCRefAt": "",
            "workloadsStatus": null, "lastPodRefAt": ""},
    })
}

/// One step towards what the tickets ask for.
async fn step(context: &Context, volume: &DynamicObject) -> Result<()> {
    let faulted = volume.text("/status/robustness") == "faulted";
    let node = attachment::wanted_node(context, volume).filter(|_| !faulted);
    let volume =
        &context.merge(Resource::Volume, volume, json!({"spec": {"nodeID": node.clone().unwrap_or_default()}})).await?;
    let state = volume.text("/status/state");
    let status = match (state, &node) {
        ("creating", _) => {
            context.disk.create(&volume.name_any())?;
            json!({"state": "detached", "conditions": first_conditions(volume), "currentImage": volume.field("/spec/image")})
        }
        ("detached", Some(_)) => json!({"state": "attaching"}),
        ("attaching", Some(node)) => {
            engine::start(context, volume, node).await?;
            json!({"state": "attached", "robustness": "healthy", "currentNodeID": node,
                "frontendDisabled": volume.flag("/status/restoreRequired")})
        }
        ("attaching" | "attached", None) => json!({"state": "detaching"}),
        // Attached for its restore only: pods get it anew, with a block device.
        ("attached", Some(_)) if volume.flag("/status/frontendDisabled") && !volume.flag("/status/restoreRequired") => {
            json!({"state": "detaching"})
        }
        ("detaching", _) => {
            engine::stop(context, volume).await?;
            let robustness = if faulted { "faulted" } else { "unknown" };
            json!({"state": "detached", "robustness": robustness, "currentNodeID": "", "frontendDisabled": false})
        }
        _ => json!({}),
    };
    let volume = context.set_status(Resource::Volume, volume, status).await?;
    attachment::answer(context, &volume).await
}

fn first_conditions(volume: &DynamicObject) -> Value {
    let mut list = volume.field("/status/conditions").as_array().cloned().unwrap_or_default();
    for (kind, status) in
        [("Restore", "False"), ("Scheduled", "True"), ("TooManySnapshots", "False"), ("WaitForBackingImage", "False")]
    {
        if list.iter().all(|condition| condition["type"] != kind) {
            list.push(json!({"type": kind, "status": status, "reason": "", "message": "", "lastProbeTime": "",
                "lastTransitionTime": names::now()}));
        }
    }
    Value::Array(list)
}

/// A claim with the label `source` decides the volume's jobs: what is set on the volume itself is undone.
async fn follow_claim(context: &Context, volume: &Object) -> Result<Object> {
    let Some(claim) = claim::of(context, volume) else { return Ok(volume.clone()) };
    if claim.label(names::LABEL_JOB_SOURCE) != "enabled" {
        return Ok(volume.clone());
    }
    let is_job = |key: &&String| key.starts_with(names::LABEL_JOB_GROUP) || key.starts_with(names::LABEL_JOB);
    let mut labels = serde_json::Map::new();
    for key in volume.labels().keys().filter(is_job) {
        labels.insert(key.clone(), Value::Null);
    }
    for (key, value) in claim.labels().iter().filter(|(key, _)| is_job(key) && *key != names::LABEL_JOB_SOURCE) {
        labels.insert(key.clone(), value.clone().into());
    }
    context.merge(Resource::Volume, volume, json!({"metadata": {"labels": labels}})).await
}

/// A volume without any job label joins the group `default`, and nothing ever takes it out again.
async fn join_default_group(context: &Context, volume: &Object) -> Result<Object> {
    let has_job = |key: &String| {
        key.starts_with(names::LABEL_JOB_GROUP) || key.starts_with(names::LABEL_JOB) && key != names::LABEL_JOB_SOURCE
    };
    if volume.labels().keys().any(has_job) {
        return Ok(volume.clone());
    }
    let group = format!("{}default", names::LABEL_JOB_GROUP);
    context.merge(Resource::Volume, volume, json!({"metadata": {"labels": {group: "enabled"}}})).await
}

/// Claim, pods and last backup.
async fn known_use(context: &Context, volume: &DynamicObject) -> Result<Object> {
    let mut status = json!({"kubernetesStatus": claim::status(context, volume)});
    let target = volume.text("/spec/backupTargetName");
    let backups = backup_volume::find(context, target, &volume.name_any());
    let last = |field| backups.as_ref().map(|backups| backups.text(field).to_owned()).unwrap_or_default();
    status["lastBackup"] = last("/status/lastBackupName").into();
    status["lastBackupAt"] = last("/status/lastBackupAt").into();
    context.set_status(Resource::Volume, volume, status).await
}

/// Follows `spec.size` when it has grown. The data plane needs nothing: the next image is made in the new size.
async fn grow(context: &Context, volume: &DynamicObject, engine: &DynamicObject) -> Result<()> {
    let size = volume.number("/spec/size");
    if size <= engine.number("/status/currentSize") {
        return Ok(());
    }
    let volume = context.set_status(Resource::Volume, volume, json!({"expansionRequired": true})).await?;
    engine::set_size(context, &volume, engine).await?;
    context.set_status(Resource::Volume, &volume, json!({"expansionRequired": false})).await.map(drop)
}

async fn remove(context: &Context, volume: &DynamicObject) -> Result<()> {
    let name = volume.name_any();
    let volume = context.set_status(Resource::Volume, volume, json!({"state": "deleting"})).await?;
    for resource in [Resource::Snapshot, Resource::Engine, Resource::Replica, Resource::VolumeAttachment] {
        for object in context.list(resource) {
            if object.label(names::LABEL_VOLUME) == name {
                context.destroy(resource, &object).await?;
            }
        }
    }
    context.disk.remove(&name).await?;
    context.release(Resource::Volume, &volume).await
}
