//! Sets of field paths, as `managedFields` records them (`FieldsV1` of structured merge diff 4).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    kinds::ResourceKind,
    shape::{self, List},
};

/// One part of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A field: `f:spec`.
    Field(String),
    /// An item of a keyed list, by its key as JSON: `k:{"name":"web"}`.
    Item(String),
    /// An item of a set, as JSON: `v:"longhorn.io"`.
    Value(String),
}

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// Whether the path that leads here is in the set.
    pub here: bool,
    pub below: BTreeMap<Step, Fields>,
}

/// The parts of a value that are owned one by one; `None` for a leaf.
pub(super) fn parts<'a>(kind: &ResourceKind, field: &str, value: &'a Value) -> Option<Vec<(Step, &'a Value)>> {
    match value {
        Value::Object(fields) if !fields.is_empty() && !shape::atomic_map(kind, field) => {
            Some(fields.iter().map(|(name, value)| (Step::Field(name.clone()), value)).collect())
        }
        Value::Array(items) if !items.is_empty() => {
            let mut parts = Vec::with_capacity(items.len());
            for item in items {
                let step = match shape::list(kind, field) {
                    List::Set if !item.is_object() && !item.is_array() => Step::Value(item.to_string()),
                    List::Atomic | List::Set => return None,
                    List::Keyed(keys) => Step::Item(shape::key(keys, item)?.to_string()),
                };
                parts.push((step, item));
            }
            Some(parts)
        }
        _ => None,
    }
}

/// The name by which the shape of what is under a step is known.
pub(super) fn field_name(step: &Step) -> &str {
    match step {
        Step::Field(name) => name,
        Step::Item(_) | Step::Value(_) => "",
    }
}

impl Fields {
    /// The paths of everything in an object that somebody can own.
    pub fn of(kind: &ResourceKind, object: &Value) -> Self {
        let mut all = Self::default();
        all.add(kind, "", object);
        all.here = false;
        all.without_identity()
    }

    fn add(&mut self, kind: &ResourceKind, field: &str, value: &Value) {
        match parts(kind, field, value) {
            None => self.here = true,
            Some(parts) => {
                for (step, value) in parts {
                    let item = !matches!(step, Step::Field(_));
                    let name = field_name(&step).to_owned();
                    let below = self.below.entry(step).or_default();
                    below.here |= item;
                    if !item || value.is_object() {
                        below.add(kind, &name, value);
                    }
                }
            }
        }
    }

    /// Leaves out what nobody owns: what names the object and what the server sets.
    fn without_identity(mut self) -> Self {
        for name in ["apiVersion", "kind"] {
            self.below.remove(&Step::Field(name.to_owned()));
        }
        let step = Step::Field("metadata".to_owned());
        if let Some(metadata) = self.below.get_mut(&step) {
            for name in [
                "name",
                "generateName",
                "namespace",
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "managedFields",
                "selfLink",
            ] {
                metadata.below.remove(&Step::Field(name.to_owned()));
            }
            if metadata.is_empty() || (metadata.here && metadata.below.is_empty()) {
                self.below.remove(&step);
            }
        }
        self
    }

    /// What differs between two objects: paths that are new or have another value, and paths that are no more.
    pub fn compare(kind: &ResourceKind, old: &Value, new: &Value) -> (Self, Self) {
        let (mut changed, mut removed) = (Self::default(), Self::default());
        difference(kind, "", old, new, &mut changed, &mut removed);
        (changed.without_identity().pruned(), removed.without_identity().pruned())
    }

    /// Without steps that lead to nothing.
    fn pruned(mut self) -> Self {
        self.below.retain(|_, below| !below.is_empty());
        self.below = self.below.into_iter().map(|(step, below)| (step, below.pruned())).collect();
        self
    }

    pub fn is_empty(&self) -> bool {
        !self.here && self.below.values().all(Self::is_empty)
    }

    pub fn union(&mut self, other: &Self) {
        self.here |= other.here;
        for (step, below) in &other.below {
            self.below.entry(step.clone()).or_default().union(below);
        }
    }

    /// Without the paths of the other.
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = Self { here: self.here && !other.here, below: BTreeMap::new() };
        for (step, below) in &self.below {
            let below = other.below.get(step).map_or_else(|| below.clone(), |others| below.minus(others));
            if !below.is_empty() {
                left.below.insert(step.clone(), below);
            }
        }
        left
    }

    /// The paths that are in both.
    pub fn both(&self, other: &Self) -> Self {
        let mut common = Self { here: self.here && other.here, below: BTreeMap::new() };
        for (step, below) in &self.below {
            if let Some(others) = other.below.get(step) {
                let below = below.both(others);
                if !below.is_empty() {
                    common.below.insert(step.clone(), below);
                }
            }
        }
        common
    }

    /// The paths as people read them: `.spec.containers[name="web"].image`.
    pub fn paths(&self) -> Vec<String> {
        fn walk(fields: &Fields, path: &str, found: &mut Vec<String>) {
            if fields.here {
                found.push(path.to_owned());
            }
            for (step, below) in &fields.below {
                let path = match step {
                    Step::Field(name) => format!("{path}.{name}"),
                    Step::Value(value) => format!("{path}[={value}]"),
                    Step::Item(key) => {
                        let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                        let key: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
                        format!("{path}[{}]", key.join(","))
                    }
                };
                walk(below, &path, found);
            }
        }
        let mut found = Vec::new();
        walk(self, "", &mut found);
        found
    }

    /// `FieldsV1`.
    pub fn to_value(&self) -> Value {
        let mut fields = Map::new();
        if self.here && !self.below.is_empty() {
            fields.insert(".".to_owned(), json!({}));
        }
        for (step, below) in &self.below {
            let name = match step {
                Step::Field(name) => format!("f:{name}"),
                Step::Item(key) => format!("k:{key}"),
                Step::Value(value) => format!("v:{value}"),
            };
            fields.insert(name, below.to_value());
        }
        Value::Object(fields)
    }

    /// Reads `FieldsV1`; `None` when it is none. List positions (`i:`), which nobody writes any more, are left out.
    pub fn from_value(value: &Value) -> Option<Self> {
        let mut fields = Self { here: true, below: BTreeMap::new() };
        let given = value.as_object()?;
        if !given.is_empty() {
            fields.here = given.contains_key(".");
        }
        for (name, below) in given {
            if name == "." {
                continue;
            }
            let (sort, rest) = name.split_once(':')?;
            // Keys are compared as text, so they get the one form this module writes.
            let canonical = |text: &str| serde_json::from_str::<Value>(text).ok().map(|value| value.to_string());
            let step = match sort {
                "f" => Step::Field(rest.to_owned()),
                "k" => Step::Item(canonical(rest)?),
                "v" => Step::Value(canonical(rest)?),
                "i" => continue,
                _ => return None,
            };
            fields.below.insert(step, Self::from_value(below)?);
        }
        Some(fields)
    }
}

fn difference(kind: &ResourceKind, field: &str, old: &Value, new: &Value, changed: &mut Fields, removed: &mut Fields) {
    if old == new {
        return;
    }
    if let (Some(old_parts), Some(new_parts)) = (parts(kind, field, old), parts(kind, field, new)) {
        let before: BTreeMap<&Step, &Value> = old_parts.iter().map(|(step, value)| (step, *value)).collect();
        let after: BTreeMap<&Step, &Value> = new_parts.iter().map(|(step, value)| (step, *value)).collect();
        for (step, value) in &after {
            let below = changed.below.entry((*step).clone()).or_default();
            let gone = removed.below.entry((*step).clone()).or_default();
            if let Some(old) = before.get(step) {
                difference(kind, field_name(step), old, value, below, gone);
            } else {
                below.here = !matches!(step, Step::Field(_));
                below.add(kind, field_name(step), value);
            }
        }
        for (step, value) in &before {
            if !after.contains_key(step) {
                let gone = removed.below.entry((*step).clone()).or_default();
                gone.here = !matches!(step, Step::Field(_));
                gone.add(kind, field_name(step), value);
            }
        }
        return;
    }
    let (mut before, mut after) = (Fields::default(), Fields::default());
    before.add(kind, field, old);
    after.add(kind, field, new);
    removed.union(&before.minus(&after));
    changed.union(&after);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::api::kinds;

    fn pods() -> &'static ResourceKind {
        kinds::find("", "pods").unwrap()
    }

    fn pod(image: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "labels": {"app": "x"}, "finalizers": ["a/b"]},
            "spec": {"containers": [{"name": "web", "image": image, "ports": [{"containerPort": 80}], "args": ["a", "b"]}]},
        })
    }

    #[test]
    fn fields_are_written_as_a_real_server_writes_them() {
        let fields = Fields::of(pods(), &pod("nginx"));
        let expected = json!({
            "f:metadata": {"f:finalizers": {"v:\"a/b\"": {}}, "f:labels": {"f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
                ".": {}, "f:args": {}, "f:image": {}, "f:name": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
            }}},
        });
        assert_eq!(fields.to_value(), expected);
        assert_eq!(Fields::from_value(&expected).unwrap(), fields);
        assert!(Fields::from_value(&json!({"x:y": {}})).is_none());
        assert!(Fields::from_value(&json!({"k:{": {}})).is_none());
    }

    #[test]
    fn a_change_names_its_path() {
        let (changed, removed) = Fields::compare(pods(), &pod("a"), &pod("b"));
        assert_eq!(changed.paths(), [".spec.containers[name=\"web\"].image"]);
        assert!(removed.is_empty());
        let mut less = pod("a");
        less["metadata"]["labels"] = json!({"tier": "1"});
        let (changed, removed) = Fields::compare(pods(), &pod("a"), &less);
        assert_eq!(
            (changed.paths(), removed.paths()),
            (vec![".metadata.labels.tier".into()], vec![".metadata.labels.app".into()])
        );
    }

    #[test]
    fn sets_subtract_and_intersect() {
        let all = Fields::of(pods(), &pod("a"));
        let (image, _) = Fields::compare(pods(), &pod("a"), &pod("b"));
        assert_eq!(all.both(&image), image);
        let mut back = all.minus(&image);
        assert_ne!(back, all);
        back.union(&image);
        assert_eq!(back, all);
        assert!(all.minus(&all).is_empty());
    }
}
