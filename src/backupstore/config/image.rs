//! `backing-image.cfg`: a backing image in the store.

use serde::Deserialize;

use super::{BlockMap, Labels, check_same, damaged, fields, parse};
use crate::{
    Result,
    backupstore::{block::DEFAULT_BLOCK_SIZE, layout},
};

/// A backing image (`backupbackingimage.go:BackupBackingImage`). Its blocks are of 2 MiB, the last one shorter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BackingImageConfig {
    /// The image's name.
    #[serde(deserialize_with = "fields::or_default")]
    pub name: String,
    /// Bytes of the image's file.
    #[serde(with = "fields::digits")]
    pub size: u64,
    /// SHA-512 of the whole file, 128 hex digits.
    #[serde(deserialize_with = "fields::or_default")]
    pub checksum: String,
    /// Labels.
    #[serde(deserialize_with = "fields::or_default")]
    pub labels: Labels,
    /// How blocks were packed; a hint.
    #[serde(deserialize_with = "fields::or_default")]
    pub compression_method: String,
    /// When its backup was begun, RFC 3339.
    #[serde(deserialize_with = "fields::or_default")]
    pub created_time: String,
    /// When its backup was completed, RFC 3339; empty while in progress, and after a crash.
    #[serde(deserialize_with = "fields::or_default")]
    pub complete_time: String,
    /// The secret an encrypted image needs, empty when there is none.
    #[serde(deserialize_with = "fields::or_default")]
    pub secret: String,
    /// The complete block list.
    pub blocks: BlockMap,
}

impl BackingImageConfig {
    /// Reads the configuration of that image.
    pub fn parse(name: &str, body: &[u8]) -> Result<Self> {
        let key = layout::backing_image_config(name)?;
        let config: Self = parse(&key, body)?;
        check_same(&key, "backing image", &config.name, name)?;
        if let Some(fault) = config.blocks.fault(DEFAULT_BLOCK_SIZE) {
            return Err(damaged(&key, fault));
        }
        match config.blocks.last_offset() {
            Some(last) if last >= config.size => {
                Err(damaged(&key, format!("a block at offset {last} is beyond the image's {} bytes", config.size)))
            }
            _ => Ok(config),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Kind;

    const REAL: &str = r#"{"Name":"debian-base","Size":"7358976","BlockCount":"2","Checksum":"387f","Labels":{"team":"infra"},"CompressionMethod":"lz4","CreatedTime":"2026-11-22T17:53:06Z","CompleteTime":"2026-11-22T17:53:08Z","Secret":"","SecretNamespace":"","ProcessingBlocks":{"Blocks":{}},"Blocks":[{"Offset":0,"BlockChecksum":"aab367945b3a2f8d1d01c35cefc63fdace787a17728f102744b3357a296a438b"},{"Offset":6291456,"BlockChecksum":"115950d68f79cb41e06c51d2701557d32e1edf3bc07cf548b7c603ac7e6b1b89"}]}"#;

    #[test]
    fn a_real_image_is_read_and_a_block_beyond_its_size_is_not() {
        let config = BackingImageConfig::parse("debian-base", REAL.as_bytes()).unwrap();
        assert_eq!((config.size, config.blocks.len(), config.labels["team"].as_str()), (7_358_976, 2, "infra"));
        for body in [REAL.replace("7358976", "6291456"), REAL.replace("debian-base", "other"), REAL[..300].to_owned()] {
            assert_eq!(BackingImageConfig::parse("debian-base", body.as_bytes()).unwrap_err().kind(), Kind::Damaged);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..200), at in 0..REAL.len()) {
            let _ = BackingImageConfig::parse("debian-base", &body);
            let _ = BackingImageConfig::parse("debian-base", &[&REAL.as_bytes()[..at], &body].concat());
        }
    }
}
