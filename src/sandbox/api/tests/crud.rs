use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, WatchEvent, WatchParams},
    discovery::{ApiResource, Discovery},
};
use serde_json::json;

use super::*;
use crate::sandbox::api::admission::{Objects, Operation, Refusal, Review};

#[tokio::test]
async fn without_the_token_nothing_is_told() {
    let lab = Lab::start().await;
    for (token, code) in [(TOKEN, 200), ("wrong-token", 401), ("test-toke", 401), ("", 401)] {
        let client = lab.client_with(token).await;
        let request = axum::http::Request::get(CONFIG_MAPS).body(kube::client::Body::empty()).unwrap();
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status().as_u16(), code, "{token}");
    }
}

#[tokio::test]
async fn a_used_port_is_refused_by_name() {
    let lab = Lab::start().await;
    let listen = lab.server.addr();
    let config = ApiConfig {
        listen,
        pki: Pki::generate().unwrap(),
        token: TOKEN.into(),
        admission: Arc::new(AdmitAll),
        pods: Arc::new(NoPods),
    };
    let error = ApiServer::start(config).await.unwrap_err();
    assert_eq!(error.kind(), crate::Kind::Refused);
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
}

#[tokio::test]
async fn a_rebuilt_cluster_is_the_same_address_for_old_clients() {
    let lab = Lab::start().await;
    lab.post(CONFIG_MAPS, config_map("a")).await;
    let (_, list) = lab.get(CONFIG_MAPS).await;
    let old = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let lab = lab.rebuild().await;
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}/a")).await.0, 404);
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={old}")).await.0, 410);
}

#[tokio::test]
async fn tables_are_for_those_who_ask() {
    let lab = Lab::start().await;
    lab.post(CONFIG_MAPS, config_map("a")).await;
    let ask = |accept: &'static str, path: String| {
        let request =
            axum::http::Request::get(path).header("accept", accept).body(kube::client::Body::empty()).unwrap();
        let sent = lab.client.send(request);
        async move {
            let body = sent.await.unwrap().into_body().collect_bytes().await.unwrap();
            serde_json::from_slice::<Value>(&body).unwrap()
        }
    };
    let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = ask(kubectl, CONFIG_MAPS.to_owned()).await;
    assert_eq!((&table["kind"], &table["columnDefinitions"][1]["name"]), (&json!("Table"), &json!("Data")));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let one = ask(kubectl, format!("{CONFIG_MAPS}/a")).await;
    assert_eq!((&one["rows"][0]["cells"][0], &one["rows"][0]["cells"][1]), (&json!("a"), &json!(1)));
    let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = ask(metadata, CONFIG_MAPS.to_owned()).await;
    assert_eq!((&list["kind"], &list["items"][0]["data"]), (&json!("PartialObjectMetadataList"), &json!(null)));
    let watch = ask(kubectl, format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1")).await;
    assert_eq!((&watch["type"], &watch["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
}

#[tokio::test]
async fn objects_live_as_in_a_real_server() {
    let lab = Lab::start().await;
    let (code, created) = lab.post(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(code, 201);
    let metadata = &created["metadata"];
    assert!(metadata["uid"].is_string() && metadata["creationTimestamp"].is_string());
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(lab.post(CONFIG_MAPS, config_map("a")).await.1["reason"], "AlreadyExists");

    let path = format!("{CONFIG_MAPS}/a");
    let mut changed = created.clone();
    changed["data"]["a"] = json!("2");
    let (code, stored) = lab.put(&path, &changed).await;
    assert_eq!((code, &stored["data"]["a"]), (200, &json!("2")));
    changed["data"]["a"] = json!("3");
    let (code, conflict) = lab.put(&path, &changed).await;
    assert_eq!((code, &conflict["reason"]), (409, &json!("Conflict")));
    // Nothing changed, nothing is stored.
    let (_, same) = lab.merge(&path, json!({"data": {"a": "2"}})).await;
    assert_eq!(same["metadata"]["resourceVersion"], stored["metadata"]["resourceVersion"]);

    let (code, status) = lab.delete(&path).await;
    assert_eq!((code, &status["status"], &status["details"]["uid"]), (200, &json!("Success"), &metadata["uid"]));
    let (code, missing) = lab.get(&path).await;
    assert_eq!((code, &missing["message"]), (404, &json!("configmaps \"a\" not found")));
}

#[tokio::test]
async fn a_namespace_has_to_exist() {
    let lab = Lab::start().await;
    let (code, missing) = lab.post(VOLUMES, volume("v")).await;
    assert_eq!((code, &missing["message"]), (404, &json!("namespaces \"longhorn-system\" not found")));
}

async fn longhorn() -> Lab {
    let lab = Lab::start().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "longhorn-system"}});
    assert_eq!(lab.post("/api/v1/namespaces", namespace).await.0, 201);
    lab
}

#[tokio::test]
async fn spec_and_status_are_written_apart() {
    let lab = longhorn().await;
    let mut new = volume("v");
    new["status"] = json!({"state": "attached"});
    let (_, created) = lab.post(VOLUMES, new).await;
    assert_eq!((&created["status"], &created["metadata"]["generation"]), (&json!(null), &json!(1)));
    let path = format!("{VOLUMES}/v");
    let status = format!("{path}/status");
    let both = json!({"spec": {"size": "2"}, "status": {"state": "detached"}});
    let (_, written) = lab.merge(&status, both.clone()).await;
    assert_eq!((&written["spec"]["size"], &written["status"]["state"]), (&json!("1"), &json!("detached")));
    assert_eq!(written["metadata"]["generation"], 1);
    let (_, written) = lab.merge(&path, json!({"spec": {"size": "3"}, "status": {"state": "x"}})).await;
    assert_eq!((&written["spec"]["size"], &written["status"]["state"]), (&json!("3"), &json!("detached")));
    assert_eq!(written["metadata"]["generation"], 2);
    let mut unversioned = written.clone();
    unversioned["metadata"]["resourceVersion"] = json!("");
    assert_eq!(lab.put(&path, &unversioned).await.0, 422);
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let lab = longhorn().await;
    let mut new = volume("v");
    new["metadata"]["finalizers"] = json!(["longhorn.io"]);
    lab.post(VOLUMES, new).await;
    let path = format!("{VOLUMES}/v");
    let (code, dying) = lab.delete(&path).await;
    assert_eq!((code, dying["kind"].as_str()), (200, Some("Volume")));
    assert!(dying["metadata"]["deletionTimestamp"].is_string());
    let (code, refused) = lab.merge(&path, json!({"metadata": {"finalizers": ["longhorn.io", "more"]}})).await;
    assert_eq!(code, 422, "{refused}");
    assert_eq!(lab.merge(&path, json!({"metadata": {"finalizers": null}})).await.0, 200);
    assert_eq!(lab.get(&path).await.0, 404);
}

#[tokio::test]
async fn pods_on_a_node_get_time_to_stop() {
    let lab = Lab::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |name: &str, node: serde_json::Value| {
        let containers = json!([{"name": "c", "image": "i"}]);
        let spec = json!({"nodeName": node, "containers": containers, "terminationGracePeriodSeconds": 7});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    };
    lab.post(pods, pod("running", json!("n"))).await;
    lab.post(pods, pod("waiting", json!(null))).await;
    assert_eq!(lab.delete(&format!("{pods}/waiting")).await.1["status"], "Success");
    let (_, dying) = lab.delete(&format!("{pods}/running")).await;
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 7);
    let now = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": dying["metadata"]["uid"]}}).to_string();
    let wrong = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "other"}}).to_string();
    let running = format!("{pods}/running");
    assert_eq!(lab.send("DELETE", &running, "application/json", &wrong).await.0, 409);
    assert_eq!(lab.send("DELETE", &running, "application/json", &now).await.1["status"], "Success");
}

#[tokio::test]
async fn lists_select_and_come_in_pages() {
    let lab = Lab::start().await;
    for name in ["a", "b", "c"] {
        let mut new = config_map(name);
        new["metadata"]["labels"] = json!({"app": if name == "b" { "x" } else { "y" }});
        lab.post(CONFIG_MAPS, new).await;
    }
    let api: Api<ConfigMap> = Api::namespaced(lab.client.clone(), "default");
    let found = api.list(&ListParams::default().labels("app=y")).await.unwrap();
    assert_eq!(found.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["a", "c"]);
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (2, Some(1)));
    let rest = api.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    assert_eq!(rest.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["c"]);
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}?continue=nonsense")).await.0, 400);
    assert_eq!(lab.get(&format!("{CONFIG_MAPS}?fieldSelector=data.a%3D1")).await.0, 400);
}

#[tokio::test]
async fn watches_see_every_change_and_end_on_stop() {
    let lab = Lab::start().await;
    let api: Api<ConfigMap> = Api::namespaced(lab.client.clone(), "default");
    lab.post(CONFIG_MAPS, config_map("a")).await;
    let version = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let watch = api.watch(&WatchParams::default().labels("app=x"), &version).await.unwrap();
    let path = format!("{CONFIG_MAPS}/a");
    lab.merge(&path, json!({"metadata": {"labels": {"app": "x"}}})).await;
    lab.merge(&path, json!({"data": {"b": "2"}})).await;
    lab.merge(&path, json!({"metadata": {"labels": {"app": null}}})).await;
    lab.delete(&path).await;
    let events: Vec<_> = watch.take(3).try_collect().await.unwrap();
    assert!(
        matches!(&events[..], [WatchEvent::Added(_), WatchEvent::Modified(_), WatchEvent::Deleted(_)]),
        "{events:?}"
    );

    let mut watch = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let stopping = lab.server.stop();
    let (end, ()) = tokio::join!(watch.next(), stopping);
    assert!(end.is_none(), "{end:?}");
}

#[tokio::test]
async fn a_watch_from_another_life_is_told_to_list_again() {
    let lab = Lab::start().await;
    let (code, status) = lab.get(&format!("{CONFIG_MAPS}?watch=true&resourceVersion=5")).await;
    assert_eq!((code, &status["reason"]), (410, &json!("Expired")));
}

#[tokio::test]
async fn discovery_knows_longhorn() {
    let lab = longhorn().await;
    for discovery in [
        Discovery::new(lab.client.clone()).run_aggregated().await.unwrap(),
        Discovery::new(lab.client.clone()).run().await.unwrap(),
    ] {
        let group = discovery.get("longhorn.io").unwrap();
        let (resource, capabilities) = group.recommended_kind("BackupTarget").unwrap();
        assert_eq!(resource.plural, "backuptargets");
        assert!(capabilities.supports_operation("watch"));
        assert_eq!(capabilities.scope, kube::discovery::Scope::Namespaced);
    }
}

#[tokio::test]
async fn kube_runtime_works_with_dynamic_objects() {
    let lab = longhorn().await;
    let resource = ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("longhorn.io", "v1beta2", "Volume"));
    let api: Api<DynamicObject> = Api::namespaced_with(lab.client.clone(), "longhorn-system", &resource);
    lab.post(VOLUMES, volume("v")).await;
    let condition =
        |object: Option<&DynamicObject>| object.is_some_and(|object| object.data["status"]["state"] == "attached");
    let attached = kube::runtime::wait::await_condition(api, "v", condition);
    let status = format!("{VOLUMES}/v/status");
    let writing = lab.merge(&status, json!({"status": {"state": "attached"}}));
    let (found, _) = tokio::join!(attached, writing);
    assert!(found.unwrap().is_some());
}

/// Gives volumes a replica count, refuses size 0, and reads other objects meanwhile.
struct Webhook;

impl Admission for Webhook {
    fn review(&self, review: &Review<'_>, object: &mut Value, objects: &dyn Objects) -> Result<(), Refusal> {
        if review.kind.kind != "Volume" {
            return Ok(());
        }
        assert!(objects.get("", "namespaces", None, "longhorn-system").is_some());
        if review.operation == Operation::Create {
            object["spec"]["numberOfReplicas"] = json!(objects.list("", "namespaces").len());
        }
        if object["spec"]["size"] == "0" {
            return Err(Refusal { code: 403, message: "denied".to_owned() });
        }
        Ok(())
    }
}

#[tokio::test]
async fn admission_changes_and_refuses() {
    let lab = Lab::with(Arc::new(Webhook), Arc::new(NoPods)).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "longhorn-system"}});
    lab.post("/api/v1/namespaces", namespace).await;
    let (_, created) = lab.post(VOLUMES, volume("v")).await;
    assert_eq!(created["spec"]["numberOfReplicas"], 5);
    let path = format!("{VOLUMES}/v");
    let (code, refused) = lab.merge(&path, json!({"spec": {"size": "0"}})).await;
    assert_eq!((code, &refused["message"]), (403, &json!("denied")));
    let (_, tried) = lab.merge(&format!("{path}?dryRun=All"), json!({"spec": {"size": "5"}})).await;
    assert_eq!(tried["spec"]["size"], "5");
    assert_eq!(lab.get(&path).await.1["spec"]["size"], "1");
    assert_eq!(lab.delete(&format!("{path}?dryRun=All")).await.0, 200);
    assert_eq!(lab.get(&path).await.0, 200);
}

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";

#[tokio::test]
async fn nonsense_gets_a_status() {
    let lab = longhorn().await;
    lab.post(CONFIG_MAPS, config_map("a")).await;
    let a = format!("{CONFIG_MAPS}/a");
    let json = "application/json";
    for (method, path, content_type, body, code) in [
        ("GET", "/nothing", "", "", 404),
        ("GET", "/apis/longhorn.io/v1beta1/volumes", "", "", 404),
        ("GET", "/api/v1/namespaces/default/configmaps/a/b", "", "", 404),
        ("POST", CONFIG_MAPS, json, "{", 400),
        ("POST", CONFIG_MAPS, json, "[]", 400),
        ("POST", CONFIG_MAPS, json, r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}"#, 400),
        ("POST", CONFIG_MAPS, json, r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": 3}"#, 400),
        ("POST", CONFIG_MAPS, json, r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}"#, 422),
        ("POST", CONFIG_MAPS, json, r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "A_b"}}"#, 422),
        (
            "POST",
            CONFIG_MAPS,
            json,
            r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "labels": 1}}"#,
            400,
        ),
        ("POST", CONFIG_MAPS, "application/vnd.kubernetes.protobuf", "k8s", 415),
        (
            "POST",
            "/api/v1/namespaces/default/pods",
            json,
            r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": 1}"#,
            400,
        ),
        (
            "POST",
            "/api/v1/namespaces",
            json,
            r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "labels": "y"}}"#,
            400,
        ),
        (
            "POST",
            JOBS,
            json,
            r#"{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": {"template": {"metadata": "y"}}}"#,
            400,
        ),
        ("PUT", a.as_str(), json, r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}"#, 400),
        ("PATCH", a.as_str(), "text/plain", "{}", 415),
        ("PATCH", a.as_str(), "application/merge-patch+json", "[]", 400),
        ("PATCH", a.as_str(), "application/merge-patch+json", r#"{"metadata": null}"#, 400),
        ("PATCH", a.as_str(), "application/json-patch+json", "{}", 400),
        ("PATCH", a.as_str(), "application/json-patch+json", r#"[{"op": "remove", "path": "/no"}]"#, 422),
        ("PATCH", a.as_str(), "application/json-patch+json", r#"[{"op": "replace", "path": "", "value": 1}]"#, 400),
        (
            "PATCH",
            a.as_str(),
            "application/json-patch+json",
            r#"[{"op": "replace", "path": "/metadata", "value": 1}]"#,
            422,
        ),
        ("POST", a.as_str(), json, "{}", 405),
        ("DELETE", "/api/v1/namespaces/default", "", "", 403),
        ("DELETE", "/api/v1/namespaces/default/configmaps/a?propagationPolicy=Sideways", "", "", 400),
        ("GET", "/api/v1/configmaps?labelSelector=a%3Db%3Dc", "", "", 400),
        ("GET", "/api/v1/configmaps?limit=x", "", "", 400),
    ] {
        let (is, status) = lab.send(method, path, content_type, body).await;
        assert_eq!(is, code, "{method} {path} {body}: {status}");
        assert_eq!(status["kind"], "Status");
    }
    let copies: Vec<_> =
        (0..100).map(|n| json!({"op": "copy", "from": "/data", "path": format!("/data/{n}")})).collect();
    assert_eq!(lab.send("PATCH", &a, "application/json-patch+json", &json!(copies).to_string()).await.0, 413);
    let large = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "x".repeat(4 << 20)}});
    assert_eq!(lab.post(CONFIG_MAPS, large).await.0, 413);
}
