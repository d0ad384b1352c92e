//! What an object was before, in buckets that keep versions.
//!
//! The folder of a key holds `<order>.json` for each former version, and beside it its bytes as `<order>` unless it is a
//! mark of deletion. Orders are 20 digits and grow with each version that ceases to be the current one. A mark of
//! deletion is the latest version when the object is not in its place.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue};
use s3s::{S3Error, S3Result, s3_error};
use tempfile::{NamedTempFile, TempPath};

use super::{
    key,
    objects::{Meta, Objects, broken, kept, take_away},
    protection::{Protection, Settings, Versioning},
};

/// What the version is called that was written without versioning.
pub(super) const NULL: &str = "null";

/// One version of an object.
pub(super) struct Version {
    pub meta: Meta,
    /// Whether it is what readers get, also when that is nothing.
    pub is_latest: bool,
    place: Place,
}

enum Place {
    /// The object's own.
    Current(PathBuf),
    /// Description and order of a former version.
    Former(PathBuf, u64),
}

/// What a deletion did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    /// The version that was destroyed, or the mark of deletion that was made.
    pub version: Option<String>,
    /// Whether that is a mark of deletion.
    pub is_marker: bool,
}

impl Settings {
    /// What to call the version that is written now.
    pub(super) fn next_version(&self) -> Option<String> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let is_on = self.versioning == Some(Versioning::Enabled);
        is_on.then(|| format!("{:016x}{:016x}", nanos(), COUNT.fetch_add(1, Relaxed)))
    }

    /// The version as answers name it; nothing in a bucket that never had any.
    pub(super) fn told(&self, meta: &Meta) -> Option<String> {
        self.versioning.map(|_| meta.version_id().to_owned())
    }
}

impl Meta {
    pub(super) fn version_id(&self) -> &str {
        self.version.as_deref().unwrap_or(NULL)
    }
}

impl Version {
    /// Its bytes.
    fn bytes(&self) -> PathBuf {
        match &self.place {
            Place::Current(path) => path.clone(),
            Place::Former(described, _) => described.with_extension(""),
        }
    }

    fn order(&self) -> u64 {
        match self.place {
            Place::Current(_) => u64::MAX,
            Place::Former(_, order) => order,
        }
    }
}

impl Objects {
    /// All versions of a key, the latest first.
    pub(super) fn history(&self, bucket: &str, key: &str) -> S3Result<Vec<Version>> {
        let mut versions = Vec::new();
        if let Some(path) = self.locate(bucket, key) {
            let file = File::open(&path).map_err(broken)?;
            let (meta, _) = self.known(bucket, key, &file)?;
            versions.push(Version { meta, is_latest: false, place: Place::Current(path) });
        }
        for entry in fs::read_dir(self.former(bucket, key)).into_iter().flatten() {
            let path = entry.map_err(broken)?.path();
            let order = path.file_stem().and_then(|name| name.to_str()?.parse().ok());
            if let (Some(order), Some(meta)) = (order, kept(&path)) {
                versions.push(Version { meta, is_latest: false, place: Place::Former(path, order) });
            }
        }
        versions.sort_by_key(|version| std::cmp::Reverse(version.order()));
        if let Some(first) = versions.first_mut() {
            first.is_latest = true;
        }
        Ok(versions)
    }

    /// That version of an object, or the latest.
    ///
    /// # Errors
    /// `NoSuchKey` when it is deleted, `NoSuchVersion`, and `MethodNotAllowed` for a mark of deletion that is named.
    pub(super) fn version(&self, bucket: &str, key: &str, version: Option<&str>) -> S3Result<Version> {
        let mut history = self.history(bucket, key)?.into_iter();
        let Some(wanted) = version else {
            return history.next().filter(|latest| !latest.meta.is_deletion).ok_or_else(|| self.absent(bucket, key));
        };
        let found = history.find(|version| version.meta.version_id() == wanted);
        let found = found.ok_or_else(|| s3_error!(NoSuchVersion, "there is no version {wanted} of {key}"))?;
        if found.meta.is_deletion {
            let mut error = s3_error!(MethodNotAllowed, "the version {wanted} of {key} is a mark of deletion");
            error.set_headers(deleted(&found.meta));
            return Err(error);
        }
        Ok(found)
    }

    /// Opens that version of an object, or the object as it is now.
    pub(super) fn open_version(&self, bucket: &str, key: &str, version: Option<&str>) -> S3Result<(File, Meta)> {
        if version.is_none() {
            return self.find(bucket, key);
        }
        self.bucket(bucket)?;
        let found = self.version(bucket, key, version)?;
        Ok((File::open(found.bytes()).map_err(broken)?, found.meta))
    }

    /// That there is no such object now; says when it was deleted and has versions.
    pub(super) fn absent(&self, bucket: &str, key: &str) -> S3Error {
        let mut error = s3_error!(NoSuchKey, "there is no object {key}");
        let latest = self.history(bucket, key).ok().and_then(|history| history.into_iter().next());
        if let Some(latest) = latest.filter(|latest| latest.meta.is_deletion) {
            error.set_headers(deleted(&latest.meta));
        }
        error
    }

    /// Keeps what is in the object's place as a former version, as far as the bucket is set to. Called with the places
    /// held, before another version takes its place.
    pub(super) fn displace(&self, bucket: &str, key: &str, settings: &Settings) -> S3Result<()> {
        let Some(versioning) = settings.versioning else { return Ok(()) };
        for version in self.history(bucket, key)? {
            // What is written next is the version null, and there is one of that name.
            let is_replaced = versioning == Versioning::Suspended && version.meta.version.is_none();
            match &version.place {
                Place::Former(described, _) if is_replaced => self.forget(bucket, described)?,
                Place::Current(path) if !is_replaced => self.keep(bucket, key, &version.meta, Some(path))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn keep(&self, bucket: &str, key: &str, meta: &Meta, bytes: Option<&Path>) -> S3Result<()> {
        let last = self.history(bucket, key)?.iter().map(Version::order).filter(|order| *order < u64::MAX).max();
        let order = nanos().max(last.map_or(0, |last| last + 1));
        let folder = self.former(bucket, key);
        fs::create_dir_all(&folder).map_err(broken)?;
        if let Some(bytes) = bytes {
            // Readers find the object in its place until another one is there.
            fs::hard_link(bytes, folder.join(format!("{order:020}"))).map_err(broken)?;
        }
        self.describe(&folder.join(format!("{order:020}.json")), meta)
    }

    fn forget(&self, bucket: &str, described: &Path) -> S3Result<()> {
        let above = self.aside(".versions", bucket);
        take_away(&described.with_extension(""), &above)?;
        take_away(described, &above)
    }

    /// Deletes an object: with a version, that one for good; without, by a mark of deletion where versions are kept.
    pub(super) fn remove(&self, bucket: &str, key: &str, version: Option<&str>, bypass: bool) -> S3Result<Removed> {
        let _places = self.places();
        let settings = self.settings(bucket)?;
        if let Some(version) = version {
            return self.destroy(bucket, key, version, bypass);
        }
        if settings.versioning.is_none() {
            self.clear(bucket, key)?;
            return Ok(Removed::default());
        }
        self.displace(bucket, key, &settings)?;
        self.clear(bucket, key)?;
        let meta = Meta::deletion(settings.next_version());
        self.keep(bucket, key, &meta, None)?;
        Ok(Removed { version: Some(meta.version_id().to_owned()), is_marker: true })
    }

    fn destroy(&self, bucket: &str, key: &str, version: &str, bypass: bool) -> S3Result<Removed> {
        let mut history = self.history(bucket, key)?;
        let mut removed = Removed { version: Some(version.to_owned()), is_marker: false };
        let Some(at) = history.iter().position(|found| found.meta.version_id() == version) else { return Ok(removed) };
        let gone = history.remove(at);
        gone.meta.protection.check(bypass)?;
        removed.is_marker = gone.meta.is_deletion;
        match &gone.place {
            Place::Current(_) => self.clear(bucket, key)?,
            Place::Former(described, _) => self.forget(bucket, described)?,
        }
        if at == 0
            && let Some(next) = history.first().filter(|next| !next.meta.is_deletion)
            && let Place::Former(described, _) = &next.place
        {
            let file = File::open(next.bytes()).map_err(broken)?;
            let path = TempPath::try_from_path(next.bytes()).map_err(broken)?;
            self.settle(bucket, key, NamedTempFile::from_parts(file, path))?;
            self.describe(&self.described(bucket, key), &next.meta)?;
            take_away(described, &self.aside(".versions", bucket))?;
        }
        Ok(removed)
    }

    /// Changes what keeps a version from being destroyed.
    pub(super) fn protect(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        change: impl FnOnce(&mut Protection) -> S3Result<()>,
    ) -> S3Result<()> {
        let _places = self.places();
        self.settings(bucket)?.check_lock()?;
        let mut found = self.version(bucket, key, version)?;
        change(&mut found.meta.protection)?;
        match &found.place {
            Place::Current(_) => self.describe(&self.described(bucket, key), &found.meta),
            Place::Former(described, _) => self.describe(described, &found.meta),
        }
    }

    /// The folder of a key's former versions.
    fn former(&self, bucket: &str, key: &str) -> PathBuf {
        self.aside(".versions", bucket).join(key::encoded(key))
    }
}

/// Nanoseconds since 1970.
fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX - 1)
}

/// What an answer says of a mark of deletion.
fn deleted(meta: &Meta) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Ok(version) = HeaderValue::from_str(meta.version_id()) {
        headers.insert("x-amz-version-id", version);
    }
    headers
}
