//! From a BackupTarget object to its bucket.

use std::time::Duration;

use kube::{ResourceExt, core::DynamicObject};
use secrecy::SecretString;
use serde_json::Value;

use super::{
    context::Context,
    names,
    resource::{Fields, Resource},
};
use crate::{
    Error, Kind, Result,
    backupstore::TargetUrl,
    objectstore::{Store, StoreConfig},
};

/// How long a lock in the bucket settles. Real Longhorn waits two seconds because many nodes may write at once; here
/// there is one writer.
pub(super) const LOCK_SETTLE: Duration = Duration::from_millis(20);

/// A target's bucket and the URL that leads there.
pub(super) struct Target {
    pub(super) name: String,
    pub(super) url: TargetUrl,
    pub(super) store: Store,
}

/// Opens the bucket of a target with the keys of its Secret. Nothing is asked of the server yet.
///
/// Errors: `invalid` for a URL that is none, `not-found` for a missing Secret.
pub(super) fn open(context: &Context, target: &DynamicObject) -> Result<Target> {
    let url = TargetUrl::parse(target.text("/spec/backupTargetURL"))?;
    let secret_name = target.text("/spec/credentialSecret");
    if secret_name.is_empty() {
        return Err(Error::new(Kind::Invalid, "could not access s3 without credential secret"));
    }
    let secret = context.get(Resource::Secret, secret_name).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("secret \"{secret_name}\" not found"))
            .object(format!("Secret/{}/{secret_name}", context.options.namespace))
    })?;
    let value = |name: &str| {
        let text = decoded(secret.field("/data").get(name))?;
        (!text.is_empty()).then_some(text)
    };
    let config = StoreConfig {
        endpoint: value("AWS_ENDPOINTS"),
        region: url.region.clone().unwrap_or_default(),
        bucket: url.bucket.clone(),
        prefix: url.prefix(),
        access_key: value("AWS_ACCESS_KEY_ID"),
        secret_key: value("AWS_SECRET_ACCESS_KEY").map(SecretString::from),
        session_token: None,
        ca_pem: value("AWS_CERT"),
        virtual_hosted: value("VIRTUAL_HOSTED_STYLE").map(|text| text == "true"),
    };
    Ok(Target { name: target.name_any(), url, store: Store::connect(&config)? })
}

/// The target of that name, if it is there and answered when last asked.
pub(super) fn open_available(context: &Context, name: &str) -> Result<Target> {
    let name = if name.is_empty() { names::DEFAULT_TARGET } else { name };
    let target = context
        .get(Resource::BackupTarget, name)
        .ok_or_else(|| Error::new(Kind::NotFound, format!("backup target {name} does not exist")))?;
    if !target.flag("/status/available") {
        return Err(Error::new(Kind::Unreachable, format!("backup target {name} is not available")));
    }
    open(context, &target)
}

/// A Secret's value; what is not base64 or not text is as good as absent.
pub(super) fn decoded(value: Option<&Value>) -> Option<String> {
    let bytes: k8s_openapi::ByteString = serde_json::from_value(value?.clone()).ok()?;
    String::from_utf8(bytes.0).ok()
}
