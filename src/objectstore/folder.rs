//! A local folder as a store: keys are relative paths.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use jiff::Timestamp;

use super::{Depth, ObjectMeta, Page, too_large};
use crate::{Error, Kind, Result};

/// As in S3, a page has at most a thousand entries.
const PAGE: usize = 1000;
/// Marks a file that is being written; Longhorn's NFS driver names its own `<name>.tmp.<time>` too.
const TEMPORARY: &str = ".tmp.";

/// A folder. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    root: Arc<Path>,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let root = fs::canonicalize(path).map_err(|error| {
            let is_missing = error.kind() == ErrorKind::NotFound;
            let error = fault("opening the store", &path.to_string_lossy(), error);
            if is_missing { error.hint("is the disk mounted? a folder that is not there is not made") } else { error }
        })?;
        if !root.is_dir() {
            let text = format!("the store {} is no folder", path.display());
            return Err(Error::new(Kind::Usage, text).object(path.to_string_lossy()));
        }
        Ok(Self { root: root.into() })
    }

    pub(super) fn describe(&self) -> String {
        format!("file://{}/", self.root.display())
    }

    /// The key's path, if it has one inside the folder.
    fn path(&self, key: &str) -> Result<PathBuf> {
        if key.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            let text = format!("the key '{key}' has no place in {}", self.describe());
            return Err(Error::new(Kind::Invalid, text).object(key));
        }
        Ok(self.root.join(key))
    }

    /// The path of an existing object. Links may not lead out of the folder: its content is not trusted.
    fn existing(&self, key: &str) -> Result<PathBuf> {
        let path = self.path(key)?;
        let real = fs::canonicalize(&path).map_err(|error| fault("reading", key, error))?;
        if !real.starts_with(&self.root) || !real.is_file() || is_temporary(&path) {
            return Err(fault("reading", key, ErrorKind::NotFound.into()));
        }
        Ok(real)
    }

    /// The path to write to, with the folders above it made.
    fn writable(&self, key: &str) -> Result<PathBuf> {
        let path = self.path(key)?;
        let above = path.parent().unwrap_or(&self.root);
        let nearest = above.ancestors().find(|folder| folder.exists()).unwrap_or(&self.root);
        let real = fs::canonicalize(nearest).map_err(|error| fault("writing", key, error))?;
        if !real.starts_with(&self.root) {
            let text = format!("writing {key}: a link leads out of {}", self.describe());
            return Err(Error::new(Kind::Invalid, text).object(key));
        }
        fs::create_dir_all(above).map_err(|error| fault("writing", key, error))?;
        Ok(path)
    }

    pub(super) async fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        let (folder, key) = (self.clone(), key.to_owned());
        blocking(move || match folder.existing(&key) {
            Ok(path) => meta(key, &path).map(Some),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// The object or a part of it, at most `max_bytes` long, in place of what the buffer held.
    pub(super) async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        max_bytes: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let (folder, key, mut bytes) = (self.clone(), key.to_owned(), std::mem::take(buffer));
        *buffer = blocking(move || {
            let broken = |error| fault("reading", &key, error);
            let mut file = File::open(folder.existing(&key)?).map_err(broken)?;
            let size = file.metadata().map_err(broken)?.len();
            let wanted = match range {
                None => 0..size,
                Some(range) if range.start >= size => {
                    let text = format!("reading {key}: byte {} lies beyond its {size} bytes", range.start);
                    return Err(Error::new(Kind::Invalid, text).object(&key));
                }
                Some(range) => range.start..range.end.min(size),
            };
            let length = wanted.end - wanted.start;
            if length > max_bytes {
                return Err(too_large(&key, &folder.describe(), max_bytes));
            }
            file.seek(SeekFrom::Start(wanted.start)).map_err(broken)?;
            bytes.clear();
            bytes.reserve_exact(usize::try_from(length).unwrap_or_default());
            file.take(length).read_to_end(&mut bytes).map_err(broken)?;
            Ok(bytes)
        })
        .await?;
        Ok(())
    }

    pub(super) async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        let (folder, key) = (self.clone(), key.to_owned());
        blocking(move || {
            let path = folder.writable(&key)?;
            replace(&key, &path, |file| file.write_all(&body))
        })
        .await
    }

    pub(super) async fn copy(&self, from: &str, to: &str) -> Result<()> {
        let (folder, from, to) = (self.clone(), from.to_owned(), to.to_owned());
        blocking(move || {
            let mut source = File::open(folder.existing(&from)?).map_err(|error| fault("reading", &from, error))?;
            let path = folder.writable(&to)?;
            replace(&to, &path, |file| std::io::copy(&mut source, file).map(|_| ()))
        })
        .await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<()> {
        let (folder, key) = (self.clone(), key.to_owned());
        blocking(move || {
            let path = match folder.existing(&key) {
                Ok(_) => folder.path(&key)?,
                Err(error) if error.kind() == Kind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            fs::remove_file(&path).map_err(|error| fault("deleting", &key, error))?;
            // S3 has no empty folders. The first one that still holds something ends this.
            for above in path.ancestors().skip(1).take_while(|above| **above != *folder.root) {
                if fs::remove_dir(above).is_err() {
                    break;
                }
            }
            Ok(())
        })
        .await
    }

    pub(super) fn list_pages(&self, prefix: &str, depth: Depth) -> BoxStream<'static, Result<Page>> {
        let walk = Walk { folder: self.clone(), prefix: prefix.to_owned(), depth, open: None };
        stream::try_unfold(walk, |mut walk| {
            blocking(move || {
                let page = walk.page()?;
                Ok((!page.objects.is_empty() || !page.prefixes.is_empty()).then_some((page, walk)))
            })
        })
        .boxed()
    }
}

/// A listing under way: the folders being read, each with the rest of its entries in reverse key order.
struct Walk {
    folder: Folder,
    prefix: String,
    depth: Depth,
    open: Option<Vec<Vec<String>>>,
}

impl Walk {
    /// The next page; an empty one is the end.
    fn page(&mut self) -> Result<Page> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => vec![self.entries(self.prefix.rfind('/').map_or("", |slash| &self.prefix[..=slash]))?],
        };
        let mut page = Page::default();
        while let Some(entries) = open.last_mut() {
            if page.objects.len() + page.prefixes.len() == PAGE {
                break;
            }
            let Some(key) = entries.pop() else {
                open.pop();
                continue;
            };
            if !key.ends_with('/') {
                match meta(key.clone(), &self.folder.root.join(&key)) {
                    // Deleted since its folder was read.
                    Err(error) if error.kind() == Kind::NotFound => {}
                    found => page.objects.push(found?),
                }
            } else if self.depth == Depth::Level {
                page.prefixes.push(key);
            } else {
                let entries = self.entries(&key)?;
                open.push(entries);
            }
        }
        self.open = Some(open);
        Ok(page)
    }

    /// What the folder of that key prefix (empty, or ending in `/`) holds below the wanted prefix, last key first.
    /// Folders end in `/`, so that sorting gives the order of the keys below them.
    fn entries(&self, above: &str) -> Result<Vec<String>> {
        let broken = |error| fault("listing", above, error);
        if !above.is_empty() {
            self.folder.path(above.trim_end_matches('/'))?;
        }
        let folder = match fs::canonicalize(self.folder.root.join(above)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            folder => folder.map_err(broken)?,
        };
        if !folder.starts_with(&self.folder.root) || !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut keys = Vec::new();
        for entry in fs::read_dir(folder).map_err(broken)? {
            let entry = entry.map_err(broken)?;
            // A name that is no UTF-8 cannot be a key.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type().map_err(broken)?;
            let key = match () {
                () if kind.is_dir() => format!("{above}{name}/"),
                () if kind.is_file() && !is_temporary(Path::new(&name)) => format!("{above}{name}"),
                () => continue,
            };
            if key.starts_with(&self.prefix) {
                keys.push(key);
            }
        }
        keys.sort_unstable_by(|a, b| b.cmp(a));
        Ok(keys)
    }
}

fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(TEMPORARY))
}

fn meta(key: String, path: &Path) -> Result<ObjectMeta> {
    let found = fs::metadata(path).and_then(|meta| Ok((meta.len(), meta.modified()?)));
    let (size, modified) = found.map_err(|error| fault("looking at", &key, error))?;
    let last_modified = Timestamp::try_from(modified)
        .map_err(|error| Error::new(Kind::Invalid, format!("the time of {key}")).object(&key).source(error))?;
    Ok(ObjectMeta { key, size, last_modified, etag: None })
}

/// Writes beside the path and renames, so that nobody sees half an object.
fn replace(key: &str, path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let broken = |error| fault("writing", key, error);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A long name with our mark behind it would pass the file system's limit of 255 bytes.
    let stem: String = name.chars().take(40).collect();
    let mut temporary = tempfile::Builder::new()
        .prefix(&format!("{stem}{TEMPORARY}"))
        .tempfile_in(path.parent().unwrap_or(Path::new(".")))
        .map_err(broken)?;
    write(temporary.as_file_mut()).map_err(broken)?;
    temporary.as_file().sync_all().map_err(broken)?;
    temporary.persist(path).map_err(|error| broken(error.error))?;
    Ok(())
}

fn fault(doing: &str, key: &str, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        // A key below an object: S3 knows no such thing, so nothing is there.
        ErrorKind::NotFound | ErrorKind::NotADirectory => Kind::NotFound,
        ErrorKind::PermissionDenied => Kind::Denied,
        ErrorKind::IsADirectory | ErrorKind::InvalidFilename => Kind::Invalid,
        _ => Kind::Failed,
    };
    Error::new(kind, format!("{doing} {key}")).object(key).source(error)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::new(Kind::Failed, "a file operation was given up").source(error)))
}
