//! `metadata.managedFields`: who set which field.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{fields::Fields, kinds::ResourceKind, object};

/// Who writes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manager {
    pub name: String,
    /// Through server-side apply.
    pub applies: bool,
    /// `""` or `status`.
    pub subresource: String,
}

/// One manager's fields.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub manager: Manager,
    pub fields: Fields,
    api_version: String,
    time: Value,
}

impl Entry {
    pub fn new(manager: &Manager, kind: &ResourceKind, fields: Fields) -> Self {
        Self { manager: manager.clone(), fields, api_version: kind.api_version(), time: json!(object::now()) }
    }

    /// How messages name it.
    pub fn describe(&self) -> String {
        let Manager { name, applies, subresource } = &self.manager;
        let mut text = format!("\"{name}\"");
        // Writing to a string does not fail.
        if !subresource.is_empty() {
            let _ = write!(text, " with subresource \"{subresource}\"");
        }
        // Who applies is the same manager whatever the version.
        if !applies {
            let _ = write!(text, " using {}", self.api_version);
        }
        text
    }

    fn to_value(&self) -> Value {
        let operation = if self.manager.applies { "Apply" } else { "Update" };
        let mut value = json!({
            "manager": self.manager.name, "operation": operation, "apiVersion": self.api_version, "time": self.time,
            "fieldsType": "FieldsV1", "fieldsV1": self.fields.to_value(),
        });
        if !self.manager.subresource.is_empty() {
            value["subresource"] = json!(self.manager.subresource);
        }
        value
    }

    fn from_value(value: &Value) -> Option<Self> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Self {
            manager: Manager {
                name: text("manager")?,
                applies: value["operation"] == "Apply",
                subresource: text("subresource").unwrap_or_default(),
            },
            fields: Fields::from_value(&value["fieldsV1"])?,
            api_version: text("apiVersion")?,
            time: value["time"].clone(),
        })
    }
}

/// The managers of an object. Entries that make no sense (a client may send any) are left out.
pub(super) fn entries(object: &Value) -> Vec<Entry> {
    object["metadata"]["managedFields"].as_array().into_iter().flatten().filter_map(Entry::from_value).collect()
}

/// Records the managers.
pub(super) fn set_entries(object: &mut Value, entries: &[Entry]) {
    let values: Vec<Value> = entries.iter().filter(|entry| !entry.fields.is_empty()).map(Entry::to_value).collect();
    let metadata = object::metadata(object);
    if values.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), Value::Array(values));
    }
}

/// Takes over the managers a client sent along, as real servers do: an empty entry forgets them all, none at all or
/// nonsense keeps them.
pub(super) fn accept(old: &Value, new: &mut Value) {
    let sent = new["metadata"]["managedFields"].as_array();
    let forget = sent.is_some_and(|sent| sent.len() == 1 && sent[0].as_object().is_some_and(serde_json::Map::is_empty));
    let sensible = sent.is_some_and(|sent| !sent.is_empty() && entries(new).len() == sent.len());
    if forget {
        object::metadata(new).remove("managedFields");
    } else if !sensible {
        match old["metadata"].get("managedFields") {
            Some(kept) => object::metadata(new).insert("managedFields".to_owned(), kept.clone()),
            None => object::metadata(new).remove("managedFields"),
        };
    }
}

/// Records that `manager` turned `old` into `new` by anything but server-side apply: what changed is its own now, what
/// vanished is nobody's.
pub(super) fn record(kind: &ResourceKind, old: &Value, new: &mut Value, manager: &Manager) {
    let (changed, removed) = Fields::compare(kind, old, new);
    if changed.is_empty() && removed.is_empty() {
        return;
    }
    let mut entries = entries(new);
    let mut touched = removed;
    touched.union(&changed);
    let mut found = false;
    for entry in &mut entries {
        entry.fields = entry.fields.minus(&touched);
        if entry.manager == *manager {
            found = true;
            entry.fields.union(&changed);
            entry.time = json!(object::now());
        }
    }
    if !found && !changed.is_empty() {
        entries.push(Entry::new(manager, kind, changed));
    }
    set_entries(new, &entries);
}
