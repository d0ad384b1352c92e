//! Where the objects of a backup store are: keys relative to the target's path, all under `backupstore/`.
//!
//! Format facts: `longhorn/backupstore`, `config.go`, `lock.go`, `util/util.go`. A volume's folder starts with the first
//! four hex digits of the SHA-512 of its *name*; a block's folder with the first four of its checksum.

use std::fmt;

use ring::rand::SecureRandom;

use super::block::{Checksum, hex, sha512_hex};
use crate::{Error, Kind, Result};

/// The folder all volumes are under, with its trailing slash.
pub const VOLUMES: &str = "backupstore/volumes/";
/// The folder all backing images are under; the word is there twice.
pub const BACKING_IMAGES: &str = "backupstore/backing-images/backing-images/";
/// The folder all system backups are under.
pub const SYSTEM_BACKUPS: &str = "backupstore/system-backups/";
/// A folder among the volumes that only holds the locks shared by all backing images.
pub const BACKING_IMAGE_LOCKS: &str = "BACKINGIMAGE";

/// Longest name taken: one component of a path in a local folder.
const MAX_NAME: usize = 250;

/// Largest `volume.cfg`, lock, backing image or system backup configuration read, in bytes.
pub const MAX_CONFIG: u64 = 16 << 20;
/// Largest backup configuration read, in bytes; at about 105 bytes for each block this is a volume of 9 TiB.
pub const MAX_BACKUP_CONFIG: u64 = 512 << 20;

/// Whether Longhorn accepts the name for a volume, backup or backing image: two or more of letters, digits, `_`, `.`,
/// `-`, starting with a letter or digit. Such a name is one harmless path component.
pub fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (2..=MAX_NAME).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Refuses what [`is_name`] does not accept; `what` says what it names.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(60).collect();
    Err(Error::new(Kind::Invalid, format!("{shown:?} is not the name of a {what}"))
        .hint("names have at least two of a-z A-Z 0-9 _ . - and start with a letter or a digit"))
}

/// A new name as Longhorn makes them: the prefix, a dash, 16 random hex digits.
pub fn random_name(prefix: &str) -> Result<String> {
    let mut random = [0; 8];
    ring::rand::SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| Error::new(Kind::Failed, "the system gave no random numbers"))?;
    Ok(format!("{prefix}-{}", hex(&random)))
}

/// A pool of blocks: each volume has its own, all backing images share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockPool {
    prefix: String,
}

impl BlockPool {
    /// The pool of all backing images.
    pub fn backing_images() -> Self {
        Self { prefix: "backupstore/backing-images/blocks/".into() }
    }

    /// The folder of the pool, with its trailing slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of a block.
    pub fn key(&self, checksum: &Checksum) -> String {
        let hex = checksum.to_string();
        format!("{}{}/{}/{hex}.blk", self.prefix, &hex[..2], &hex[2..4])
    }

    /// The block a key of this pool belongs to; nothing for files that are not blocks (half-written `….tmp.…`, foreign).
    pub fn checksum(&self, key: &str) -> Option<Checksum> {
        let mut parts = key.strip_prefix(&self.prefix)?.split('/');
        let (first, second, file) = (parts.next()?, parts.next()?, parts.next()?);
        let hex = file.strip_suffix(".blk")?;
        let placed = parts.next().is_none() && hex.get(..2) == Some(first) && hex.get(2..4) == Some(second);
        if placed { hex.parse().ok() } else { None }
    }
}

/// The keys of one volume's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeKeys {
    root: String,
}

impl VolumeKeys {
    /// The keys of `volume`, whose name is checked.
    pub fn new(volume: &str) -> Result<Self> {
        check_name("volume", volume)?;
        Ok(Self::unchecked(volume))
    }

    /// The folder with the locks of all backing images.
    pub fn backing_image_locks() -> Self {
        Self::unchecked(BACKING_IMAGE_LOCKS)
    }

    fn unchecked(volume: &str) -> Self {
        let hex = sha512_hex(volume.as_bytes());
        Self { root: format!("{VOLUMES}{}/{}/{volume}/", &hex[..2], &hex[2..4]) }
    }

    /// The volume's name.
    pub fn name(&self) -> &str {
        self.root.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
    }

    /// The folder of the volume, with its trailing slash.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// `volume.cfg`.
    pub fn config(&self) -> String {
        format!("{}volume.cfg", self.root)
    }

    /// The folder of the backups' configurations.
    pub fn backups(&self) -> String {
        format!("{}backups/", self.root)
    }

    /// The configuration of one backup, whose name is checked.
    pub fn backup(&self, backup: &str) -> Result<String> {
        check_name("backup", backup)?;
        Ok(format!("{}backups/backup_{backup}.cfg", self.root))
    }

    /// The backup a key of [`VolumeKeys::backups`] belongs to; nothing for any other file.
    pub fn backup_name<'k>(&self, key: &'k str) -> Option<&'k str> {
        let file = key.strip_prefix(&self.root)?.strip_prefix("backups/")?;
        file.strip_prefix("backup_")?.strip_suffix(".cfg").filter(|name| is_name(name))
    }

    /// The volume's blocks.
    pub fn blocks(&self) -> BlockPool {
        BlockPool { prefix: format!("{}blocks/", self.root) }
    }

    /// The folder of the volume's locks.
    pub fn locks(&self) -> String {
        format!("{}locks/", self.root)
    }

    /// One lock.
    pub fn lock(&self, name: &str) -> String {
        format!("{}locks/{name}.lck", self.root)
    }
}

/// The key of a backing image's configuration.
pub fn backing_image_config(name: &str) -> Result<String> {
    check_name("backing image", name)?;
    Ok(format!("{BACKING_IMAGES}{name}/backing-image.cfg"))
}

/// The folder of one system backup, made by that version of Longhorn (`v1.10.2`).
pub fn system_backup(version: &str, name: &str) -> Result<String> {
    check_name("Longhorn version", version)?;
    check_name("system backup", name)?;
    Ok(format!("{SYSTEM_BACKUPS}{version}/{name}/"))
}

/// One backup of one volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupRef {
    /// The volume's name in the store.
    pub volume: String,
    /// The backup's name.
    pub backup: String,
}

impl BackupRef {
    /// The backup of that name, both names checked.
    pub fn new(volume: impl Into<String>, backup: impl Into<String>) -> Result<Self> {
        let (volume, backup) = (volume.into(), backup.into());
        check_name("volume", &volume)?;
        check_name("backup", &backup)?;
        Ok(Self { volume, backup })
    }
}

impl fmt::Display for BackupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volume {}, backup {}", self.volume, self.backup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volumes_folder_starts_with_the_hash_of_its_name() {
        // As seen in buckets written by Longhorn.
        let keys = VolumeKeys::new("pvc-mixed-lz4").unwrap();
        assert_eq!(keys.config(), "backupstore/volumes/31/5a/pvc-mixed-lz4/volume.cfg");
        assert_eq!(
            VolumeKeys::new("pvc-legacy").unwrap().backup("backup-0000000000001401").unwrap(),
            "backupstore/volumes/7e/d3/pvc-legacy/backups/backup_backup-0000000000001401.cfg"
        );
        assert_eq!(
            VolumeKeys::backing_image_locks().lock("lock-ee680a2be7db4e2b"),
            "backupstore/volumes/22/fc/BACKINGIMAGE/locks/lock-ee680a2be7db4e2b.lck"
        );
    }

    #[test]
    fn keys_lead_back_to_what_they_name() {
        let keys = VolumeKeys::new("pvc-1").unwrap();
        assert_eq!(keys.backup_name(&keys.backup("b-1").unwrap()), Some("b-1"));
        assert_eq!(keys.backup_name(&format!("{}backup_b-1.cfg.tmp.123", keys.backups())), None);
        assert_eq!(keys.backup_name(&format!("{}backup_../x.cfg", keys.backups())), None);
        let checksum = Checksum::of(b"block");
        let pool = keys.blocks();
        assert_eq!(pool.checksum(&pool.key(&checksum)), Some(checksum));
        assert_eq!(pool.checksum(&pool.key(&checksum).replace(".blk", ".blk.tmp.1")), None);
        assert_eq!(pool.checksum(&format!("{}aa/bb/{checksum}.blk", pool.prefix())), None, "in the wrong folder");
        assert_eq!(pool.checksum(&BlockPool::backing_images().key(&checksum)), None);
    }

    #[test]
    fn random_names_look_like_longhorns() {
        let name = random_name("backup").unwrap();
        assert!(is_name(&name) && name.len() == "backup-0123456789abcdef".len(), "{name}");
        assert_ne!(name, random_name("backup").unwrap());
    }

    #[test]
    fn names_that_could_leave_the_folder_or_the_line_are_refused() {
        for bad in ["", "a", ".a", "..", "a/b", "../x", "a b", "a\n", "\u{1b}[2J", "-a", "ä-1", &"x".repeat(251)] {
            assert!(!is_name(bad), "{bad:?}");
            assert_eq!(VolumeKeys::new(bad).unwrap_err().kind(), Kind::Invalid);
        }
        let message = check_name("volume", "\u{1b}[2J").unwrap_err().to_string();
        assert!(!message.contains('\u{1b}'), "control characters must not reach the terminal: {message}");
        for good in ["pvc-1", "A_", "0.x", "backup-0123456789abcdef"] {
            assert!(is_name(good), "{good}");
        }
        assert!(system_backup("v1.10.2", "../x").is_err());
        assert!(backing_image_config("a/..").is_err());
    }
}
