//! Requests that change objects.

use axum::{http::header, response::Response};
use serde_json::{Value, json};

use super::{
    apply, kinds,
    managed::Manager,
    object,
    patch::{self, Patch},
    read,
    routes::Call,
    server::Cluster,
    status::{Answer, Failure, json_response},
    typed,
    view::View,
    writer::{Deletion, Part, Propagation, Writer},
};

/// Characters of a field manager's name.
const MAX_MANAGER: usize = 128;

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
    json_response(code, &View::of(call).object(call.target.kind, object))
}

/// A writer for the call's kind, in the name the call gives.
pub(super) fn writer(call: &Call, applies: bool, dry_run: bool) -> Answer<Writer<'_>> {
    let manager = Manager {
        name: manager_name(call)?,
        applies,
        subresource: call.target.subresource.clone().unwrap_or_default(),
    };
    Ok(Writer::new(&call.cluster, call.target.kind, dry_run, manager))
}

/// `fieldManager`, or the program that calls.
fn manager_name(call: &Call) -> Answer<String> {
    let agent = call.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let named = call.params.get("fieldManager").filter(|name| !name.is_empty());
    let name = named.or_else(|| agent.split('/').next().filter(|name| !name.is_empty())).unwrap_or("unknown");
    if named.is_some() && name.chars().count() > MAX_MANAGER {
        return Err(Failure::new(
            422,
            "Invalid",
            format!("fieldManager: Too long: may not be more than {MAX_MANAGER} bytes"),
        ));
    }
    Ok(name.chars().take(MAX_MANAGER).collect())
}

fn part(call: &Call) -> Part {
    match call.target.subresource.as_deref() {
        Some("status") => Part::Status,
        Some("finalize") => Part::Finalize,
        _ => Part::Main,
    }
}

/// A built-in kind is known by the path: its objects need not repeat it.
fn identify(call: &Call, object: &mut Value) {
    if call.target.kind.custom() {
        return;
    }
    for (field, value) in [("apiVersion", call.target.kind.api_version()), ("kind", call.target.kind.kind.to_owned())] {
        if object[field].as_str().is_none_or(str::is_empty) {
            object[field] = value.into();
        }
    }
}

/// Whether unknown fields are refused instead of dropped.
fn strict(call: &Call) -> bool {
    call.params.get("fieldValidation") == Some("Strict")
}

/// POST on a collection.
pub(super) fn create(call: &Call) -> Answer {
    let mut new = call.object()?;
    identify(call, &mut new);
    let new = typed::known(call.target.kind, new, strict(call))?;
    let namespace = call.target.namespace.as_deref().or_else(|| new["metadata"]["namespace"].as_str());
    let namespace = namespace.unwrap_or_default().to_owned();
    if call.target.kind.namespaced && namespace.is_empty() {
        return Err(Failure::bad_request("an empty namespace may not be set during creation"));
    }
    let created = writer(call, false, call.dry_run()?)?.create(&namespace, new)?;
    Ok(respond(call, 201, &created))
}

/// PUT on an object or a subresource.
pub(super) fn replace(call: &Call) -> Answer {
    let mut new = call.object()?;
    identify(call, &mut new);
    let new = typed::known(call.target.kind, new, strict(call))?;
    let writer = writer(call, false, call.dry_run()?)?;
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
    let kind = call.target.kind;
    let patch = Patch::parse(kind, call.content_type(), &call.body)?;
    let name = call.name()?;
    if let Patch::Apply(wanted) = patch {
        return apply_wanted(call, name, wanted);
    }
    let writer = writer(call, false, call.dry_run()?)?;
    let old = writer.current(call.target.namespace(), name)?;
    let mut new = (*old).clone();
    patch::change(kind, &patch, &mut new)?;
    // In a replacement another uid is a broken precondition; in a patch it is a change, of what cannot be changed.
    let uid = object::uid(&new);
    if !uid.is_empty() && uid != object::uid(&old) {
        let why = format!("Invalid value: {uid:?}: field is immutable");
        return Err(Failure::invalid(kind, name, &[("metadata.uid", why)]));
    }
    let new = typed::known(kind, new, strict(call)).map_err(|failure| {
        let message = format!(" \"\" is invalid: patch: Invalid value: {}", failure.message);
        Failure::new(422, "Invalid", message)
    })?;
    let stored = writer.update(&old, new, part(call))?;
    Ok(respond(call, 200, &stored))
}

/// Server-side apply, which creates what does not exist.
fn apply_wanted(call: &Call, name: &str, mut wanted: Value) -> Answer {
    let (kind, namespace) = (call.target.kind, call.target.namespace());
    if call.params.get("fieldManager").is_none_or(str::is_empty) {
        let message =
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
        return Err(Failure::new(422, "Invalid", message));
    }
    if !matches!(wanted["metadata"], Value::Null | Value::Object(_)) {
        return Err(Failure::bad_request("metadata is not an object"));
    }
    if wanted["metadata"]["managedFields"].as_array().is_some_and(|entries| !entries.is_empty()) {
        return Err(Failure::bad_request("metadata.managedFields must be nil"));
    }
    named(&mut wanted, name)?;
    object::metadata(&mut wanted).remove("managedFields");
    let part = part(call);
    if let Some(fields) = wanted.as_object_mut() {
        match part {
            Part::Main if kind.status => fields.retain(|field, _| field != "status"),
            Part::Status => {
                fields.retain(|field, _| matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
            }
            _ => {}
        }
    }
    let force = call.params.flag("force");
    let writer = writer(call, true, call.dry_run()?)?;
    match writer.current(namespace, name) {
        Ok(old) => {
            let new = apply::apply(kind, &old, &wanted, writer.manager(), force)?;
            let stored = writer.update(&old, new, part)?;
            Ok(respond(call, 200, &stored))
        }
        Err(missing) if part != Part::Main => Err(missing),
        Err(_) => {
            let new = apply::apply(kind, &json!({"metadata": {}}), &wanted, writer.manager(), force)?;
            let created = writer.create(namespace, new)?;
            Ok(respond(call, 201, &created))
        }
    }
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
    let writer = writer(call, false, dry_run)?;
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
        let writer = writer(call, false, dry_run)?;
        let Ok(old) = writer.current(object::namespace(&object), object::name(&object)) else { continue };
        writer.delete(&old, &options)?;
        gone.push(old);
    }
    Ok(read::answer_list(call, &gone, &json!({"resourceVersion": call.cluster.store.version().to_string()})))
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
