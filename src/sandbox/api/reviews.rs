//! Questions about the caller: whoever has the token may do everything.

use serde_json::{Value, json};

use super::{
    routes::Call,
    status::{Answer, json_response},
};

/// `POST` of a review.
pub(super) fn answer(call: &Call) -> Answer {
    let mut review = call.object()?;
    review["status"] = match call.target.kind.kind {
        "SelfSubjectAccessReview" => json!({"allowed": true, "reason": "the token allows everything"}),
        _ => json!({"userInfo": {"username": "sandbox-admin", "groups": ["system:masters", "system:authenticated"]}}),
    };
    if review["metadata"].is_null() {
        review["metadata"] = Value::Object(serde_json::Map::new());
    }
    Ok(json_response(201, &review))
}
