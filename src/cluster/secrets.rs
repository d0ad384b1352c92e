//! Secrets, whose values are base64 on the wire and must never be printed.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{ApplyOptions, Change, Cluster, ObjectRef};
use crate::{Error, Kind, Result};

impl Cluster {
    /// The values of a Secret.
    ///
    /// Errors: `not-found`; `invalid` when a value is not text.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, SecretString>> {
        let reference = ObjectRef::namespaced("Secret", namespace, name)?;
        let object = self.get(&reference).await?;
        // The cause would show the value it stumbled over.
        let invalid = || Error::new(Kind::Invalid, format!("{reference} holds values that are not text"));
        let secret: Secret = serde_json::from_value(object).map_err(|_| invalid())?;
        let text = |(key, ByteString(bytes))| Some((key, SecretString::from(String::from_utf8(bytes).ok()?)));
        secret.data.unwrap_or_default().into_iter().map(text).collect::<Option<_>>().ok_or_else(invalid)
    }

    /// Creates or updates a Secret of type `Opaque`.
    pub async fn apply_secret(
        &self,
        namespace: &str,
        name: &str,
        values: &BTreeMap<String, SecretString>,
    ) -> Result<Change> {
        let bytes = |(key, value): (&String, &SecretString)| {
            (key.clone(), ByteString(value.expose_secret().as_bytes().to_vec()))
        };
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_string()),
                namespace: Some(namespace.to_string()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_string()),
            data: Some(values.iter().map(bytes).collect()),
            ..Secret::default()
        };
        let object: Value = serde_json::to_value(secret)
            .map_err(|_| Error::new(Kind::Invalid, format!("the Secret {namespace}/{name} cannot be written")))?;
        Ok(self.apply(&object, ApplyOptions { force: true, dry_run: false }).await?.change)
    }
}
