//! Patches: JSON merge patch (RFC 7386), JSON patch (RFC 6902), strategic merge patch, and server-side apply.

use json_patch::{AddOperation, PatchOperation};
use serde_json::Value;

use super::{
    kinds::ResourceKind,
    routes::parse_body,
    status::{Answer, Failure},
    store, strategic,
};

/// Operations one JSON patch may have, as in a real server.
const MAX_OPERATIONS: usize = 10_000;
/// Bytes the copy operations of one patch may make.
const MAX_COPIED: usize = 3 << 20;

/// A patch as the client sent it.
#[derive(Debug)]
pub(super) enum Patch {
    Merge(Value),
    Json(json_patch::Patch),
    Strategic(Value),
    /// What a manager wants the object to be.
    Apply(Value),
}

impl Patch {
    /// Reads a patch of the kind its content type names. 415 for one this resource does not take.
    pub fn parse(kind: &ResourceKind, content_type: &str, body: &[u8]) -> Answer<Self> {
        match content_type {
            "application/merge-patch+json" => Ok(Self::Merge(parse_body(content_type, body)?)),
            "application/apply-patch+yaml" => Ok(Self::Apply(parse_body(content_type, body)?)),
            "application/strategic-merge-patch+json" if !kind.custom() => {
                Ok(Self::Strategic(parse_body(content_type, body)?))
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

/// Changes an object as a merge, JSON or strategic merge patch says. Server-side apply is [`super::apply`]'s.
pub(super) fn change(kind: &ResourceKind, patch: &Patch, object: &mut Value) -> Answer<()> {
    match patch {
        Patch::Apply(_) => {}
        Patch::Merge(patch) => json_patch::merge(object, patch),
        Patch::Strategic(patch) => strategic::apply(kind, object, patch)?,
        Patch::Json(patch) => change_by_operations(&patch.0, object)?,
    }
    if object.is_object() { Ok(()) } else { Err(Failure::bad_request("the patch leaves no object")) }
}

/// One operation after the other, because copies of copies can grow a small object without end.
fn change_by_operations(operations: &[PatchOperation], object: &mut Value) -> Answer<()> {
    let mut copied = 0;
    for operation in operations {
        if let PatchOperation::Copy(copy) = operation {
            copied += object.pointer(copy.from.as_str()).map_or(0, store::weight);
            if copied > MAX_COPIED {
                let message = format!("the JSON patch copies more than {MAX_COPIED} bytes");
                return Err(Failure::new(413, "RequestEntityTooLarge", message));
            }
        }
        // Real servers let a field be replaced that is not there, as long as what it would be in is.
        let added = match operation {
            PatchOperation::Replace(replace) if object.pointer(replace.path.as_str()).is_none() => {
                Some(PatchOperation::Add(AddOperation { path: replace.path.clone(), value: replace.value.clone() }))
            }
            _ => None,
        };
        let operation = added.as_ref().unwrap_or(operation);
        json_patch::patch(object, std::slice::from_ref(operation)).map_err(|error| {
            let message = format!("the server rejected our request due to an error in our request: {error}");
            Failure::new(422, "Invalid", message)
        })?;
    }
    Ok(())
}
