//! The `scale` subresource: the replica count of a workload as an `autoscaling/v1` `Scale`.

use serde_json::{Value, json};

use super::{
    object,
    patch::{self, Patch},
    read,
    routes::Call,
    status::{Answer, Failure, json_response},
    write,
    writer::Part,
};

/// `GET …/scale`.
pub(super) fn get(call: &Call) -> Answer {
    Ok(json_response(200, &scale_of(&*read::find(call)?)))
}

/// `PUT …/scale` and `PATCH …/scale`.
pub(super) fn change(call: &Call, replace: bool) -> Answer {
    let writer = write::writer(call, false, call.dry_run()?)?;
    let old = writer.current(call.target.namespace(), call.name()?)?;
    let mut scale = scale_of(&old);
    if replace {
        scale = call.object()?;
    } else {
        match Patch::parse(call.target.kind, call.content_type(), &call.body)? {
            Patch::Apply(wanted) => patch::change(call.target.kind, &Patch::Merge(wanted), &mut scale)?,
            patch => patch::change(call.target.kind, &patch, &mut scale)?,
        }
    }
    let replicas = &scale["spec"]["replicas"];
    let replicas =
        if replicas.is_null() { Some(0) } else { replicas.as_u64().filter(|count| i32::try_from(*count).is_ok()) };
    let Some(replicas) = replicas else {
        let why = format!("Invalid value: {}: must be a whole number that is not negative", scale["spec"]["replicas"]);
        return Err(Failure::invalid(call.target.kind, object::name(&old), &[("spec.replicas", why)]));
    };
    let mut new = (*old).clone();
    new["spec"]["replicas"] = json!(replicas);
    if let Some(version) = scale["metadata"]["resourceVersion"].as_str() {
        new["metadata"]["resourceVersion"] = json!(version);
    }
    let stored = writer.update(&old, new, Part::Main)?;
    Ok(json_response(200, &scale_of(&stored)))
}

fn scale_of(workload: &Value) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        metadata[field] = workload["metadata"][field].clone();
    }
    let labels = workload["spec"]["selector"]["matchLabels"].as_object();
    let selector: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    // Zero is left out, as in a real server.
    let wanted = match count(&workload["spec"]["replicas"]) {
        0 => json!({}),
        wanted => json!({"replicas": wanted}),
    };
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": wanted,
        "status": {"replicas": count(&workload["status"]["replicas"]), "selector": selector.join(",")},
    })
}
