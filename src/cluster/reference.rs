//! Naming one object: its kind as the user typed it, its namespace and its name.

use std::fmt;

use crate::{Error, Kind, Result};

/// Which object. The kind is kept as typed and resolved when the object is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind, plural, short name, or `plural.group`, in any case.
    pub kind: String,
    /// Namespace; `None` for cluster-scoped kinds and for the connection's default namespace.
    pub namespace: Option<String>,
    /// Name of the object.
    pub name: String,
}

impl ObjectRef {
    /// Reads `name` or `namespace/name`.
    ///
    /// Errors: `usage` when a part is empty or has characters that no object name has (a name becomes part of a
    /// request's path).
    pub fn new(kind: &str, name: &str) -> Result<Self> {
        let (namespace, name) = match name.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, name),
        };
        Self::checked(kind, namespace, name)
    }

    /// An object of a namespaced kind.
    pub fn namespaced(kind: &str, namespace: &str, name: &str) -> Result<Self> {
        Self::checked(kind, Some(namespace), name)
    }

    /// The object a manifest or an answer of the server describes.
    ///
    /// Errors: `invalid` when it has no kind or no name.
    pub fn of(object: &serde_json::Value) -> Result<Self> {
        let text =
            |pointer: &str| object.pointer(pointer).and_then(serde_json::Value::as_str).filter(|t| !t.is_empty());
        let kind = text("/kind").ok_or_else(|| Error::new(Kind::Invalid, "an object without kind"))?;
        let name = text("/metadata/name").ok_or_else(|| {
            Error::new(Kind::Invalid, format!("a {kind} without metadata.name"))
                .hint("objects are applied by name; generateName is not possible here")
        })?;
        let group = text("/apiVersion").and_then(|version| version.split_once('/')).map(|(group, _)| group);
        let typed = group.map_or_else(|| kind.to_string(), |group| format!("{kind}.{group}"));
        Self::checked(&typed, text("/metadata/namespace"), name)
    }

    fn checked(kind: &str, namespace: Option<&str>, name: &str) -> Result<Self> {
        let fine = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))
        };
        for (what, part) in [("kind", Some(kind)), ("namespace", namespace), ("name", Some(name))] {
            if let Some(part) = part
                && !fine(part)
            {
                return Err(Error::new(Kind::Usage, format!("{part:?} is no {what} of a Kubernetes object"))
                    .hint("objects are named \"name\" or \"namespace/name\""));
            }
        }
        Ok(Self { kind: kind.to_string(), namespace: namespace.map(str::to_string), name: name.to_string() })
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind, self.name),
            None => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_may_carry_its_namespace() {
        let reference = ObjectRef::new("pvc", "app/data").unwrap();
        assert_eq!((reference.namespace.as_deref(), reference.name.as_str()), (Some("app"), "data"));
        assert_eq!(ObjectRef::new("pv", "pvc-1").unwrap().to_string(), "pv/pvc-1");
    }

    #[test]
    fn a_name_that_would_change_the_request_is_refused() {
        for name in ["", "a/", "/a", "a/b/c", "..", "a?dryRun=All", "a%2Fb", "a b", "a/../b"] {
            assert_eq!(ObjectRef::new("pod", name).unwrap_err().kind(), Kind::Usage, "{name}");
        }
    }

    #[test]
    fn an_object_names_itself() {
        let volume = json!({"apiVersion": "longhorn.io/v1beta2", "kind": "Volume",
            "metadata": {"name": "v", "namespace": "longhorn-system"}});
        assert_eq!(ObjectRef::of(&volume).unwrap().to_string(), "Volume.longhorn.io/longhorn-system/v");
        assert_eq!(ObjectRef::of(&json!({"kind": "Pod", "metadata": {}})).unwrap_err().kind(), Kind::Invalid);
    }
}
