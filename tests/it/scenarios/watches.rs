//! Watches: what is told, from where, and what is not.

use serde_json::{Value, json};

use super::{Scenario, objects::config_map};
use crate::{client::Client, lab::Place};

pub const SCENARIOS: &[Scenario] = &[
    ("a watch tells what happened since a list", since_a_list),
    ("a watch by selector tells what leaves the selection", by_selector),
    ("a watch from nowhere begins with what is there", from_nowhere),
    ("a watch cannot begin in the future or in no version", nowhere),
];

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Events of a watch that the server ends after a second.
fn watch(client: &Client, query: &str) -> Vec<Value> {
    let (code, body) = client.get(&format!("{MAPS}?watch=true&timeoutSeconds=1&{query}"));
    assert_eq!(code, 200, "{query}: {body:#}");
    match body {
        Value::String(lines) => lines.lines().map(|line| serde_json::from_str(line).expect("an event")).collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

fn told(events: &[Value]) -> Vec<String> {
    let told = |event: &Value| {
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!(
            "{} {name} {}",
            event["type"].as_str().unwrap_or_default(),
            event["object"]["data"]["a"].as_str().unwrap_or_default()
        )
    };
    events.iter().filter(|event| event["type"] != "BOOKMARK").map(told).collect()
}

fn now(client: &Client) -> String {
    client.get(&format!("{MAPS}?limit=1")).1["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()
}

fn since_a_list(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    let path = format!("{MAPS}/watched");
    client.delete(&path);
    let start = now(&client);
    client.post(MAPS, &config_map("watched", &json!({"a": "1"})));
    client.merge(&path, &json!({"data": {"a": "2"}}));
    client.merge(&path, &json!({"data": {"a": "2"}}));
    client.delete(&path);
    let events = watch(&client, &format!("resourceVersion={start}&fieldSelector=metadata.name%3Dwatched"));
    assert_eq!(told(&events), ["ADDED watched 1", "MODIFIED watched 2", "DELETED watched 2"]);
    let versions: Vec<u64> =
        events.iter().map(|e| e["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()).collect();
    assert!(versions.is_sorted() && versions[0] > start.parse().unwrap(), "{versions:?}");
    assert_eq!(events[0]["object"]["kind"], "ConfigMap");
    let late = watch(&client, &format!("resourceVersion={}&fieldSelector=metadata.name%3Dwatched", versions[1]));
    assert_eq!(told(&late), ["DELETED watched 2"]);
}

fn by_selector(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    let path = format!("{MAPS}/leaving");
    client.delete(&path);
    let mut map = config_map("leaving", &json!({"a": "1"}));
    map["metadata"]["labels"] = json!({"in": "yes"});
    client.post(MAPS, &map);
    let start = now(&client);
    client.merge(&path, &json!({"metadata": {"labels": {"in": "no"}}}));
    client.merge(&path, &json!({"data": {"a": "2"}}));
    client.merge(&path, &json!({"metadata": {"labels": {"in": "yes"}}}));
    client.delete(&path);
    let events = watch(&client, &format!("resourceVersion={start}&labelSelector=in%3Dyes"));
    assert_eq!(told(&events), ["DELETED leaving 1", "ADDED leaving 2", "DELETED leaving 2"]);
}

fn from_nowhere(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    for name in ["there-1", "there-2"] {
        client.delete(&format!("{MAPS}/{name}"));
        let mut map = config_map(name, &json!({"a": "1"}));
        map["metadata"]["labels"] = json!({"there": "yes"});
        client.post(MAPS, &map);
    }
    for query in ["", "resourceVersion=0&"] {
        let mut told = told(&watch(&client, &format!("{query}labelSelector=there%3Dyes")));
        told.sort();
        assert_eq!(told, ["ADDED there-1 1", "ADDED there-2 1"], "{query}");
    }
    let query =
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=there%3Dyes";
    let events = watch(&client, query);
    let mut told = told(&events);
    told.sort();
    assert_eq!(told, ["ADDED there-1 1", "ADDED there-2 1"]);
    let end = events.iter().find(|event| event["type"] == "BOOKMARK").expect("the end of the list");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    client.delete(&format!("{MAPS}?labelSelector=there%3Dyes"));
}

fn nowhere(place: &Place) {
    let client = Client::new(&place.access.kubeconfig);
    let (code, refused) = client.get(&format!("{MAPS}?watch=true&timeoutSeconds=1&resourceVersion=nonsense"));
    assert!(refused["message"].as_str().unwrap().contains("Invalid value: \"nonsense\""), "{code} {refused:#}");
    let (code, refused) = client.get(&format!("{MAPS}?resourceVersion=nonsense"));
    assert!(code >= 400, "{refused:#}");
}
