//! What the operations have in common: conditions, ranges, pages, bodies.

use std::{
    fs::File,
    ops::Range,
    time::{Duration, UNIX_EPOCH},
};

use s3s::{
    S3Response, S3Result,
    dto::{self, CommonPrefix, CopySource, ETag, ETagCondition, EncodingType, Object, Timestamp},
    s3_error,
};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::{
    faults::Body,
    key,
    listing::{Entry, Wanted},
    objects::{Meta, Objects},
};

/// As many keys as a page has at most.
pub(super) const PAGE: i32 = 1000;
/// Bodies leave in pieces of this size.
const CHUNK: usize = 256 << 10;

/// What every operation returns when it has worked.
#[allow(clippy::unnecessary_wraps)]
pub(super) fn answer<T>(output: T) -> S3Result<S3Response<T>> {
    Ok(S3Response::new(output))
}

/// S3's XML has signed sizes.
pub(super) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The conditions of a read.
pub(super) struct Wish {
    pub matching: Option<ETagCondition>,
    pub other: Option<ETagCondition>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Wish {
    /// Precedence as in RFC 9110 §13.2.2: an `ETag`, if given, counts instead of the time.
    pub(super) fn check(&self, meta: &Meta) -> S3Result<()> {
        let is = |condition: &ETagCondition| condition.as_etag().is_none_or(|tag| tag.value() == meta.etag);
        // HTTP dates have whole seconds.
        let seconds = meta.modified().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let modified = Timestamp::from(UNIX_EPOCH + Duration::from_secs(seconds));
        let holds = match (&self.matching, &self.until) {
            (Some(matching), _) => is(matching),
            (None, Some(until)) => modified <= *until,
            (None, None) => true,
        };
        if !holds {
            return Err(s3_error!(PreconditionFailed, "the object is another"));
        }
        let same = match (&self.other, &self.since) {
            (Some(other), _) => is(other),
            (None, Some(since)) => modified <= *since,
            (None, None) => false,
        };
        if same { Err(s3_error!(NotModified)) } else { Ok(()) }
    }
}

/// The bytes asked for, of so many.
pub(super) fn part(range: Option<dto::Range>, size: u64) -> S3Result<Option<Range<u64>>> {
    let range = range.map(|range| range.check(size)).transpose()?;
    match range {
        // The last bytes of an empty object.
        Some(range) if range.is_empty() => Err(s3_error!(InvalidRange)),
        range => Ok(range),
    }
}

/// The next `length` bytes of the file.
pub(super) fn body(file: File, length: u64) -> Body {
    Box::pin(ReaderStream::with_capacity(tokio::fs::File::from_std(file).take(length), CHUNK))
}

/// Bucket, key and version of what is to be copied.
pub(super) fn source(source: CopySource) -> S3Result<(String, String, Option<String>)> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => Ok((bucket.into(), key.into(), version_id.map(Into::into))),
        _ => Err(s3_error!(NotImplemented, "only objects of a bucket can be copied")),
    }
}

/// One page of a listing.
pub(super) struct Page {
    pub entries: Vec<Entry>,
    pub max: i32,
    more: bool,
}

impl Page {
    pub(super) fn read(
        objects: &Objects,
        bucket: &str,
        prefix: Option<&str>,
        delimiter: Option<&str>,
        after: &str,
        max: Option<i32>,
    ) -> S3Result<Self> {
        let max = max.unwrap_or(PAGE).min(PAGE);
        let wanted = Wanted {
            prefix: prefix.unwrap_or_default(),
            delimiter: delimiter.filter(|delimiter| !delimiter.is_empty()),
            after,
            max: usize::try_from(max).map_err(|_| s3_error!(InvalidArgument, "max-keys must not be negative"))?,
        };
        let (entries, more) = objects.list(bucket, &wanted)?;
        Ok(Self { entries, max, more })
    }

    pub(super) fn more(&self) -> bool {
        self.more
    }

    /// Where the next page starts, if there is one.
    pub(super) fn next(&self) -> Option<&str> {
        self.entries.last().filter(|_| self.more).map(Entry::name)
    }

    pub(super) fn objects(&self, url: bool) -> Vec<Object> {
        let object = |entry: &Entry| match entry {
            Entry::Prefix(_) => None,
            Entry::Object(key, meta) => Some(Object {
                key: Some(spell(url, key.clone())),
                size: Some(signed(meta.size)),
                e_tag: Some(ETag::Strong(meta.etag.clone())),
                last_modified: Some(meta.modified().into()),
                ..Object::default()
            }),
        };
        self.entries.iter().filter_map(object).collect()
    }

    pub(super) fn prefixes(&self, url: bool) -> Vec<CommonPrefix> {
        let prefix = |entry: &Entry| match entry {
            Entry::Prefix(prefix) => Some(CommonPrefix { prefix: Some(spell(url, prefix.clone())) }),
            Entry::Object(..) => None,
        };
        self.entries.iter().filter_map(prefix).collect()
    }
}

pub(super) fn spelled_as_url(encoding: Option<&EncodingType>) -> bool {
    encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL)
}

/// A name as a listing gives it.
pub(super) fn spell(url: bool, name: String) -> String {
    if url { key::url_encoded(&name) } else { name }
}
