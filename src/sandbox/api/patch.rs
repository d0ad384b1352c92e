//! Patches: JSON merge patch (RFC 7386), JSON patch (RFC 6902).

use serde_json::Value;

use super::{
    kinds::ResourceKind,
    routes::parse_body,
    status::{Answer, Failure},
};

/// Operations one JSON patch may have, as in a real server.
const MAX_OPERATIONS: usize = 10_000;

/// A patch as the client sent it.
#[derive(Debug)]
pub(super) enum Patch {
    Merge(Value),
    Json(json_patch::Patch),
    Apply(Value),
}

impl Patch {
    /// Reads a patch of the kind its content type names. 415 for one this resource does not take.
    pub fn parse(kind: &ResourceKind, content_type: &str, body: &[u8]) -> Answer<Self> {
        match content_type {
            "application/merge-patch+json" => Ok(Self::Merge(parse_body(content_type, body)?)),
            "application/apply-patch+yaml" => Ok(Self::Apply(parse_body(content_type, body)?)),
            "application/strategic-merge-patch+json" if !kind.custom() => {
                Ok(Self::Merge(parse_body(content_type, body)?))
            }
            "application/json-patch+json" => {
                let patch: json_patch::Patch = serde_json::from_slice(body)
                    .map_err(|error| Failure::bad_request(format!("the JSON patch cannot be read: {error}")))?;
                if patch.0.len() > MAX_OPERATIONS {
                    let message = format!("the JSON patch has more than {MAX_OPERATIONS} operations");
                    return Err(Failure::new(413, "RequestEntityTooLarge", message));
                }
                Ok(Self::Json(patch))
            }
            _ => Err(Failure::new(
                415,
                "UnsupportedMediaType",
                format!("patches of type {content_type:?} are not accepted for {}", kind.qualified()),
            )),
        }
    }
}

/// Changes an object as the patch says.
pub(super) fn apply(patch: &Patch, object: &mut Value) -> Answer<()> {
    match patch {
        Patch::Merge(patch) | Patch::Apply(patch) => json_patch::merge(object, patch),
        Patch::Json(patch) => json_patch::patch(object, patch).map_err(|error| {
            Failure::new(
                422,
                "Invalid",
                format!("the server rejected our request due to an error in our request: {error}"),
            )
        })?,
    }
    if object.is_object() { Ok(()) } else { Err(Failure::bad_request("the patch leaves no object")) }
}
