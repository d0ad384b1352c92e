//! The credential secret of a backup target: what Longhorn expects in it, and the same store for our own requests.
//!
//! Keys: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINTS` (one URL; absent for AWS), `AWS_CERT` (PEM),
//! `VIRTUAL_HOSTED_STYLE` (longhorn-manager `types/types.go`, backupstore `s3/s3_service.go`).

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

use super::{Longhorn, Target};
use crate::{
    Error, Kind, Result,
    backupstore::url::TargetUrl,
    objectstore::{Store, StoreConfig},
};

const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const ENDPOINT: &str = "AWS_ENDPOINTS";
const CERTIFICATE: &str = "AWS_CERT";
const VIRTUAL_HOSTED: &str = "VIRTUAL_HOSTED_STYLE";

/// Access to an S3 server, as it goes into Longhorn's secret.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: SecretString,
    /// URL of the server; `None` for AWS.
    pub endpoint: Option<String>,
    /// Certificates to trust, PEM.
    pub ca_pem: Option<String>,
    /// Bucket in the host name instead of the path; `None` leaves it to Longhorn (path when there is an endpoint).
    pub virtual_hosted: Option<bool>,
}

impl Credentials {
    /// The values of the secret. The certificate loses its last line break, which Longhorn's webhook refuses.
    pub(super) fn secret_values(&self) -> BTreeMap<String, SecretString> {
        let mut values = BTreeMap::from([
            (ACCESS_KEY.to_string(), SecretString::from(self.access_key.clone())),
            (SECRET_KEY.to_string(), self.secret_key.clone()),
        ]);
        let virtual_hosted = self.virtual_hosted.map(|on| on.to_string());
        let ca_pem = self.ca_pem.as_deref().map(|pem| pem.trim().to_string());
        for (key, value) in [(ENDPOINT, self.endpoint.clone()), (CERTIFICATE, ca_pem), (VIRTUAL_HOSTED, virtual_hosted)]
        {
            values.extend(value.map(|value| (key.to_string(), SecretString::from(value))));
        }
        values
    }
}

/// Finds what Longhorn would refuse or stumble over; the message names the key and never its value.
pub(super) fn check(values: &BTreeMap<String, SecretString>, secret: &str) -> Result<()> {
    let wrong = |key: &str, why: &str| {
        Error::new(Kind::Invalid, format!("the credential secret {secret}: {key} {why}"))
            .object(format!("Secret/{secret}"))
    };
    for (key, value) in values {
        let value = value.expose_secret();
        if value.trim() != value {
            return Err(wrong(key, "begins or ends with a blank or a line break").hint(
                "write it without; a line break often comes from echo (use printf) or from the end of a PEM file",
            ));
        }
    }
    for key in [ACCESS_KEY, SECRET_KEY] {
        // With neither key the nodes' own role is used.
        if values.contains_key(ACCESS_KEY) != values.contains_key(SECRET_KEY) && !values.contains_key(key) {
            return Err(wrong(key, "is missing"));
        }
    }
    let Some(endpoint) = values.get(ENDPOINT) else { return Ok(()) };
    let endpoint = endpoint.expose_secret();
    if endpoint.is_empty() {
        return Err(wrong(ENDPOINT, "is empty").hint("leave the key out for AWS, else give the server's URL"));
    }
    if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        return Err(wrong(ENDPOINT, "is not a URL with http:// or https://"));
    }
    Ok(())
}

/// The same bucket and prefix for our own requests.
pub(super) fn store_config(url: &str, values: &BTreeMap<String, SecretString>) -> Result<StoreConfig> {
    let target = TargetUrl::parse(url)?;
    let value = |key: &str| values.get(key).map(ExposeSecret::expose_secret).filter(|value| !value.is_empty());
    let virtual_hosted = match value(VIRTUAL_HOSTED) {
        Some(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    };
    Ok(StoreConfig {
        endpoint: value(ENDPOINT).map(str::to_string),
        region: target.region.clone().unwrap_or_default(),
        prefix: target.prefix(),
        bucket: target.bucket,
        access_key: value(ACCESS_KEY).map(str::to_string),
        secret_key: values.get(SECRET_KEY).cloned(),
        session_token: None,
        ca_pem: value(CERTIFICATE).map(str::to_string),
        virtual_hosted,
    })
}

impl Longhorn {
    /// The store of a backup target, reached with Longhorn's own credentials.
    ///
    /// Errors: `not-found` when the target has no URL or its secret is missing, `invalid` for a secret Longhorn would
    /// stumble over, `denied` when there are no keys in it.
    pub async fn store(&self, target: &Target) -> Result<Store> {
        Store::connect(&self.store_config(target).await?)
    }

    /// [`Longhorn::store`], not connected yet.
    pub async fn store_config(&self, target: &Target) -> Result<StoreConfig> {
        if target.url.is_empty() {
            return Err(Error::new(Kind::NotFound, format!("the backup target {} has no URL", target.name))
                .hint("configure it first: longhorn::configure_target(#{url: \"s3://bucket@region/path/\", …})"));
        }
        let values = match &target.secret {
            Some(secret) => {
                let values = self.cluster.secret(&self.namespace, secret).await?;
                check(&values, secret)?;
                values
            }
            None => BTreeMap::new(),
        };
        store_config(&target.url, &values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, SecretString> {
        pairs.iter().map(|(key, value)| ((*key).to_string(), SecretString::from(*value))).collect()
    }

    #[test]
    fn the_secret_becomes_a_store() {
        let config = store_config(
            "s3://backups@eu-west-1/lab/one/",
            &values(&[
                ("AWS_ACCESS_KEY_ID", "AK"),
                ("AWS_SECRET_ACCESS_KEY", "SK"),
                ("AWS_ENDPOINTS", "https://minio:9000"),
                ("VIRTUAL_HOSTED_STYLE", "true"),
                ("AWS_CERT", "-----BEGIN CERTIFICATE-----"),
            ]),
        )
        .unwrap();
        assert_eq!(
            (config.bucket.as_str(), config.region.as_str(), config.prefix.as_str()),
            ("backups", "eu-west-1", "lab/one")
        );
        assert_eq!(config.endpoint.as_deref(), Some("https://minio:9000"));
        assert_eq!(config.virtual_hosted, Some(true));
        assert_eq!(config.secret_key.unwrap().expose_secret(), "SK");
    }

    #[test]
    fn without_an_endpoint_it_is_aws() {
        let config = store_config("s3://backups@us-east-2/", &values(&[("AWS_ENDPOINTS", "")])).unwrap();
        assert_eq!((config.endpoint, config.virtual_hosted, config.prefix.as_str()), (None, None, ""));
    }

    #[test]
    fn what_longhorn_stumbles_over_is_named_without_its_value() {
        let keys = [("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", "hush")];
        assert!(check(&values(&keys), "s").is_ok());
        for (extra, said) in [
            (("AWS_SECRET_ACCESS_KEY", "hush\n"), "AWS_SECRET_ACCESS_KEY begins or ends"),
            (("AWS_CERT", "-----END CERTIFICATE-----\n"), "AWS_CERT begins or ends"),
            (("AWS_ENDPOINTS", ""), "AWS_ENDPOINTS is empty"),
            (("AWS_ENDPOINTS", "minio:9000"), "AWS_ENDPOINTS is not a URL"),
        ] {
            let mut all = values(&keys);
            all.extend(values(&[extra]));
            let error = check(&all, "s").unwrap_err();
            assert!(error.message().contains(said), "{error}");
            assert!(!error.message().contains("hush"));
        }
        let error = check(&values(&keys[..1]), "s").unwrap_err();
        assert!(error.message().contains("AWS_SECRET_ACCESS_KEY is missing"), "{error}");
    }

    #[test]
    fn a_written_certificate_has_no_line_break_at_its_end() {
        let credentials = Credentials {
            access_key: "AK".into(),
            secret_key: SecretString::from("SK"),
            endpoint: Some("https://minio:9000".into()),
            ca_pem: Some("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n".into()),
            virtual_hosted: None,
        };
        let values = credentials.secret_values();
        assert!(check(&values, "s").is_ok());
        assert!(!values.contains_key("VIRTUAL_HOSTED_STYLE"));
        assert!(!format!("{credentials:?}").contains("SK"));
    }
}
