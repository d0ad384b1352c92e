//! Snapshots: the volume is attached if need be, its folder packed into an image, and let go again.

use kube::{ResourceExt, core::DynamicObject};
use serde_json::json;

use super::{
    cache::Object,
    context::Context,
    names,
    queue::Again,
    resource::{Fields, Meta, Resource},
    volume,
};
use crate::Result;

pub(super) async fn reconcile(context: &Context, name: &str) -> Result<Again> {
    let Some(snapshot) = context.get(Resource::Snapshot, name) else { return Ok(None) };
    let volume_name = snapshot.text("/spec/volume");
    if snapshot.deleting() {
        volume::remove_ticket(context, volume_name, names::TICKET_SNAPSHOT, name).await?;
        context.disk.remove_snapshot(volume_name, name)?;
        context.release(Resource::Snapshot, &snapshot).await?;
        return Ok(None);
    }
    if snapshot.flag("/status/readyToUse") {
        volume::remove_ticket(context, volume_name, names::TICKET_SNAPSHOT, name).await?;
        return Ok(None);
    }
    let Some(volume) = context.get(Resource::Volume, volume_name).filter(|volume| !volume.deleting()) else {
        return Ok(None);
    };
    if !snapshot.flag("/spec/createSnapshot") {
        let error = format!("cannot find snapshot {name} in volume {volume_name}");
        context.set_status(Resource::Snapshot, &snapshot, json!({"error": error, "readyToUse": false})).await?;
        return Ok(None);
    }
    if volume.text("/status/state") != "attached" || volume.flag("/status/restoreRequired") {
        volume::add_ticket(context, volume_name, names::TICKET_SNAPSHOT, name).await?;
        // Not the end of it: the text disappears once the volume is attached.
        let error = format!(
            "failed to take snapshot because the volume engine {} is not running. Waiting for the volume to be attached",
            names::engine_name(volume_name)
        );
        context
            .set_status(Resource::Snapshot, &snapshot, json!({"ownerID": context.options.node, "error": error}))
            .await?;
        return Ok(None);
    }
    take(context, &snapshot, &volume).await?;
    volume::remove_ticket(context, volume_name, names::TICKET_SNAPSHOT, name).await?;
    Ok(None)
}

async fn take(context: &Context, snapshot: &DynamicObject, volume: &DynamicObject) -> Result<()> {
    let (name, volume_name) = (snapshot.name_any(), volume.name_any());
    let size = volume.number("/spec/size");
    let parent = newest(context, &volume_name);
    let parent_name = parent.as_ref().map(|parent| parent.name_any());
    let permit = context.data_jobs.acquire().await;
    let taken =
        context.disk.snapshot(&volume_name, &name, parent_name.as_deref(), size, context.freezer.as_ref()).await;
    drop(permit);
    let packed = match taken {
        Ok(packed) => packed,
        Err(error) => {
            context.set_status(Resource::Snapshot, snapshot, json!({"error": error.to_string()})).await?;
            return Err(error);
        }
    };
    if let Some(parent) = &parent {
        let children = json!({"children": {&name: true}});
        context.set_status(Resource::Snapshot, parent, children).await?;
    }
    let status = json!({
        "ownerID": context.options.node, "parent": parent_name.unwrap_or_default(), "children": {"volume-head": true},
        "markRemoved": false, "userCreated": true, "creationTime": names::now(), "size": packed.changed,
        "labels": snapshot.field("/spec/labels"), "error": "", "restoreSize": size, "readyToUse": true,
    });
    context.set_status(Resource::Snapshot, snapshot, status).await?;
    context.set_status(Resource::Volume, volume, json!({"actualSize": packed.used})).await.map(drop)
}

/// The snapshot of a volume that was taken last.
pub(super) fn newest(context: &Context, volume: &str) -> Option<Object> {
    let all = context.list(Resource::Snapshot);
    let ready = all.into_iter().filter(|snapshot| {
        snapshot.text("/spec/volume") == volume && snapshot.flag("/status/readyToUse") && !snapshot.deleting()
    });
    // Of the same second the one that was written last.
    ready.max_by_key(|snapshot| (names::seconds(snapshot.text("/status/creationTime")), snapshot.version()))
}
