//! The part of kubectl's JSONPath that `wait` needs: fields, indices, `[*]` and `[?(@.field=="value")]`.
//!
//! Grammar: <https://kubernetes.io/docs/reference/kubectl/jsonpath/>.

use serde_json::Value;

use crate::{Error, Kind, Result};

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter { path: Vec<Step>, equal: bool, value: String },
}

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath {
    text: String,
    steps: Vec<Step>,
}

impl JsonPath {
    /// Reads `{.status.phase}`, `.status.phase` or `status.phase`, as kubectl does.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let inner = text.trim();
        let inner = match inner.strip_prefix('{') {
            Some(rest) => rest.strip_suffix('}').ok_or_else(|| wrong(text, "the closing brace is missing"))?,
            None => inner,
        };
        let steps = steps(inner.trim().trim_start_matches('$'), text)?;
        if steps.is_empty() {
            return Err(wrong(text, "it names no field"));
        }
        Ok(Self { text: text.to_string(), steps })
    }

    /// Everything the path leads to.
    pub(super) fn values<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        select(&self.steps, object)
    }

    /// The path as it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// A value as text, the way kubectl compares it: strings without quotes.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn select<'a>(steps: &[Step], object: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![object];
    for step in steps {
        found = found.into_iter().flat_map(|value| advance(step, value)).collect();
    }
    found
}

fn advance<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Field(name), _) => value.get(name).into_iter().collect(),
        (Step::Index(index), Value::Array(items)) => {
            let index = if *index < 0 { *index + i64::try_from(items.len()).unwrap_or(0) } else { *index };
            usize::try_from(index).ok().and_then(|index| items.get(index)).into_iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(fields)) => fields.values().collect(),
        (Step::Filter { path, equal, value: wanted }, Value::Array(items)) => {
            let matches =
                |item: &&Value| select(path, item).into_iter().any(|found| (text(found) == *wanted) == *equal);
            items.iter().filter(matches).collect()
        }
        _ => Vec::new(),
    }
}

fn steps(inner: &str, whole: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = inner;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let end = bracket_end(after).ok_or_else(|| wrong(whole, "a bracket is not closed"))?;
            steps.push(bracket(after[..end].trim(), whole)?);
            rest = &after[end + 1..];
            continue;
        }
        if rest.starts_with("..") {
            return Err(wrong(whole, "\"..\" is not supported"));
        }
        let after = rest.strip_prefix('.').unwrap_or(rest);
        if after.is_empty() || after.starts_with('[') {
            rest = after;
            continue;
        }
        let (name, length) = field(after);
        steps.push(if name == "*" { Step::All } else { Step::Field(name) });
        rest = &after[length..];
    }
    Ok(steps)
}

/// A field name up to the next dot or bracket; `\.` is a dot in the name.
fn field(text: &str) -> (String, usize) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '.' | '[' => return (name, at),
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            other => name.push(other),
        }
    }
    (name, text.len())
}

/// Position of the bracket that closes, outside quotes.
fn bracket_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, ']') => return Some(at),
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str, whole: &str) -> Result<Step> {
    if inner == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = unquoted(inner) {
        return Ok(Step::Field(name.to_string()));
    }
    if let Ok(index) = inner.parse() {
        return Ok(Step::Index(index));
    }
    let condition = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')'));
    let Some(condition) = condition else { return Err(wrong(whole, &format!("[{inner}] is not supported"))) };
    let (path, equal, value) = match (condition.split_once("=="), condition.split_once("!=")) {
        (Some((path, value)), _) => (path, true, value),
        (None, Some((path, value))) => (path, false, value),
        (None, None) => return Err(wrong(whole, "a filter compares with == or !=")),
    };
    let path = path.trim().strip_prefix('@').ok_or_else(|| wrong(whole, "a filter begins with @"))?;
    let value = value.trim();
    let value = unquoted(value).unwrap_or(value).to_string();
    Ok(Step::Filter { path: steps(path, whole)?, equal, value })
}

fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

fn wrong(text: &str, why: &str) -> Error {
    Error::new(Kind::Usage, format!("JSONPath {text:?}: {why}"))
        .hint("for example {.status.phase} or {.status.conditions[?(@.type==\"Ready\")].status}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(path: &str, object: &Value) -> Vec<String> {
        JsonPath::parse(path).unwrap().values(object).into_iter().map(text).collect()
    }

    #[test]
    fn the_forms_of_kubectl_documentation_work() {
        let object = json!({"status": {"phase": "Bound", "n": 3, "ok": true, "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "False"}]},
            "metadata": {"labels": {"app.kubernetes.io/name": "web"}}});
        assert_eq!(found("{.status.phase}", &object), ["Bound"]);
        assert_eq!(found(".status.phase", &object), ["Bound"]);
        assert_eq!(found("status.phase", &object), ["Bound"]);
        assert_eq!(found("{$.status.n}", &object), ["3"]);
        assert_eq!(found("{.status.ok}", &object), ["true"]);
        assert_eq!(found("{.status['phase']}", &object), ["Bound"]);
        assert_eq!(found("{.status.conditions[0].type}", &object), ["Ready"]);
        assert_eq!(found("{.status.conditions[-1].type}", &object), ["Initialized"]);
        assert_eq!(found("{.status.conditions[*].type}", &object), ["Ready", "Initialized"]);
        assert_eq!(found("{.status.conditions[?(@.type==\"Ready\")].status}", &object), ["True"]);
        assert_eq!(found("{.status.conditions[?(@.type!='Ready')].status}", &object), ["False"]);
        assert_eq!(found("{.metadata.labels.app\\.kubernetes\\.io/name}", &object), ["web"]);
        assert_eq!(found("{.metadata.labels['app.kubernetes.io/name']}", &object), ["web"]);
        assert!(found("{.status.missing.deeper}", &object).is_empty());
        assert!(found("{.status.conditions[7].type}", &object).is_empty());
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for path in ["", "{}", "{.a", "{.a[}", "{..a}", "{.a[1:2]}", "{.a[?(@.b>1)]}", "{.a[?(b=='c')]}"] {
            assert_eq!(JsonPath::parse(path).unwrap_err().kind(), Kind::Usage, "{path}");
        }
    }
}
