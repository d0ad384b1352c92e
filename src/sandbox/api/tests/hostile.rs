//! Whatever a client sends, it gets an answer: objects and patches of any shape, made of the names the server looks at.

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue},
};
use proptest::prelude::*;

use super::*;
use crate::sandbox::api::{
    kinds::{KINDS, ResourceKind},
    read,
    routes::{Call, Params, Target},
    scale,
    server::Cluster,
    status::Answer,
    write,
};

const NAMES: &[&str] = &[
    "metadata",
    "spec",
    "status",
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "uid",
    "kind",
    "apiVersion",
    "resourceVersion",
    "managedFields",
    "fieldsV1",
    "f:spec",
    "k:{\"name\":\"a\"}",
    ".",
    "deletionTimestamp",
    "generation",
    "template",
    "containers",
    "env",
    "ports",
    "containerPort",
    "protocol",
    "volumes",
    "replicas",
    "selector",
    "matchLabels",
    "data",
    "stringData",
    "type",
    "conditions",
    "claimRef",
    "volumeClaimTemplates",
    "accessModes",
    "resources",
    "requests",
    "storage",
    "involvedObject",
    "$patch",
    "$retainKeys",
    "$deleteFromPrimitiveList/finalizers",
    "$setElementOrder/containers",
    "clusterIP",
    "state",
    "waiting",
    "a",
];
const TEXTS: &[&str] =
    &["", "a", "b", "delete", "replace", "default", "2026-01-01T00:00:00Z", "9999999999", "-1", "é", "v1", "Apply"];

fn value() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(NAMES);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(TEXTS).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((name.clone(), inner), 0..5).prop_map(|fields| Value::Object(
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}

/// An object that gets past the first checks.
fn object(kind: &'static ResourceKind) -> impl Strategy<Value = Value> {
    (value(), value(), value(), value()).prop_map(move |(metadata, spec, status, data)| {
        let mut metadata = if metadata.is_object() { metadata } else { json!({}) };
        metadata["name"] = json!("a");
        metadata["namespace"] = Value::Null;
        metadata["resourceVersion"] = Value::Null;
        let spec = if spec.is_object() { spec } else { json!({"replicas": 1, "template": data}) };
        json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": metadata, "spec": spec,
            "status": if status.is_object() { status } else { Value::Null }, "data": data, "stringData": data})
    })
}

fn call(
    cluster: &Arc<Cluster>,
    kind: &'static ResourceKind,
    named: bool,
    content_type: &'static str,
    body: &Value,
) -> Call {
    let namespace = Some(if kind.namespaced { "default".to_owned() } else { String::new() });
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(content_type));
    headers.insert("accept", HeaderValue::from_static("application/json;as=Table;v=v1;g=meta.k8s.io"));
    let params = [("fieldManager", "fuzz"), ("force", "true"), ("includeObject", "Object")];
    Call {
        cluster: cluster.clone(),
        target: Target { kind, namespace, name: named.then(|| "a".to_owned()), subresource: None },
        params: Params(params.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()),
        headers,
        body: Bytes::from(body.to_string()),
    }
}

fn sensible(answer: Answer) -> Result<(), TestCaseError> {
    let code = answer.map_or_else(|failure| failure.code, |response| response.status().as_u16());
    prop_assert!(code < 500, "{}", code);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_write_gets_an_answer(
        (kind, first) in prop::sample::select(KINDS.iter().collect::<Vec<_>>()).prop_flat_map(|kind| (Just(kind), object(kind))),
        patch in value(),
        pointer in prop::sample::select(&["", "/metadata", "/metadata/name", "/spec/template", "/spec/containers/0/env/-"][..]),
    ) {
        let cluster = Arc::new(Cluster::new("t".into(), Arc::new(AdmitAll), Arc::new(NoPods)));
        sensible(write::create(&call(&cluster, kind, false, "application/json", &first)))?;
        let operation = json!([{"op": "add", "path": pointer, "value": patch}]);
        let mut wanted = patch.clone();
        if wanted.is_object() {
            wanted["apiVersion"] = json!(kind.api_version());
            wanted["kind"] = json!(kind.kind);
        }
        for (content_type, body) in [
            ("application/merge-patch+json", &patch),
            ("application/strategic-merge-patch+json", &patch),
            ("application/json-patch+json", &operation),
            ("application/apply-patch+yaml", &wanted),
        ] {
            for subresource in [None, Some("status")] {
                let mut call = call(&cluster, kind, true, content_type, body);
                call.target.subresource = subresource.map(str::to_owned);
                sensible(write::patch(&call))?;
            }
            sensible(scale::change(&call(&cluster, kind, true, content_type, body), false))?;
        }
        sensible(write::replace(&call(&cluster, kind, true, "application/json", &first)))?;
        sensible(read::list(&call(&cluster, kind, false, "", &Value::Null)))?;
        sensible(write::delete(&call(&cluster, kind, true, "application/json", &patch)))?;
    }
}
