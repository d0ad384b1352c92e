//! What an installation is made of.

use std::collections::BTreeMap;

use secrecy::SecretString;

/// The version whose behaviour is reproduced.
pub const VERSION: &str = "v1.10.2";

/// How Longhorn is installed.
#[derive(Clone, Debug)]
pub struct LonghornOptions {
    /// Namespace of all of Longhorn's objects.
    pub namespace: String,
    /// The version it reports, with the `v`.
    pub version: String,
    /// Node that volumes are attached to when nobody asks for another.
    pub node: String,
    /// The backup target named `default`; without one its URL stays empty.
    pub target: Option<TargetOptions>,
}

impl Default for LonghornOptions {
    fn default() -> Self {
        Self {
            namespace: "longhorn-system".to_owned(),
            version: VERSION.to_owned(),
            node: crate::sandbox::NODE.to_owned(),
            target: None,
        }
    }
}

/// Where backups go.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// `s3://bucket@region/path/`.
    pub url: String,
    /// Name of the Secret with the keys, made by the installation.
    pub secret: String,
    /// Content of that Secret as Longhorn names it: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINTS`,
    /// `AWS_CERT` (PEM, no blank or newline around it), `VIRTUAL_HOSTED_STYLE`.
    pub credentials: BTreeMap<String, SecretString>,
    /// Time between two looks into the bucket, as Longhorn writes it: `5m0s`; `0s` for never.
    pub poll_interval: String,
}

impl LonghornOptions {
    pub(super) fn engine_image(&self) -> String {
        format!("longhornio/longhorn-engine:{}", self.version)
    }

    pub(super) fn manager_image(&self) -> String {
        format!("longhornio/longhorn-manager:{}", self.version)
    }
}
