//! Getting one object and listing many.

use axum::response::Response;
use serde_json::{Value, json};

use super::{
    routes::{Call, Target},
    selector::Selector,
    status::{Answer, Failure, json_response},
    store::Object,
    view::View,
};

/// One object, also through its `status` subresource.
pub(super) fn get(call: &Call) -> Answer {
    let object = find(call)?;
    Ok(json_response(200, &View::of(call).object(call.target.kind, &object)))
}

/// The object a call names.
pub(super) fn find(call: &Call) -> Answer<Object> {
    let name = call.name()?;
    let found = call.cluster.store.get(call.target.kind, call.target.namespace(), name);
    found.ok_or_else(|| Failure::not_found(call.target.kind, name))
}

/// The call's label and field selectors.
pub(super) fn selector(call: &Call) -> Answer<Selector> {
    let text = |name| call.params.get(name).unwrap_or_default();
    let selector = Selector::parse(call.target.kind, text("labelSelector"), text("fieldSelector"))?;
    Ok(match &call.target.name {
        Some(name) => selector.named(name),
        None => selector,
    })
}

/// Objects in order, in pages when `limit` asks for them. A `continue` token holds the version of the first page and
/// the last object sent; the later pages show later states, and a watch from that version tells what changed.
pub(super) fn list(call: &Call) -> Answer {
    let Target { kind, namespace, .. } = &call.target;
    // What is there now is new enough for any version, but it has to be one.
    call.params.number("resourceVersion")?;
    let selector = selector(call)?;
    let store = &call.cluster.store;
    let (mut objects, mut version) = store.list(kind, namespace.as_deref());
    objects.retain(|object| selector.matches(object));
    if let Some(token) = call.params.get("continue").filter(|token| !token.is_empty()) {
        let (from, after) = position(token).ok_or_else(|| Failure::bad_request("continue key is not valid"))?;
        if store.since(kind, from, 0).is_none() {
            return Err(Failure::new(410, "Expired", "The provided continue parameter is too old: list again."));
        }
        version = from;
        objects.retain(|object| place(object) > after);
    }
    let mut metadata = json!({"resourceVersion": version.to_string()});
    let limit = call.params.number("limit")?.unwrap_or(0);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit > 0 && objects.len() > limit {
        let remaining = objects.len() - limit;
        objects.truncate(limit);
        let last = objects.last().map_or(("", ""), |object| place(object));
        metadata["continue"] = json!(format!("{version}:{}/{}", last.0, last.1));
        metadata["remainingItemCount"] = json!(remaining);
    }
    Ok(answer_list(call, &objects, &metadata))
}

/// A list in the form the client asked for.
pub(super) fn answer_list(call: &Call, objects: &[Object], metadata: &Value) -> Response {
    json_response(200, &View::of(call).list(call.target.kind, objects, metadata))
}

fn place(object: &Value) -> (&str, &str) {
    (super::object::namespace(object), super::object::name(object))
}

fn position(token: &str) -> Option<(u64, (&str, &str))> {
    let (version, last) = token.split_once(':')?;
    Some((version.parse().ok()?, last.split_once('/')?))
}
