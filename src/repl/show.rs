//! Values as people read them: maps as YAML, arrays of maps as tables, text as text.

use rhai::Dynamic;
use serde_json::{Map, Value};

use crate::{
    script::convert,
    terminal::{escape, escape::escape_lines, table},
};

/// Lines shown of one value; the rest is counted.
const LINES: usize = 200;
/// Columns of a table; wider maps are shown one below the other.
const COLUMNS: usize = 8;
/// Characters of one cell.
const CELL: usize = 60;

/// The value as text for the terminal, control characters escaped; nothing for `()`.
pub fn show(value: &Dynamic) -> Option<String> {
    let text = match data(value) {
        Value::Null => return None,
        Value::String(text) if text.contains('\n') => escape_lines(text.trim_end_matches('\n')).into_owned(),
        Value::Array(items) if !items.is_empty() => match table_of(&items) {
            Some(table) => table,
            None => yaml(&Value::Array(items)),
        },
        value => yaml(&value),
    };
    let left = text.lines().count().saturating_sub(LINES);
    if left == 0 {
        return Some(text);
    }
    let shown: Vec<_> = text.lines().take(LINES).collect();
    Some(format!("{}\n… {left} more lines", shown.join("\n")))
}

/// The value in a few words, for a list of variables.
pub fn brief(value: &Dynamic) -> String {
    match data(value) {
        Value::Array(items) => format!("array of {}", items.len()),
        Value::Object(fields) => {
            let names: Vec<_> = fields.keys().map(String::as_str).collect();
            cell(&Value::String(format!("map: {}", names.join(", "))))
        }
        other => cell(&other),
    }
}

/// The value as data; what is none (closures, handles) in words. Kubernetes' bookkeeping of field owners is left out,
/// as kubectl does.
fn data(value: &Dynamic) -> Value {
    let value = value.flatten_clone();
    if let Ok(items) = value.as_array_ref() {
        return items.iter().map(data).collect();
    }
    if let Ok(fields) = value.as_map_ref() {
        let owned = |name: &str| name == "managedFields";
        return fields
            .iter()
            .filter(|(name, _)| !owned(name))
            .map(|(name, value)| (name.to_string(), data(value)))
            .collect::<Map<_, _>>()
            .into();
    }
    convert::to_json(&value).unwrap_or_else(|_| Value::String(format!("<{}>", convert::describe(&value))))
}

fn yaml(value: &Value) -> String {
    let text = serde_saphyr::to_string(value).unwrap_or_else(|_| value.to_string());
    escape_lines(text.trim_end()).into_owned()
}

/// A table when every item is a map: for Kubernetes objects what tells them apart, else all the maps' fields.
fn table_of(items: &[Value]) -> Option<String> {
    let maps: Vec<_> = items.iter().map(Value::as_object).collect::<Option<_>>()?;
    if maps.iter().all(|map| map.get("metadata").is_some_and(|metadata| metadata["name"].is_string())) {
        return Some(objects(items));
    }
    // What names a thing comes first; maps have no order of their own.
    let mut columns = vec!["namespace", "name"];
    columns.retain(|name| maps.iter().any(|map| map.contains_key(*name)));
    for name in maps.iter().flat_map(|map| map.keys()) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    if columns.is_empty() || columns.len() > COLUMNS {
        return None;
    }
    let rows: Vec<Vec<_>> = maps
        .iter()
        .map(|map| columns.iter().map(|name| map.get(*name).map(cell).unwrap_or_default()).collect())
        .collect();
    Some(table::plain(&columns, &rows))
}

fn objects(items: &[Value]) -> String {
    let row = |item: &Value| {
        let text = |pointer: &str| item.pointer(pointer).map(cell).unwrap_or_default();
        let state = ["/status/phase", "/status/state", "/status/currentState", "/status/readyReplicas"];
        let state = state.into_iter().map(text).find(|state| !state.is_empty()).unwrap_or_default();
        vec![
            text("/kind"),
            text("/metadata/namespace"),
            text("/metadata/name"),
            state,
            text("/metadata/creationTimestamp"),
        ]
    };
    table::plain(&["kind", "namespace", "name", "state", "created"], &items.iter().map(row).collect::<Vec<_>>())
}

/// A value on one line.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => {
            let text = escape(text);
            match text.char_indices().nth(CELL) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text.into_owned(),
            }
        }
        Value::Array(items) if items.is_empty() => "[]".into(),
        Value::Array(items) => format!("[{}]", items.len()),
        Value::Object(_) => "{…}".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rhai::Engine;

    use super::*;

    fn shown(script: &str) -> String {
        show(&Engine::new().eval::<Dynamic>(script).unwrap()).unwrap_or_default()
    }

    #[test]
    fn scalars_and_texts() {
        for (script, text) in [
            ("()", ""),
            ("1 + 1", "2"),
            ("true", "true"),
            ("\"Bound\"", "Bound"),
            ("\"line\\n  two\\n\"", "line\n  two"),
            ("\"a\\x1b[2J\\nb\"", "a\\u{1b}[2J\nb"),
            ("[]", "[]"),
            ("|x| x", "<a closure>"),
        ] {
            assert_eq!(shown(script), text, "{script}");
        }
    }

    #[test]
    fn maps_are_yaml_without_field_owners() {
        let script = "#{ kind: \"Pod\", metadata: #{ name: \"db\", managedFields: [1] }, f: |x| x }";
        assert_eq!(shown(script), "f: <a closure>\nkind: Pod\nmetadata:\n  name: db");
    }

    #[test]
    fn arrays_of_maps_are_tables() {
        assert_eq!(
            shown("[#{ name: \"a\", size: 1 }, #{ name: \"b\", labels: #{ x: 1 }, tags: [1, 2] }]"),
            "NAME   SIZE   LABELS   TAGS\na      1\nb             {…}      [2]"
        );
        assert_eq!(shown("[1, 2]"), "- 1\n- 2");
    }

    #[test]
    fn kubernetes_objects_are_listed_by_name() {
        let script =
            "[#{ kind: \"Pod\", metadata: #{ namespace: \"apps\", name: \"db\" }, status: #{ phase: \"Running\" } }]";
        let text = shown(script);
        assert_eq!(
            text.lines().last().unwrap().split_whitespace().collect::<Vec<_>>(),
            ["Pod", "apps", "db", "Running"]
        );
    }

    #[test]
    fn long_values_are_cut_with_a_count() {
        let text = shown("let x = []; for i in 0..500 { x.push(i); } x");
        assert_eq!(text.lines().count(), LINES + 1);
        assert!(text.ends_with("… 300 more lines"));
    }

    #[test]
    fn variables_are_told_in_a_few_words() {
        let brief = |script: &str| brief(&Engine::new().eval::<Dynamic>(script).unwrap());
        assert_eq!(brief("[1, 2]"), "array of 2");
        assert_eq!(brief("#{ a: 1, b: 2 }"), "map: a, b");
        assert_eq!(brief("\"x\""), "x");
    }
}
