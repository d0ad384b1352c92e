//! The form of an answer: whole objects, their metadata only, or a table.

use serde_json::{Value, json};

use super::{
    kinds::ResourceKind,
    routes::Call,
    store::Object,
    table::{self, Include},
};

/// What a client asked for in its `Accept` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Whole,
    Metadata,
    Table(Include),
}

impl View {
    /// The first form in the list that is known.
    pub fn of(call: &Call) -> Self {
        for wanted in call.accept().split(',') {
            let says = |parameter: &str| wanted.split(';').any(|part| part.trim() == parameter);
            if says("as=PartialObjectMetadata") || says("as=PartialObjectMetadataList") {
                return Self::Metadata;
            }
            if says("as=Table") {
                return Self::Table(match call.params.get("includeObject") {
                    Some("None") => Include::None,
                    Some("Object") => Include::Object,
                    _ => Include::Metadata,
                });
            }
        }
        Self::Whole
    }

    /// One object in this form.
    pub fn object(self, kind: &ResourceKind, object: &Value) -> Value {
        match self {
            Self::Whole => object.clone(),
            Self::Metadata => table::partial(object),
            Self::Table(include) => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                table::table(kind, [object], &metadata, include)
            }
        }
    }

    /// Many objects in this form.
    pub fn list(self, kind: &ResourceKind, objects: &[Object], metadata: &Value) -> Value {
        let items = |view: Self| objects.iter().map(|object| view.object(kind, object)).collect::<Vec<_>>();
        match self {
            Self::Whole => {
                let mut items = items(self);
                // A list of a built-in kind says once what its items are.
                if !kind.custom() {
                    for item in items.iter_mut().filter_map(Value::as_object_mut) {
                        item.retain(|field, _| !matches!(field.as_str(), "apiVersion" | "kind"));
                    }
                }
                json!({
                    "kind": kind.list_kind(), "apiVersion": kind.api_version(), "metadata": metadata, "items": items,
                })
            }
            Self::Metadata => json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "items": items(self),
            }),
            Self::Table(include) => table::table(kind, objects.iter().map(|object| &**object), metadata, include),
        }
    }
}
