//! Server-side apply: a manager states the fields it wants; what it wanted before and no longer does goes away unless
//! somebody else wants it; what somebody else set is a conflict.

use serde_json::{Map, Value, json};

use super::{
    fields::{self, Fields, Step},
    kinds::ResourceKind,
    managed::{self, Entry, Manager},
    shape::{self, List},
    status::{Answer, Failure},
};

/// What `manager` makes of the object by applying `wanted`. Fails (409) naming the other managers unless `force`.
pub(super) fn apply(
    kind: &ResourceKind,
    live: &Value,
    wanted: &Value,
    manager: &Manager,
    force: bool,
) -> Answer<Value> {
    let mut wanted = wanted.clone();
    remove_nulls(&mut wanted);
    check_lists(kind, "", &wanted)?;
    let asked = Fields::of(kind, &wanted);
    let mut entries = managed::entries(live);
    let mut new = merged(kind, "", live, &wanted);

    let (changed, _) = Fields::compare(kind, live, &new);
    let contested = asked.both(&changed);
    let others = |entry: &&Entry| entry.manager != *manager;
    let disputed = contested.minus(&settled(kind, live, manager));
    let conflicts: Vec<(String, Vec<String>)> = entries
        .iter()
        .filter(others)
        .map(|entry| (entry.describe(), leaves(&entry.fields.both(&disputed))))
        .filter(|(_, paths)| !paths.is_empty())
        .collect();
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }
    for entry in entries.iter_mut().filter(|entry| entry.manager != *manager) {
        entry.fields = entry.fields.minus(&contested);
    }

    let mut kept = asked.clone();
    for entry in entries.iter().filter(others) {
        kept.union(&entry.fields);
    }
    let mine = entries.iter_mut().find(|entry| entry.manager == *manager);
    if let Some(mine) = mine {
        prune(kind, "", &mut new, &mine.fields.minus(&asked), &kept);
        if mine.fields != asked {
            *mine = Entry::new(manager, kind, asked);
        }
    } else {
        entries.push(Entry::new(manager, kind, asked));
    }
    managed::set_entries(&mut new, &entries);
    Ok(new)
}

/// Fields that kubectl itself set by its client-side apply, and that nobody changed since: its server-side apply takes
/// them over without a conflict.
fn settled(kind: &ResourceKind, live: &Value, manager: &Manager) -> Fields {
    let last = live["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str();
    let last = last.filter(|_| manager.name == "kubectl").and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(last) = last else { return Fields::default() };
    let (changed, gone) = Fields::compare(kind, &last, live);
    Fields::of(kind, &last).minus(&changed).minus(&gone)
}

fn conflict(conflicts: &[(String, Vec<String>)]) -> Failure {
    let count: usize = conflicts.iter().map(|(_, paths)| paths.len()).sum();
    let text: Vec<String> = conflicts
        .iter()
        .map(|(who, paths)| match &paths[..] {
            [path] => format!("conflict with {who}: {path}"),
            paths => format!("conflicts with {who}:\n- {}", paths.join("\n- ")),
        })
        .collect();
    let causes = conflicts
        .iter()
        .flat_map(|(who, paths)| paths.iter().map(move |path| (who, path)))
        .map(|(who, path)| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": path}))
        .collect();
    let plural = if count == 1 { "" } else { "s" };
    Failure::new(409, "Conflict", format!("Apply failed with {count} conflict{plural}: {}", text.join("\n")))
        .causes(causes)
}

/// Paths without those of items that only contain other paths of the set.
fn leaves(fields: &Fields) -> Vec<String> {
    let paths = fields.paths();
    let inner = |path: &String| paths.iter().any(|other| other.len() > path.len() && other.starts_with(path.as_str()));
    paths.iter().filter(|path| !inner(path)).cloned().collect()
}

/// A field that is applied as null is not asked for.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// Items of keyed lists must have their keys, each once.
fn check_lists(kind: &ResourceKind, field: &str, value: &Value) -> Answer<()> {
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| check_lists(kind, name, value)),
        Value::Array(items) => {
            if let List::Keyed(keys) = shape::list(kind, field) {
                let mut seen: Vec<Value> = Vec::new();
                for item in items {
                    let Some(key) = shape::key(keys, item) else {
                        let message =
                            format!("{field}: element lacks its associative list key field(s) {}", keys.join(", "));
                        return Err(Failure::bad_request(message));
                    };
                    if seen.contains(&key) {
                        return Err(Failure::bad_request(format!("{field}: duplicate entries for key {key}")));
                    }
                    seen.push(key);
                }
            }
            items.iter().try_for_each(|item| check_lists(kind, "", item))
        }
        _ => Ok(()),
    }
}

/// `live` with everything of `wanted` put over it.
fn merged(kind: &ResourceKind, field: &str, live: &Value, wanted: &Value) -> Value {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) if !shape::atomic_map(kind, field) => {
            let mut new = live.clone();
            for (name, value) in wanted {
                let value = live.get(name).map_or_else(|| value.clone(), |live| merged(kind, name, live, value));
                new.insert(name.clone(), value);
            }
            Value::Object(new)
        }
        (Value::Array(live_items), Value::Array(_)) => {
            let Some(wanted) = fields::parts(kind, field, wanted) else { return wanted.clone() };
            if !live_items.is_empty() && fields::parts(kind, field, live).is_none() {
                return Value::Array(wanted.into_iter().map(|(_, value)| value.clone()).collect());
            }
            let mut new = fields::parts(kind, field, live)
                .unwrap_or_default()
                .into_iter()
                .map(|(step, value)| (step, value.clone()))
                .collect::<Vec<_>>();
            for (step, value) in wanted {
                match new.iter_mut().find(|(present, _)| *present == step) {
                    Some((_, present)) => *present = merged(kind, "", present, value),
                    None => new.push((step, value.clone())),
                }
            }
            Value::Array(new.into_iter().map(|(_, value)| value).collect())
        }
        (_, wanted) => wanted.clone(),
    }
}

/// Takes out what is no longer asked for, except what is kept for somebody.
fn prune(kind: &ResourceKind, field: &str, value: &mut Value, dropped: &Fields, kept: &Fields) {
    let nobody = Fields::default();
    // Whether to drop the whole of what a step leads to.
    let whole = |step: &Step| {
        let keep = kept.below.get(step).unwrap_or(&nobody);
        dropped.below.get(step).is_some_and(|dropped| dropped.here) && keep.is_empty()
    };
    let prunes = |step: &Step| dropped.below.get(step).zip(Some(kept.below.get(step).unwrap_or(&nobody)));
    match value {
        Value::Object(fields) => {
            let names: Vec<String> = fields.keys().cloned().collect();
            for name in names {
                let step = Step::Field(name.clone());
                if whole(&step) {
                    fields.remove(&name);
                } else if let Some((dropped, kept)) = prunes(&step)
                    && let Some(inner) = fields.get_mut(&name)
                {
                    prune(kind, &name, inner, dropped, kept);
                    if is_hollow(inner) && kept.is_empty() {
                        fields.remove(&name);
                    }
                }
            }
        }
        Value::Array(_) => {
            let Some(parts) = fields::parts(kind, field, value) else { return };
            let steps: Vec<Step> = parts.into_iter().map(|(step, _)| step).collect();
            let Some(items) = value.as_array_mut() else { return };
            let mut step = steps.iter();
            items.retain_mut(|item| {
                let Some(step) = step.next() else { return true };
                if whole(step) {
                    return false;
                }
                if let Some((dropped, kept)) = prunes(step) {
                    prune(kind, "", item, dropped, kept);
                }
                true
            });
        }
        _ => {}
    }
}

fn is_hollow(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::api::kinds;

    fn manager(name: &str) -> Manager {
        Manager { name: name.to_owned(), applies: true, subresource: String::new() }
    }

    fn deployments() -> &'static ResourceKind {
        kinds::find("apps", "deployments").unwrap()
    }

    fn deployment(containers: &Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"template": {"spec": {"containers": containers}}}})
    }

    fn by(name: &str, live: &Value, wanted: &Value) -> Value {
        apply(deployments(), live, wanted, &manager(name), false).unwrap()
    }

    fn containers(object: &Value) -> &Value {
        &object["spec"]["template"]["spec"]["containers"]
    }

    #[test]
    fn managers_share_a_list_item_by_item() {
        let empty = deployment(&json!([]));
        let one = by("one", &empty, &deployment(&json!([{"name": "a", "image": "1"}])));
        let two = by("two", &one, &deployment(&json!([{"name": "b", "image": "2"}])));
        assert_eq!(containers(&two), &json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]));
        // One lets go of its container; what two added to nothing of it remains.
        let less = by("one", &two, &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}));
        assert_eq!(containers(&less), &json!([{"name": "b", "image": "2"}]));
        assert_eq!(managed::entries(&less).len(), 1);
    }

    #[test]
    fn a_shared_item_loses_only_its_own_fields() {
        let empty = deployment(&json!([]));
        let one = by("one", &empty, &deployment(&json!([{"name": "a", "image": "1", "tty": true}])));
        let two = by("two", &one, &deployment(&json!([{"name": "a", "stdin": true}])));
        let less = by("one", &two, &deployment(&json!([{"name": "a", "image": "1"}])));
        assert_eq!(containers(&less), &json!([{"name": "a", "image": "1", "stdin": true}]));
    }

    #[test]
    fn what_another_set_is_a_conflict_until_forced() {
        let empty = deployment(&json!([]));
        let one = by("one", &empty, &deployment(&json!([{"name": "a", "image": "1"}])));
        let wanted = deployment(&json!([{"name": "a", "image": "2"}]));
        let failure = apply(deployments(), &one, &wanted, &manager("two"), false).unwrap_err();
        assert_eq!(failure.code, 409);
        let text = "Apply failed with 1 conflict: conflict with \"one\": \
                    .spec.template.spec.containers[name=\"a\"].image";
        assert_eq!(failure.message, text);
        let forced = apply(deployments(), &one, &wanted, &manager("two"), true).unwrap();
        assert_eq!(containers(&forced)[0]["image"], "2");
        // Now it is two's: one conflicts in turn, unless it wants the same.
        assert!(
            apply(deployments(), &forced, &deployment(&json!([{"name": "a", "image": "1"}])), &manager("one"), false)
                .is_err()
        );
        assert!(apply(deployments(), &forced, &wanted, &manager("one"), false).is_ok());
    }

    #[test]
    fn applying_the_same_twice_changes_nothing() {
        let wanted = deployment(&json!([{"name": "a", "image": "1", "env": [{"name": "X", "value": "y"}]}]));
        let first = by("one", &deployment(&json!([])), &wanted);
        assert_eq!(by("one", &first, &wanted), first);
    }

    #[test]
    fn an_update_takes_the_field_over() {
        let first = by("one", &deployment(&json!([])), &deployment(&json!([{"name": "a", "image": "1"}])));
        let mut edited = first.clone();
        edited["spec"]["template"]["spec"]["containers"][0]["image"] = json!("2");
        let editor = Manager { name: "editor".into(), applies: false, subresource: String::new() };
        managed::record(deployments(), &first, &mut edited, &editor);
        let wanted = deployment(&json!([{"name": "a", "image": "1"}]));
        let failure = apply(deployments(), &edited, &wanted, &manager("one"), false).unwrap_err();
        assert!(failure.message.contains("\"editor\""), "{}", failure.message);
    }

    #[test]
    fn lists_without_keys_are_refused() {
        for list in [json!([{"image": "1"}]), json!([{"name": "a"}, {"name": "a"}])] {
            let failure =
                apply(deployments(), &deployment(&json!([])), &deployment(&list), &manager("one"), false).unwrap_err();
            assert_eq!(failure.code, 400);
        }
    }

    #[test]
    fn lists_of_custom_kinds_are_replaced() {
        let volumes = kinds::find(kinds::LONGHORN, "volumes").unwrap();
        let object =
            |tags: Value| json!({"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "spec": {"tags": tags}});
        let first = apply(volumes, &object(json!(["x"])), &object(json!(["a"])), &manager("one"), false).unwrap();
        assert_eq!(first["spec"]["tags"], json!(["a"]));
        let failure = apply(volumes, &first, &object(json!(["b"])), &manager("two"), false).unwrap_err();
        assert!(failure.message.ends_with(": .spec.tags"), "{}", failure.message);
    }
}
