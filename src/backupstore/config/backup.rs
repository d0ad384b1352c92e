//! `backups/backup_<name>.cfg`: one backup with its complete block list.

use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};

use super::{BlockMap, Labels, VolumeConfig, check_same, damaged, fields, parse, write};
use crate::{
    Error, Kind, Result,
    backupstore::{
        block::DEFAULT_BLOCK_SIZE,
        layout::{BackupRef, VolumeKeys},
    },
};

const MODE: &str = "backup-mode";
const BLOCK_SIZE: &str = "backup-block-size";

/// What a backup reads and uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Everything mapped, uploading also what the store has already; heals damaged blocks.
    Full,
    /// What changed since the latest backup.
    #[default]
    Incremental,
}

impl Mode {
    /// The name Longhorn uses: `full`, `incremental`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }
}

impl FromStr for Mode {
    type Err = Error;

    /// Reads Longhorn's name; the empty one means incremental.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "full" => Ok(Self::Full),
            "incremental" | "" => Ok(Self::Incremental),
            other => Err(Error::new(Kind::Invalid, format!("{other:?} is not a backup mode"))
                .hint("Longhorn has full and incremental")),
        }
    }
}

/// One backup (`backupstore.go:Backup`). Its block list is complete; there is no chain to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BackupConfig {
    /// The backup's name.
    #[serde(deserialize_with = "fields::or_default")]
    pub name: String,
    /// The volume it is of.
    #[serde(deserialize_with = "fields::or_default")]
    pub volume_name: String,
    /// The snapshot it was made from, empty while in progress.
    #[serde(deserialize_with = "fields::or_default")]
    pub snapshot_name: String,
    /// When the backup was begun, RFC 3339.
    #[serde(deserialize_with = "fields::or_default")]
    pub snapshot_created_at: String,
    /// When it was completed, RFC 3339; empty while in progress, and after a crash.
    #[serde(deserialize_with = "fields::or_default")]
    pub created_time: String,
    /// Bytes of the listed blocks; not the volume's size.
    #[serde(with = "fields::digits")]
    pub size: u64,
    /// Labels, among them `KubernetesStatus`.
    #[serde(with = "fields::map")]
    pub labels: Labels,
    /// `backup-mode` and `backup-block-size`.
    #[serde(with = "fields::map")]
    pub parameters: Labels,
    /// Whether only changes since the previous backup were read.
    #[serde(deserialize_with = "fields::or_default")]
    pub is_incremental: bool,
    /// How new blocks were packed; a hint, as existing blocks are reused. Empty means gzip.
    #[serde(deserialize_with = "fields::or_default")]
    pub compression_method: String,
    /// Packed bytes this backup added to the store.
    #[serde(with = "fields::digits")]
    pub newly_uploaded_data_size: u64,
    /// Packed bytes this backup wrote over existing blocks.
    #[serde(with = "fields::digits", rename = "ReUploadedDataSize")]
    pub re_uploaded_data_size: u64,
    /// Longhorn leaves an empty object in full backups and `null` in incremental ones.
    #[serde(deserialize_with = "fields::ignored")]
    processing_blocks: Leftover,
    /// The complete block list.
    #[serde(skip_serializing_if = "BlockMap::is_empty")]
    pub blocks: BlockMap,
    /// Where a single-file backup is; Longhorn itself makes none.
    #[serde(deserialize_with = "fields::or_default")]
    single_file: SingleFile,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SingleFile {
    #[serde(deserialize_with = "fields::or_default")]
    file_path: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Leftover {
    present: bool,
}

impl Serialize for Leftover {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        if self.present { output.serialize_map(Some(0))?.end() } else { output.serialize_none() }
    }
}

impl BackupConfig {
    /// A backup that has begun: no blocks, no snapshot, not complete.
    pub fn begin(of: &BackupRef, mode: Mode, block_size: u64) -> Self {
        Self {
            name: of.backup.clone(),
            volume_name: of.volume.clone(),
            parameters: Labels::from([
                (MODE.into(), mode.as_str().into()),
                (BLOCK_SIZE.into(), block_size.to_string()),
            ]),
            ..Self::default()
        }
    }

    /// Reads the configuration of that backup.
    ///
    /// # Errors
    /// `damaged`, naming the key: not JSON, cut off, of another backup, or a block list that is unsorted, overlapping,
    /// or not in whole blocks.
    pub fn parse(of: &BackupRef, body: &[u8]) -> Result<Self> {
        let key = VolumeKeys::new(&of.volume)?.backup(&of.backup)?;
        let config: Self = parse(&key, body)?;
        check_same(&key, "backup", &config.name, &of.backup)?;
        check_same(&key, "volume", &config.volume_name, &of.volume)?;
        let block_size = config.read_block_size().map_err(|why| damaged(&key, why))?;
        match config.blocks.fault(block_size) {
            Some(fault) => Err(damaged(&key, fault)),
            None => Ok(config),
        }
    }

    /// The object as Longhorn writes it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut config = self.clone();
        config.processing_blocks.present = !self.is_incremental;
        write(&config)
    }

    /// Bytes of each block: 2 MiB or 16 MiB.
    pub fn block_size(&self) -> u64 {
        self.read_block_size().unwrap_or(DEFAULT_BLOCK_SIZE)
    }

    fn read_block_size(&self) -> Result<u64, String> {
        fields::block_size(self.parameters.get(BLOCK_SIZE).map(String::as_str))
    }

    /// Whether it can be restored as a backup of that volume.
    ///
    /// # Errors
    /// `invalid` when it was never completed or is a single file; `damaged`, naming the key, when the volume's size is
    /// not made of its blocks, or its blocks do not fit into it.
    pub fn check_restorable(&self, volume: &VolumeConfig) -> Result<()> {
        let keys = VolumeKeys::new(&volume.name)?;
        let key = keys.backup(&self.name)?;
        if self.is_incomplete() {
            return Err(Error::new(Kind::Invalid, "the backup was never completed")
                .object(key)
                .hint("it is still being made, or was left by a crash; choose a complete one"));
        }
        if !self.single_file.file_path.is_empty() {
            return Err(
                Error::new(Kind::Invalid, "it is a single-file backup, which Longhorn itself never makes").object(key)
            );
        }
        let (size, block_size) = (volume.size, self.block_size());
        if size == 0 || size % block_size != 0 {
            let text = format!("a volume of {size} bytes is not made of {block_size} byte blocks");
            return Err(damaged(&keys.config(), text));
        }
        match self.blocks.last_offset() {
            Some(last) if last >= size => {
                Err(damaged(&key, format!("a block at offset {last} is beyond the volume's {size} bytes")))
            }
            _ => Ok(()),
        }
    }

    /// Whether it has not been completed: still running, or left by a crash.
    pub fn is_incomplete(&self) -> bool {
        self.created_time.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::backupstore::block::Checksum;

    /// As written by Longhorn, with one block fewer.
    const REAL: &str = r#"{"Name":"backup-00000000000009c2","VolumeName":"pvc-gc","SnapshotName":"snap-2","SnapshotCreatedAt":"2026-11-22T17:59:57Z","CreatedTime":"2026-11-22T17:59:59Z","Size":"4194304","Labels":null,"Parameters":{"backup-block-size":"2097152"},"IsIncremental":true,"CompressionMethod":"lz4","NewlyUploadedDataSize":"74098","ReUploadedDataSize":"0","ProcessingBlocks":null,"Blocks":[{"Offset":0,"BlockChecksum":"c106b42973c930b2d3701b7ab0403b1da8a27d4350d059927d237de164289b00"},{"Offset":4194304,"BlockChecksum":"325e8b0f52c63797ff6d8c6c50a7d6e93499447c34d7713fbb2aa9f24a83cee2"}],"SingleFile":{"FilePath":""}}"#;

    fn of() -> BackupRef {
        BackupRef::new("pvc-gc", "backup-00000000000009c2").unwrap()
    }

    fn with_blocks(blocks: &str) -> String {
        format!(r#"{{"Name":"backup-00000000000009c2","VolumeName":"pvc-gc","CreatedTime":"x","Blocks":{blocks}}}"#)
    }

    #[test]
    fn what_longhorn_wrote_is_written_back_to_the_byte() {
        let config = BackupConfig::parse(&of(), REAL.as_bytes()).unwrap();
        assert_eq!(
            (config.blocks.len(), config.blocks.last_offset(), config.block_size()),
            (2, Some(4 << 20), 2 << 20)
        );
        assert!(!config.is_incomplete());
        assert_eq!(String::from_utf8(config.to_bytes().unwrap()).unwrap(), REAL);
        // A full backup of nothing, also as Longhorn writes it.
        let empty = REAL
            .replace("IsIncremental\":true", "IsIncremental\":false")
            .replace("\"ProcessingBlocks\":null", "\"ProcessingBlocks\":{}");
        let start = empty.find(",\"Blocks\"").unwrap();
        let empty = format!("{}{}", &empty[..start], &empty[empty.find(",\"SingleFile\"").unwrap()..]);
        let config = BackupConfig::parse(&of(), empty.as_bytes()).unwrap();
        assert!(config.blocks.is_empty());
        assert_eq!(String::from_utf8(config.to_bytes().unwrap()).unwrap(), empty);
    }

    #[test]
    fn the_objects_of_longhorn_1_4_are_read() {
        let old = r#"{"Name":"backup-00000000000009c2","VolumeName":"pvc-gc","CreatedTime":"2026-11-22T18:38:47Z","Size":"0",
            "Labels":{"longhorn.io/volume-access-mode":"rwo"},"IsIncremental":false,"Blocks":null,"SingleFile":null}"#;
        let config = BackupConfig::parse(&of(), old.as_bytes()).unwrap();
        assert_eq!((config.block_size(), config.compression_method.as_str()), (2 << 20, ""));
        let large = REAL.replace("\"2097152\"", "\"16Mi\"").replace("4194304,", "16777216,");
        assert_eq!(BackupConfig::parse(&of(), large.as_bytes()).unwrap().block_size(), 16 << 20);
    }

    #[test]
    fn impossible_block_lists_are_damaged_and_name_the_key() {
        let sum = Checksum::of(b"");
        let block = |offset: &str, sum: &str| format!(r#"{{"Offset":{offset},"BlockChecksum":"{sum}"}}"#);
        let good = |offset: &str| block(offset, &sum.to_string());
        let lists = [
            ("unsorted", format!("[{},{}]", good("4194304"), good("0"))),
            ("twice", format!("[{},{}]", good("2097152"), good("2097152"))),
            ("unaligned", format!("[{}]", good("4096"))),
            ("negative", format!("[{}]", good("-2097152"))),
            ("beyond any number", format!("[{}]", good("99999999999999999999999"))),
            ("fraction", format!("[{}]", good("0.5"))),
            ("short checksum", format!("[{}]", block("0", "ab"))),
            ("upper case", format!("[{}]", block("0", &sum.to_string().to_uppercase()))),
            ("path for a checksum", format!("[{}]", block("0", "../../../../etc/passwd"))),
            ("no offset", format!(r#"[{{"BlockChecksum":"{sum}"}}]"#)),
            ("no list", "17".into()),
        ];
        for (what, list) in lists {
            let error = BackupConfig::parse(&of(), with_blocks(&list).as_bytes()).unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged, "{what}");
            assert!(error.object_name().unwrap().ends_with("/backups/backup_backup-00000000000009c2.cfg"), "{what}");
        }
    }

    #[test]
    fn foreign_and_truncated_objects_are_damaged() {
        for body in [
            REAL.replace("pvc-gc", "pvc-other"),
            REAL.replace("00000000000009c2", "00000000000009c3"),
            REAL.replace("2097152", "3000000"),
            REAL.replace("\"4194304\"", "\"-4194304\""),
            "{}".into(),
        ] {
            assert_eq!(BackupConfig::parse(&of(), body.as_bytes()).unwrap_err().kind(), Kind::Damaged, "{body}");
        }
        for length in 0..REAL.len() {
            assert!(BackupConfig::parse(&of(), &REAL.as_bytes()[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_backup_of_a_terabyte_is_read() {
        let sum = Checksum::of(b"").to_string();
        let mut list = String::from("[");
        for index in 0..524_288u64 {
            let comma = if index == 0 { "" } else { "," };
            write!(list, r#"{comma}{{"Offset":{},"BlockChecksum":"{sum}"}}"#, index << 21).unwrap();
        }
        let body = with_blocks(&(list + "]"));
        let config = BackupConfig::parse(&of(), body.as_bytes()).unwrap();
        assert_eq!((config.blocks.len(), config.blocks.last_offset()), (524_288, Some(524_287 << 21)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..200), at in 0..REAL.len()) {
            let _ = BackupConfig::parse(&of(), &body);
            let _ = BackupConfig::parse(&of(), &[&REAL.as_bytes()[..at], &body].concat());
        }
    }
}
