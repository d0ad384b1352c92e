//! `system-backup.cfg`: what a system backup's archive is, and its checksum.

use serde::{Deserialize, Serialize};

use super::{check_same, damaged, fields, parse, write};
use crate::{Result, backupstore::layout};

/// A system backup (`systembackup:Config`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SystemBackupConfig {
    /// The backup's name.
    #[serde(deserialize_with = "fields::or_default")]
    pub name: String,
    /// The version of Longhorn that made it: `v1.10.2`.
    #[serde(deserialize_with = "fields::or_default")]
    pub longhorn_version: String,
    /// That version's commit.
    #[serde(deserialize_with = "fields::or_default")]
    pub longhorn_git_commit: String,
    /// The backup target it was stored in.
    #[serde(deserialize_with = "fields::or_default", rename = "BackupTargetURL")]
    pub backup_target_url: String,
    /// The manager's image.
    #[serde(deserialize_with = "fields::or_default")]
    pub manager_image: String,
    /// The default engine's image.
    #[serde(deserialize_with = "fields::or_default")]
    pub engine_image: String,
    /// When it was made, RFC 3339.
    #[serde(deserialize_with = "fields::or_default")]
    pub created_at: String,
    /// SHA-256 of the archive, 64 hex digits.
    #[serde(deserialize_with = "fields::or_default")]
    pub checksum: String,
}

impl SystemBackupConfig {
    /// Reads the configuration of that system backup.
    pub fn parse(version: &str, name: &str, body: &[u8]) -> Result<Self> {
        let key = layout::system_backup(version, name)? + "system-backup.cfg";
        let config: Self = parse(&key, body)?;
        check_same(&key, "system backup", &config.name, name)?;
        if config.checksum.len() != 64 || !config.checksum.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(damaged(&key, "it has no checksum of 64 hex digits"));
        }
        Ok(config)
    }

    /// The object as Longhorn writes it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        write(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_longhorn_wrote_is_written_back_to_the_byte() {
        let real = r#"{"Name":"weekly-1","LonghornVersion":"v1.10.1","LonghornGitCommit":"deadbeef","BackupTargetURL":"s3://lhsmall@us-east-1/","ManagerImage":"longhornio/longhorn-manager:v1.10.1","EngineImage":"longhornio/longhorn-engine:v1.10.1","CreatedAt":"2026-11-22T17:53:15.293624611Z","Checksum":"fc6cd9afaab9226bcb775c3863264759c28cf6724e518c79b0798ec416efdf54"}"#;
        let config = SystemBackupConfig::parse("v1.10.1", "weekly-1", real.as_bytes()).unwrap();
        assert_eq!(config.backup_target_url, "s3://lhsmall@us-east-1/");
        assert_eq!(String::from_utf8(config.to_bytes().unwrap()).unwrap(), real);
        assert!(SystemBackupConfig::parse("v1.10.1", "weekly-2", real.as_bytes()).is_err());
        assert!(SystemBackupConfig::parse("v1.10.1", "weekly-1", &real.as_bytes()[..100]).is_err());
        assert!(SystemBackupConfig::parse("v1.10.1", "weekly-1", br#"{"Name":"weekly-1"}"#).is_err());
    }
}
