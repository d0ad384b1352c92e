//! Files inside backups, read straight from the store without a restore: only the blocks that are needed are got.

mod ext4;
mod extract;

use std::{
    collections::HashSet,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use self::ext4::{Disk, Ext4, Inode, ROOT};
pub use self::{
    ext4::{FileKind, Piece},
    extract::{ExtractOptions, Extracted, LeftOut, extract},
};
use super::{
    image::{Fetched, Image, ImageOptions},
    layout::BackupRef,
};
use crate::{
    Error, Kind, Result,
    objectstore::Store,
    terminal::{did_you_mean, escape},
};

/// Most links followed for one path, as in Linux.
const MOST_LINKS: usize = 40;
/// Longest path, as in Linux; links in it may make it longer for a while.
const LONGEST_PATH: usize = 4096;
/// Folders inside of folders that are walked.
const DEEPEST: usize = 256;

/// Opens the file system in a backup and does `work` with it, on a thread that may block. Dropping the future ends the
/// work at its next read.
///
/// # Errors
/// Those of `work`; `not-found` without volume or backup; `invalid`, saying what is there instead, when the volume holds
/// no ext4 file system; `damaged` when a block or the file system is.
pub async fn browse<T, F>(store: &Store, backup: &BackupRef, options: ImageOptions, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Files) -> Result<T> + Send + 'static,
{
    let stop = CancellationToken::new();
    let _stopped_at_the_end = stop.clone().drop_guard();
    let browsed = async {
        let image = Image::open(store, backup, options, stop).await?;
        super::blocking(move || {
            let (size, fetched) = (image.size(), image.counter());
            work(&mut Files { fs: Ext4::open(Box::new(image))?, size, fetched })
        })
        .await
    };
    browsed.await.map_err(|error| match error.kind() {
        Kind::Cancelled => error,
        _ => error.context(format_args!("reading {backup}")),
    })
}

impl Disk for Image {
    fn size(&self) -> u64 {
        self.size()
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.read(offset, out)
    }

    fn ahead(&mut self, ranges: &[Range<u64>]) {
        self.ahead(ranges.iter().cloned());
    }
}

/// The files of one backup.
pub struct Files {
    fs: Ext4,
    size: u64,
    fetched: Arc<Mutex<Fetched>>,
}

/// A file, folder, link or special file.
#[derive(Clone, Debug)]
pub struct Node {
    inode: Inode,
    /// Where a symbolic link points.
    pub target: Option<Vec<u8>>,
}

impl Node {
    /// What sort of file it is.
    pub fn kind(&self) -> FileKind {
        self.inode.kind
    }

    /// Permissions with setuid, setgid and sticky bit.
    pub fn mode(&self) -> u16 {
        self.inode.mode
    }

    /// User and group it belongs to.
    pub fn owner(&self) -> (u32, u32) {
        (self.inode.uid, self.inode.gid)
    }

    /// Bytes of its content.
    pub fn size(&self) -> u64 {
        self.inode.size
    }

    /// When its content was last changed.
    pub fn modified(&self) -> Timestamp {
        self.inode.modified
    }

    /// Names it has in the file system.
    pub fn links(&self) -> u16 {
        self.inode.links
    }
}

/// What a name in a folder stands for.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name: any bytes, not necessarily UTF-8.
    pub name: Vec<u8>,
    /// What it is; an error when that cannot be read, or the name is one that cannot be.
    pub node: Result<Node>,
}

/// A place in the file system, with all links in it followed.
#[derive(Clone, Debug)]
pub struct Place {
    /// The absolute path, without links, `.` and `..`.
    pub path: Vec<u8>,
    /// What is there.
    pub node: Node,
}

impl Files {
    /// Bytes of the image the files are in.
    pub fn image_size(&self) -> u64 {
        self.size
    }

    /// What was got from the store so far.
    pub fn fetched(&self) -> Fetched {
        *self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds a path, from the root of the file system. Links are followed inside of it, the last one too.
    ///
    /// # Errors
    /// `not-found`, with the nearest names, where there is nothing; `invalid` for a path through a file and for links
    /// that go round.
    pub fn find(&mut self, path: &[u8]) -> Result<Place> {
        let mut links = 0;
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut nodes = vec![self.node(ROOT)?];
        let mut rest = components(path)?;
        while let Some(name) = rest.pop() {
            let Some(here) = nodes.last() else { break };
            if name == b".." {
                if nodes.len() > 1 {
                    nodes.pop();
                    names.pop();
                }
                continue;
            }
            let here = here.clone();
            let found = self.child(&here, &joined(&names), &name)?;
            let Some(target) = &found.target else {
                names.push(name);
                nodes.push(found);
                continue;
            };
            links += 1;
            if links > MOST_LINKS || rest.len() > LONGEST_PATH {
                let text = format!("{} leads through links that go round", shown(path));
                return Err(Error::new(Kind::Invalid, text));
            }
            if target.starts_with(b"/") {
                nodes.truncate(1);
                names.clear();
            }
            rest.extend(components(target)?);
        }
        let node = nodes.pop().ok_or_else(|| nothing(path))?;
        Ok(Place { path: joined(&names), node })
    }

    /// What a name in a folder stands for.
    fn child(&mut self, folder: &Node, path: &[u8], name: &[u8]) -> Result<Node> {
        if folder.kind() != FileKind::Folder {
            return Err(Error::new(Kind::Invalid, format!("{} is no folder", shown(path))));
        }
        let names = self.fs.names(&folder.inode)?;
        if let Some(found) = names.iter().find(|entry| entry.name == name) {
            return self.node(found.inode);
        }
        let known: Vec<_> = names.iter().map(|entry| String::from_utf8_lossy(&entry.name)).collect();
        let near = did_you_mean(&String::from_utf8_lossy(name), known.iter().map(AsRef::as_ref));
        let hint = near.unwrap_or_else(|| format!("list what is there: lhrun backups files ls VOLUME:{}", shown(path)));
        Err(nothing(name).context(format_args!("in {}", shown(path))).hint(hint))
    }

    /// What is in a folder, by name.
    pub fn list(&mut self, folder: &Node) -> Result<Vec<Entry>> {
        let mut names = self.fs.names(&folder.inode)?;
        names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut entries: Vec<Entry> = Vec::with_capacity(names.len());
        for entry in names {
            let is_twice = entries.last().is_some_and(|last| last.name == entry.name);
            let node = if is_twice || entry.name.iter().any(|byte| matches!(byte, b'/' | 0)) {
                Err(Error::new(Kind::Damaged, format!("{} cannot be the name of a file", shown(&entry.name))))
            } else {
                self.node(entry.inode)
            };
            // Nothing more is to be read, so the failure is not about this entry alone.
            if let Err(error) = &node
                && !is_local(error)
            {
                return Err(error.clone());
            }
            entries.push(Entry { name: entry.name, node });
        }
        Ok(entries)
    }

    /// Hands the content of a regular file to `sink`, from start to end.
    ///
    /// # Errors
    /// `invalid` for anything else than a regular file, `damaged` when a block of it is.
    pub fn read(&mut self, file: &Node, mut sink: impl FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        if file.kind() != FileKind::File {
            return Err(Error::new(Kind::Invalid, format!("it is {}, not a regular file", kind_name(file.kind()))));
        }
        self.fs.read(&file.inode, &mut sink)
    }

    /// Visits all that is below a folder, each folder before its content, with the path from there. What cannot be read
    /// is visited as an error.
    pub fn walk(&mut self, folder: &Node, mut visit: impl FnMut(&[u8], Result<&Node>) -> Result<()>) -> Result<()> {
        let mut trail = Trail::default();
        self.walk_in(folder, &[], &mut trail, &mut visit)
    }

    fn walk_in(
        &mut self,
        folder: &Node,
        path: &[u8],
        trail: &mut Trail,
        visit: &mut impl FnMut(&[u8], Result<&Node>) -> Result<()>,
    ) -> Result<()> {
        let entered = trail.enter(folder, path).and_then(|()| self.list(folder));
        let entries = match entered {
            Ok(entries) => entries,
            Err(error) if is_local(&error) => return visit(path, Err(error)),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = below(path, &entry.name);
            match entry.node {
                Err(error) => visit(&path, Err(error))?,
                Ok(node) => {
                    visit(&path, Ok(&node))?;
                    if node.kind() == FileKind::Folder {
                        self.walk_in(&node, &path, trail, visit)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, number: u32) -> Result<Node> {
        let inode = self.fs.inode(number)?;
        let target = if inode.kind == FileKind::Link { Some(self.fs.target(&inode)?) } else { None };
        Ok(Node { inode, target })
    }
}

/// The folders a walk has been in: each has one place, or the walk might not end.
#[derive(Default)]
struct Trail(HashSet<u32>);

impl Trail {
    /// Goes into a folder; `path` is where it is below the one where the walk began.
    fn enter(&mut self, folder: &Node, path: &[u8]) -> Result<()> {
        if !self.0.insert(folder.inode.number) {
            return Err(Error::new(Kind::Damaged, "the folder is in more than one place"));
        }
        if path.split(|byte| *byte == b'/').count() > DEEPEST {
            let text = format!("there are more than {DEEPEST} folders inside of each other");
            return Err(Error::new(Kind::Invalid, text).hint("name a folder further down"));
        }
        Ok(())
    }
}

/// Whether a failure is about one file, so that others may still be read.
fn is_local(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::Invalid | Kind::NotFound)
}

/// The names of a path from its last to its first, without `.`.
fn components(path: &[u8]) -> Result<Vec<Vec<u8>>> {
    if path.len() > LONGEST_PATH {
        return Err(Error::new(Kind::Invalid, format!("a path has more than {LONGEST_PATH} bytes")));
    }
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    Ok(names.rev().map(<[u8]>::to_vec).collect())
}

fn joined(names: &[Vec<u8>]) -> Vec<u8> {
    let mut path = vec![b'/'];
    path.extend(names.join(&b'/'));
    path
}

fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// A name or path for people.
pub fn shown(path: &[u8]) -> String {
    escape(&String::from_utf8_lossy(path)).into_owned()
}

/// A kind of file with its article.
pub fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "a file",
        FileKind::Folder => "a folder",
        FileKind::Link => "a link",
        FileKind::Pipe => "a pipe",
        FileKind::CharacterDevice | FileKind::BlockDevice => "a device",
        FileKind::Socket => "a socket",
    }
}

fn nothing(path: &[u8]) -> Error {
    Error::new(Kind::NotFound, format!("there is no {}", shown(path)))
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
