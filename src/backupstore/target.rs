//! The file a restore writes: beside its place until it is whole, then renamed.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::sys::statvfs::statvfs;

use crate::{Error, Kind, Result};

/// A sparse file being written as `<path>.partial`. Dropped before it is [finished](Target::finish), it is removed.
#[derive(Debug)]
pub struct Target {
    file: Arc<File>,
    partial: PathBuf,
    path: PathBuf,
    finished: bool,
}

/// Writes into a [`Target`] from any thread. Outliving it does no harm: the file has no name any more then.
#[derive(Clone, Debug)]
pub struct Writer {
    file: Arc<File>,
    path: PathBuf,
}

impl Writer {
    /// Writes at that offset; threads may write different ranges at the same time.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(data, offset).map_err(|error| fault("writing", &self.path, error))
    }
}

impl Target {
    /// Starts a file of `size` zero bytes, of which at least `data` will be written. What a killed restore left at
    /// `<path>.partial` is written over.
    ///
    /// # Errors
    /// `conflict` when the path exists and may not be written over, or another restore writes it; `failed` when the
    /// disk has too little room.
    pub fn create(path: &Path, size: u64, data: u64, overwrite: bool) -> Result<Self> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::new(Kind::Usage, format!("{} names no file to restore into", path.display())))?;
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(Error::new(Kind::Conflict, format!("{} exists already", path.display()))
                .object(path.to_string_lossy())
                .hint("restore into another file, or allow writing over it"));
        }
        let mut partial = name.to_owned();
        partial.push(".partial");
        let partial = path.with_file_name(partial);
        let failed = |error| fault("starting", &partial, error);
        let file = File::options().write(true).create(true).truncate(false).open(&partial).map_err(failed)?;
        // The file's name may have become that of a finished one between opening and locking it.
        let same =
            |meta: fs::Metadata| file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (meta.dev(), meta.ino()));
        if file.try_lock().is_err() || !partial.symlink_metadata().is_ok_and(same) {
            return Err(Error::new(Kind::Conflict, format!("another restore is writing {}", path.display()))
                .object(path.to_string_lossy())
                .hint("wait for it, or restore into another file"));
        }
        let target = Self { file: Arc::new(file), partial, path: path.to_owned(), finished: false };
        target.check_room(data)?;
        target.file.set_len(0).and_then(|()| target.file.set_len(size)).map_err(|error| {
            fault("making room in", &target.partial, error).hint(format!("the image has {size} bytes"))
        })?;
        Ok(target)
    }

    fn check_room(&self, data: u64) -> Result<()> {
        let folder = self.partial.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A file system that does not say is tried.
        let Ok(found) = statvfs(folder) else { return Ok(()) };
        let free = found.blocks_available().saturating_mul(found.fragment_size());
        if free >= data {
            return Ok(());
        }
        let text = format!("{} has {free} bytes free, the restore writes {data}", folder.display());
        Err(Error::new(Kind::Failed, text).object(self.path.to_string_lossy()).hint("restore to another disk"))
    }

    /// Something to write with.
    pub fn writer(&self) -> Writer {
        Writer { file: self.file.clone(), path: self.path.clone() }
    }

    /// Puts the file in its place. It is not forced to the disk.
    pub fn finish(mut self) -> Result<()> {
        fs::rename(&self.partial, &self.path).map_err(|error| fault("finishing", &self.path, error))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

fn fault(doing: &str, path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::PermissionDenied => Kind::Denied,
        _ => Kind::Failed,
    };
    Error::new(kind, format!("{doing} {}", path.display())).object(path.to_string_lossy()).source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume.img");
        let target = Target::create(&path, 1 << 20, 5, false).unwrap();
        target.writer().write_at(b"hello", 4096).unwrap();
        assert!(!path.exists());
        target.finish().unwrap();
        let content = fs::read(&path).unwrap();
        assert_eq!((content.len(), &content[4096..4101]), (1 << 20, &b"hello"[..]));

        let target = Target::create(&folder.path().join("other.img"), 1 << 20, 0, false).unwrap();
        let late = target.writer();
        drop(target);
        late.write_at(b"late", 0).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["volume.img"]);
    }

    #[test]
    fn an_existing_file_is_only_written_over_when_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume.img");
        fs::write(&path, "precious").unwrap();
        assert_eq!(Target::create(&path, 10, 0, false).unwrap_err().kind(), Kind::Conflict);
        drop(Target::create(&path, 10, 0, true).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        Target::create(&path, 10, 0, true).unwrap().finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), [0; 10]);
    }

    #[test]
    fn what_a_killed_restore_left_is_used_again_but_not_a_running_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume.img");
        fs::write(folder.path().join("volume.img.partial"), "stale data longer than the image").unwrap();
        let target = Target::create(&path, 10, 0, false).unwrap();
        let error = Target::create(&path, 10, 0, false).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        target.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), [0; 10]);
    }

    #[test]
    fn impossible_sizes_and_places_are_refused_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume.img");
        let error = Target::create(&path, 10, u64::MAX, false).unwrap_err();
        assert!(error.to_string().contains("bytes free"), "{error}");
        assert!(Target::create(&path, i64::MAX as u64, 0, false).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let error = Target::create(&folder.path().join("none/volume.img"), 10, 0, false).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert_eq!(Target::create(Path::new("/"), 10, 0, true).unwrap_err().kind(), Kind::Usage);
    }
}
