//! `/openapi/v3`, as little of it as makes kubectl leave validation to the server: for each kind a PATCH that takes
//! `fieldValidation`. Schemas there are none, so `kubectl explain` has nothing to say.

use serde_json::{Map, Value, json};

use super::{
    kinds::{self, KINDS},
    status::{Answer, Failure, json_response},
};

/// The index, or the document of one group.
pub(super) fn answer(path: &[&str]) -> Answer {
    let document = match path {
        [] => index(),
        ["api", version] => group("", version)?,
        ["apis", group_name, version] => group(group_name, version)?,
        _ => return Err(Failure::no_such_path()),
    };
    Ok(json_response(200, &document))
}

fn index() -> Value {
    let paths: Map<String, Value> = kinds::groups()
        .into_iter()
        .map(|(group, version)| {
            let path = base(group, version);
            let url = json!({"serverRelativeURL": format!("/openapi/v3{path}")});
            (path.trim_start_matches('/').to_owned(), url)
        })
        .collect();
    json!({"paths": paths})
}

fn base(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

fn group(group: &str, version: &str) -> Answer<Value> {
    let mut paths = Map::new();
    for kind in KINDS.iter().filter(|kind| kind.group == group && kind.version == version) {
        let namespace = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
        let query = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
        let operation = json!({
            "parameters": [query("dryRun"), query("fieldManager"), query("fieldValidation"), query("force")],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        });
        let path = format!("{}{namespace}/{}/{{name}}", base(group, version), kind.plural);
        paths.insert(path, json!({"patch": operation}));
    }
    if paths.is_empty() {
        return Err(Failure::no_such_path());
    }
    let info = json!({"title": "lhrun sandbox", "version": "v1.33.0"});
    Ok(json!({"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {}}}))
}
