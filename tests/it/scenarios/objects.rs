//! Creating, applying, patching, listing, deleting.

use serde_json::{Value, json};

use super::Scenario;
use crate::{client::Client, lab::Place};

pub const SCENARIOS: &[Scenario] = &[
    ("server-side apply creates, changes and leaves alone", apply_creates_and_changes),
    ("server-side apply notices the fields of others", apply_conflicts),
    ("a field that is no longer applied goes away", apply_removes),
    ("a dry run stores nothing", dry_run),
    ("merge patches set and remove", merge_patch),
    ("JSON patches are tried as a whole", json_patch),
    ("strategic merge patches know lists by their keys", strategic_patch),
    ("a write to an old version is a conflict", stale_write),
    ("deletions keep their preconditions", deletion_preconditions),
    ("a finalizer holds a deleted object until it is removed", finalizer),
    ("what a deleted object owned goes with it, or stays", garbage),
    ("collections are deleted by selector", delete_collection),
    ("labels and fields select", selectors),
    ("long lists come in pages", pages),
    ("a status is written through its own path only", status),
    ("a namespace takes everything in it along", namespace),
];

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data})
}

fn client(place: &Place) -> Client {
    Client::new(&place.access.kubeconfig)
}

/// Removes what an earlier scenario may have left under the name.
fn fresh(client: &Client, name: &str) -> String {
    let path = format!("{MAPS}/{name}");
    client.delete(&path);
    client.gone(&path);
    path
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().expect("a version")
}

fn apply_creates_and_changes(place: &Place) {
    let client = client(place);
    let path = fresh(&client, "applied");
    let (code, first) = client.apply(&path, "one", "", &config_map("applied", &json!({"a": "1"})));
    assert_eq!(code, 201, "{first:#}");
    let entry = &first["metadata"]["managedFields"][0];
    assert_eq!(
        (&entry["manager"], &entry["operation"], &entry["apiVersion"]),
        (&json!("one"), &json!("Apply"), &json!("v1"))
    );
    assert_eq!(entry["fieldsV1"], json!({"f:data": {"f:a": {}}}));
    let (code, again) = client.apply(&path, "one", "", &config_map("applied", &json!({"a": "1"})));
    assert_eq!((code, version(&again)), (200, version(&first)), "nothing changed");
    let (code, changed) = client.apply(&path, "one", "", &config_map("applied", &json!({"a": "2", "b": "1"})));
    assert_eq!((code, &changed["data"]), (200, &json!({"a": "2", "b": "1"})));
    assert_ne!(version(&changed), version(&first));
    let (code, none) = client.apply(&path, "", "", &config_map("applied", &json!({})));
    assert!(code == 400 || code == 422, "{code} {none:#}");
    let (code, with_fields) = client.apply(&path, "one", "", &changed);
    assert_eq!((code, with_fields["reason"].as_str()), (400, Some("BadRequest")), "{with_fields:#}");
}

fn apply_conflicts(place: &Place) {
    let client = client(place);
    let path = fresh(&client, "contested");
    client.apply(&path, "theirs", "", &config_map("contested", &json!({"a": "1", "b": "1"})));
    let ours = config_map("contested", &json!({"a": "2"}));
    let (code, conflict) = client.apply(&path, "ours", "", &ours);
    assert_eq!((code, conflict["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(conflict["message"], "Apply failed with 1 conflict: conflict with \"theirs\": .data.a");
    let cause = &conflict["details"]["causes"][0];
    assert_eq!((&cause["reason"], &cause["field"]), (&json!("FieldManagerConflict"), &json!(".data.a")));
    let (code, shared) = client.apply(&path, "ours", "", &config_map("contested", &json!({"a": "1"})));
    assert_eq!(code, 200, "the same value is no conflict: {shared:#}");
    let (code, forced) = client.apply(&path, "ours", "&force=true", &ours);
    assert_eq!((code, &forced["data"]), (200, &json!({"a": "2", "b": "1"})));
    let (code, conflict) = client.apply(&path, "theirs", "", &config_map("contested", &json!({"a": "1", "b": "1"})));
    assert_eq!(code, 409, "it is ours now: {conflict:#}");
}

fn apply_removes(place: &Place) {
    let client = client(place);
    let path = fresh(&client, "shrinking");
    client.apply(&path, "one", "", &config_map("shrinking", &json!({"a": "1", "b": "1"})));
    client.merge(&path, &json!({"data": {"c": "1"}}));
    let (code, less) = client.apply(&path, "one", "", &config_map("shrinking", &json!({"a": "1"})));
    assert_eq!((code, &less["data"]), (200, &json!({"a": "1", "c": "1"})), "what another one wrote stays");
}

fn dry_run(place: &Place) {
    let client = client(place);
    let path = fresh(&client, "dry");
    let map = config_map("dry", &json!({"a": "1"}));
    let (code, shown) = client.post(&format!("{MAPS}?dryRun=All"), &map);
    assert_eq!((code, &shown["data"]["a"]), (201, &json!("1")));
    assert_eq!(client.get(&path).0, 404);
    client.post(MAPS, &map);
    let (code, shown) =
        client.send("PATCH", &format!("{path}?dryRun=All"), "application/merge-patch+json", r#"{"data":{"a":"2"}}"#);
    assert_eq!((code, &shown["data"]["a"]), (200, &json!("2")));
    assert_eq!(client.get(&path).1["data"]["a"], "1");
    assert_eq!(client.delete(&format!("{path}?dryRun=All")).0, 200);
    assert_eq!(client.get(&path).0, 200);
    assert_eq!(client.post(&format!("{MAPS}?dryRun=Some"), &map).0, 422);
}

fn merge_patch(place: &Place) {
    let client = client(place);
    let path = fresh(&client, "merged");
    client.post(MAPS, &config_map("merged", &json!({"a": "1", "b": "1"})));
    let (code, merged) =
        client.merge(&path, &json!({"data": {"a": null, "c": "1"}, "metadata": {"labels": {"x": "y"}}}));
    assert_eq!(
        (code, &merged["data"], &merged["metadata"]["labels"]),
        (200, &json!({"b": "1", "c": "1"}), &json!({"x": "y"}))
    );
    let (code, again) = client.merge(&path, &json!({"data": {"c": "1"}}));
    assert_eq!((code, version(&again)), (200, version(&merged)), "nothing changed");
    let (code, missing) = client.merge(&format!("{MAPS}/missing"), &json!({}));
    assert_eq!((code, missing["message"].as_str()), (404, Some("configmaps \"missing\" not found")));
    let (code, wrong) = client.merge(&path, &json!({"data": {"a": 1}}));
    assert_eq!((code, wrong["reason"].as_str()), (422, Some("Invalid")), "a number is no text: {wrong:#}");
    let (code, renamed) = client.merge(&path, &json!({"metadata": {"name": "other"}}));
    assert_eq!((code, renamed["reason"].as_str()), (400, Some("BadRequest")), "{renamed:#}");
    let (code, moved) = client.merge(&path, &json!({"metadata": {"uid": "other"}}));
    assert_eq!((code, moved["reason"].as_str()), (422, Some("Invalid")), "{moved:#}");
    let (code, unknown) = client.send("PATCH", &path, "text/plain", "x");
    assert_eq!((code, unknown["reason"].as_str()), (415, Some("UnsupportedMediaType")), "{unknown:#}");
}

fn json_patch(place: &Place) {
    let client = client(place);
    let path = fresh(&client, "operated");
    client.post(MAPS, &config_map("operated", &json!({"a": "1"})));
    let (code, done) = client.patch(
        &path,
        &json!([
            {"op": "test", "path": "/data/a", "value": "1"},
            {"op": "replace", "path": "/data/a", "value": "2"},
            {"op": "add", "path": "/metadata/labels", "value": {"x~y/z": "1"}},
            {"op": "copy", "from": "/data/a", "path": "/data/b"},
        ]),
    );
    // A label's key may not have a tilde.
    assert_eq!((code, done["reason"].as_str()), (422, Some("Invalid")), "{done:#}");
    let (code, done) = client.patch(
        &path,
        &json!([
            {"op": "test", "path": "/data/a", "value": "1"},
            {"op": "replace", "path": "/data/a", "value": "2"},
            {"op": "add", "path": "/metadata/labels", "value": {"x/y": "1"}},
            {"op": "replace", "path": "/metadata/labels/x~1y", "value": "2"},
            {"op": "copy", "from": "/data/a", "path": "/data/b"},
        ]),
    );
    assert_eq!((code, &done["data"]), (200, &json!({"a": "2", "b": "2"})), "{done:#}");
    assert_eq!(done["metadata"]["labels"]["x/y"], "2");
    for operations in [
        json!([{"op": "replace", "path": "/data/a", "value": "3"}, {"op": "test", "path": "/data/b", "value": "x"}]),
        json!([{"op": "remove", "path": "/data/nothing"}]),
        json!([{"op": "replace", "path": "/nothing/at/all", "value": "1"}]),
    ] {
        let (code, refused) = client.patch(&path, &operations);
        assert_eq!((code, refused["reason"].as_str()), (422, Some("Invalid")), "{operations} {refused:#}");
    }
    assert_eq!(client.get(&path).1["data"], json!({"a": "2", "b": "2"}), "nothing of a failed patch stays");
    let (code, replaced) = client.patch(&path, &json!([{"op": "replace", "path": "/data/new", "value": "1"}]));
    assert_eq!((code, &replaced["data"]["new"]), (200, &json!("1")), "a field may be replaced that is not there");
    let (code, wrong) = client.patch(&path, &json!({"op": "remove"}));
    assert_eq!((code, wrong["reason"].as_str()), (400, Some("BadRequest")), "{wrong:#}");
}

fn strategic_patch(place: &Place) {
    let client = client(place);
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let named = format!("{path}/listed");
    client.delete(&named);
    client.gone(&named);
    let env = |value: &str| json!([{"name": "A", "value": value}, {"name": "B", "value": "1"}]);
    let template = json!({
        "metadata": {"labels": {"app": "listed"}},
        "spec": {"containers": [{"name": "c", "image": "busybox", "command": ["sleep", "1"], "env": env("1")}]},
    });
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": "listed"}}, "template": template});
    let deployment =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "listed"}, "spec": spec});
    let (code, made) = client.post(path, &deployment);
    assert_eq!(code, 201, "{made:#}");
    let containers = |value: Value| json!({"spec": {"template": {"spec": {"containers": value}}}});
    let (code, changed) =
        client.strategic(&named, &containers(json!([{"name": "c", "env": [{"name": "A", "value": "2"}]}])));
    let container = &changed["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((code, &container["image"], &container["env"]), (200, &json!("busybox"), &env("2")), "{changed:#}");
    let less = json!([{"name": "c", "env": [{"name": "B", "$patch": "delete"}], "command": ["true"]}]);
    let (code, changed) = client.strategic(&named, &containers(less));
    let container = &changed["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((code, &container["env"]), (200, &json!([{"name": "A", "value": "2"}])), "{changed:#}");
    assert_eq!(container["command"], json!(["true"]), "a list without keys is replaced");
    assert_eq!(changed["metadata"]["generation"], 3);
    client.delete(&named);
}

fn stale_write(place: &Place) {
    let client = client(place);
    let path = fresh(&client, "raced");
    let (_, first) = client.post(MAPS, &config_map("raced", &json!({"a": "1"})));
    let (_, second) = client.merge(&path, &json!({"data": {"a": "2"}}));
    let (code, conflict) = client.put(&path, &first);
    assert_eq!((code, conflict["reason"].as_str()), (409, Some("Conflict")));
    let why = "Operation cannot be fulfilled on configmaps \"raced\": the object has been modified; please apply your \
               changes to the latest version and try again";
    assert_eq!(conflict["message"], why);
    let (code, merged) =
        client.merge(&path, &json!({"metadata": {"resourceVersion": version(&first)}, "data": {"a": "3"}}));
    assert_eq!((code, merged["reason"].as_str()), (409, Some("Conflict")));
    let mut new = second.clone();
    new["data"]["a"] = json!("3");
    assert_eq!(client.put(&path, &new).0, 200);
    new["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    new["data"]["a"] = json!("4");
    assert_eq!(client.put(&path, &new).0, 200, "without a version the newest is meant");
    let (code, exists) = client.post(MAPS, &config_map("raced", &json!({})));
    assert_eq!((code, exists["reason"].as_str()), (409, Some("AlreadyExists")));
    assert_eq!(exists["message"], "configmaps \"raced\" already exists");
    let (code, versioned) = client.post(MAPS, &json!({"metadata": {"name": "raced-2", "resourceVersion": "1"}}));
    // A server's way to say that this makes no sense.
    assert_eq!(code, 500, "{versioned:#}");
    new["metadata"]["name"] = json!("other");
    let (code, wrong) = client.put(&path, &new);
    assert_eq!(code, 400, "{wrong:#}");
    let (code, missing) = client.put(&format!("{MAPS}/raced-3"), &config_map("raced-3", &json!({})));
    assert_eq!((code, missing["reason"].as_str()), (404, Some("NotFound")), "{missing:#}");
}

fn deletion_preconditions(place: &Place) {
    let client = client(place);
    let path = fresh(&client, "guarded");
    let (_, object) = client.post(MAPS, &config_map("guarded", &json!({})));
    let options =
        |preconditions: Value| json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions});
    for wrong in [json!({"uid": "other"}), json!({"resourceVersion": "1"})] {
        let (code, refused) = client.delete_with(&path, &options(wrong));
        assert_eq!((code, refused["reason"].as_str()), (409, Some("Conflict")), "{refused:#}");
    }
    let right = json!({"uid": object["metadata"]["uid"], "resourceVersion": version(&object)});
    let (code, deleted) = client.delete_with(&path, &options(right));
    assert_eq!((code, deleted["status"].as_str()), (200, Some("Success")));
    assert_eq!(deleted["details"]["uid"], object["metadata"]["uid"]);
    let (code, missing) = client.delete(&path);
    assert_eq!((code, missing["message"].as_str()), (404, Some("configmaps \"guarded\" not found")));
}

fn finalizer(place: &Place) {
    let client = client(place);
    let path = fresh(&client, "held");
    let mut map = config_map("held", &json!({"a": "1"}));
    map["metadata"]["finalizers"] = json!(["example.org/hold", "example.org/hold-too"]);
    client.post(MAPS, &map);
    let (code, deleting) = client.delete(&path);
    assert_eq!(code, 200);
    assert!(deleting["metadata"]["deletionTimestamp"].is_string(), "{deleting:#}");
    assert_eq!(deleting["metadata"]["deletionGracePeriodSeconds"], 0);
    let (code, changed) = client.merge(&path, &json!({"data": {"a": "2"}}));
    assert_eq!((code, &changed["data"]["a"]), (200, &json!("2")), "it can still be changed");
    let more = json!({"metadata": {"finalizers": ["example.org/hold", "example.org/hold-too", "example.org/new"]}});
    let (code, refused) = client.merge(&path, &more);
    assert_eq!((code, refused["reason"].as_str()), (422, Some("Invalid")), "{refused:#}");
    assert!(refused["message"].as_str().unwrap().contains("no new finalizers can be added"), "{refused:#}");
    client.merge(&path, &json!({"metadata": {"finalizers": ["example.org/hold-too"]}}));
    assert_eq!(client.get(&path).0, 200, "one still holds it");
    let (code, _) = client.merge(&path, &json!({"metadata": {"finalizers": null}}));
    assert_eq!((code, client.get(&path).0), (200, 404));
}

fn garbage(place: &Place) {
    let client = client(place);
    let child_of = |name: &str, owner: &Value| {
        let mut map = config_map(name, &json!({}));
        map["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
            "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true}]);
        map
    };
    for (policy, stays) in [("Background", false), ("Foreground", false), ("Orphan", true)] {
        let path = fresh(&client, "owner");
        let child = fresh(&client, "owned");
        let (_, owner) = client.post(MAPS, &config_map("owner", &json!({})));
        client.post(MAPS, &child_of("owned", &owner));
        // The collector has to know both before an orphaning deletion can set the child free.
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
        assert_eq!(client.delete_with(&path, &options).0, 200);
        client.gone(&path);
        if stays {
            let child = client.wait(&child, "set free", |_, c| c["metadata"]["ownerReferences"].is_null());
            assert!(child["metadata"]["deletionTimestamp"].is_null());
        } else {
            client.gone(&child);
        }
    }
    // An owner that never was, or is another one by now, takes its own along as well.
    let path = fresh(&client, "owned");
    client.post(MAPS, &child_of("owned", &json!({"metadata": {"uid": "00000000-0000-4000-8000-000000000000"}})));
    client.gone(&path);
}

fn delete_collection(place: &Place) {
    let client = client(place);
    for (name, colour) in [("many-1", "red"), ("many-2", "red"), ("many-3", "blue")] {
        fresh(&client, name);
        let mut map = config_map(name, &json!({}));
        map["metadata"]["labels"] = json!({"colour": colour});
        client.post(MAPS, &map);
    }
    let (code, gone) = client.delete(&format!("{MAPS}?labelSelector=colour%3Dred"));
    assert_eq!((code, gone["items"].as_array().map(Vec::len)), (200, Some(2)), "{gone:#}");
    assert_eq!(client.get(&format!("{MAPS}/many-1")).0, 404);
    assert_eq!(client.get(&format!("{MAPS}/many-3")).0, 200);
    client.delete(&format!("{MAPS}/many-3"));
}

fn selectors(place: &Place) {
    let client = client(place);
    for (name, labels) in
        [("sel-a", json!({"tier": "db", "n": "1"})), ("sel-b", json!({"tier": "web"})), ("sel-c", json!({"n": "2"}))]
    {
        fresh(&client, name);
        let mut map = config_map(name, &json!({}));
        map["metadata"]["labels"] = labels;
        client.post(MAPS, &map);
    }
    let found = |query: &str| {
        let (code, list) = client.get(&format!("{MAPS}?{query}"));
        assert_eq!(code, 200, "{query}: {list:#}");
        let names =
            list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("sel-")).collect::<Vec<_>>().join(" ")
    };
    for (selector, names) in [
        ("tier%3Ddb", "sel-a"),
        ("tier%3D%3Ddb", "sel-a"),
        ("tier%21%3Ddb", "sel-b sel-c"),
        ("tier", "sel-a sel-b"),
        ("%21tier", "sel-c"),
        ("tier%20in%20(db,web),n", "sel-a"),
        ("tier%20notin%20(db)", "sel-b sel-c"),
        ("n%3E1", "sel-c"),
        ("tier%3D", ""),
    ] {
        assert_eq!(found(&format!("labelSelector={selector}")), names, "{selector}");
    }
    assert_eq!(found("fieldSelector=metadata.name%3Dsel-b"), "sel-b");
    assert_eq!(found("fieldSelector=metadata.name%21%3Dsel-b,metadata.namespace%3Ddefault"), "sel-a sel-c");
    for wrong in ["labelSelector=a%3Db%3Dc", "labelSelector=a%20in%20b", "fieldSelector=data.a%3D1"] {
        let (code, refused) = client.get(&format!("{MAPS}?{wrong}"));
        assert_eq!((code, refused["reason"].as_str()), (400, Some("BadRequest")), "{wrong}: {refused:#}");
    }
    for name in ["sel-a", "sel-b", "sel-c"] {
        client.delete(&format!("{MAPS}/{name}"));
    }
}

fn pages(place: &Place) {
    let client = client(place);
    for number in 0..5 {
        let name = format!("page-{number}");
        fresh(&client, &name);
        let mut map = config_map(&name, &json!({}));
        map["metadata"]["labels"] = json!({"paged": "yes"});
        client.post(MAPS, &map);
    }
    let (mut names, mut next, mut requests) = (Vec::new(), String::new(), 0);
    loop {
        let (code, list) = client.get(&format!("{MAPS}?labelSelector=paged%3Dyes&limit=2&continue={next}"));
        assert_eq!((code, list["kind"].as_str()), (200, Some("ConfigMapList")), "{list:#}");
        let items = list["items"].as_array().unwrap();
        assert!(items.len() <= 2, "{list:#}");
        assert!(items.iter().all(|item| item["kind"].is_null()), "items of a list do not repeat their kind");
        names.extend(items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()));
        requests += 1;
        list["metadata"]["continue"].as_str().unwrap_or_default().clone_into(&mut next);
        if next.is_empty() {
            break;
        }
    }
    assert_eq!((names.join(" "), requests), ("page-0 page-1 page-2 page-3 page-4".to_owned(), 3));
    let (code, refused) = client.get(&format!("{MAPS}?limit=2&continue=nonsense"));
    assert_eq!(code, 400, "{refused:#}");
    client.delete(&format!("{MAPS}?labelSelector=paged%3Dyes"));
}

fn status(place: &Place) {
    let client = client(place);
    let path = "/apis/apps/v1/namespaces/default/statefulsets";
    let named = format!("{path}/stated");
    client.delete(&named);
    client.gone(&named);
    let spec = json!({"replicas": 0, "serviceName": "stated", "selector": {"matchLabels": {"app": "stated"}},
        "template": {"metadata": {"labels": {"app": "stated"}}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}});
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "stated"}, "spec": spec,
        "status": {"replicas": 7, "currentRevision": "made-up"}});
    let (code, made) = client.post(path, &set);
    assert_eq!((code, &made["metadata"]["generation"]), (201, &json!(1)), "{made:#}");
    assert_ne!(made["status"]["replicas"], 7, "a status is not taken at creation");
    let (_, changed) = client.merge(&named, &json!({"status": {"currentRevision": "made-up"}}));
    assert_ne!(changed["status"]["currentRevision"], "made-up");
    let (code, scale) = client.get(&format!("{named}/scale"));
    assert_eq!((code, scale["kind"].as_str(), &scale["spec"]["replicas"]), (200, Some("Scale"), &Value::Null));
    assert_eq!(scale["status"]["selector"], "app=stated");
    let wanted = json!({"spec": {"replicas": 0}, "status": {"replicas": 0, "collisionCount": 3}});
    let (code, stated) = client.merge(&format!("{named}/status"), &wanted);
    assert_eq!((code, &stated["status"]["collisionCount"]), (200, &json!(3)), "{stated:#}");
    assert_eq!(stated["metadata"]["generation"], 1, "a status is no new wish");
    let (_, changed) = client.merge(&named, &json!({"spec": {"minReadySeconds": 1}}));
    assert_eq!(changed["metadata"]["generation"], 2);
    let (code, _) = client.merge(&format!("{MAPS}/kube-root-ca.crt/status"), &json!({}));
    assert_eq!(code, 404, "a ConfigMap has no status");
    client.delete(&named);
}

fn namespace(place: &Place) {
    let client = client(place);
    let path = "/api/v1/namespaces/short-lived";
    client.delete(path);
    client.gone(path);
    let maps = format!("{path}/configmaps");
    let map = json!({"metadata": {"name": "inside", "finalizers": ["example.org/hold"]}});
    let (code, missing) = client.post(&maps, &map);
    assert_eq!((code, missing["message"].as_str()), (404, Some("namespaces \"short-lived\" not found")));
    let (code, made) = client.post("/api/v1/namespaces", &json!({"metadata": {"name": "short-lived"}}));
    assert_eq!((code, &made["status"]["phase"]), (201, &json!("Active")));
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "short-lived");
    assert_eq!(client.post(&maps, &map).0, 201);
    let (code, deleting) = client.delete(path);
    assert_eq!((code, &deleting["status"]["phase"]), (200, &json!("Terminating")), "{deleting:#}");
    let (code, refused) = client.post(&maps, &json!({"metadata": {"name": "late"}}));
    assert_eq!((code, refused["reason"].as_str()), (403, Some("Forbidden")));
    assert!(refused["message"].as_str().unwrap().contains("because it is being terminated"), "{refused:#}");
    client.wait(&format!("{maps}/inside"), "being deleted", |_, map| map["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(client.get(path).0, 200, "what is left in it holds it");
    client.merge(&format!("{maps}/inside"), &json!({"metadata": {"finalizers": null}}));
    client.gone(path);
    let (code, refused) = client.delete("/api/v1/namespaces/kube-system");
    assert_eq!((code, refused["reason"].as_str()), (403, Some("Forbidden")), "{refused:#}");
}
