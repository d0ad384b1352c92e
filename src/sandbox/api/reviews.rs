//! Questions about the caller: whoever has the token may do everything.

use axum::response::Response;
use serde_json::{Value, json};

use super::{routes::Call, status::json_response};

/// `POST` of a review.
pub(super) fn answer(call: &Call) -> Response {
    // The answer is the same whatever is asked, so it does not matter that kubectl asks in protobuf.
    let kind = call.target.kind;
    let asked = call.object().unwrap_or(Value::Null);
    let mut review =
        json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": {}, "spec": asked["spec"]});
    review["status"] = match kind.kind {
        "SelfSubjectAccessReview" => json!({"allowed": true, "reason": "the token allows everything"}),
        _ => json!({"userInfo": {"username": "sandbox-admin", "groups": ["system:masters", "system:authenticated"]}}),
    };
    json_response(201, &review)
}
