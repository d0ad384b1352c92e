//! Which Helm releases are installed.
//!
//! Helm 3 keeps each revision of a release in a Secret of type `helm.sh/release.v1`, labelled `owner=helm`, `name`, `version`;
//! its key `release` is base64 of gzip of JSON (helm `pkg/storage/driver/secrets.go`, `util.go`).

use std::{collections::BTreeMap, io::Read};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::bufread::GzDecoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cluster, ListOptions};
use crate::{Error, Kind, Result};

/// A release holds its chart's files; larger ones do not fit into a Secret, whose limit is 1 MiB of compressed data.
const LARGEST: u64 = 64 << 20;

/// The newest revision of an installed release. Its values are left out: they often hold passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HelmRelease {
    /// Name of the release.
    pub name: String,
    /// Namespace it is installed in.
    pub namespace: String,
    /// Number of the revision.
    pub revision: u64,
    /// `deployed`, `failed`, `pending-upgrade`, …
    pub status: String,
    /// Name of the chart.
    pub chart: String,
    /// Version of the chart.
    pub version: String,
    /// Version of what the chart installs.
    pub app_version: Option<String>,
}

#[derive(Deserialize)]
struct Stored {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    info: Info,
    chart: Chart,
}

#[derive(Default, Deserialize)]
struct Info {
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct Chart {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    version: String,
    app_version: Option<String>,
}

impl Cluster {
    /// The Helm releases of all namespaces, each in its newest revision, by namespace and name.
    ///
    /// Errors: `invalid`, naming the Secret, for a release that cannot be read.
    pub async fn helm_releases(&self) -> Result<Vec<HelmRelease>> {
        let secrets = self.list("secrets", &ListOptions::everywhere().selector("owner=helm")).await?;
        let mut newest: BTreeMap<(String, String), (u64, &Value)> = BTreeMap::new();
        for secret in secrets.iter().filter(|secret| secret["type"] == "helm.sh/release.v1") {
            let text = |pointer: &str| secret.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let revision = text("/metadata/labels/version").parse().unwrap_or(0);
            let entry = newest.entry((text("/metadata/namespace"), text("/metadata/labels/name")));
            let known = entry.or_insert((revision, secret));
            if known.0 <= revision {
                *known = (revision, secret);
            }
        }
        newest.into_values().map(|(_, secret)| read(secret)).collect()
    }
}

fn read(secret: &Value) -> Result<HelmRelease> {
    let text = |pointer: &str| secret.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = format!("Secret {}/{}", text("/metadata/namespace"), text("/metadata/name"));
    let stored = decode(text("/data/release")).ok_or_else(|| {
        Error::new(Kind::Invalid, format!("{name} is no release of Helm that can be read")).object(&name)
    })?;
    let namespace = if stored.namespace.is_empty() { text("/metadata/namespace").to_owned() } else { stored.namespace };
    Ok(HelmRelease {
        name: stored.name,
        namespace,
        revision: stored.version,
        status: stored.info.status,
        chart: stored.chart.metadata.name,
        version: stored.chart.metadata.version,
        app_version: stored.chart.metadata.app_version,
    })
}

/// What went wrong is not told: it would show a part of the values.
fn decode(data: &str) -> Option<Stored> {
    let inner = STANDARD.decode(data).ok()?;
    let packed = STANDARD.decode(inner.trim_ascii()).ok()?;
    let mut json = Vec::new();
    if packed.starts_with(&[0x1f, 0x8b]) {
        let length = GzDecoder::new(packed.as_slice()).take(LARGEST + 1).read_to_end(&mut json).ok()?;
        if length as u64 > LARGEST {
            return None;
        }
    } else {
        json = packed;
    }
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::*;

    fn secret(revision: u64, release: &Value, packed: bool) -> Value {
        let mut bytes = release.to_string().into_bytes();
        if packed {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&bytes).unwrap();
            bytes = encoder.finish().unwrap();
        }
        let data = STANDARD.encode(STANDARD.encode(bytes));
        json!({"apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1", "data": {"release": data},
            "metadata": {"name": format!("sh.helm.release.v1.web.v{revision}"), "namespace": "shop",
                "labels": {"owner": "helm", "name": "web", "version": revision.to_string(), "status": "deployed"}}})
    }

    fn release(revision: u64, version: &str) -> Value {
        json!({"name": "web", "namespace": "shop", "version": revision, "info": {"status": "deployed"},
            "config": {"password": "hunter2"},
            "chart": {"metadata": {"name": "nginx", "version": version, "appVersion": "1.27"}}})
    }

    #[test]
    fn a_release_is_read_without_its_values() {
        for packed in [true, false] {
            let read = read(&secret(3, &release(3, "15.1.0"), packed)).unwrap();
            assert_eq!((read.chart.as_str(), read.version.as_str(), read.revision), ("nginx", "15.1.0", 3));
            assert!(!format!("{read:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_no_release_is_named_without_its_content() {
        let mut broken = secret(1, &json!({"config": {"password": "hunter2"}}), true);
        let error = read(&broken).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("shop/sh.helm.release.v1.web.v1"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
        broken["data"]["release"] = "%%".into();
        assert!(read(&broken).is_err());
    }

    #[cfg(feature = "sandbox")]
    #[tokio::test]
    async fn each_release_is_told_once_in_its_newest_revision() {
        let lab = super::super::fake::Lab::start().await;
        let cluster = Cluster::connect(&lab.options()).await.unwrap();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
        let secrets = [secret(9, &release(9, "15.0.0"), true), secret(10, &release(10, "15.1.0"), true)];
        for object in std::iter::once(&namespace).chain(&secrets) {
            cluster.apply(object, super::super::ApplyOptions::default()).await.unwrap();
        }
        let releases = cluster.helm_releases().await.unwrap();
        assert_eq!(releases.len(), 1);
        assert_eq!((releases[0].revision, releases[0].version.as_str()), (10, "15.1.0"));
    }
}
