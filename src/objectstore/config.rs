//! Where a bucket is and with which keys to reach it.

use std::fmt;

use secrecy::SecretString;

use crate::{Error, Kind, Result};

/// A bucket, a prefix in it, and how to reach it. Its `Debug` form shows no secret.
#[derive(Clone, Default)]
pub struct StoreConfig {
    /// `http(s)://host:port` of a server other than AWS.
    pub endpoint: Option<String>,
    /// Empty means `us-east-1`, which most servers other than AWS expect.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// What all keys start with; surrounding and doubled slashes do not matter. Empty for the whole bucket.
    pub prefix: String,
    /// Access key id.
    pub access_key: Option<String>,
    /// Secret access key.
    pub secret_key: Option<SecretString>,
    /// Third part of temporary credentials.
    pub session_token: Option<SecretString>,
    /// Certificates (PEM) to trust beside the system's own.
    pub ca_pem: Option<String>,
    /// `bucket.host` instead of `host/bucket` addresses. Unset: only when there is no endpoint of its own.
    pub virtual_hosted: Option<bool>,
}

impl StoreConfig {
    /// Bucket and prefix with everything else from the AWS variables of the environment: `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` or `AWS_DEFAULT_REGION`, `AWS_ENDPOINT_URL_S3` or
    /// `AWS_ENDPOINT_URL`, `AWS_CA_BUNDLE` (a file).
    pub fn from_env(bucket: impl Into<String>, prefix: impl Into<String>) -> Result<Self> {
        Self::from_variables(bucket, prefix, |name| std::env::var(name).ok())
    }

    /// [`from_env`](Self::from_env) with the variables from elsewhere. An empty value counts as unset.
    ///
    /// # Errors
    /// `usage` when the file of `AWS_CA_BUNDLE` cannot be read.
    pub fn from_variables(
        bucket: impl Into<String>,
        prefix: impl Into<String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let first = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
        let ca_pem = first(&["AWS_CA_BUNDLE"]).map(|path| read_ca_bundle(&path)).transpose()?;
        Ok(Self {
            endpoint: first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
            region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or_default(),
            bucket: bucket.into(),
            prefix: prefix.into(),
            access_key: first(&["AWS_ACCESS_KEY_ID"]),
            secret_key: first(&["AWS_SECRET_ACCESS_KEY"]).map(SecretString::from),
            session_token: first(&["AWS_SESSION_TOKEN"]).map(SecretString::from),
            ca_pem,
            virtual_hosted: None,
        })
    }
}

fn read_ca_bundle(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        Error::new(Kind::Usage, format!("cannot read the CA bundle {path} named by AWS_CA_BUNDLE"))
            .object(path)
            .source(error)
    })
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("access_key", &self.access_key)
            .field("secret_key", &self.secret_key.as_ref().map(|_| "***"))
            .field("session_token", &self.session_token.as_ref().map(|_| "***"))
            .field("ca_pem", &self.ca_pem.is_some())
            .field("virtual_hosted", &self.virtual_hosted)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<StoreConfig> {
        StoreConfig::from_variables("bucket", "", |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_more_specific_variable_wins_and_empty_is_unset() {
        let config = from(&[
            ("AWS_ENDPOINT_URL", "http://general"),
            ("AWS_ENDPOINT_URL_S3", "http://s3"),
            ("AWS_REGION", ""),
            ("AWS_DEFAULT_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
        ])
        .unwrap();
        assert_eq!(config.endpoint.as_deref(), Some("http://s3"));
        assert_eq!(config.region, "eu-central-1");
        assert_eq!(config.secret_key.unwrap().expose_secret(), "hush");
        assert!(config.session_token.is_none());
    }

    #[test]
    fn a_missing_ca_bundle_is_named() {
        let error = from(&[("AWS_CA_BUNDLE", "/no/such/ca.pem")]).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains("/no/such/ca.pem"), "{error}");
    }

    #[test]
    fn debug_shows_no_secret() {
        let config = from(&[("AWS_SECRET_ACCESS_KEY", "hush"), ("AWS_SESSION_TOKEN", "whisper")]).unwrap();
        let text = format!("{config:?}");
        assert!(!text.contains("hush") && !text.contains("whisper"), "{text}");
    }
}
