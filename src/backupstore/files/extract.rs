//! Extracting files and trees into a local folder, which nothing in the backup can make it leave.
//!
//! Folders are held open and everything is created relative to them, without following a link: neither a name nor a
//! link that was extracted before, nor one that somebody puts there meanwhile, leads elsewhere.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, renameat},
    sys::{
        stat::{Mode, fchmod, fstatat, futimens, mkdirat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat},
};
use serde::Serialize;

use super::{FileKind, Files, Node, Piece, Trail, below, is_local, kind_name, shown};
use crate::{Error, Kind, Result, backupstore::layout};

/// How to extract.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExtractOptions {
    /// Whether folders are extracted with all that is below them.
    pub recursive: bool,
    /// Whether existing files may be replaced. Folders are merged with existing ones in any case.
    pub overwrite: bool,
    /// Whether owners are kept, and with them setuid, setgid and sticky bits; only root can do that.
    pub owner: bool,
}

/// What was extracted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Extracted {
    /// Files written.
    pub files: u64,
    /// Folders made, or found and filled.
    pub folders: u64,
    /// Links made.
    pub links: u64,
    /// Bytes of the files, holes included.
    pub bytes: u64,
    /// Devices, pipes and sockets, which have no content to lose.
    pub special: Vec<LeftOut>,
    /// What else was left out.
    pub failed: Vec<LeftOut>,
}

/// Something that was not extracted.
#[derive(Clone, Debug, Serialize)]
pub struct LeftOut {
    /// Where it is in the tree, for people.
    pub path: String,
    /// What it is, or what is wrong with it.
    pub reason: String,
    /// It was not to be written over.
    #[serde(skip)]
    pub exists: bool,
}

/// Extracts a file, or with `recursive` a tree, to a path that does not exist yet or, for a tree, is a folder.
///
/// A file appears whole or not at all. In a tree, what cannot be extracted is left out and told. Links are made only
/// when they point inside the tree.
///
/// # Errors
/// `conflict` when a file exists, `usage` for a folder without `recursive`, `invalid` for a special file, `damaged`
/// when the file is; of a tree, what concerns all of it, such as a full disk.
pub fn extract(files: &mut Files, from: &Node, to: &Path, options: ExtractOptions) -> Result<Extracted> {
    let name = to.file_name().ok_or_else(|| {
        Error::new(Kind::Usage, format!("{} names no place to extract to", to.display())).hint("name a file or folder")
    })?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent: OwnedFd =
        File::open(parent).map_err(|error| fault("opening", &parent.to_string_lossy(), error))?.into();
    let mut work = Work { files, options, trail: Trail::default(), done: Extracted::default() };
    let shown_name = to.to_string_lossy();
    match from.kind() {
        FileKind::Folder if !options.recursive => {
            Err(Error::new(Kind::Usage, "it is a folder").hint("extract it with all that is below it with --recursive"))
        }
        FileKind::Folder => {
            let (folder, is_new) = match fs::metadata(to) {
                // The operator's own path may well be a link to a folder.
                Ok(found) if found.is_dir() => {
                    (File::open(to).map_err(|error| fault("opening", &shown_name, error))?.into(), false)
                }
                _ => make_folder(&parent, name.as_bytes(), &shown_name)?,
            };
            work.folder(from, &folder, is_new, &[])?;
            Ok(work.done)
        }
        FileKind::File => {
            work.file(from, &parent, name.as_bytes(), &shown_name)?;
            Ok(work.done)
        }
        kind => Err(Error::new(Kind::Invalid, format!("it is {}, which has no content", kind_name(kind)))),
    }
}

struct Work<'a> {
    files: &'a mut Files,
    options: ExtractOptions,
    trail: Trail,
    done: Extracted,
}

impl Work<'_> {
    /// Fills a folder. `path` is where it is in the tree.
    fn folder(&mut self, from: &Node, to: &OwnedFd, is_new: bool, path: &[u8]) -> Result<()> {
        self.trail.enter(from, path)?;
        for entry in self.files.list(from)? {
            let path = below(path, &entry.name);
            let done = entry.node.and_then(|node| self.entry(&node, to, &entry.name, &path));
            match done {
                Err(error) if is_local(&error) || error.kind() == Kind::Conflict => {
                    // What is there and is no folder has no hint, as allowing to write over it does not help.
                    let exists = error.kind() == Kind::Conflict && error.hint_text().is_some();
                    self.done.failed.push(LeftOut { path: shown(&path), reason: error.to_string(), exists });
                }
                done => done?,
            }
        }
        self.done.folders += 1;
        // At the end, because making files changes the time, and the mode may forbid it.
        if is_new { self.finish(from, to, &shown(path)) } else { Ok(()) }
    }

    fn entry(&mut self, node: &Node, to: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
        match node.kind() {
            FileKind::Folder => {
                let (folder, is_new) = make_folder(to, name, &shown(path))?;
                self.folder(node, &folder, is_new, path)
            }
            FileKind::File => self.file(node, to, name, &shown(path)),
            FileKind::Link => self.link(node, to, name, path),
            kind => {
                let reason = kind_name(kind).to_owned();
                self.done.special.push(LeftOut { path: shown(path), reason, exists: false });
                Ok(())
            }
        }
    }

    fn file(&mut self, node: &Node, to: &OwnedFd, name: &[u8], path: &str) -> Result<()> {
        self.refuse_existing(to, name, path)?;
        let failed = |error: io::Error| fault("writing", path, error);
        let partial = Partial::create(to, path)?;
        let mut at = 0;
        self.files.read(node, |piece| {
            match piece {
                Piece::Hole(length) => at += length,
                Piece::Data(data) => {
                    partial.file.write_all_at(data, at).map_err(failed)?;
                    at += data.len() as u64;
                }
            }
            Ok(())
        })?;
        partial.file.set_len(at).map_err(failed)?;
        self.finish(node, &partial.file, path)?;
        partial.rename(name, path)?;
        self.done.files += 1;
        self.done.bytes += at;
        Ok(())
    }

    fn link(&mut self, node: &Node, to: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
        let target = node.target.as_deref().unwrap_or_default();
        if !points_inside(target, path) {
            let text = format!("it is a link that points out of the tree, to {}", shown(target));
            return Err(Error::new(Kind::Invalid, text));
        }
        let path = &shown(path);
        self.refuse_existing(to, name, path)?;
        let failed = |error: Errno| fault("linking", path, error.into());
        let partial = partial_name()?;
        symlinkat(OsStr::from_bytes(target), to, partial.as_str()).map_err(failed)?;
        let made = self.owner(node).map_or(Ok(()), |(uid, gid)| {
            fchownat(to, partial.as_str(), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        });
        let made = made.and_then(|()| renameat(to, partial.as_str(), to, OsStr::from_bytes(name)));
        if made.is_err() {
            let _ = unlinkat(to, partial.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        made.map_err(failed)?;
        self.done.links += 1;
        Ok(())
    }

    fn refuse_existing(&self, folder: &OwnedFd, name: &[u8], path: &str) -> Result<()> {
        let found = fstatat(folder, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW);
        if self.options.overwrite || found.is_err() {
            return Ok(());
        }
        Err(Error::new(Kind::Conflict, format!("{path} exists already"))
            .object(path)
            .hint("extract to another place, or allow writing over it with --force"))
    }

    /// Owner, mode and time, in this order: a change of owner takes setuid away.
    fn finish(&self, node: &Node, made: &impl AsFd, path: &str) -> Result<()> {
        let failed = |error: Errno| fault("setting owner, mode and time of", path, error.into());
        let mut permissions = node.mode() & 0o777;
        if let Some((uid, gid)) = self.owner(node) {
            fchown(made, Some(uid), Some(gid)).map_err(failed)?;
            permissions = node.mode();
        }
        fchmod(made, Mode::from_bits_truncate(permissions.into())).map_err(failed)?;
        let time = node.modified();
        let time = TimeSpec::new(time.as_second(), time.subsec_nanosecond().max(0).into());
        futimens(made, &time, &time).map_err(failed)
    }

    fn owner(&self, node: &Node) -> Option<(Uid, Gid)> {
        let (uid, gid) = node.owner();
        self.options.owner.then(|| (Uid::from_raw(uid), Gid::from_raw(gid)))
    }
}

/// A file that is being written, beside its place. Dropped before it is renamed, it is removed.
struct Partial<'a> {
    folder: &'a OwnedFd,
    name: String,
    file: File,
    finished: bool,
}

impl<'a> Partial<'a> {
    fn create(folder: &'a OwnedFd, path: &str) -> Result<Self> {
        let name = partial_name()?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(folder, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|error| fault("writing", path, error.into()))?;
        Ok(Self { folder, name, file: file.into(), finished: false })
    }

    fn rename(mut self, name: &[u8], path: &str) -> Result<()> {
        renameat(self.folder, self.name.as_str(), self.folder, OsStr::from_bytes(name))
            .map_err(|error| fault("finishing", path, error.into()))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        if !self.finished {
            let _ = unlinkat(self.folder, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

fn partial_name() -> Result<String> {
    Ok(layout::random_name(".lhrun")? + ".partial")
}

/// Makes a folder and opens it, and tells whether it is new; one that is there already is used, a link to one is not.
fn make_folder(parent: &OwnedFd, name: &[u8], path: &str) -> Result<(OwnedFd, bool)> {
    let name = OsStr::from_bytes(name);
    let is_new = match mkdirat(parent, name, Mode::S_IRWXU) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(error) => return Err(fault("making", path, error.into())),
    };
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ENOTDIR | Errno::ELOOP) => {
            Err(Error::new(Kind::Conflict, format!("{path} exists already, and is no folder")).object(path))
        }
        opened => Ok((opened.map_err(|error| fault("opening", path, error.into()))?, is_new)),
    }
}

/// Whether a link at that path of the tree stays in it, wherever other such links lead: it goes up no further than to
/// the tree's root, and not up again once it went down, where it may be in a folder it did not name.
fn points_inside(target: &[u8], path: &[u8]) -> bool {
    let depth = path.split(|byte| *byte == b'/').skip(1).count();
    let mut steps = target.split(|byte| *byte == b'/').filter(|step| !step.is_empty() && *step != b".").peekable();
    let mut up = 0;
    while steps.next_if(|step| *step == b"..").is_some() {
        up += 1;
    }
    !target.starts_with(b"/") && up <= depth && steps.all(|step| step != b"..")
}

/// A failure of the local disk concerns all files.
fn fault(doing: &str, path: &str, error: io::Error) -> Error {
    let kind = if error.kind() == ErrorKind::PermissionDenied { Kind::Denied } else { Kind::Failed };
    Error::new(kind, format!("{doing} {path}")).object(path).source(error)
}

#[cfg(test)]
mod tests;
