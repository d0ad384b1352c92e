//! S3 without Longhorn, and a local folder with the same interface.
//!
//! A [`Store`] is one bucket and prefix, or one folder. Keys are relative to that prefix, separated by `/`, and never
//! start with `/`. Every error names the key ([`Error::object_name`]) and the store, never a secret.

mod config;
mod fault;
mod folder;
mod protection;
mod s3;

use std::{ops::Range, path::Path};

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use jiff::Timestamp;

pub use config::StoreConfig;
pub use protection::{DefaultRetention, LockMode, ObjectLock, Protection, Versioning};

use crate::{Error, Kind, Result};

/// The largest object [`Store::get`] reads into memory: far above the largest backup configuration (55 MB per TiB).
pub const WHOLE_OBJECT_LIMIT: u64 = 1 << 30;

/// What a listing or a HEAD says about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Key relative to the store's prefix.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// When it was last written, by the server's clock.
    pub last_modified: Timestamp,
    /// The server's version tag without quotes. Not a checksum: multipart uploads have another form, folders none.
    pub etag: Option<String>,
}

/// How far a listing goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every object whose key starts with the prefix.
    All,
    /// As with the delimiter `/`: objects up to the next `/`, and what lies below as common prefixes.
    Level,
}

/// One page of a listing: at most a thousand entries.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Objects in the order of their keys.
    pub objects: Vec<ObjectMeta>,
    /// With [`Depth::Level`], the "folders", each ending in `/`.
    pub prefixes: Vec<String>,
}

/// One version of an object in a bucket that keeps versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    /// Key relative to the store's prefix.
    pub key: String,
    /// The server's name for it.
    pub version: String,
    /// Bytes; `None` for a mark that the object was deleted.
    pub size: Option<u64>,
    /// Whether it is what readers get, also when that is nothing.
    pub is_current: bool,
}

/// A bucket and prefix, or a folder. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    S3(s3::Bucket),
    Folder(folder::Folder),
}

impl Store {
    /// A client for the bucket. Nothing is sent yet: a wrong endpoint or key shows with the first request.
    ///
    /// # Errors
    /// `usage` when the bucket's name is missing or the CA is no PEM certificate, `denied` when there are no keys.
    pub fn connect(config: &StoreConfig) -> Result<Self> {
        Ok(Self { backend: Backend::S3(s3::Bucket::connect(config)?) })
    }

    /// The folder as a store; it must exist. Symbolic links that lead out of it are not followed.
    pub fn folder(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { backend: Backend::Folder(folder::Folder::open(path.as_ref())?) })
    }

    /// Where it is, for people: `s3://bucket@region/prefix/` or `file:///folder/`.
    pub fn describe(&self) -> String {
        match &self.backend {
            Backend::S3(bucket) => bucket.describe(),
            Backend::Folder(folder) => folder.describe(),
        }
    }

    /// Whether both are the same bucket and prefix of the same address, or the same folder. A server that is reached under
    /// two names is not known to be one.
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (&self.backend, &other.backend) {
            (Backend::S3(one), Backend::S3(other)) => one.place() == other.place(),
            (Backend::Folder(one), Backend::Folder(other)) => one.describe() == other.describe(),
            _ => false,
        }
    }

    /// Everything below the prefix, in key order. Memory grows with the number of objects; see [`Store::list_pages`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        let mut pages = self.list_pages(prefix, Depth::All);
        let mut objects = Vec::new();
        while let Some(page) = pages.try_next().await? {
            objects.extend(page.objects);
        }
        Ok(objects)
    }

    /// One level below the prefix: the keys of its objects, and its common prefixes (each ending in `/`).
    pub async fn list_names(&self, prefix: &str) -> Result<(Vec<String>, Vec<String>)> {
        let mut pages = self.list_pages(prefix, Depth::Level);
        let (mut keys, mut prefixes) = (Vec::new(), Vec::new());
        while let Some(page) = pages.try_next().await? {
            keys.extend(page.objects.into_iter().map(|object| object.key));
            prefixes.extend(page.prefixes);
        }
        Ok((keys, prefixes))
    }

    /// The listing page by page, so that memory does not grow with the bucket. Ends after the first error.
    pub fn list_pages(&self, prefix: &str, depth: Depth) -> BoxStream<'static, Result<Page>> {
        match &self.backend {
            Backend::S3(bucket) => bucket.list_pages(prefix, depth),
            Backend::Folder(folder) => folder.list_pages(prefix, depth),
        }
    }

    /// Whether it keeps former versions of its objects.
    ///
    /// # Errors
    /// `invalid` when the server does not know versions at all, `denied` when these keys may not ask.
    pub async fn versioning(&self) -> Result<Versioning> {
        match &self.backend {
            Backend::S3(bucket) => bucket.versioning().await,
            Backend::Folder(_) => Ok(Versioning::Never),
        }
    }

    /// Its object lock; nothing when that is off, as in a folder.
    ///
    /// # Errors
    /// As [`Store::versioning`].
    pub async fn object_lock(&self) -> Result<Option<ObjectLock>> {
        match &self.backend {
            Backend::S3(bucket) => bucket.object_lock().await,
            Backend::Folder(_) => Ok(None),
        }
    }

    /// What keeps the current version of an object from being destroyed; nothing when there is no such object. Asked only
    /// of a store with [`object_lock`](Self::object_lock).
    ///
    /// # Errors
    /// `denied` when these keys may not ask: that is told from an object without a lock.
    pub async fn protection(&self, key: &str) -> Result<Option<Protection>> {
        check_key(key)?;
        match &self.backend {
            Backend::S3(bucket) => Box::pin(bucket.protection(key)).await,
            Backend::Folder(folder) => Ok(folder.head(key).await?.map(|_| Protection::default())),
        }
    }

    /// All versions of everything below the prefix, page by page; of a folder, none.
    ///
    /// # Errors
    /// As [`Store::versioning`].
    pub fn list_versions(&self, prefix: &str) -> BoxStream<'static, Result<Vec<ObjectVersion>>> {
        match &self.backend {
            Backend::S3(bucket) => bucket.list_versions(prefix),
            Backend::Folder(_) => stream::empty().boxed(),
        }
    }

    /// One version of an object, as [`get_limited`](Self::get_limited).
    pub async fn get_version(&self, key: &str, version: &str, max_bytes: u64) -> Result<Bytes> {
        check_key(key)?;
        let mut buffer = Vec::new();
        match &self.backend {
            Backend::S3(bucket) => bucket.get(key, Some(version), None, max_bytes, &mut buffer).await?,
            Backend::Folder(_) => {
                let text = format!("{key} in {}: a folder keeps no versions", self.describe());
                return Err(Error::new(Kind::NotFound, text).object(key));
            }
        }
        Ok(buffer.into())
    }

    /// The time by the clock that [`ObjectMeta::last_modified`] is of.
    pub async fn now(&self) -> Result<Timestamp> {
        match &self.backend {
            Backend::S3(bucket) => bucket.now().await,
            Backend::Folder(_) => Ok(Timestamp::now()),
        }
    }

    /// Size, age and tag of an object; `None` when it is not there.
    pub async fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        check_key(key)?;
        match &self.backend {
            Backend::S3(bucket) => bucket.head(key).await,
            Backend::Folder(folder) => folder.head(key).await,
        }
    }

    /// The whole object, up to [`WHOLE_OBJECT_LIMIT`].
    ///
    /// # Errors
    /// `not-found` when it is absent.
    pub async fn get(&self, key: &str) -> Result<Bytes> {
        self.get_limited(key, WHOLE_OBJECT_LIMIT).await
    }

    /// The whole object if it has at most `max_bytes`. A larger one is `invalid`; no more than that is ever read,
    /// whatever length the server announces.
    pub async fn get_limited(&self, key: &str, max_bytes: u64) -> Result<Bytes> {
        let mut buffer = Vec::new();
        self.get_into(key, max_bytes, &mut buffer).await?;
        Ok(buffer.into())
    }

    /// [`get_limited`](Self::get_limited) into a buffer, in place of what it held, so that many objects can be read in
    /// the same memory. It grows by what the object needs, not in advance.
    pub async fn get_into(&self, key: &str, max_bytes: u64, buffer: &mut Vec<u8>) -> Result<()> {
        check_key(key)?;
        match &self.backend {
            Backend::S3(bucket) => bucket.get(key, None, None, max_bytes, buffer).await,
            Backend::Folder(folder) => folder.get(key, None, max_bytes, buffer).await,
        }
    }

    /// The bytes of that range, fewer where the object ends before it. A start beyond the end is `invalid`.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        check_key(key)?;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let length = range.end - range.start;
        let mut buffer = Vec::new();
        match &self.backend {
            Backend::S3(bucket) => bucket.get(key, None, Some(range), length, &mut buffer).await,
            Backend::Folder(folder) => folder.get(key, Some(range), length, &mut buffer).await,
        }?;
        Ok(buffer.into())
    }

    /// Writes the object as one request; it is there whole or not at all.
    pub async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        check_key(key)?;
        match &self.backend {
            Backend::S3(bucket) => bucket.put(key, body).await,
            Backend::Folder(folder) => folder.put(key, body).await,
        }
    }

    /// Copies within the store, on the server's side (S3 allows up to 5 GiB).
    pub async fn copy(&self, from: &str, to: &str) -> Result<()> {
        check_key(from)?;
        check_key(to)?;
        match &self.backend {
            Backend::S3(bucket) => bucket.copy(from, to).await,
            Backend::Folder(folder) => folder.copy(from, to).await,
        }
    }

    /// Removes the object; it is no error when it is absent already.
    pub async fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        match &self.backend {
            Backend::S3(bucket) => bucket.delete(key).await,
            Backend::Folder(folder) => folder.delete(key).await,
        }
    }
}

fn check_key(key: &str) -> Result<()> {
    // S3 itself allows a leading slash, but such a key can only come from a join gone wrong.
    if key.is_empty() || key.starts_with('/') || key.contains('\0') {
        return Err(Error::new(Kind::Usage, format!("'{}' cannot be an object key", key.escape_default())).object(key));
    }
    Ok(())
}

fn too_large(key: &str, place: &str, max_bytes: u64) -> Error {
    Error::new(Kind::Invalid, format!("{key} in {place} is larger than the {max_bytes} bytes expected")).object(key)
}

#[cfg(test)]
mod tests;
