//! Buckets and objects as folders and files.
//!
//! ```text
//! ROOT/<bucket>/<key>               objects whose key is a path
//! ROOT/.odd/<bucket>/<encoded>      other objects, see `key`
//! ROOT/.meta/<bucket>/<encoded>     what S3 keeps beside an object's bytes, as JSON
//! ROOT/.versions/<bucket>/<encoded>/  what the object was before, see `versions`
//! ROOT/.settings/<bucket>           versioning and object lock of the bucket, as JSON
//! ROOT/.uploads/<bucket>/<id>/      multipart uploads under way
//! ROOT/.tmp/                        files being written
//! ```
//!
//! Bucket names never start with a dot. A file put into a bucket's folder by hand is an object: its metadata is made
//! when it is first asked for, and made again whenever its size or time no longer match. It stays the version it was.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use s3s::{
    S3Error, S3Result,
    crypto::{Checksum, Md5},
    dto::ETagCondition,
    s3_error,
};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::{
    key,
    protection::{Protection, Settings},
};
use crate::{Error, Kind, Result};

/// The folder everything lies in.
#[derive(Debug)]
pub(super) struct Objects {
    root: PathBuf,
    /// Held while files take or leave their place, so that an object and its metadata change together.
    places: Mutex<()>,
    /// Locked as long as this process serves the folder.
    _claim: File,
}

/// What a client said about an object's content, given back with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Described {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub user: BTreeMap<String, String>,
}

/// Everything but the bytes of an object.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Meta {
    /// Without quotes: the MD5 of the bytes, or of the parts' MD5s with `-<parts>` behind it.
    pub etag: String,
    pub size: u64,
    /// Since 1970; with the size it tells whether the file is still the one described.
    modified: Duration,
    /// Nothing: the version `null`, of which an object has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A mark of deletion, which has no bytes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_deletion: bool,
    #[serde(flatten)]
    pub protection: Protection,
    #[serde(flatten)]
    pub described: Described,
}

/// What an object that has arrived is to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// As [`Meta::etag`].
    pub etag: String,
    pub described: Described,
    /// As the writer wishes it.
    pub protection: Protection,
}

impl Meta {
    /// By which a file is known again.
    fn stamp(&self) -> (u64, Duration) {
        (self.size, self.modified)
    }

    /// A mark of deletion made now.
    pub(super) fn deletion(version: Option<String>) -> Self {
        let modified = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { modified, version, is_deletion: true, ..Self::default() }
    }

    pub(super) fn modified(&self) -> SystemTime {
        UNIX_EPOCH + self.modified
    }
}

/// The conditions of a write.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
}

impl Objects {
    /// Takes the folder, which is made when missing. What was half written when the last server ended is removed.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let object = root.to_string_lossy().into_owned();
        let failed = |error: io::Error| {
            Error::new(Kind::Failed, format!("cannot use {object} as the S3 folder")).object(&object).source(error)
        };
        for folder in [".meta", ".odd", ".settings", ".uploads", ".versions"] {
            fs::create_dir_all(root.join(folder)).map_err(failed)?;
        }
        let root = root.canonicalize().map_err(failed)?;
        let claim = File::create(root.join(".lock")).map_err(failed)?;
        claim.try_lock().map_err(|_| {
            Error::new(Kind::Refused, format!("the S3 folder {object} is in use by another server"))
                .hint("stop that one, or use another folder")
                .object(&object)
        })?;
        let temporary = root.join(".tmp");
        fs::remove_dir_all(&temporary).or_else(ignore_absent).map_err(failed)?;
        fs::create_dir(&temporary).map_err(failed)?;
        Ok(Self { root, places: Mutex::new(()), _claim: claim })
    }

    pub(super) fn places(&self) -> MutexGuard<'_, ()> {
        // Nothing in between is half done in memory: the files are the truth.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of a bucket that exists.
    pub(super) fn bucket(&self, bucket: &str) -> S3Result<PathBuf> {
        let path = self.root.join(bucket);
        if path.is_dir() { Ok(path) } else { Err(s3_error!(NoSuchBucket, "the bucket {bucket} does not exist")) }
    }

    /// The bucket's folder in `.odd`, `.meta`, `.uploads` or `.versions`.
    pub(super) fn aside(&self, kind: &str, bucket: &str) -> PathBuf {
        self.root.join(kind).join(bucket)
    }

    /// All buckets with the time of their making.
    pub(super) fn buckets(&self) -> S3Result<Vec<(String, SystemTime)>> {
        let mut buckets = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(broken)? {
            let entry = entry.map_err(broken)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !name.starts_with('.') && entry.file_type().map_err(broken)?.is_dir() {
                let meta = entry.metadata().map_err(broken)?;
                buckets.push((name, meta.created().or_else(|_| meta.modified()).map_err(broken)?));
            }
        }
        buckets.sort();
        Ok(buckets)
    }

    pub(super) fn create_bucket(&self, bucket: &str) -> S3Result<()> {
        fs::create_dir(self.root.join(bucket)).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => s3_error!(BucketAlreadyOwnedByYou, "the bucket {bucket} exists already"),
            _ => broken(error),
        })
    }

    pub(super) fn delete_bucket(&self, bucket: &str) -> S3Result<()> {
        let path = self.bucket(bucket)?;
        let _places = self.places();
        let not_empty = |_| s3_error!(BucketNotEmpty, "the bucket {bucket} is not empty");
        for aside in [".odd", ".uploads", ".versions"] {
            fs::remove_dir(self.aside(aside, bucket)).or_else(ignore_absent).map_err(not_empty)?;
        }
        fs::remove_dir(path).map_err(not_empty)?;
        fs::remove_file(self.aside(".settings", bucket)).or_else(ignore_absent).map_err(broken)?;
        fs::remove_dir_all(self.aside(".meta", bucket)).or_else(ignore_absent).map_err(broken)
    }

    /// What the bucket was set to.
    pub(super) fn settings(&self, bucket: &str) -> S3Result<Settings> {
        self.bucket(bucket)?;
        match fs::read(self.aside(".settings", bucket)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Settings::default()),
            text => serde_json::from_slice(&text.map_err(broken)?).map_err(|error| broken(error.into())),
        }
    }

    /// Sets the bucket to something else.
    pub(super) fn set(&self, bucket: &str, change: impl FnOnce(&mut Settings) -> S3Result<()>) -> S3Result<()> {
        let _places = self.places();
        let mut settings = self.settings(bucket)?;
        change(&mut settings)?;
        self.describe(&self.aside(".settings", bucket), &settings)
    }

    /// A file that takes an object's place with [`commit`](Self::commit), or vanishes.
    pub(super) fn temporary(&self) -> S3Result<NamedTempFile> {
        let mut file = tempfile::Builder::new();
        // Objects are for people to look at, which temporary files are not by default.
        file.permissions(fs::Permissions::from_mode(0o644)).tempfile_in(self.root.join(".tmp")).map_err(broken)
    }

    /// Opens an object as it is now.
    pub(super) fn find(&self, bucket: &str, key: &str) -> S3Result<(File, Meta)> {
        self.bucket(bucket)?;
        let absent = || self.absent(bucket, key);
        let path = self.locate(bucket, key).ok_or_else(absent)?;
        let file = File::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => absent(),
            _ => broken(error),
        })?;
        let meta = self.meta(bucket, key, &path, &file)?;
        Ok((file, meta))
    }

    /// The object's file. A path may be there as a folder, or have a file above it: then it is not that.
    pub(super) fn locate(&self, bucket: &str, key: &str) -> Option<PathBuf> {
        let is_file = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
        let plain = key::plain(key).map(|path| self.root.join(bucket).join(path)).filter(is_file);
        plain.or_else(|| Some(self.aside(".odd", bucket).join(key::encoded(key))).filter(is_file))
    }

    fn meta(&self, bucket: &str, key: &str, path: &Path, file: &File) -> S3Result<Meta> {
        let (meta, is_kept) = self.known(bucket, key, file)?;
        if !is_kept {
            let _places = self.places();
            // Somebody may have written the object meanwhile, with metadata of its own.
            if fs::metadata(path).is_ok_and(|now| stamp(&now).is_ok_and(|now| now == meta.stamp())) {
                self.describe(&self.described(bucket, key), &meta)?;
            }
        }
        Ok(meta)
    }

    /// The metadata of the object's file, and whether they are kept as they are.
    pub(super) fn known(&self, bucket: &str, key: &str, file: &File) -> S3Result<(Meta, bool)> {
        let (size, modified) = stamp(&file.metadata().map_err(broken)?)?;
        let former = match kept(&self.described(bucket, key)) {
            Some(meta) if meta.stamp() == (size, modified) => return Ok((meta, true)),
            former => former.unwrap_or_default(),
        };
        let Meta { version, protection, .. } = former;
        Ok((Meta { etag: hash(file)?, size, modified, version, protection, ..Meta::default() }, false))
    }

    /// Where the metadata of the object as it is now lies.
    pub(super) fn described(&self, bucket: &str, key: &str) -> PathBuf {
        self.aside(".meta", bucket).join(key::encoded(key))
    }

    pub(super) fn describe(&self, path: &Path, meta: &impl Serialize) -> S3Result<()> {
        let mut file = self.temporary()?;
        serde_json::to_writer(&mut file, meta).map_err(|error| broken(error.into()))?;
        place(file, path).map_err(broken)
    }

    /// Puts the written file in the object's place, if the conditions hold for what is there now.
    pub(super) fn commit(
        &self,
        bucket: &str,
        key: &str,
        file: NamedTempFile,
        written: Written,
        conditions: &Conditions,
    ) -> S3Result<Meta> {
        let (size, modified) = stamp(&file.as_file().metadata().map_err(broken)?)?;
        let _places = self.places();
        let settings = self.settings(bucket)?;
        if conditions.if_match.is_some() || conditions.if_none_match.is_some() {
            self.check(bucket, key, conditions)?;
        }
        let meta = Meta {
            etag: written.etag,
            size,
            modified,
            version: settings.next_version(),
            is_deletion: false,
            protection: settings.protect(written.protection)?,
            described: written.described,
        };
        self.displace(bucket, key, &settings)?;
        self.describe(&self.described(bucket, key), &meta)?;
        self.settle(bucket, key, file)?;
        Ok(meta)
    }

    /// Gives the file the object's place.
    pub(super) fn settle(&self, bucket: &str, key: &str, mut file: NamedTempFile) -> S3Result<()> {
        let odd = self.aside(".odd", bucket).join(key::encoded(key));
        if let Some(path) = key::plain(key) {
            match place_or_return(file, &self.bucket(bucket)?.join(path)).map_err(broken)? {
                None => return fs::remove_file(odd).or_else(ignore_absent).map_err(broken),
                Some(unplaced) => file = unplaced,
            }
        }
        place(file, &odd).map_err(broken)
    }

    /// Called with the places held, so that two writers cannot both find their condition true.
    fn check(&self, bucket: &str, key: &str, conditions: &Conditions) -> S3Result<()> {
        let now = match self.locate(bucket, key) {
            None => None,
            Some(path) => {
                let file = File::open(path).map_err(broken)?;
                Some(self.known(bucket, key, &file)?.0.etag)
            }
        };
        let holds = |condition: &ETagCondition| match (&now, condition) {
            (None, _) => false,
            (Some(_), ETagCondition::Any) => true,
            (Some(now), ETagCondition::ETag(tag)) => tag.value() == now,
        };
        let wanted = conditions.if_match.as_ref().is_none_or(holds);
        let unwanted = conditions.if_none_match.as_ref().is_some_and(holds);
        if wanted && !unwanted { Ok(()) } else { Err(s3_error!(PreconditionFailed, "the object {key} is another")) }
    }

    /// Removes the object as it is now, if it is there. Called with the places held.
    pub(super) fn clear(&self, bucket: &str, key: &str) -> S3Result<()> {
        let folder = self.bucket(bucket)?;
        if let Some(path) = key::plain(key) {
            take_away(&folder.join(path), &folder)?;
        }
        for aside in [".odd", ".meta"].map(|aside| self.aside(aside, bucket)) {
            take_away(&aside.join(key::encoded(key)), &aside)?;
        }
        Ok(())
    }
}

/// Removes a file if it is there, and the folders up to that one that hold nothing then: S3 has no empty folders.
pub(super) fn take_away(path: &Path, above: &Path) -> S3Result<()> {
    if path.is_file() {
        fs::remove_file(path).or_else(ignore_absent).map_err(broken)?;
        // The first one that still holds something ends this.
        for parent in path.ancestors().skip(1).take_while(|parent| *parent != above) {
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// The metadata that lies there.
pub(super) fn kept(described: &Path) -> Option<Meta> {
    serde_json::from_slice(&fs::read(described).ok()?).ok()
}

fn stamp(meta: &fs::Metadata) -> S3Result<(u64, Duration)> {
    let modified = meta.modified().map_err(broken)?;
    Ok((meta.len(), modified.duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// The MD5 of the rest of the file, in hexadecimal digits; then the file is at its start.
pub(super) fn hash(mut file: &File) -> S3Result<String> {
    let mut md5 = Md5::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).map_err(broken)? {
            0 => break,
            read => md5.update(&buffer[..read]),
        }
    }
    io::Seek::rewind(&mut file).map_err(broken)?;
    Ok(hex(&md5.finalize()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Gives the file that path, making the folders above.
pub(super) fn place(file: NamedTempFile, path: &Path) -> io::Result<()> {
    match place_or_return(file, path)? {
        None => Ok(()),
        Some(_) => Err(io::Error::new(ErrorKind::IsADirectory, format!("{} is taken by a folder", path.display()))),
    }
}

/// [`place`], but returns the file when a folder has that path, or a file one of the folders above.
fn place_or_return(file: NamedTempFile, path: &Path) -> io::Result<Option<NamedTempFile>> {
    let taken = |error: &io::Error| {
        matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::IsADirectory)
    };
    if let Some(above) = path.parent() {
        match fs::create_dir_all(above) {
            Err(error) if taken(&error) => return Ok(Some(file)),
            made => made?,
        }
    }
    match file.persist(path) {
        Ok(_) => Ok(None),
        Err(refused) if taken(&refused.error) => Ok(Some(refused.file)),
        Err(refused) => Err(refused.error),
    }
}

pub(super) fn ignore_absent(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// A failure of the file system, which the client learns as `InternalError` with its text.
pub(super) fn broken(error: io::Error) -> S3Error {
    let mut answer = s3_error!(InternalError, "the folder failed: {error}");
    answer.set_source(Box::new(error));
    answer
}
