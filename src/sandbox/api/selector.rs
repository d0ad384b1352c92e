//! Label and field selectors.

use serde_json::Value;

use super::{kinds::ResourceKind, status::Failure};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
    Above(i64),
    Below(i64),
}

/// Which objects a list, a watch or a deletion is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<(String, Test)>,
    fields: Vec<(String, Test)>,
}

impl Selector {
    /// Both selectors in kubectl's syntax. Refuses (400) what cannot be parsed and fields the kind cannot be selected by.
    pub fn parse(kind: &ResourceKind, labels: &str, fields: &str) -> Result<Self, Failure> {
        let mut selector = Self { labels: parse_labels(labels)?, fields: Vec::new() };
        for part in fields.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, test) = equality(part).ok_or_else(|| {
                Failure::bad_request(format!("invalid field selector: {fields:?}; can't understand {part:?}"))
            })?;
            if !selectable(kind, &name) {
                return Err(Failure::bad_request(format!("field label not supported: {name}")));
            }
            selector.fields.push((name, test));
        }
        Ok(selector)
    }

    /// Narrows to one name.
    pub fn named(mut self, name: &str) -> Self {
        self.fields.push(("metadata.name".to_owned(), Test::In(vec![name.to_owned()])));
        self
    }

    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|(name, test)| test.holds(labels[name.as_str()].as_str()))
            && self.fields.iter().all(|(name, test)| test.holds(Some(field(object, name).as_str())))
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::In(values) => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Self::NotIn(values) => value.is_none_or(|value| values.iter().all(|unwanted| unwanted != value)),
            Self::Exists => value.is_some(),
            Self::Missing => value.is_none(),
            Self::Above(limit) => number(value).is_some_and(|value| value > *limit),
            Self::Below(limit) => number(value).is_some_and(|value| value < *limit),
        }
    }
}

fn number(value: Option<&str>) -> Option<i64> {
    value?.parse().ok()
}

/// A field's text; what is absent counts as empty, false or zero, as in a real server.
fn field(object: &Value, path: &str) -> String {
    let value = path.split('.').fold(object, |value, name| &value[name]);
    match value {
        Value::String(text) => text.clone(),
        Value::Null if matches!(path, "spec.unschedulable" | "spec.hostNetwork") => "false".to_owned(),
        Value::Null if matches!(path, "status.successful" | "status.replicas") => "0".to_owned(),
        Value::Null if path == "source" => String::new(),
        Value::Object(_) if path == "source" => object["source"]["component"].as_str().unwrap_or_default().to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn selectable(kind: &ResourceKind, field: &str) -> bool {
    if matches!(field, "metadata.name" | "metadata.namespace") {
        return true;
    }
    let fields: &[&str] = match (kind.group, kind.kind) {
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "Event") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("", "Secret") => &["type"],
        ("", "Namespace") => &["status.phase"],
        ("", "Node") => &["spec.unschedulable"],
        ("batch", "Job") => &["status.successful"],
        ("apps", "ReplicaSet") => &["status.replicas"],
        _ => &[],
    };
    fields.contains(&field)
}

fn equality(part: &str) -> Option<(String, Test)> {
    let (name, value, negated) = if let Some((name, value)) = part.split_once("!=") {
        (name, value, true)
    } else if let Some((name, value)) = part.split_once("==") {
        (name, value, false)
    } else {
        let (name, value) = part.split_once('=')?;
        (name, value, false)
    };
    let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
    if name.is_empty() || value.contains('=') {
        return None;
    }
    Some((name, if negated { Test::NotIn(vec![value]) } else { Test::In(vec![value]) }))
}

fn parse_labels(text: &str) -> Result<Vec<(String, Test)>, Failure> {
    let bad = |part: &str| {
        Failure::bad_request(format!("unable to parse requirement: cannot understand {part:?} in the label selector"))
    };
    let mut tests = Vec::new();
    for part in split_outside_parentheses(text) {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let requirement = if let Some((name, values)) = set(part, "notin") {
            (name, Test::NotIn(values))
        } else if let Some((name, values)) = set(part, "in") {
            (name, Test::In(values))
        } else if part.contains('=') {
            equality(part).ok_or_else(|| bad(part))?
        } else if let Some((name, limit)) = part.split_once(['<', '>']) {
            let limit = limit.trim().parse().map_err(|_| bad(part))?;
            (name.trim().to_owned(), if part.contains('>') { Test::Above(limit) } else { Test::Below(limit) })
        } else if let Some(name) = part.strip_prefix('!') {
            (name.trim().to_owned(), Test::Missing)
        } else {
            (part.to_owned(), Test::Exists)
        };
        let name_fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if requirement.0.is_empty() || !requirement.0.chars().all(name_fits) {
            return Err(bad(part));
        }
        tests.push(requirement);
    }
    Ok(tests)
}

/// `name in (a, b)`.
fn set(part: &str, operator: &str) -> Option<(String, Vec<String>)> {
    let (left, right) = part.split_once('(')?;
    let name = left.trim_end().strip_suffix(operator)?;
    if !name.ends_with(char::is_whitespace) {
        return None;
    }
    let values = right.trim_end().strip_suffix(')')?;
    Some((name.trim().to_owned(), values.split(',').map(|value| value.trim().to_owned()).collect()))
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sandbox::api::{kinds, object};

    fn select(labels: &str, fields: &str) -> Result<Vec<String>, Failure> {
        let pods = kinds::find("", "pods").unwrap();
        let selector = Selector::parse(pods, labels, fields)?;
        let all = [
            json!({"metadata": {"name": "a", "labels": {"app": "db", "tier": "1"}}, "spec": {"nodeName": "n1"}}),
            json!({"metadata": {"name": "b", "labels": {"app": "web"}}, "status": {"phase": "Running"}}),
            json!({"metadata": {"name": "c"}}),
        ];
        Ok(all.iter().filter(|pod| selector.matches(pod)).map(|pod| object::name(pod).to_owned()).collect())
    }

    #[test]
    fn labels() {
        for (text, expected) in [
            ("", "a b c"),
            ("app=db", "a"),
            ("app==db,tier=1", "a"),
            ("app!=db", "b c"),
            ("app in (db, web)", "a b"),
            ("app notin (db)", "b c"),
            ("app", "a b"),
            ("!app", "c"),
            ("app in (db),!tier", ""),
        ] {
            assert_eq!(select(text, "").unwrap().join(" "), expected, "{text}");
        }
    }

    #[test]
    fn fields() {
        assert_eq!(select("", "metadata.name=b").unwrap(), ["b"]);
        assert_eq!(select("", "spec.nodeName!=n1,status.phase=Running").unwrap(), ["b"]);
        assert_eq!(select("", "spec.nodeName=").unwrap(), ["b", "c"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for (labels, fields) in
            [("a=b=c", ""), ("a in b)", ""), ("=x", ""), ("", "metadata.name"), ("", "spec.image=x")]
        {
            assert_eq!(select(labels, fields).unwrap_err().code, 400, "{labels:?} {fields:?}");
        }
    }
}
