//! `volume.cfg`: a volume as of its latest backup.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{check_same, fields, parse, write};
use crate::{Result, backupstore::layout::VolumeKeys};

/// Labels of a backup or volume, such as `KubernetesStatus` and `longhorn.io/volume-access-mode`.
pub type Labels = BTreeMap<String, String>;

/// A volume in the store (`backupstore.go:Volume`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeConfig {
    /// The volume's name.
    #[serde(deserialize_with = "fields::or_default")]
    pub name: String,
    /// Bytes of the volume as of its latest complete backup; every restore has this size.
    #[serde(with = "fields::digits")]
    pub size: u64,
    /// Labels of the latest backup.
    #[serde(with = "fields::map")]
    pub labels: Labels,
    /// When the volume appeared in the store, RFC 3339.
    #[serde(deserialize_with = "fields::or_default")]
    pub created_time: String,
    /// The latest backup, empty when there is none.
    #[serde(deserialize_with = "fields::or_default")]
    pub last_backup_name: String,
    /// When the latest backup was begun, RFC 3339, empty when there is none.
    #[serde(deserialize_with = "fields::or_default")]
    pub last_backup_at: String,
    /// Blocks in the volume's pool; a hint that may be off.
    #[serde(with = "fields::digits")]
    pub block_count: u64,
    /// The backing image the volume lies over, empty when there is none.
    #[serde(with = "fields::quoted")]
    pub backing_image_name: String,
    /// The SHA-512 of that image's file, 128 hex digits.
    #[serde(with = "fields::quoted")]
    pub backing_image_checksum: String,
    /// How new blocks are packed: `none`, `lz4`, `gzip`; empty means gzip.
    #[serde(with = "fields::quoted")]
    pub compression_method: String,
    /// The storage class the volume's claim had.
    #[serde(with = "fields::quoted")]
    pub storage_class_name: String,
    /// `v1` or `v2`; empty means `v1`.
    #[serde(with = "fields::quoted")]
    pub data_engine: String,
}

impl VolumeConfig {
    /// Reads the `volume.cfg` of that volume.
    pub fn parse(volume: &str, body: &[u8]) -> Result<Self> {
        let key = VolumeKeys::new(volume)?.config();
        let config: Self = parse(&key, body)?;
        check_same(&key, "volume", &config.name, volume)?;
        Ok(config)
    }

    /// The object as Longhorn writes it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        write(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Kind;

    /// As written by Longhorn.
    const REAL: &str = r#"{"Name":"pvc-backed","Size":"16777216","Labels":{"RecurringJob":"daily","longhorn.io/volume-access-mode":"rwo"},"CreatedTime":"2026-11-22T17:52:45Z","LastBackupName":"backup-00000000000000b1","LastBackupAt":"2026-11-22T17:52:45Z","BlockCount":"2","BackingImageName":"\"base8\"","BackingImageChecksum":"\"ac67\"","CompressionMethod":"\"lz4\"","StorageClassName":"\"\"","DataEngine":"\"v1\""}"#;

    #[test]
    fn what_longhorn_wrote_is_written_back_to_the_byte() {
        let config = VolumeConfig::parse("pvc-backed", REAL.as_bytes()).unwrap();
        assert_eq!((config.size, config.block_count), (16 << 20, 2));
        assert_eq!((config.backing_image_name.as_str(), config.compression_method.as_str()), ("base8", "lz4"));
        assert_eq!(config.storage_class_name, "");
        assert_eq!(String::from_utf8(config.to_bytes().unwrap()).unwrap(), REAL);
    }

    #[test]
    fn old_and_loose_forms_are_read() {
        let old = r#"{"Name":"pvc-1","Size":67108864,"Labels":null,"CreatedTime":null,"BackingImageURL":"x",
            "CompressionMethod":"lz4","StorageClassName":null,"BlockCount":null}"#;
        let config = VolumeConfig::parse("pvc-1", old.as_bytes()).unwrap();
        assert_eq!(
            (config.size, config.compression_method.as_str(), config.data_engine.as_str()),
            (64 << 20, "lz4", "")
        );
    }

    #[test]
    fn impossible_and_foreign_objects_are_damaged_and_name_the_key() {
        let numbers = ["-1", "1e30", "18446744073709551615", "ten", "", "1.5"];
        let sizes = numbers.map(|size| format!(r#"{{"Name":"pvc-1","Size":"{size}"}}"#));
        let others = ["", "{", "[]", "null", "{}", r#"{"Name":"pvc-2","Size":"1"}"#, r#"{"Name":"pvc-1","Size":-1}"#];
        for body in sizes.iter().map(String::as_str).chain(others) {
            let error = VolumeConfig::parse("pvc-1", body.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged, "{body}");
            assert!(error.to_string().contains("/pvc-1/volume.cfg"), "{error}");
        }
        for length in 0..REAL.len() {
            assert!(VolumeConfig::parse("pvc-backed", &REAL.as_bytes()[..length]).is_err(), "cut to {length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = VolumeConfig::parse("pvc-1", &body);
        }

        #[test]
        fn any_values_survive_writing_and_reading(text in any::<String>(), size in 0..=i64::MAX as u64) {
            let config = VolumeConfig {
                name: "pvc-1".into(),
                size,
                labels: Labels::from([(text.clone(), text.clone())]),
                storage_class_name: text,
                ..VolumeConfig::default()
            };
            prop_assert_eq!(VolumeConfig::parse("pvc-1", &config.to_bytes().unwrap()).unwrap(), config);
        }
    }
}
