//! Strategic merge patch, which kubectl sends for built-in kinds: a merge patch that knows list keys, with directives.

use serde_json::{Map, Value};

use super::{
    kinds::ResourceKind,
    shape::{self, List},
    status::{Answer, Failure},
};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// Changes `object` as the patch says.
pub(super) fn apply(kind: &ResourceKind, object: &mut Value, patch: &Value) -> Answer<()> {
    let Value::Object(patch) = patch else { return Err(Failure::bad_request("the patch is not an object")) };
    merge(kind, object, patch)
}

fn bad(why: &str) -> Failure {
    Failure::bad_request(format!("invalid strategic merge patch: {why}"))
}

fn merge(kind: &ResourceKind, target: &mut Value, patch: &Map<String, Value>) -> Answer<()> {
    match patch.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            *target = plain(&Value::Object(patch.clone()));
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) => return Err(bad(&format!("unknown directive {PATCH}: {other:?}"))),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else { return Ok(()) };
    if let Some(retained) = patch.get(RETAIN_KEYS) {
        let retained = retained.as_array().ok_or_else(|| bad("$retainKeys is not a list"))?;
        fields.retain(|name, _| retained.iter().any(|kept| kept == name));
    }
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix(DELETE_FROM) {
            let unwanted = value.as_array().ok_or_else(|| bad("$deleteFromPrimitiveList is not a list"))?;
            if let Some(items) = fields.get_mut(list).and_then(Value::as_array_mut) {
                items.retain(|item| !unwanted.contains(item));
            }
        } else if name.starts_with('$') {
            // `$patch` and `$retainKeys` are done; `$setElementOrder` is about looks only.
        } else if value.is_null() {
            fields.remove(name);
        } else {
            let present = fields.entry(name.clone()).or_insert(Value::Null);
            merge_field(kind, name, present, value)?;
        }
    }
    Ok(())
}

fn merge_field(kind: &ResourceKind, name: &str, present: &mut Value, value: &Value) -> Answer<()> {
    match (value, shape::list(kind, name)) {
        (Value::Object(patch), _) => merge(kind, present, patch),
        (Value::Array(items), List::Keyed(keys)) if items.iter().all(Value::is_object) && present.is_array() => {
            merge_items(kind, keys[0], present, items)
        }
        (Value::Array(items), List::Set) if present.is_array() => {
            let present = present.as_array_mut().ok_or_else(|| bad("a list is patched into something else"))?;
            for item in items {
                if !present.contains(item) {
                    present.push(item.clone());
                }
            }
            Ok(())
        }
        _ => {
            *present = plain(value);
            Ok(())
        }
    }
}

fn merge_items(kind: &ResourceKind, key: &str, present: &mut Value, items: &[Value]) -> Answer<()> {
    if items.iter().any(|item| item[PATCH] == "replace") {
        let kept = items.iter().filter(|item| item[PATCH] != "replace" || item.get(key).is_some());
        *present = Value::Array(kept.map(plain).collect());
        return Ok(());
    }
    let Some(present) = present.as_array_mut() else { return Ok(()) };
    for item in items {
        let Some(wanted) = item.get(key) else { return Err(bad(&format!("a list item lacks its key {key:?}"))) };
        let same = |candidate: &Value| candidate.get(key) == Some(wanted);
        if item[PATCH] == "delete" {
            present.retain(|candidate| !same(candidate));
            continue;
        }
        let Some(patch) = item.as_object() else { continue };
        match present.iter_mut().find(|candidate| same(candidate)) {
            Some(candidate) => merge(kind, candidate, patch)?,
            None => present.push(plain(item)),
        }
    }
    Ok(())
}

/// A value that meets nothing: without directives, without nulls, without items that are only deletions.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, value)| !name.starts_with('$') && !value.is_null());
            Value::Object(kept.map(|(name, value)| (name.clone(), plain(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().filter(|item| item[PATCH] != "delete").map(plain).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sandbox::api::kinds;

    fn patched(spec: &Value, patch: &Value) -> Answer<Value> {
        let pods = kinds::find("", "pods").unwrap();
        let mut object = json!({"spec": spec});
        apply(pods, &mut object, &json!({"spec": patch}))?;
        Ok(object["spec"].clone())
    }

    /// Expected values follow the examples of the Kubernetes documentation on strategic merge patches.
    #[test]
    fn lists_are_merged_by_key() {
        let spec =
            json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}], "nodeName": "n"});
        let patch = json!({
            "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
            "containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}, {"name": "b", "image": "2"}],
            "nodeName": null,
        });
        let env = json!([{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]);
        let expected = json!({"containers": [{"name": "a", "image": "1", "env": env}, {"name": "b", "image": "2"}]});
        assert_eq!(patched(&spec, &patch).unwrap(), expected);
    }

    #[test]
    fn directives_delete_and_replace() {
        let spec = || json!({"containers": [{"name": "a"}, {"name": "b"}]});
        let deleted = patched(&spec(), &json!({"containers": [{"name": "a", "$patch": "delete"}]})).unwrap();
        assert_eq!(deleted, json!({"containers": [{"name": "b"}]}));
        let replaced = patched(&spec(), &json!({"containers": [{"$patch": "replace"}, {"name": "c"}]})).unwrap();
        assert_eq!(replaced, json!({"containers": [{"name": "c"}]}));
        let whole = patched(&spec(), &json!({"$patch": "replace", "nodeName": "n"})).unwrap();
        assert_eq!(whole, json!({"nodeName": "n"}));
        let volume = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
        let other =
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}]});
        assert_eq!(
            patched(&volume, &other).unwrap(),
            json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]})
        );
    }

    #[test]
    fn plain_lists_are_replaced_and_sets_united() {
        assert_eq!(
            patched(&json!({"tolerations": [1, 2]}), &json!({"tolerations": [3]})).unwrap(),
            json!({"tolerations": [3]})
        );
        let pods = kinds::find("", "pods").unwrap();
        let mut object = json!({"metadata": {"finalizers": ["a", "b"]}});
        let patch = json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}});
        apply(pods, &mut object, &patch).unwrap();
        assert_eq!(object["metadata"]["finalizers"], json!(["b", "c"]));
    }

    #[test]
    fn nonsense_is_refused() {
        let spec = || json!({"containers": [{"name": "a"}]});
        for patch in [
            json!({"$patch": "explode"}),
            json!({"containers": [{"image": "x"}]}),
            json!({"$retainKeys": 1}),
            json!({"$deleteFromPrimitiveList/x": 1}),
        ] {
            assert_eq!(patched(&spec(), &patch).unwrap_err().code, 400);
        }
    }
}
