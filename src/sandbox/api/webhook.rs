//! Admission for API servers in other processes: the same reviews as webhooks, `AdmissionReview` of version v1.
//!
//! A real API server asks twice: first what to change, then, when it has checked the result against the schema, whether
//! it is allowed. Each webhook answers with its own refusals, which say whose they are, and leaves others to the other.

use std::{net::SocketAddr, sync::Arc};

use axum::{Json, Router, extract::State, routing::post};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    admission::{Admission, Objects, Operation, Refusal, Review},
    kinds,
    listener::{Endpoint, Listener},
    pki::Pki,
    status::Failure,
};
use crate::Result;

/// Path of the webhook that changes objects.
pub const MUTATE: &str = "/mutate";
/// Path of the webhook that refuses them.
pub const VALIDATE: &str = "/validate";

#[derive(Clone)]
struct Hooks {
    admission: Arc<dyn Admission>,
    objects: Arc<dyn Objects>,
}

/// Which of the two is asked.
#[derive(Clone, Copy, PartialEq)]
enum Hook {
    Mutator,
    Validator,
}

impl Hook {
    /// The refusal's own text when this webhook is the one that refuses. The API server puts the name in front again.
    fn own(self, refusal: &Refusal) -> Option<&str> {
        let name = match self {
            Self::Mutator => "mutator",
            Self::Validator => "validator",
        };
        let prefix = format!("admission webhook \"{name}.longhorn.io\" denied the request: ");
        refusal.message.strip_prefix(prefix.as_str())
    }
}

/// Serves both webhooks at `listen`. `objects` is what reviews look things up in.
///
/// Errors: `refused` when the address is in use, `invalid` for broken certificates.
pub async fn serve(
    listen: SocketAddr,
    pki: &Pki,
    admission: Arc<dyn Admission>,
    objects: Arc<dyn Objects>,
) -> Result<Endpoint> {
    let listener = Listener::bind(listen, pki, None).await?;
    let answer = |hook: Hook| {
        move |State(hooks): State<Hooks>, Json(review): Json<Value>| async move { Json(answer(&hooks, hook, &review)) }
    };
    let router = Router::new()
        .route(MUTATE, post(answer(Hook::Mutator)))
        .route(VALIDATE, post(answer(Hook::Validator)))
        .with_state(Hooks { admission, objects });
    Ok(Endpoint::new(listener, router, CancellationToken::new(), TaskTracker::new()))
}

fn answer(hooks: &Hooks, hook: Hook, review: &Value) -> Value {
    let mut response = reviewed(hooks, hook, &review["request"]);
    response["uid"] = review["request"]["uid"].clone();
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

fn reviewed(hooks: &Hooks, hook: Hook, request: &Value) -> Value {
    let resource = &request["resource"];
    let text = |name: &str| resource[name].as_str().unwrap_or_default();
    let Some(kind) = kinds::find(text("group"), text("resource")) else { return json!({"allowed": true}) };
    let operation = match request["operation"].as_str() {
        Some("CREATE") => Operation::Create,
        Some("UPDATE") => Operation::Update,
        Some("DELETE") => Operation::Delete,
        _ => return json!({"allowed": true}),
    };
    let before = if operation == Operation::Delete { &request["oldObject"] } else { &request["object"] };
    let old = Some(&request["oldObject"]).filter(|old| !old.is_null());
    let review = Review { operation, kind, old, dry_run: request["dryRun"] == true };
    let mut object = before.clone();
    if let Err(refusal) = hooks.admission.review(&review, &mut object, &*hooks.objects) {
        if let Some(message) = hook.own(&refusal) {
            let refusal = Refusal { code: refusal.code, message: message.to_owned() };
            return json!({"allowed": false, "status": Failure::from(refusal).to_value()});
        }
        if hook == Hook::Mutator && refusal.message.starts_with("Internal error occurred") {
            // A change to a spec that is not there: the API server itself says so.
            return patched(&json!([{"op": "replace", "path": "/spec/labels", "value": {}}]));
        }
    }
    if hook == Hook::Validator || operation == Operation::Delete || object == *before {
        return json!({"allowed": true});
    }
    patched(&json!(json_patch::diff(before, &object)))
}

fn patched(patch: &Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": BASE64.encode(patch.to_string())})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::api::admission::AdmitAll;

    struct Nothing;

    impl Objects for Nothing {
        fn get(&self, _: &str, _: &str, _: Option<&str>, _: &str) -> Option<Value> {
            None
        }

        fn list(&self, _: &str, _: &str) -> Vec<Value> {
            Vec::new()
        }
    }

    /// Names every volume's engine, and refuses those called `bad`.
    struct Picky;

    impl Admission for Picky {
        fn review(&self, _: &Review<'_>, object: &mut Value, _: &dyn Objects) -> std::result::Result<(), Refusal> {
            object["spec"]["dataEngine"] = "v1".into();
            match object["metadata"]["name"].as_str() {
                Some("bad") => Err(Refusal {
                    code: 422,
                    message: "admission webhook \"validator.longhorn.io\" denied the request: bad name".into(),
                }),
                _ => Ok(()),
            }
        }
    }

    fn asked(admission: impl Admission + 'static, hook: Hook, name: &str) -> Value {
        let hooks = Hooks { admission: Arc::new(admission), objects: Arc::new(Nothing) };
        let resource = json!({"group": "longhorn.io", "version": "v1beta2", "resource": "volumes"});
        let request = json!({"uid": "1", "operation": "CREATE", "resource": resource,
            "object": {"metadata": {"name": name}, "spec": {}}});
        answer(&hooks, hook, &json!({"request": request}))["response"].clone()
    }

    #[test]
    fn the_mutator_changes_and_the_validator_refuses() {
        let changed = asked(Picky, Hook::Mutator, "bad");
        assert_eq!((&changed["allowed"], &changed["uid"]), (&json!(true), &json!("1")));
        let patch = BASE64.decode(changed["patch"].as_str().unwrap()).unwrap();
        let patch: Value = serde_json::from_slice(&patch).unwrap();
        assert_eq!(patch, json!([{"op": "add", "path": "/spec/dataEngine", "value": "v1"}]));
        let refused = asked(Picky, Hook::Validator, "bad");
        assert_eq!((&refused["allowed"], &refused["status"]["code"]), (&json!(false), &json!(422)));
        assert_eq!(refused["status"]["message"], "bad name");
        assert_eq!(asked(Picky, Hook::Validator, "good")["allowed"], true);
        assert_eq!(asked(AdmitAll, Hook::Mutator, "bad")["patch"], Value::Null);
    }
}
