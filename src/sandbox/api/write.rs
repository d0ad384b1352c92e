//! Requests that change objects.

use axum::response::Response;
use serde_json::{Value, json};

use super::{
    kinds, object,
    patch::{self, Patch},
    read,
    routes::Call,
    server::Cluster,
    status::{Answer, Failure, json_response},
    store::Object,
    view::View,
    writer::{Deletion, Part, Propagation, Writer},
};

/// Creates what every cluster has from the start.
pub(super) fn seed(cluster: &Cluster) {
    let Some(namespaces) = kinds::find("", "namespaces") else { return };
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let turn = cluster.store.transaction();
        let mut namespace = namespace;
        super::defaults::on_create(namespaces, &mut namespace, &cluster.store);
        let metadata = object::metadata(&mut namespace);
        metadata.insert("uid".to_owned(), json!(object::new_uid()));
        metadata.insert("creationTimestamp".to_owned(), json!(object::now()));
        turn.put(namespaces, namespace);
    }
}

fn respond(call: &Call, code: u16, object: &Value) -> Response {
    json_response(code, &View::of(call.accept()).object(object))
}

fn writer(call: &Call) -> Answer<Writer<'_>> {
    Ok(Writer::new(&call.cluster, call.target.kind, call.dry_run()?))
}

fn part(call: &Call) -> Part {
    match call.target.subresource.as_deref() {
        Some("status") => Part::Status,
        Some("finalize") => Part::Finalize,
        _ => Part::Main,
    }
}

/// POST on a collection.
pub(super) fn create(call: &Call) -> Answer {
    let new = call.object()?;
    let namespace = call.target.namespace.as_deref().or_else(|| new["metadata"]["namespace"].as_str());
    let namespace = namespace.unwrap_or_default().to_owned();
    if call.target.kind.namespaced && namespace.is_empty() {
        return Err(Failure::bad_request("an empty namespace may not be set during creation"));
    }
    let created = writer(call)?.create(&namespace, new)?;
    Ok(respond(call, 201, &created))
}

/// PUT on an object or a subresource.
pub(super) fn replace(call: &Call) -> Answer {
    let new = call.object()?;
    let writer = writer(call)?;
    let old = writer.current(call.target.namespace(), call.name()?)?;
    let versioned = new["metadata"]["resourceVersion"].as_str().is_some_and(|version| !version.is_empty());
    if call.target.kind.custom() && !versioned {
        let why = "Invalid value: 0x0: must be specified for an update".to_owned();
        return Err(Failure::invalid(call.target.kind, call.name()?, &[("metadata.resourceVersion", why)]));
    }
    let stored = writer.update(&old, new, part(call))?;
    Ok(respond(call, 200, &stored))
}

/// PATCH on an object or a subresource.
pub(super) fn patch(call: &Call) -> Answer {
    let patch = Patch::parse(call.target.kind, call.content_type(), &call.body)?;
    let name = call.name()?;
    let writer = writer(call)?;
    let current = writer.current(call.target.namespace(), name);
    let old: Object = match (current, &patch) {
        (Ok(old), _) => old,
        (Err(_), Patch::Apply(new)) if part(call) == Part::Main => {
            let mut new = new.clone();
            named(&mut new, name)?;
            let created = writer.create(call.target.namespace(), new)?;
            return Ok(respond(call, 201, &created));
        }
        (Err(missing), _) => return Err(missing),
    };
    let mut new = (*old).clone();
    patch::apply(&patch, &mut new)?;
    let stored = writer.update(&old, new, part(call))?;
    Ok(respond(call, 200, &stored))
}

fn named(object: &mut Value, name: &str) -> Answer<()> {
    match object::name(object) {
        "" => {
            object::metadata(object).insert("name".to_owned(), json!(name));
            Ok(())
        }
        own if own == name => Ok(()),
        own => Err(Failure::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        ))),
    }
}

/// DELETE on an object.
pub(super) fn delete(call: &Call) -> Answer {
    if call.target.subresource.is_some() {
        return Err(Failure::method_not_allowed());
    }
    let (options, dry_run) = deletion(call)?;
    let writer = Writer::new(&call.cluster, call.target.kind, dry_run);
    let old = writer.current(call.target.namespace(), call.name()?)?;
    let answer = writer.delete(&old, &options)?;
    Ok(json_response(200, &answer))
}

/// DELETE on a collection: everything the selectors match.
pub(super) fn delete_collection(call: &Call) -> Answer {
    let (options, dry_run) = deletion(call)?;
    let selector = read::selector(call)?;
    let (mut objects, _) = call.cluster.store.list(call.target.kind, call.target.namespace.as_deref());
    objects.retain(|object| selector.matches(object));
    let mut gone = Vec::new();
    for object in objects {
        let writer = Writer::new(&call.cluster, call.target.kind, dry_run);
        let Ok(old) = writer.current(object::namespace(&object), object::name(&object)) else { continue };
        writer.delete(&old, &options)?;
        gone.push(old);
    }
    Ok(read::answer_list(call, &gone, json!({"resourceVersion": call.cluster.store.version().to_string()})))
}

/// Options of a deletion, from the body (`DeleteOptions`) and the query, and whether it is a dry run.
fn deletion(call: &Call) -> Answer<(Deletion, bool)> {
    let body = if call.body.iter().all(u8::is_ascii_whitespace) { json!({}) } else { call.object()? };
    let text = |name: &str| body[name].as_str().or_else(|| call.params.get(name)).map(str::to_owned);
    let propagation = match text("propagationPolicy").as_deref() {
        None | Some("") => match body["orphanDependents"].as_bool() {
            Some(true) => Some(Propagation::Orphan),
            Some(false) => Some(Propagation::Background),
            None => None,
        },
        Some("Background") => Some(Propagation::Background),
        Some("Foreground") => Some(Propagation::Foreground),
        Some("Orphan") => Some(Propagation::Orphan),
        Some(other) => {
            return Err(Failure::bad_request(format!(
                "propagationPolicy: Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
            )));
        }
    };
    let precondition = |name: &str| body["preconditions"][name].as_str().map(str::to_owned);
    let grace = match &body["gracePeriodSeconds"] {
        Value::Null => call.params.number("gracePeriodSeconds")?,
        value => Some(value.as_u64().ok_or_else(|| Failure::bad_request("gracePeriodSeconds is not a whole number"))?),
    };
    let dry_body = body["dryRun"].as_array().is_some_and(|values| values.iter().any(|value| value == "All"));
    let options = Deletion { propagation, grace, uid: precondition("uid"), version: precondition("resourceVersion") };
    Ok((options, call.dry_run()? || dry_body))
}
