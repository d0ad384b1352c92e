//! The `binding` subresource of pods: how a scheduler gives a pod its node, which nobody can change afterwards.

use serde_json::json;

use super::{
    object,
    routes::Call,
    status::{Answer, Failure, json_response},
    write,
    writer::Part,
};

/// `POST …/pods/NAME/binding`.
pub(super) fn bind(call: &Call) -> Answer {
    let binding = call.object()?;
    let Some(node) = binding["target"]["name"].as_str().filter(|name| !name.is_empty()) else {
        let message = "Binding \"\" is invalid: target.name: Required value";
        return Err(Failure::new(422, "Invalid", message));
    };
    let writer = write::writer(call, false, call.dry_run()?)?;
    let old = writer.current(call.target.namespace(), call.name()?)?;
    if object::terminating(&old) {
        let why = format!("pod {} is being deleted, cannot be assigned to a host", object::name(&old));
        return Err(assigned(object::name(&old), &why));
    }
    if let Some(other) = old["spec"]["nodeName"].as_str().filter(|name| !name.is_empty()) {
        let why = format!("pod {} is already assigned to node {other:?}", object::name(&old));
        return Err(assigned(object::name(&old), &why));
    }
    let mut new = (*old).clone();
    new["spec"]["nodeName"] = json!(node);
    writer.update(&old, new, Part::Binding)?;
    Ok(json_response(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

fn assigned(name: &str, why: &str) -> Failure {
    let message = format!("Operation cannot be fulfilled on pods/binding {name:?}: {why}");
    Failure::new(409, "Conflict", message)
}
