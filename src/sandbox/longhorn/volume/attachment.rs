//! Who wants a volume attached: tickets in the volume's VolumeAttachment. The one with the highest priority decides.

use kube::{ResourceExt, core::DynamicObject};
use serde_json::{Value, json};

use crate::{
    Error, Kind, Result,
    sandbox::longhorn::{
        context::Context,
        names,
        resource::{Fields, Meta, Resource},
    },
};

/// Makes the volume's VolumeAttachment, which has its name.
pub(super) async fn ensure(context: &Context, volume: &DynamicObject) -> Result<()> {
    let name = volume.name_any();
    if context.get(Resource::VolumeAttachment, &name).is_some() {
        return Ok(());
    }
    let object = json!({
        "metadata": {"name": name, "labels": {names::LABEL_VOLUME: name}},
        "spec": {"volume": name, "attachmentTickets": {}},
    });
    context.ensure(Resource::VolumeAttachment, object).await
}

/// Asks for a volume to be attached on behalf of a controller; `name` is what it is attached for.
pub(in super::super) async fn add_ticket(context: &Context, volume: &str, kind: &str, name: &str) -> Result<()> {
    let attachment = context
        .get(Resource::VolumeAttachment, volume)
        .ok_or_else(|| Error::new(Kind::NotFound, format!("volume {volume} has no VolumeAttachment yet")))?;
    let id = names::ticket_id(kind, name);
    if attachment.field("/spec/attachmentTickets").get(&id).is_some() {
        return Ok(());
    }
    let frontend = if kind == names::TICKET_RESTORE { "true" } else { "any" };
    let ticket = json!({"id": id, "type": kind, "nodeID": context.options.node,
        "parameters": {"disableFrontend": frontend}, "generation": 0});
    let change = json!({"spec": {"attachmentTickets": {id: ticket}}});
    context.merge(Resource::VolumeAttachment, &attachment, change).await.map(drop)
}

/// Takes the ticket back.
pub(in super::super) async fn remove_ticket(context: &Context, volume: &str, kind: &str, name: &str) -> Result<()> {
    let Some(attachment) = context.get(Resource::VolumeAttachment, volume) else { return Ok(()) };
    let id = names::ticket_id(kind, name);
    if attachment.field("/spec/attachmentTickets").get(&id).is_none() {
        return Ok(());
    }
    let change = json!({"spec": {"attachmentTickets": {id: null}}});
    match context.merge(Resource::VolumeAttachment, &attachment, change).await {
        Err(error) if error.kind() != Kind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The node the volume is wanted on, `None` when nobody wants it.
pub(super) fn wanted_node(context: &Context, volume: &DynamicObject) -> Option<String> {
    let attachment = context.get(Resource::VolumeAttachment, &volume.name_any()).filter(|found| !found.deleting())?;
    let tickets = attachment.field("/spec/attachmentTickets").as_object()?;
    let first = tickets.values().filter(|ticket| !ticket.text("/nodeID").is_empty()).max_by_key(|ticket| {
        // Of equals the first by name, so that the choice does not change from run to run.
        (names::ticket_priority(ticket.text("/type")), std::cmp::Reverse(ticket.text("/id").to_owned()))
    })?;
    Some(first.text("/nodeID").to_owned())
}

/// Says of each ticket whether it has what it asked for.
pub(super) async fn answer(context: &Context, volume: &DynamicObject) -> Result<()> {
    let Some(attachment) = context.get(Resource::VolumeAttachment, &volume.name_any()) else { return Ok(()) };
    let attached_to = (volume.text("/status/state") == "attached").then(|| volume.text("/status/currentNodeID"));
    let disabled = volume.flag("/status/frontendDisabled");
    let mut answers = serde_json::Map::new();
    let asked = attachment.field("/spec/attachmentTickets").as_object();
    for (id, ticket) in asked.into_iter().flatten() {
        let frontend = !disabled || ticket.text("/parameters/disableFrontend") != "false";
        let satisfied = frontend && attached_to == Some(ticket.text("/nodeID"));
        let old = attachment.field("/status/attachmentTicketStatuses").get(id).unwrap_or(&Value::Null);
        let conditions = crate::sandbox::longhorn::resource::with_condition(
            old.field("/conditions"),
            "Satisfied",
            satisfied,
            "",
            "",
        );
        answers.insert(
            id.clone(),
            json!({"id": id, "satisfied": satisfied, "conditions": conditions, "generation": ticket["generation"]}),
        );
    }
    for id in attachment.field("/status/attachmentTicketStatuses").as_object().into_iter().flatten().map(|(id, _)| id) {
        answers.entry(id.clone()).or_insert(Value::Null);
    }
    let status = json!({"attachmentTicketStatuses": answers});
    context.set_status(Resource::VolumeAttachment, &attachment, status).await.map(drop)
}
