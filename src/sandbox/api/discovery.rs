//! What the server serves, in the forms clients ask for it: one aggregated document, or group by group.

use axum::{
    http::{HeaderMap, header},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    kinds::{self, KINDS, ResourceKind},
    status::{Answer, Failure, json_response, typed_response},
};

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// The form of Kubernetes 1.30 and later.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `/version`: the Kubernetes version whose API this server follows.
pub(super) fn version() -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": concat!("v1.33.0+lhrun", env!("CARGO_PKG_VERSION_MAJOR")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "2025-04-23T13:14:34Z",
        "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    })
}

/// `/api`, `/apis` and what is right under them.
pub(super) fn answer(path: &[&str], headers: &HeaderMap) -> Answer<Response> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let aggregated = accept.split(',').any(|wanted| {
        let says = |parameter: &str| wanted.split(';').any(|part| part.trim() == parameter);
        says("as=APIGroupDiscoveryList") && says("v=v2")
    });
    let document = match path {
        ["api" | "apis"] if aggregated => {
            let core = path == ["api"];
            let groups = kinds::groups().into_iter().filter(|(group, _)| group.is_empty() == core);
            let items: Vec<Value> = groups.map(|(group, version)| aggregated_group(group, version)).collect();
            let list = json!({
                "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
            });
            return Ok(typed_response(200, AGGREGATED, &list));
        }
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ["apis"] => {
            let groups: Vec<Value> =
                kinds::groups().into_iter().filter(|(group, _)| !group.is_empty()).map(group).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", name] => {
            let found =
                kinds::groups().into_iter().find(|(group, _)| group == name).ok_or_else(Failure::no_such_path)?;
            let mut group = group(found);
            group["kind"] = json!("APIGroup");
            group["apiVersion"] = json!("v1");
            group
        }
        ["api", version] => resources("", version)?,
        ["apis", group, version] => resources(group, version)?,
        _ => return Err(Failure::no_such_path()),
    };
    Ok(json_response(200, &document))
}

fn group((name, version): (&str, &str)) -> Value {
    let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn of_group<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static ResourceKind> + 'a {
    KINDS.iter().filter(move |kind| kind.group == group && kind.version == version)
}

/// Subresources with the kind they answer and their verbs.
fn subresources(kind: &ResourceKind) -> Vec<(&'static str, [&'static str; 3], &'static [&'static str])> {
    const CHANGE: &[&str] = &["get", "patch", "update"];
    let own = [kind.group, kind.version, kind.kind];
    let mut found = Vec::new();
    if kind.status {
        found.push(("status", own, CHANGE));
    }
    if kind.scale {
        found.push(("scale", ["autoscaling", "v1", "Scale"], CHANGE));
    }
    match kind.qualified().as_str() {
        "namespaces" => found.push(("finalize", own, &["update"])),
        "pods" => {
            found.push(("exec", ["", "v1", "PodExecOptions"], &["create", "get"]));
            found.push(("log", own, &["get"]));
        }
        _ => {}
    }
    found
}

fn verbs(kind: &ResourceKind) -> &'static [&'static str] {
    if kind.review { &["create"] } else { VERBS }
}

fn categories(kind: &ResourceKind) -> &'static [&'static str] {
    if kind.in_all { &["all"] } else { &[] }
}

fn aggregated_group(group: &str, version: &str) -> Value {
    let gvk = |[group, version, kind]: [&str; 3]| json!({"group": group, "version": version, "kind": kind});
    let resources: Vec<Value> = of_group(group, version)
        .map(|kind| {
            let subresources: Vec<Value> = subresources(kind)
                .into_iter()
                .map(
                    |(name, answers, verbs)| json!({"subresource": name, "responseKind": gvk(answers), "verbs": verbs}),
                )
                .collect();
            json!({
                "resource": kind.plural, "singularResource": kind.singular(), "verbs": verbs(kind),
                "responseKind": gvk([kind.group, kind.version, kind.kind]),
                "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
                "shortNames": kind.short_names, "categories": categories(kind), "subresources": subresources,
            })
        })
        .collect();
    let version = json!({"version": version, "freshness": "Current", "resources": resources});
    json!({"metadata": {"name": group}, "versions": [version]})
}

fn resources(group: &str, version: &str) -> Answer<Value> {
    let mut resources = Vec::new();
    for kind in of_group(group, version) {
        resources.push(json!({
            "name": kind.plural, "singularName": kind.singular(), "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": verbs(kind), "shortNames": kind.short_names, "categories": categories(kind),
        }));
        for (name, [group, version, answers], verbs) in subresources(kind) {
            resources.push(json!({
                "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "group": group, "version": version, "kind": answers, "verbs": verbs,
            }));
        }
    }
    if resources.is_empty() {
        return Err(Failure::no_such_path());
    }
    let version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}))
}
