//! Registers Longhorn's webhooks with an API server that asks for reviews over the network.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{Error, Kind, Result, sandbox::api::webhook};

/// Tells an API server that Longhorn's webhooks are at that address, with a certificate of that authority (PEM), under the
/// names that their refusals carry.
pub async fn register_webhooks(client: &Client, at: SocketAddr, ca: &str) -> Result<()> {
    let hook = |name: &str, path: &str| {
        json!([{
            "name": name,
            "clientConfig": {
                "url": format!("https://{}{path}", at),
                "caBundle": BASE64.encode(ca),
            },
            "rules": [{
                "apiGroups": ["longhorn.io"], "apiVersions": ["v1beta2"], "resources": ["*"],
                "operations": ["CREATE", "UPDATE", "DELETE"], "scope": "Namespaced",
            }],
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 10,
        }])
    };
    let mutating = configuration("MutatingWebhookConfiguration", &hook("mutator.longhorn.io", webhook::MUTATE));
    let validating = configuration("ValidatingWebhookConfiguration", &hook("validator.longhorn.io", webhook::VALIDATE));
    let params = PatchParams::apply("longhorn-manager").force();
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    api.patch(&name(&mutating), &params, &Patch::Apply(&mutating)).await.map_err(failed)?;
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    api.patch(&name(&validating), &params, &Patch::Apply(&validating)).await.map_err(failed)?;
    Ok(())
}

fn configuration(kind: &str, webhooks: &Value) -> Value {
    let name = if kind.starts_with('M') { "longhorn-webhook-mutator" } else { "longhorn-webhook-validator" };
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "webhooks": webhooks})
}

fn failed(error: kube::Error) -> Error {
    Error::new(Kind::Failed, "registering Longhorn's webhooks").source(error)
}
