//! Multipart uploads: a folder each, with what was announced and one file per part.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    time::SystemTime,
};

use s3s::{
    S3Result,
    crypto::{Checksum, Md5},
    s3_error,
};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::{
    objects::{Conditions, Described, Meta, Objects, Written, broken, hex, place},
    protection::Protection,
};

/// The smallest part S3 accepts, except for the last.
const SMALLEST: u64 = 5 << 20;
/// Part numbers go from 1 to this.
const LAST: i32 = 10_000;

#[derive(Debug, Serialize, Deserialize)]
struct Announced {
    key: String,
    described: Described,
    #[serde(default)]
    protection: Protection,
}

/// An upload under way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Upload {
    pub key: String,
    pub id: String,
    pub started: SystemTime,
}

/// A part that has arrived.
#[derive(Debug)]
pub(super) struct Part {
    pub number: i32,
    pub etag: String,
    pub size: u64,
    pub modified: SystemTime,
    path: PathBuf,
}

impl Objects {
    /// Starts an upload and gives its id.
    pub(super) fn start_upload(
        &self,
        bucket: &str,
        key: &str,
        described: Described,
        protection: Protection,
    ) -> S3Result<String> {
        self.settings(bucket)?.protect(protection)?;
        let uploads = self.aside(".uploads", bucket);
        fs::create_dir_all(&uploads).map_err(broken)?;
        let folder = tempfile::Builder::new().prefix("").rand_bytes(24).tempdir_in(&uploads).map_err(broken)?;
        let announced = Announced { key: key.to_owned(), described, protection };
        let json = serde_json::to_vec(&announced).map_err(|error| broken(error.into()))?;
        fs::write(folder.path().join("upload.json"), json).map_err(broken)?;
        let folder = folder.keep();
        Ok(folder.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }

    fn upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<(PathBuf, Announced)> {
        self.bucket(bucket)?;
        let unknown = || s3_error!(NoSuchUpload, "there is no upload {id} of {key}");
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(unknown());
        }
        let folder = self.aside(".uploads", bucket).join(id);
        let json = fs::read(folder.join("upload.json")).map_err(|_| unknown())?;
        let announced: Announced = serde_json::from_slice(&json).map_err(|_| unknown())?;
        if announced.key == key { Ok((folder, announced)) } else { Err(unknown()) }
    }

    /// The uploads under way of keys with that prefix, by key.
    pub(super) fn uploads(&self, bucket: &str, prefix: &str) -> S3Result<Vec<Upload>> {
        self.bucket(bucket)?;
        let mut uploads = Vec::new();
        let Ok(entries) = fs::read_dir(self.aside(".uploads", bucket)) else { return Ok(uploads) };
        for entry in entries {
            let entry = entry.map_err(broken)?;
            // One that ends or begins right now is passed over.
            let Ok(json) = fs::read(entry.path().join("upload.json")) else { continue };
            let Ok(Announced { key, .. }) = serde_json::from_slice(&json) else { continue };
            if key.starts_with(prefix) {
                let started = entry.metadata().and_then(|meta| meta.modified()).map_err(broken)?;
                uploads.push(Upload { key, id: entry.file_name().to_string_lossy().into_owned(), started });
            }
        }
        uploads.sort();
        Ok(uploads)
    }

    /// Keeps a part that has arrived; one of the same number is replaced.
    pub(super) fn keep_part(
        &self,
        (bucket, key, id): (&str, &str, &str),
        number: i32,
        file: NamedTempFile,
        etag: &str,
    ) -> S3Result<()> {
        let (folder, _) = self.upload(bucket, key, id)?;
        if !(1..=LAST).contains(&number) {
            return Err(s3_error!(InvalidArgument, "part numbers go from 1 to {LAST}"));
        }
        let path = folder.join(format!("{number:05}-{etag}"));
        let former = self.parts(bucket, key, id)?.into_iter().find(|part| part.number == number);
        place(file, &path).map_err(broken)?;
        match former.filter(|former| former.path != path) {
            Some(former) => fs::remove_file(former.path).map_err(broken),
            None => Ok(()),
        }
    }

    /// The parts that have arrived, by number.
    pub(super) fn parts(&self, bucket: &str, key: &str, id: &str) -> S3Result<Vec<Part>> {
        let (folder, _) = self.upload(bucket, key, id)?;
        let mut parts = Vec::new();
        for entry in fs::read_dir(folder).map_err(broken)? {
            let entry = entry.map_err(broken)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((number, etag)) = name.split_once('-') else { continue };
            let Ok(number) = number.parse() else { continue };
            let meta = entry.metadata().map_err(broken)?;
            let modified = meta.modified().map_err(broken)?;
            parts.push(Part { number, etag: etag.to_owned(), size: meta.len(), modified, path: entry.path() });
        }
        parts.sort_by_key(|part| part.number);
        Ok(parts)
    }

    /// Makes the object from the parts named, in that order.
    pub(super) fn complete_upload(
        &self,
        (bucket, key, id): (&str, &str, &str),
        named: &[(i32, Option<String>)],
        conditions: &Conditions,
    ) -> S3Result<Meta> {
        let (folder, Announced { described, protection, .. }) = self.upload(bucket, key, id)?;
        if named.is_empty() {
            return Err(s3_error!(MalformedXML, "no part is named"));
        }
        if !named.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(s3_error!(InvalidPartOrder, "the parts must be named in ascending order"));
        }
        let arrived = self.parts(bucket, key, id)?;
        let mut whole = self.temporary()?;
        let mut md5 = Md5::new();
        for (at, (number, etag)) in named.iter().enumerate() {
            let part = arrived
                .iter()
                .find(|part| part.number == *number && etag.as_ref().is_none_or(|etag| *etag == part.etag))
                .ok_or_else(|| s3_error!(InvalidPart, "part {number} has not arrived with that ETag"))?;
            if part.size < SMALLEST && at + 1 < named.len() {
                return Err(s3_error!(EntityTooSmall, "part {number} is smaller than {SMALLEST} bytes"));
            }
            io::copy(&mut File::open(&part.path).map_err(broken)?, whole.as_file_mut()).map_err(broken)?;
            md5.update(&bytes_of(&part.etag));
        }
        let etag = format!("{}-{}", hex(&md5.finalize()), named.len());
        let meta = self.commit(bucket, key, whole, Written { etag, described, protection }, conditions)?;
        self.drop_upload(bucket, &folder)?;
        Ok(meta)
    }

    /// Gives an upload up.
    pub(super) fn abort_upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<()> {
        let (folder, _) = self.upload(bucket, key, id)?;
        self.drop_upload(bucket, &folder)
    }

    fn drop_upload(&self, bucket: &str, folder: &PathBuf) -> S3Result<()> {
        fs::remove_dir_all(folder).map_err(broken)?;
        // Fails while there are others, which is right.
        drop(fs::remove_dir(self.aside(".uploads", bucket)));
        Ok(())
    }
}

/// The bytes of a part's `ETag`, which this server wrote as hexadecimal digits.
fn bytes_of(hex: &str) -> Vec<u8> {
    let digit = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..hex.len()).step_by(2).filter_map(digit).collect()
}
