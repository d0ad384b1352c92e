//! Everything of Longhorn's that we write, against the definitions that Longhorn publishes.
//!
//! The embedded cluster stores what it is given, whole. So its objects, in every version that its watches still tell, are
//! what `lhrun` and the sandbox's controllers really wrote. Each goes through a real API server that knows Longhorn's
//! own schemas and is told to be strict: unknown fields and wrong types are refused.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    control_plane::{ControlPlane, install_definitions},
    server::Binaries,
};
use crate::{client::Client, lab::Lab};

const LONGHORN: &str = "/apis/longhorn.io/v1beta2";
const NAMESPACE: &str = "longhorn-system";

/// Fields that the reproduced line has and another one does not: a server of that line drops them with a warning.
const NEWER: [(&str, &str, &[&str]); 2] = [
    ("v1.9.", "Longhorn 1.10 made the size of blocks a choice", &["spec.backupBlockSize", "spec.cloneMode"]),
    ("v1.12.", "", &[]),
];

#[test]
#[ignore = "needs the real servers: make test-real"]
fn what_we_write_meets_the_published_schemas() {
    let binaries = Binaries::find();
    let written = everything_written();
    let folder = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::prepare(folder.path());
    let definitions = binaries.definitions();
    assert!(definitions.len() >= 3, "{definitions:?}");
    for (version, file) in definitions {
        plane.start(&binaries);
        let client = Client::new(&plane.kubeconfig());
        install_definitions(&client, &file);
        let (code, made) = client.post("/api/v1/namespaces", &json!({"metadata": {"name": NAMESPACE}}));
        assert_eq!(code, 201, "{made:#}");
        let known = NEWER.iter().find(|(line, ..)| version.starts_with(line)).map_or(&[][..], |(.., fields)| *fields);
        let (mut tried, mut refusals) = (0, BTreeSet::new());
        for (plural, objects) in &written {
            for object in objects {
                tried += 1;
                refusals.extend(refusal(&client, plural, object, known));
            }
        }
        assert!(tried > written.len(), "only {tried} objects were tried");
        for (part, field) in [("spec", "spec.flavour"), ("status", "status.flavour")] {
            let mut wrong = written["volumes"][0].clone();
            wrong[part]["flavour"] = json!("none");
            let said = refusal(&client, "volumes", &wrong, known).unwrap_or_default();
            assert!(said.contains(field), "Longhorn {version} would not notice {field}: {said}");
        }
        println!("Longhorn {version}: {tried} objects of {} kinds", written.len());
        assert!(refusals.is_empty(), "Longhorn {version} refuses:\n{}", Vec::from_iter(refusals).join("\n"));
        plane.wipe();
    }
}

/// Objects by plural name, from a cluster where everything that we know how to write was written.
fn everything_written() -> BTreeMap<String, Vec<Value>> {
    let lab = Lab::up();
    let client = Client::new(&lab.access.kubeconfig);
    let (_, start) = client.get(&format!("{LONGHORN}/namespaces/{NAMESPACE}/settings"));
    let start = start["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    crate::restore::twice(&lab);
    lab.script(
        r#"
        longhorn::set_recurring_job(#{ name: "hourly", task: "backup", cron: "0 * * * *", retain: 3 });
        "#,
    )
    .success();
    let (_, resources) = client.get(LONGHORN);
    let mut written = BTreeMap::new();
    for resource in resources["resources"].as_array().expect("a list of kinds") {
        let plural = resource["name"].as_str().expect("a name");
        if plural.contains('/') {
            continue;
        }
        let path = format!("{LONGHORN}/namespaces/{NAMESPACE}/{plural}");
        let (_, list) = client.get(&path);
        let mut objects = Vec::new();
        for item in list["items"].as_array().expect("a list") {
            let mut item = item.clone();
            (item["apiVersion"], item["kind"]) = (json!("longhorn.io/v1beta2"), resource["kind"].clone());
            objects.push(item);
        }
        let (_, events) = client.get(&format!("{path}?watch=true&timeoutSeconds=1&resourceVersion={start}"));
        let lines = events.as_str().map_or_else(|| events.to_string(), str::to_owned);
        let told = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        objects
            .extend(told.map(|event| event["object"].clone()).filter(|object| object["metadata"]["name"].is_string()));
        if !objects.is_empty() {
            written.insert(plural.to_owned(), objects);
        }
    }
    for expected in [
        "backups",
        "backuptargets",
        "recurringjobs",
        "settings",
        "snapshots",
        "systembackups",
        "volumeattachments",
        "volumes",
    ] {
        assert!(written.contains_key(expected), "no {expected} among {:?}", written.keys());
    }
    written
}

/// What the server has against an object, first without and then with its status.
fn refusal(client: &Client, plural: &str, object: &Value, known: &[&str]) -> Option<String> {
    let mut object = object.clone();
    for field in known {
        let pointer = format!("/{}", field.replace('.', "/"));
        if let Some((parent, name)) = pointer.rsplit_once('/')
            && let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut)
        {
            parent.remove(name);
        }
    }
    let metadata = object["metadata"].as_object_mut()?;
    metadata
        .retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "labels" | "annotations" | "finalizers"));
    let name = metadata["name"].as_str()?.to_owned();
    let path = format!("{LONGHORN}/namespaces/{NAMESPACE}/{plural}");
    let named = format!("{path}/{name}");
    let (code, answer) = client.post(&format!("{path}?fieldValidation=Strict"), &object);
    let mut said = (code != 201).then(|| format!("{plural} {name}: {}", answer["message"]));
    if said.is_none() && object["status"].is_object() {
        let change = json!({"status": object["status"]});
        let (code, answer) = client.merge(&format!("{named}/status?fieldValidation=Strict"), &change);
        said = (code != 200).then(|| format!("{plural} {name}, its status: {}", answer["message"]));
    }
    client.merge(&named, &json!({"metadata": {"finalizers": null}}));
    client.delete(&named);
    said
}
