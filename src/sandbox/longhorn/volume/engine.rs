//! Engines and replicas: objects beside each volume, through which a restore's progress is told.

use std::{ops::Range, sync::Arc};

use kube::{ResourceExt, core::DynamicObject};
use serde_json::{Value, json};

use crate::{
    Error, Kind, Result,
    sandbox::longhorn::{
        cache::Object,
        context::Context,
        names,
        resource::{Fields, Meta, Resource},
    },
};

/// Makes the engine and as many replicas as the volume asks for; gives the engine.
pub(super) async fn ensure(context: &Context, volume: &DynamicObject) -> Result<Object> {
    let name = volume.name_any();
    let owner = json!([{"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "name": name,
        "uid": volume.metadata.uid, "controller": true}]);
    let labels = json!({names::LABEL_VOLUME: name, names::LABEL_NODE: context.options.node});
    let common = json!({
        "volumeName": name, "volumeSize": volume.text("/spec/size"), "nodeID": "", "desireState": "stopped",
        "image": volume.text("/spec/image"), "dataEngine": volume.text("/spec/dataEngine"),
    });
    let engine = if let Some(engine) = of(context, &name) {
        engine
    } else {
        let mut spec = common.clone();
        merge(
            &mut spec,
            json!({"active": true, "backupVolume": "", "requestedBackupRestore": "",
            "requestedDataSource": "", "frontend": volume.text("/spec/frontend"), "disableFrontend": false}),
        );
        let object = json!({"metadata": {"name": names::engine_name(&name), "labels": labels, "ownerReferences": owner},
            "spec": spec});
        let engine = context.create(Resource::Engine, object).await?;
        let status = json!({"ownerID": context.options.node, "currentState": "stopped",
            "currentSize": volume.text("/spec/size"), "lastRestoredBackup": "", "isExpanding": false});
        context.set_status(Resource::Engine, &engine, status).await?
    };
    let known = replicas(context, &name);
    let wanted = usize::try_from(volume.number("/spec/numberOfReplicas")).unwrap_or_default();
    for replica in known.iter().skip(wanted) {
        context.destroy(Resource::Replica, replica).await?;
    }
    for _ in missing(known.len(), wanted) {
        let replica = format!("{name}-r-{}", names::random_hex(8));
        let mut spec = common.clone();
        merge(
            &mut spec,
            json!({"active": true, "engineName": names::engine_name(&name), "nodeID": context.options.node,
            "diskID": "00000000-0000-4000-8000-000000000001", "diskPath": "/var/lib/longhorn/",
            "dataDirectoryName": format!("{name}-{}", names::random_hex(8)), "healthyAt": names::now(), "failedAt": ""}),
        );
        let object = json!({"metadata": {"name": replica, "labels": labels, "ownerReferences": owner}, "spec": spec});
        let replica = context.create(Resource::Replica, object).await?;
        let status = json!({"ownerID": context.options.node, "currentState": "stopped"});
        context.set_status(Resource::Replica, &replica, status).await?;
    }
    Ok(engine)
}

fn missing(known: usize, wanted: usize) -> Range<usize> {
    known.min(wanted)..wanted
}

fn merge(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}

/// The engine of a volume.
pub(in super::super) fn of(context: &Context, volume: &str) -> Option<Object> {
    context.get(Resource::Engine, &names::engine_name(volume)).filter(|engine| !engine.deleting())
}

fn replicas(context: &Context, volume: &str) -> Vec<Object> {
    let mut replicas = context.list(Resource::Replica);
    replicas.retain(|replica| replica.text("/spec/volumeName") == volume && !replica.deleting());
    replicas
}

/// Address of each replica of a volume, as keys of the engine's `restoreStatus`, with the replica's name.
pub(in super::super) fn replica_addresses(context: &Context, volume: &str) -> Vec<(String, String)> {
    let replicas = replicas(context, volume);
    replicas
        .iter()
        .zip(0..)
        .map(|(replica, at)| (format!("tcp://127.0.0.1:{}", port(at)), replica.name_any()))
        .collect()
}

fn port(replica: u16) -> u16 {
    10_000 + replica.saturating_mul(10)
}

/// Why the engine gave up the restore it was asked for, if it did.
pub(in super::super) fn restore_failure(engine: &DynamicObject) -> Option<String> {
    let replicas = engine.field("/status/restoreStatus").as_object()?;
    let wanted = engine.text("/spec/requestedBackupRestore");
    let gave_up = |status: &Value| status.text("/state") == "error" && status.text("/currentRestoringBackup") == wanted;
    let errors: Vec<&Value> = replicas.values().filter(|status| gave_up(status)).collect();
    (!errors.is_empty() && errors.len() == replicas.len()).then(|| errors[0].text("/error").to_owned())
}

/// Brings engine and replicas up on a node.
pub(super) async fn start(context: &Context, volume: &DynamicObject, node: &str) -> Result<()> {
    let name = volume.name_any();
    let mut modes = serde_json::Map::new();
    for (replica, at) in replicas(context, &name).iter().zip(0..) {
        modes.insert(replica.name_any(), "RW".into());
        let replica = context.merge(Resource::Replica, replica, json!({"spec": {"desireState": "running"}})).await?;
        let status = json!({"currentState": "running", "storageIP": "127.0.0.1", "port": port(at)});
        context.set_status(Resource::Replica, &replica, status).await?;
    }
    let engine = expect(context, &name)?;
    let change = json!({"spec": {"desireState": "running", "nodeID": node}});
    let engine = context.merge(Resource::Engine, &engine, change).await?;
    let engine = context.set_status(Resource::Engine, &engine, json!({"currentState": "starting"})).await?;
    let status = json!({"currentState": "running", "replicaModeMap": modes});
    context.set_status(Resource::Engine, &engine, status).await.map(drop)
}

/// Takes them down.
pub(super) async fn stop(context: &Context, volume: &DynamicObject) -> Result<()> {
    let name = volume.name_any();
    let engine = expect(context, &name)?;
    let change = json!({"spec": {"desireState": "stopped", "nodeID": ""}});
    let engine = context.merge(Resource::Engine, &engine, change).await?;
    let engine = context.set_status(Resource::Engine, &engine, json!({"currentState": "stopping"})).await?;
    context.set_status(Resource::Engine, &engine, json!({"currentState": "stopped", "replicaModeMap": null})).await?;
    for replica in replicas(context, &name) {
        let replica = context.merge(Resource::Replica, &replica, json!({"spec": {"desireState": "stopped"}})).await?;
        context.set_status(Resource::Replica, &replica, json!({"currentState": "stopped"})).await?;
    }
    Ok(())
}

/// Gives engine and replicas the volume's size.
pub(super) async fn set_size(context: &Context, volume: &DynamicObject, engine: &DynamicObject) -> Result<()> {
    let size = volume.text("/spec/size");
    let change = json!({"spec": {"volumeSize": size}});
    for replica in replicas(context, &volume.name_any()) {
        context.merge(Resource::Replica, &replica, change.clone()).await?;
    }
    let engine = context.merge(Resource::Engine, engine, change).await?;
    let engine = context.set_status(Resource::Engine, &engine, json!({"isExpanding": true})).await?;
    context.set_status(Resource::Engine, &engine, json!({"isExpanding": false, "currentSize": size})).await.map(drop)
}

fn expect(context: &Context, volume: &str) -> Result<Arc<DynamicObject>> {
    of(context, volume).ok_or_else(|| Error::new(Kind::NotFound, format!("volume {volume} has no engine yet")))
}
