//! Which Longhorn it is, for the few things that differ.

use std::fmt;

use super::{Longhorn, SETTING, fields};
use crate::{Error, Kind, Result, cluster::ObjectRef};

/// A released version of Longhorn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    text: String,
    /// Major and minor number.
    release: (u32, u32),
}

impl Version {
    /// Reads `v1.10.2` or `1.10.2-rc1`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_start_matches('v').split(['.', '-']);
        let release = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { text: text.to_string(), release })
    }

    /// Whether it is of that minor release or a later one.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        self.release >= (major, minor)
    }

    /// Whether system backups of one can be restored by the other: the same minor release.
    pub fn same_release(&self, other: &Self) -> bool {
        self.release == other.release
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Longhorn {
    /// The installed version: the setting `current-longhorn-version`, else the tag of the manager's image.
    ///
    /// Errors: `not-found` when neither tells.
    pub async fn version(&self) -> Result<Version> {
        let setting = self.cluster.find(&self.object(SETTING, "current-longhorn-version")?).await?;
        if let Some(version) = setting.and_then(|setting| Version::parse(fields::text(&setting, "/value"))) {
            return Ok(version);
        }
        let manager = ObjectRef::namespaced("daemonsets.apps", &self.namespace, "longhorn-manager")?;
        let manager = self.cluster.find(&manager).await?.unwrap_or_default();
        let image = fields::text(&manager, "/spec/template/spec/containers/0/image");
        let tag = image.rsplit(':').next().unwrap_or_default();
        Version::parse(tag).ok_or_else(|| {
            Error::new(Kind::NotFound, "the version of Longhorn cannot be told")
                .hint("is longhorn-manager running? it writes the setting current-longhorn-version at its start")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        let version = Version::parse("v1.10.2").unwrap();
        assert!(version.at_least(1, 9) && version.at_least(1, 10) && !version.at_least(1, 11));
        assert!(version.same_release(&Version::parse("1.10.0-rc1").unwrap()));
        assert!(!version.same_release(&Version::parse("v1.9.2").unwrap()));
        assert_eq!(version.to_string(), "v1.10.2");
        for text in ["", "latest", "v1", "vx.y"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
