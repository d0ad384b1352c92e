//! Tables: what `kubectl get` prints, made by the server.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{columns::Column, kinds::ResourceKind, object, rows};

/// Which form of each object accompanies its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Include {
    None,
    Metadata,
    Object,
}

/// A table of these objects.
pub(super) fn table<'a>(
    kind: &ResourceKind,
    objects: impl IntoIterator<Item = &'a Value>,
    metadata: &Value,
    include: Include,
) -> Value {
    let now = Timestamp::now();
    let layout = rows::layout(kind);
    let definitions: Vec<Value> = if kind.columns.is_empty() {
        layout
            .headings
            .split('|')
            .map(|name| definition(name.trim_end_matches('*'), "string", name.ends_with('*')))
            .collect()
    } else {
        let own = kind.columns.iter().map(|column| definition(column.name, column.kind, false));
        std::iter::once(definition("Name", "string", false)).chain(own).collect()
    };
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let cells = if kind.columns.is_empty() {
                (layout.cells)(object, now)
            } else {
                let own = kind.columns.iter().map(|column| custom_cell(column, object, now));
                std::iter::once(json!(object::name(object))).chain(own).collect()
            };
            match include {
                Include::None => json!({"cells": cells}),
                Include::Metadata => json!({"cells": cells, "object": partial(object)}),
                Include::Object => json!({"cells": cells, "object": object}),
            }
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows,
    })
}

/// An object's metadata alone.
pub(super) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn definition(name: &str, kind: &str, wide: bool) -> Value {
    let format = if name == "Name" { "name" } else { "" };
    json!({"name": name, "type": kind, "format": format, "description": "", "priority": u8::from(wide)})
}

/// The cell of a column of a custom resource; null, which prints as nothing, when there is no such value.
fn custom_cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    let value = find(object, column.path);
    match (column.kind, value) {
        (_, Value::Null) => Value::Null,
        ("date", value) => json!(age(value, now)),
        ("string", Value::String(text)) => json!(text),
        ("string", value) => json!(value.to_string()),
        (_, value) => value.clone(),
    }
}

/// The value at a path of `.field` and `[?(@.field=='value')]` parts, the two that column definitions use here.
fn find<'a>(object: &'a Value, path: &str) -> &'a Value {
    let (mut value, mut rest) = (object, path);
    while !rest.is_empty() {
        if let Some(filter) = rest.strip_prefix("[?(@.") {
            let Some((filter, after)) = filter.split_once(")]") else { return &Value::Null };
            let Some((field, wanted)) = filter.split_once("==") else { return &Value::Null };
            let wanted = wanted.trim_matches('\'');
            let items = value.as_array().map_or(&[][..], Vec::as_slice);
            value = items.iter().find(|item| item[field] == wanted).unwrap_or(&Value::Null);
            rest = after;
        } else {
            let part = rest.trim_start_matches('.');
            let end = part.find(['.', '[']).unwrap_or(part.len());
            value = &value[&part[..end]];
            rest = &part[end..];
        }
    }
    value
}

/// How long ago that was, or `<unknown>`.
pub(super) fn age(time: &Value, now: Timestamp) -> String {
    let then = time.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    then.map_or_else(|| "<unknown>".to_owned(), |then| duration(now.as_second() - then.as_second()))
}

/// Seconds as kubectl shows ages: two units while they matter, then one.
pub(super) fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |large: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, "m", seconds % 60, "s")
    } else if hours < 3 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if days < 8 {
        two(days, "d", hours % 24, "h")
    } else if days < 2 * 365 {
        format!("{days}d")
    } else {
        two(days / 365, "y", days % 365, "d")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::api::kinds;

    /// Values of the table in the tests of `k8s.io/apimachinery/pkg/util/duration`.
    #[test]
    fn ages_read_as_in_kubectl() {
        for (seconds, text) in [
            (1, "1s"),
            (119, "119s"),
            (120, "2m"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600, "3h"),
            (8 * 3600 - 60, "7h59m"),
            (8 * 3600, "8h"),
            (48 * 3600, "2d"),
            (49 * 3600, "2d1h"),
            (8 * 86400, "8d"),
            (730 * 86400, "2y"),
            (-5, "0s"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn columns_of_custom_resources_follow_their_paths() {
        let volumes = kinds::find(kinds::LONGHORN, "volumes").unwrap();
        let conditions = json!([{"type": "Ready", "status": "False"}, {"type": "Schedulable", "status": "True"}]);
        let volume = json!({"metadata": {"name": "v"}, "spec": {"size": "1024"},
            "status": {"state": "attached", "conditions": conditions}});
        let table = table(volumes, [&volume], &json!({}), Include::None);
        let names: Vec<&str> =
            table["columnDefinitions"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
        assert_eq!(names, ["Name", "Data Engine", "State", "Robustness", "Scheduled", "Size", "Node", "Age"]);
        assert_eq!(table["rows"][0]["cells"], json!(["v", null, "attached", null, "True", "1024", null, null]));
    }
}
