//! Reading fields of objects that may lack them: an absent field is empty, as Longhorn's own defaults are.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

/// A text field, empty when it is absent.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A text field, if it is there and not empty.
pub(super) fn some<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    Some(text(object, pointer)).filter(|text| !text.is_empty())
}

/// [`some`] as an owned string.
pub(super) fn owned(object: &Value, pointer: &str) -> Option<String> {
    some(object, pointer).map(str::to_string)
}

/// A boolean field, false when it is absent.
pub(super) fn flag(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// A number, which Longhorn writes as a number here and as a string of digits there.
pub(super) fn number(object: &Value, pointer: &str) -> Option<u64> {
    match object.pointer(pointer)? {
        Value::String(digits) => digits.parse().ok(),
        other => other.as_u64(),
    }
}

/// A moment in RFC 3339.
pub(super) fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    some(object, pointer)?.parse().ok()
}

/// The items of a list field, none when it is absent or null.
pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A map of texts.
pub(super) fn map(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    let fields = object.pointer(pointer).and_then(Value::as_object);
    let pair = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_string()));
    fields.map(|fields| fields.iter().filter_map(pair).collect()).unwrap_or_default()
}

/// The condition of that type.
pub(super) fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").iter().find(|condition| condition["type"] == name)
}

/// Reason and message of a condition, in one text.
pub(super) fn why(condition: &Value) -> String {
    let parts = [text(condition, "/reason"), text(condition, "/message")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

/// The name of an object.
pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// Whether an object is being deleted: it is there until its finalizers are done, and must not be built upon.
pub(super) fn is_going(object: &Value) -> bool {
    some(object, "/metadata/deletionTimestamp").is_some()
}

/// A moment as Kubernetes writes it: whole seconds, UTC.
pub(super) fn seconds(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_null_and_both_spellings_of_numbers() {
        let object = json!({"a": "1", "b": 2, "c": null, "d": -1, "e": "x", "labels": {"k": "v", "n": 1}});
        assert_eq!((number(&object, "/a"), number(&object, "/b")), (Some(1), Some(2)));
        assert_eq!(
            [number(&object, "/c"), number(&object, "/d"), number(&object, "/e"), number(&object, "/f")],
            [None; 4]
        );
        assert_eq!((text(&object, "/c"), some(&object, "/missing")), ("", None));
        assert!(list(&object, "/c").is_empty() && !flag(&object, "/c"));
        assert_eq!(map(&object, "/labels"), BTreeMap::from([("k".to_string(), "v".to_string())]));
    }

    #[test]
    fn moments_are_written_in_whole_seconds() {
        let moment: Timestamp = "2026-11-22T19:18:33.987Z".parse().unwrap();
        assert_eq!(seconds(moment), "2026-11-22T19:18:33Z");
    }
}
