//! URLs of backup targets and backups as Longhorn writes them (`s3/s3.go`, `backupstore.go:EncodeBackupURL`).

use std::{fmt, path::PathBuf};

use super::layout::BackupRef;
use crate::{Error, Kind, Result};

/// An S3 backup target: `s3://<bucket>@<region>/<path>`, or `s3://<bucket>/<path>` with the region from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetUrl {
    /// The bucket.
    pub bucket: String,
    /// The region, if the URL has one.
    pub region: Option<String>,
    /// The path as written, without its leading slash: `""`, `backups/`.
    path: String,
}

impl TargetUrl {
    /// Reads a target URL. A path is required, at least `/`, as Longhorn requires it; a query is ignored.
    pub fn parse(url: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Error::new(Kind::Invalid, format!("{url:?} is not an S3 backup target: {why}"))
                .hint("write it as s3://bucket@region/path/ or s3://bucket/path/")
        };
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(invalid("it does not start with s3://"));
        };
        if !scheme.eq_ignore_ascii_case("s3") {
            return Err(invalid("only the scheme s3 is supported"));
        }
        let rest = rest.split_once('?').map_or(rest, |(target, _)| target);
        let Some((host, path)) = rest.split_once('/') else {
            return Err(invalid("it needs a path, at least a slash at the end"));
        };
        if url.chars().any(|c| c.is_control() || c.is_whitespace() || c == '#') {
            return Err(invalid("it has characters that a URL cannot have"));
        }
        let (bucket, region) = match host.split_once('@') {
            Some((bucket, region)) => (bucket, Some(region.to_owned())),
            None => (host, None),
        };
        // A colon would be a port or a password, which an S3 target has neither of; it must not be shown as a bucket.
        if bucket.contains(':') || region.as_ref().is_some_and(|r| r.is_empty() || r.contains([':', '@'])) {
            return Err(Error::new(Kind::Invalid, "an S3 backup target has neither a port nor a password")
                .hint("write it as s3://bucket@region/path/; keys and endpoint belong into the credential secret"));
        }
        if bucket.is_empty() {
            return Err(invalid("it has no bucket"));
        }
        if path.split('/').any(|part| part == "..") {
            return Err(invalid("its path must not contain .."));
        }
        Ok(Self { bucket: bucket.to_owned(), region, path: path.trim_start_matches('/').to_owned() })
    }

    /// What all keys of the target start with, cleaned as Longhorn does: no leading or trailing slash, `""` for the
    /// bucket itself.
    pub fn prefix(&self) -> String {
        let parts: Vec<&str> = self.path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        parts.join("/")
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if let Some(region) = &self.region {
            write!(f, "@{region}")?;
        }
        write!(f, "/{}", self.path)
    }
}

/// Where a backup store is, as somebody names it: a target's URL, or `file:///folder`, the folder that holds
/// `backupstore/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A bucket.
    S3(TargetUrl),
    /// A local folder.
    Folder(PathBuf),
}

impl StoreUrl {
    /// Reads the URL.
    ///
    /// # Errors
    /// `usage` for another scheme, a folder that is not named by its full path, or no target's URL.
    pub fn parse(url: &str) -> Result<Self> {
        const FORMS: &str = "write it as s3://bucket@region/path/ or file:///folder";
        let wrong = |what: &str| Error::new(Kind::Usage, format!("the store's URL {what}")).hint(FORMS);
        // What is no URL of ours may hold a password, so it is not repeated.
        let Some((scheme, rest)) = url.split_once("://") else { return Err(wrong("has no scheme")) };
        if scheme.eq_ignore_ascii_case("s3") {
            let target = TargetUrl::parse(url);
            return target.map(Self::S3).map_err(|error| Error::new(Kind::Usage, error.message()).hint(FORMS));
        }
        if !scheme.eq_ignore_ascii_case("file") {
            return Err(wrong("begins with neither s3:// nor file://"));
        }
        if !rest.starts_with('/') {
            return Err(wrong("does not name a folder by its full path, which begins with a third slash"));
        }
        Ok(Self::Folder(rest.into()))
    }
}

impl BackupRef {
    /// The backup's URL, as in `Backup.status.url` and `Volume.spec.fromBackup`.
    pub fn encode(&self, target: &TargetUrl) -> String {
        // Names consist of characters that a query takes as they are.
        format!("{target}?backup={}&volume={}", self.backup, self.volume)
    }

    /// Reads a backup's URL; `&` and its JSON escape, with or without the backslash, separate the parts, as Longhorn's tools accept.
    pub fn decode(url: &str) -> Result<(TargetUrl, Self)> {
        let mut url = url.replace("\\u0026", "&");
        if !url.contains('&') {
            url = url.replace("u0026", "&");
        }
        let target = TargetUrl::parse(&url)?;
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let item = |key: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).ok_or_else(|| {
                Error::new(Kind::Invalid, format!("{url:?} is not the URL of a backup: it has no {key}="))
                    .hint("a backup's URL looks like s3://bucket@region/path/?backup=backup-…&volume=pvc-…")
            })
        };
        let backup = Self::new(item("volume")?, item("backup")?)?;
        Ok((target, backup))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn targets_are_read_and_written_as_longhorn_does() {
        let target = TargetUrl::parse("s3://backups@eu-central-1/lab//./one/").unwrap();
        assert_eq!((target.bucket.as_str(), target.region.as_deref()), ("backups", Some("eu-central-1")));
        assert_eq!(target.prefix(), "lab/one");
        assert_eq!(target.to_string(), "s3://backups@eu-central-1/lab//./one/");
        let bare = TargetUrl::parse("s3://backups/").unwrap();
        assert_eq!((bare.region.as_deref(), bare.prefix().as_str()), (None, ""));
        assert_eq!(bare.to_string(), "s3://backups/");
    }

    #[test]
    fn wrong_targets_are_refused_with_the_right_form() {
        for url in ["", "backups", "s3://b@r", "s3:///x", "nfs://h/x", "s3://b@/x/", "s3://b/../x", "s3://b/\u{1b}[2J"]
        {
            let error = TargetUrl::parse(url).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{url}");
            assert!(error.hint_text().unwrap().contains("s3://bucket@region/path/"));
        }
        let error = TargetUrl::parse("s3://KEY:SECRET@r/x").unwrap_err();
        assert!(!error.to_string().contains("SECRET"), "{error}");
    }

    #[test]
    fn a_backups_url_has_its_query_sorted() {
        let target = TargetUrl::parse("s3://b@r/path/").unwrap();
        let backup = BackupRef::new("pvc-1", "backup-0123456789abcdef").unwrap();
        let url = backup.encode(&target);
        assert_eq!(url, "s3://b@r/path/?backup=backup-0123456789abcdef&volume=pvc-1");
        assert_eq!(BackupRef::decode(&url).unwrap(), (target.clone(), backup.clone()));
        assert_eq!(BackupRef::decode(&url.replace('&', "\\u0026")).unwrap(), (target, backup));
    }

    #[test]
    fn a_backups_url_without_volume_or_with_a_path_for_a_name_is_refused() {
        assert!(BackupRef::decode("s3://b@r/?backup=backup-1").is_err());
        assert!(BackupRef::decode("s3://b@r/?volume=pvc-1").is_err());
        assert!(BackupRef::decode("s3://b@r/?backup=../../x&volume=pvc-1").is_err());
    }

    #[test]
    fn a_store_is_a_bucket_or_a_folder_with_its_full_path() {
        let folder = StoreUrl::parse("file:///mnt/copy of a bucket").unwrap();
        assert_eq!(folder, StoreUrl::Folder("/mnt/copy of a bucket".into()));
        let bucket = StoreUrl::parse("s3://backups@eu-central-1/lab/").unwrap();
        assert_eq!(bucket, StoreUrl::S3(TargetUrl::parse("s3://backups@eu-central-1/lab/").unwrap()));
        for url in ["", "file://copy", "file:/copy", "/mnt/copy", "nfs://server/x", "s3://b", "https://me:SECRET@host/"]
        {
            let error = StoreUrl::parse(url).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{url}");
            assert!(!error.to_string().contains("SECRET"), "{error}");
            assert!(error.hint_text().unwrap().contains("file:///folder"), "{url}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,80}", tail in "[a-z0-9@/?&=:.]{0,60}") {
            let _ = BackupRef::decode(&text);
            let _ = StoreUrl::parse(&text);
            let _ = BackupRef::decode(&format!("s3://{tail}"));
            if let Ok(target) = TargetUrl::parse(&format!("s3://{tail}")) {
                prop_assert_eq!(TargetUrl::parse(&target.to_string()).unwrap(), target);
            }
        }
    }
}
