//! The file a restore writes: beside its place until it is whole, then renamed.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use nix::sys::statvfs::statvfs;

use crate::{Error, Kind, Result};

/// Bytes written at once. For a whole block Linux looks for pages as large as the block, which it first has to get from
/// elsewhere, and keeps other writers of the file waiting meanwhile; that took up to six times the CPU seconds.
const PIECE: usize = 128 << 10;

/// A sparse file being written as `<path>.partial`. Dropped before it is [finished](Target::finish), it is removed;
/// a [continued](Target::resume) one stays if there is anything good in it.
#[derive(Debug)]
pub struct Target {
    file: Arc<File>,
    useful: Arc<AtomicBool>,
    partial: PathBuf,
    path: PathBuf,
    size: u64,
    overwrite: bool,
    resume: bool,
    finished: bool,
}

/// Writes into a [`Target`] from any thread. Outliving it does no harm: the file has no name any more then, or is left
/// to be continued.
#[derive(Clone, Debug)]
pub struct Writer {
    file: Arc<File>,
    useful: Arc<AtomicBool>,
    path: PathBuf,
}

impl Writer {
    /// Writes at that offset; threads may write different ranges at the same time.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<()> {
        let mut at = offset;
        for piece in data.chunks(PIECE) {
            self.file.write_all_at(piece, at).map_err(|error| fault("writing", &self.path, error))?;
            at += piece.len() as u64;
        }
        self.useful.store(true, Relaxed);
        Ok(())
    }
}

/// Where a file is written until it is whole.
pub fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

/// Whether a file may be restored to that path.
///
/// # Errors
/// `usage` when the path names no file, or something other than a file; `conflict` when it exists and may not be
/// written over.
pub fn check_path(path: &Path, overwrite: bool) -> Result<()> {
    let shown = path.display();
    if path.file_name().is_none() {
        return Err(Error::new(Kind::Usage, format!("{shown} names no file to restore into")));
    }
    // A link is replaced, not followed.
    let Ok(found) = path.symlink_metadata() else { return Ok(()) };
    if !found.is_file() && !found.is_symlink() {
        return Err(Error::new(Kind::Usage, format!("{shown} is not a file"))
            .object(path.to_string_lossy())
            .hint("restore into a file, which can be written to a disk once it is whole"));
    }
    if overwrite {
        return Ok(());
    }
    Err(Error::new(Kind::Conflict, format!("{shown} exists already"))
        .object(path.to_string_lossy())
        .hint("restore into another file, or allow writing over it"))
}

impl Target {
    /// Starts a file of `size` zero bytes, of which at least `data` will be written. What a killed restore left at
    /// `<path>.partial` is written over.
    ///
    /// # Errors
    /// As [`check_path`]; `conflict` also when another restore writes it, `failed` when the disk has too little room.
    pub fn create(path: &Path, size: u64, data: u64, overwrite: bool) -> Result<Self> {
        let target = Self::open(path, size, data, overwrite, false)?;
        target.start_anew()?;
        Ok(target)
    }

    /// Like [`create`](Target::create), but keeps what an earlier restore left at `<path>.partial`, which may be anything.
    pub fn resume(path: &Path, size: u64, data: u64, overwrite: bool) -> Result<Self> {
        let target = Self::open(path, size, data, overwrite, true)?;
        target.set_len(size)?;
        Ok(target)
    }

    fn open(path: &Path, size: u64, data: u64, overwrite: bool, resume: bool) -> Result<Self> {
        check_path(path, overwrite)?;
        let partial = partial(path);
        let failed = |error| fault("starting", &partial, error);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&partial);
        let file = file.map_err(failed)?;
        // The file's name may have become that of a finished one between opening and locking it, or be a link.
        let same =
            |meta: fs::Metadata| file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (meta.dev(), meta.ino()));
        if file.try_lock().is_err() || !partial.symlink_metadata().is_ok_and(same) {
            return Err(Error::new(Kind::Conflict, format!("another restore is writing {}", path.display()))
                .object(path.to_string_lossy())
                .hint("wait for it, or restore into another file"));
        }
        // What an earlier restore wrote must survive a refusal of this one.
        let useful = Arc::new(AtomicBool::new(resume && file.metadata().is_ok_and(|meta| meta.blocks() > 0)));
        let (file, path) = (Arc::new(file), path.to_owned());
        let target = Self { file, useful, partial, path, size, overwrite, resume, finished: false };
        target.check_room(data)?;
        Ok(target)
    }

    /// What is there already takes up room that need not be free.
    fn check_room(&self, data: u64) -> Result<()> {
        let folder = self.partial.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A file system that does not say is tried.
        let Ok(found) = statvfs(folder) else { return Ok(()) };
        let free = found.blocks_available().saturating_mul(found.fragment_size());
        let taken = self.file.metadata().map_or(0, |meta| meta.blocks().saturating_mul(512));
        if free.saturating_add(taken) >= data {
            return Ok(());
        }
        let needed = data - taken.min(data);
        let text = format!("{} has {free} bytes free, the restore writes {needed}", folder.display());
        Err(Error::new(Kind::Failed, text).object(self.path.to_string_lossy()).hint("restore to another disk"))
    }

    /// Makes it all zeros.
    pub fn start_anew(&self) -> Result<()> {
        self.useful.store(false, Relaxed);
        // ext4 writes a file that was cut to nothing to the disk when it is closed, and whoever closes it waits.
        if self.file.metadata().map_or(true, |meta| meta.len() > 0) {
            self.set_len(0)?;
        }
        self.set_len(self.size)
    }

    fn set_len(&self, size: u64) -> Result<()> {
        self.file.set_len(size).map_err(|error| {
            fault("making room in", &self.partial, error).hint(format!("the image has {} bytes", self.size))
        })
    }

    /// Something to write with.
    pub fn writer(&self) -> Writer {
        Writer { file: self.file.clone(), useful: self.useful.clone(), path: self.path.clone() }
    }

    /// The file, for reading.
    pub fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Where the file is as yet.
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Whether the file stays when it is dropped unfinished.
    pub fn stays(&self) -> bool {
        self.resume && self.useful.load(Relaxed)
    }

    /// Forces what was written to the disk, which may take as long as the writing.
    pub async fn sync(&self) -> Result<()> {
        let (file, partial) = (self.file.clone(), self.partial.clone());
        super::blocking(move || file.sync_data().map_err(|error| fault("writing", &partial, error))).await
    }

    /// Puts the file in its place.
    pub fn finish(self) -> Result<()> {
        let partial = self.partial.clone();
        self.finish_as(&partial)
    }

    /// Puts another file, made from this one, in its place, and removes this one.
    pub fn finish_as(mut self, made: &Path) -> Result<()> {
        // Something may have come there while the image was restored.
        check_path(&self.path, self.overwrite)?;
        fs::rename(made, &self.path).map_err(|error| fault("finishing", &self.path, error))?;
        self.finished = made == self.partial;
        self.resume = false;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.finished && !self.stays() {
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
    fn a_continued_file_keeps_its_content_and_stays_if_there_is_any_good_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume.img");
        drop(Target::resume(&path, 10, 0, false).unwrap());
        assert!(!partial(&path).exists(), "nothing was written");
        let target = Target::resume(&path, 10, 0, false).unwrap();
        target.writer().write_at(b"good", 2).unwrap();
        assert!(target.stays());
        drop(target);
        assert_eq!(fs::read(partial(&path)).unwrap(), b"\0\0good\0\0\0\0");
        assert!(Target::resume(&path, 10, u64::MAX, false).is_err());
        assert!(partial(&path).exists(), "a refusal costs nothing that is there");
        let target = Target::resume(&path, 8, 0, false).unwrap();
        target.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"\0\0good\0\0");
        assert!(!partial(&path).exists());
    }

    #[test]
    fn what_came_to_its_place_meanwhile_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume.img");
        let target = Target::resume(&path, 10, 0, false).unwrap();
        target.writer().write_at(b"good", 2).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(target.finish().unwrap_err().kind(), Kind::Conflict);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert!(partial(&path).exists());
    }

    #[test]
    fn links_and_devices_are_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("volume.img"), folder.path().join("other"));
        fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, partial(&path)).unwrap();
        assert_eq!(Target::create(&path, 10, 0, false).unwrap_err().kind(), Kind::Conflict);
        std::os::unix::fs::symlink(&other, &path).unwrap();
        fs::remove_file(partial(&path)).unwrap();
        Target::create(&path, 10, 0, true).unwrap().finish().unwrap();
        assert_eq!((fs::read(&other).unwrap(), path.is_symlink()), (b"precious".to_vec(), false));
        for place in ["/dev/null", "/tmp"] {
            let error = Target::create(Path::new(place), 10, 0, true).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{place}: {error}");
        }
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
