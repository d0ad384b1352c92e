//! Failures as Kubernetes answers them: a `Status` object with a reason and the matching HTTP code.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{admission::Refusal, kinds::ResourceKind};

/// Result of serving a request.
pub(super) type Answer<T = Response> = Result<T, Failure>;

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    details: Value,
}

impl Failure {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    /// 400: the request itself makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 404 for a path nobody serves.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 404 for an object.
    pub fn not_found(kind: &ResourceKind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", kind.qualified())).about(kind, name)
    }

    /// 409 for an object that exists.
    pub fn already_exists(kind: &ResourceKind, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", kind.qualified())).about(kind, name)
    }

    /// 409 for a write that lost a race or broke a precondition.
    pub fn conflict(kind: &ResourceKind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified());
        Self::new(409, "Conflict", message).about(kind, name)
    }

    /// 422: the object is understood, and wrong; each cause is a field and what is wrong with it.
    pub fn invalid(kind: &ResourceKind, name: &str, causes: &[(&str, String)]) -> Self {
        let text: Vec<String> = causes.iter().map(|(field, why)| format!("{field}: {why}")).collect();
        let text = if text.len() == 1 { text.concat() } else { format!("[{}]", text.join(", ")) };
        let qualified =
            if kind.group.is_empty() { kind.kind.to_owned() } else { format!("{}.{}", kind.kind, kind.group) };
        let causes: Vec<Value> = causes
            .iter()
            .map(|(field, why)| json!({"reason": "FieldValueInvalid", "message": why, "field": field}))
            .collect();
        let mut failure =
            Self::new(422, "Invalid", format!("{qualified} \"{name}\" is invalid: {text}")).about(kind, name);
        failure.details["kind"] = json!(kind.kind);
        failure.details["causes"] = Value::Array(causes);
        failure
    }

    /// 410: the client has to list again.
    pub fn expired() -> Self {
        Self::new(410, "Expired", "The resourceVersion for the provided watch is too old.")
    }

    /// 405: the resource exists and does not do that.
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// Names the object in the status' details.
    pub fn about(mut self, kind: &ResourceKind, name: &str) -> Self {
        self.details = json!({"name": name, "kind": kind.plural});
        if !kind.group.is_empty() {
            self.details["group"] = json!(kind.group);
        }
        self
    }

    /// Adds causes to the details.
    pub fn causes(mut self, causes: Vec<Value>) -> Self {
        if !self.details.is_object() {
            self.details = json!({});
        }
        self.details["causes"] = Value::Array(causes);
        self
    }

    /// The `Status` object.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let reason = match refusal.code {
            400 => "BadRequest",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            422 => "Invalid",
            _ => "InternalError",
        };
        Self::new(refusal.code, reason, refusal.message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        json_response(self.code, &self.to_value())
    }
}

/// What a deletion that is complete answers.
pub(super) fn deleted(kind: &ResourceKind, name: &str, uid: &Value) -> Value {
    let mut details = json!({"name": name, "kind": kind.plural, "uid": uid});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// A JSON answer.
pub(super) fn json_response(code: u16, value: &Value) -> Response {
    typed_response(code, "application/json", value)
}

/// A JSON answer whose content type says more.
pub(super) fn typed_response(code: u16, content_type: &'static str, value: &Value) -> Response {
    let mut response = value.to_string().into_response();
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::api::kinds;

    #[test]
    fn messages_are_those_of_a_real_server() {
        let volumes = kinds::find(kinds::LONGHORN, "volumes").unwrap();
        assert_eq!(Failure::not_found(volumes, "v").message, "volumes.longhorn.io \"v\" not found");
        let conflict = Failure::conflict(volumes, "v", "the object has been modified").to_value();
        assert_eq!(
            conflict["message"],
            "Operation cannot be fulfilled on volumes.longhorn.io \"v\": the object has been modified"
        );
        assert_eq!(conflict["details"], json!({"name": "v", "kind": "volumes", "group": "longhorn.io"}));
        let pods = kinds::find("", "pods").unwrap();
        let invalid = Failure::invalid(pods, "X", &[("metadata.name", "Invalid value: \"X\"".into())]).to_value();
        assert_eq!(invalid["message"], "Pod \"X\" is invalid: metadata.name: Invalid value: \"X\"");
        assert_eq!(
            (&invalid["code"], &invalid["details"]["causes"][0]["field"]),
            (&json!(422), &json!("metadata.name"))
        );
    }
}
