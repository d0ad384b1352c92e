//! The data plane: each volume is a folder while a pod uses it, and an ext4 image when it travels.
//!
//! Under the root, `<volume>/data/` is what pods see, `<volume>/volume.img` what a restore wrote and nobody has
//! mounted yet, `<volume>/snapshots/<name>.img` one image per snapshot. The folder counts when it exists.

mod changes;
mod ext4;

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::names;
use crate::{Error, Kind, Result};

/// Stops every process that writes to a volume while its folder is packed, so that a snapshot is of one moment.
pub trait Freezer: Send + Sync {
    /// Freezes the writers of the volume until the guard is dropped.
    fn freeze(&self, volume: &str) -> Result<Box<dyn Send>>;
}

/// No writers: for clusters without pods.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWriters;

impl Freezer for NoWriters {
    fn freeze(&self, _: &str) -> Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }
}

/// All volumes of one cluster, under one folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Disk {
    root: Arc<PathBuf>,
    /// One task at a time packs, unpacks or removes a volume.
    locks: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// What a snapshot is made of, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Bytes that differ from the snapshot before; without one, all bytes that hold data.
    pub changed: u64,
    /// Bytes that hold data.
    pub used: u64,
}

impl Disk {
    /// Uses `root`, which exists.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: Arc::new(root.into()), locks: Arc::default() }
    }

    /// The folder all volumes are under.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The raw image of a volume that nobody has mounted since it was restored. It need not exist.
    pub fn image(&self, volume: &str) -> Result<PathBuf> {
        Ok(self.volume(volume)?.join("volume.img"))
    }

    /// The raw image of a snapshot. It need not exist.
    pub fn snapshot_image(&self, volume: &str, snapshot: &str) -> Result<PathBuf> {
        check_name(snapshot)?;
        Ok(self.volume(volume)?.join("snapshots").join(format!("{snapshot}.img")))
    }

    /// Makes the folder of a new volume, still without data.
    pub fn create(&self, volume: &str) -> Result<()> {
        let folder = self.volume(volume)?;
        fs::create_dir_all(&folder).map_err(|error| failed("creating", &folder, error))
    }

    /// The folder a pod sees; unpacked from the image on first use, empty for a new volume. Owners and modes are kept
    /// when this process may set them.
    ///
    /// Errors: `invalid` when the volume holds something other than an ext4 file system, `damaged` when that file
    /// system is inconsistent, `not-found` when e2fsprogs is missing.
    pub async fn mount(&self, volume: &str) -> Result<PathBuf> {
        let folder = self.volume(volume)?;
        let lock = self.lock(volume);
        let _held = lock.lock().await;
        let data = folder.join("data");
        if data.is_dir() {
            return Ok(data);
        }
        let image = folder.join("volume.img");
        let fresh = match fs::metadata(&image) {
            Ok(meta) => meta.blocks() == 0,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(failed("reading", &image, error)),
        };
        let part = folder.join("data.part");
        remove_folder(&part)?;
        fs::create_dir_all(&part).map_err(|error| failed("creating", &part, error))?;
        if !fresh {
            ext4::unpack(&image, &part).await.map_err(|error| error.context(format!("mounting volume {volume}")))?;
        }
        fs::rename(&part, &data).map_err(|error| failed("renaming", &part, error))?;
        remove_file(&image)?;
        Ok(data)
    }

    /// Takes a snapshot of the volume as it is now, as an ext4 image of `size` bytes (or a copy of the image that was
    /// restored, when nobody has mounted the volume). Writers are frozen meanwhile. `parent` is the snapshot before.
    ///
    /// The same content gives the same bytes, so that the blocks of two backups are shared where nothing changed.
    pub async fn snapshot(
        &self,
        volume: &str,
        snapshot: &str,
        parent: Option<&str>,
        size: u64,
        freezer: &dyn Freezer,
    ) -> Result<Packed> {
        let image = self.snapshot_image(volume, snapshot)?;
        let parent = parent.map(|parent| self.snapshot_image(volume, parent)).transpose()?;
        let lock = self.lock(volume);
        let _held = lock.lock().await;
        if !image.exists() {
            let folder = self.volume(volume)?;
            let snapshots = folder.join("snapshots");
            fs::create_dir_all(&snapshots).map_err(|error| failed("creating", &snapshots, error))?;
            let part = image.with_extension("part");
            remove_file(&part)?;
            let data = folder.join("data");
            if data.is_dir() {
                let frozen = freezer.freeze(volume)?;
                let packed = ext4::pack(&data, &part, size, volume).await;
                drop(frozen);
                packed.map_err(|error| error.context(format!("snapshot {snapshot} of volume {volume}")))?;
            } else {
                copy_image(&folder.join("volume.img"), &part, size)
                    .map_err(|error| failed("copying to", &part, error))?;
            }
            fs::rename(&part, &image).map_err(|error| failed("renaming", &part, error))?;
        }
        let used = fs::metadata(&image).map_err(|error| failed("reading", &image, error))?.blocks() * 512;
        let changed = match parent.filter(|parent| parent.exists()) {
            Some(parent) => {
                let new = image.clone();
                tokio::task::spawn_blocking(move || changes::changed_bytes(&parent, &new))
                    .await
                    .map_err(|error| Error::new(Kind::Failed, "comparing two snapshots").source(error))?
                    .map_err(|error| failed("comparing", &image, error))?
            }
            None => used,
        };
        Ok(Packed { changed, used })
    }

    /// Removes a snapshot's image.
    pub fn remove_snapshot(&self, volume: &str, snapshot: &str) -> Result<()> {
        remove_file(&self.snapshot_image(volume, snapshot)?)
    }

    /// Removes everything of a volume.
    pub async fn remove(&self, volume: &str) -> Result<()> {
        let folder = self.volume(volume)?;
        let lock = self.lock(volume);
        let _held = lock.lock().await;
        remove_folder(&folder)
    }

    /// Bytes that the newest image of a volume holds: the restored one, else zero until a snapshot tells.
    pub fn restored_bytes(&self, volume: &str) -> u64 {
        self.image(volume).ok().and_then(|image| fs::metadata(image).ok()).map_or(0, |meta| meta.blocks() * 512)
    }

    fn volume(&self, volume: &str) -> Result<PathBuf> {
        check_name(volume)?;
        Ok(self.root.join(volume))
    }

    fn lock(&self, volume: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(volume.to_owned()).or_default().clone()
    }
}

/// Names come from the API; only those that are one plain component become part of a path.
fn check_name(name: &str) -> Result<()> {
    if names::is_valid_name(name) || names::is_dns_label(name) {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, format!("invalid name {name:?}")).hint("use a-z, 0-9, '-', '_' and '.'"))
}

/// A snapshot of an image nobody writes to is another name of it, unless the volume has grown since.
fn copy_image(from: &Path, to: &Path, size: u64) -> io::Result<()> {
    match fs::metadata(from) {
        Ok(meta) if meta.len() == size => fs::hard_link(from, to),
        Ok(_) => {
            fs::copy(from, to)?;
            fs::File::options().write(true).open(to)?.set_len(size)
        }
        // Never mounted and never restored: an unformatted disk.
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::File::create(to)?.set_len(size),
        Err(error) => Err(error),
    }
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", path, error)),
        _ => Ok(()),
    }
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", path, error)),
        _ => Ok(()),
    }
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Failed, format!("{doing} {}", path.display())).source(error)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    const SIZE: u64 = 16 << 20;

    fn disk() -> (tempfile::TempDir, Disk) {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::new(folder.path());
        (folder, disk)
    }

    #[tokio::test]
    async fn what_was_packed_is_what_is_mounted_elsewhere() {
        let (_keep, disk) = disk();
        let data = disk.mount("v1").await.expect("mounts");
        fs::create_dir(data.join("sub")).expect("folder");
        fs::write(data.join("sub/file"), b"content").expect("file");
        std::os::unix::fs::symlink("sub/file", data.join("link")).expect("link");
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("mode");
        disk.snapshot("v1", "s1", None, SIZE, &NoWriters).await.expect("packs");

        disk.create("v2").expect("creates");
        let image = disk.snapshot_image("v1", "s1").expect("path");
        assert_eq!(fs::metadata(&image).expect("image").len(), SIZE);
        fs::copy(&image, disk.image("v2").expect("path")).expect("copies");
        let other = disk.mount("v2").await.expect("unpacks");
        assert_eq!(fs::read(other.join("sub/file")).expect("file"), b"content");
        assert_eq!(fs::read_link(other.join("link")).expect("link"), Path::new("sub/file"));
        assert_eq!(fs::metadata(&other).expect("folder").permissions().mode() & 0o777, 0o700);
        assert!(!other.join("lost+found").exists(), "the folder is as it was");
        assert!(!disk.image("v2").expect("path").exists(), "one copy is enough");
    }

    #[tokio::test]
    async fn unchanged_content_gives_the_same_bytes_and_one_changed_page_few_others() {
        let (_keep, disk) = disk();
        let data = disk.mount("v1").await.expect("mounts");
        fs::write(data.join("a"), vec![1; 5 << 20]).expect("file");
        let first = disk.snapshot("v1", "s1", None, SIZE, &NoWriters).await.expect("packs");
        assert!(first.changed >= 5 << 20 && first.changed == first.used, "{first:?}");
        let second = disk.snapshot("v1", "s2", Some("s1"), SIZE, &NoWriters).await.expect("packs");
        assert_eq!(second.changed, 0);

        let file = fs::File::options().write(true).open(data.join("a")).expect("file");
        std::os::unix::fs::FileExt::write_all_at(&file, b"xyz", 3 << 20).expect("writes");
        let third = disk.snapshot("v1", "s3", Some("s2"), SIZE, &NoWriters).await.expect("packs");
        assert!((4096..=4096 * 4).contains(&third.changed), "{third:?}");
    }

    #[tokio::test]
    async fn writers_are_frozen_exactly_while_the_folder_is_read() {
        struct Counting(Arc<AtomicU32>);
        struct Guard(Arc<AtomicU32>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.fetch_add(100, Ordering::SeqCst);
            }
        }
        impl Freezer for Counting {
            fn freeze(&self, volume: &str) -> Result<Box<dyn Send>> {
                assert_eq!(volume, "v1");
                self.0.fetch_add(1, Ordering::SeqCst);
                Ok(Box::new(Guard(self.0.clone())))
            }
        }
        let (_keep, disk) = disk();
        disk.mount("v1").await.expect("mounts");
        let count = Arc::new(AtomicU32::new(0));
        disk.snapshot("v1", "s1", None, SIZE, &Counting(count.clone())).await.expect("packs");
        assert_eq!(count.load(Ordering::SeqCst), 101);
    }

    #[tokio::test]
    async fn an_image_that_is_no_ext4_and_a_cut_off_one_are_named() {
        let (_keep, disk) = disk();
        disk.create("odd").expect("creates");
        fs::write(disk.image("odd").expect("path"), vec![7; 1 << 20]).expect("image");
        let error = disk.mount("odd").await.expect_err("not mountable");
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.message().contains("odd") && error.message().contains("ext4"), "{error}");

        let data = disk.mount("whole").await.expect("mounts");
        fs::write(data.join("a"), vec![1; 3 << 20]).expect("file");
        disk.snapshot("whole", "s1", None, SIZE, &NoWriters).await.expect("packs");
        disk.create("cut").expect("creates");
        let cut = disk.image("cut").expect("path");
        fs::copy(disk.snapshot_image("whole", "s1").expect("path"), &cut).expect("copies");
        fs::File::options().write(true).open(&cut).expect("opens").set_len(200 << 10).expect("cuts");
        let error = disk.mount("cut").await.expect_err("damaged");
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
    }

    #[tokio::test]
    async fn data_that_does_not_fit_is_said_so() {
        let (_keep, disk) = disk();
        let data = disk.mount("v1").await.expect("mounts");
        fs::write(data.join("a"), vec![1; 9 << 20]).expect("file");
        let error = disk.snapshot("v1", "s1", None, 8 << 20, &NoWriters).await.expect_err("too small");
        assert!(error.message().contains("v1"), "{error}");
        assert!(!disk.snapshot_image("v1", "s1").expect("path").exists());
    }

    #[tokio::test]
    async fn a_restored_image_is_kept_as_it_is_and_its_snapshot_costs_nothing() {
        let (_keep, disk) = disk();
        disk.create("v1").expect("creates");
        let image = disk.image("v1").expect("path");
        fs::write(&image, vec![9; 4 << 20]).expect("image");
        disk.snapshot("v1", "s1", None, 4 << 20, &NoWriters).await.expect("links");
        let snapshot = disk.snapshot_image("v1", "s1").expect("path");
        assert_eq!(fs::metadata(&image).expect("image").ino(), fs::metadata(&snapshot).expect("snapshot").ino());
        disk.snapshot("v1", "s2", None, 8 << 20, &NoWriters).await.expect("grown");
        assert_eq!(fs::metadata(&image).expect("image").len(), 4 << 20, "the restored image did not grow");
        assert_eq!(fs::metadata(disk.snapshot_image("v1", "s2").expect("path")).expect("image").len(), 8 << 20);
    }

    #[tokio::test]
    async fn a_name_never_leaves_the_root() {
        let (_keep, disk) = disk();
        for bad in ["..", "../x", "a/../../b", "/etc", ""] {
            assert!(disk.image(bad).is_err(), "{bad:?}");
            assert!(disk.mount(bad).await.is_err(), "{bad:?}");
            assert!(disk.remove(bad).await.is_err(), "{bad:?}");
            assert!(disk.snapshot_image("v1", bad).is_err(), "{bad:?}");
        }
    }
}
