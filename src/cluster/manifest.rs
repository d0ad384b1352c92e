//! Manifests: YAML files with any number of objects.

use serde_json::Value;
use serde_saphyr::Spanned;

use super::ObjectRef;
use crate::{Error, Kind, Result};

/// Reads all objects of a manifest; empty documents are passed over and `List`s are taken apart.
///
/// `source` is the file's name for messages. Errors: `invalid` with file, line and column for text that is not YAML
/// and for a document that is not an object with apiVersion, kind and name.
pub fn parse(text: &str, source: &str) -> Result<Vec<Value>> {
    let documents: Vec<Spanned<Value>> = serde_saphyr::from_multiple(text).map_err(|error| {
        let what = error.without_snippet().to_string();
        let message = match error.location() {
            // The text ends with the position once more; it is said in front, as compilers do.
            Some(at) => {
                format!("{source}:{}:{}: {}", at.line(), at.column(), what.split(" at line ").next().unwrap_or(&what))
            }
            None => format!("{source}: {what}"),
        };
        Error::new(Kind::Invalid, message).object(source)
    })?;
    let mut objects = Vec::new();
    for document in documents {
        let line = document.referenced.line();
        if document.value.is_null() {
            continue;
        }
        for object in items(document.value) {
            check(&object)
                .map_err(|why| Error::new(Kind::Invalid, format!("{source}:{line}: {why}")).object(source))?;
            objects.push(object);
        }
    }
    Ok(objects)
}

fn items(document: Value) -> Vec<Value> {
    let is_list = document.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    match document {
        Value::Object(mut fields) if is_list && fields.get("items").is_some_and(Value::is_array) => {
            match fields.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        other => vec![other],
    }
}

fn check(object: &Value) -> Result<(), String> {
    if !object.is_object() {
        return Err("this document is not a Kubernetes object".to_string());
    }
    for key in ["apiVersion", "kind"] {
        if object.get(key).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(format!("this object has no {key}"));
        }
    }
    ObjectRef::of(object).map(drop).map_err(|error| error.message().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_lists_and_gaps_are_read() {
        let text = "# comment\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n---\n---\napiVersion: v1\nkind: \
                    List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: b}\n  data: {on: \"yes\", n: \
                    '08'}\n";
        let objects = parse(text, "app.yaml").unwrap();
        assert_eq!(objects.len(), 2);
        assert_eq!(objects[0]["metadata"]["name"], "a");
        assert_eq!(objects[1]["data"]["on"], "yes");
        assert!(parse("", "empty.yaml").unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let broken = parse("apiVersion: v1\nkind: [\n", "app.yaml").unwrap_err();
        assert_eq!(broken.kind(), Kind::Invalid);
        assert!(broken.message().starts_with("app.yaml:"), "{broken}");
        let nameless =
            parse("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pod\n", "app.yaml");
        let message = nameless.unwrap_err().to_string();
        assert!(message.starts_with("app.yaml:5: a Pod without metadata.name"), "{message}");
        let kindless = parse("apiVersion: v1\nmetadata: {name: a}\n", "app.yaml").unwrap_err();
        assert!(kindless.message().starts_with("app.yaml:1: this object has no kind"), "{kindless}");
        assert!(parse("just text\n", "app.yaml").unwrap_err().message().contains("not a Kubernetes object"));
    }
}
