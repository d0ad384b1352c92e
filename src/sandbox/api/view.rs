//! The form of an answer: whole objects, or their metadata only.

use serde_json::{Value, json};

/// What a client asked for in its `Accept` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Whole,
    Metadata,
}

impl View {
    /// The first form in the list that is known.
    pub fn of(accept: &str) -> Self {
        for wanted in accept.split(',') {
            let says = |parameter: &str| wanted.split(';').any(|part| part.trim() == parameter);
            if says("as=PartialObjectMetadata") || says("as=PartialObjectMetadataList") {
                return Self::Metadata;
            }
        }
        Self::Whole
    }

    /// One object in this form.
    pub fn object(self, object: &Value) -> Value {
        match self {
            Self::Whole => object.clone(),
            Self::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
            }
        }
    }
}
