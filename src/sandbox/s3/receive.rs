//! A request's body on its way into a file, hashed and checked as it arrives.

use std::{io, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::StreamExt;
use s3s::{
    S3Error, S3Request, S3Result,
    checksum::ChecksumHasher,
    crypto::{Checksum, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256},
    dto::StreamingBlob,
    s3_error,
};
use tempfile::NamedTempFile;
use tokio::io::{AsyncWriteExt, BufWriter};

use super::{
    blocking,
    objects::{Objects, broken, hex},
};

/// Writes go to the file in pieces of this size.
const BUFFER: usize = 512 << 10;

/// A body that has arrived whole, and its MD5 in hexadecimal digits.
pub(super) struct Received {
    pub file: NamedTempFile,
    pub etag: String,
}

/// The checksums that came with a request's head, or will come behind its body.
pub(super) struct Promised {
    md5: Option<String>,
    hasher: ChecksumHasher,
    sums: Vec<(&'static str, Option<String>)>,
    trailers: Option<s3s::TrailingHeaders>,
}

const SUMS: [&str; 5] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];

impl Promised {
    pub(super) fn of<T>(request: &S3Request<T>) -> Self {
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let trailer = header("x-amz-trailer").unwrap_or_default().to_ascii_lowercase();
        let trails = |name: &str| trailer.split(',').any(|trailing| trailing.trim() == name);
        let sums: Vec<_> = SUMS
            .into_iter()
            .map(|name| (name, header(name)))
            .filter(|(name, sum)| sum.is_some() || trails(name))
            .collect();
        let wanted = |name: &str| sums.iter().any(|(wanted, _)| *wanted == name);
        let hasher = ChecksumHasher {
            crc32: wanted(SUMS[0]).then(Crc32::new),
            crc32c: wanted(SUMS[1]).then(Crc32c::new),
            crc64nvme: wanted(SUMS[2]).then(Crc64Nvme::new),
            sha1: wanted(SUMS[3]).then(Sha1::new),
            sha256: wanted(SUMS[4]).then(Sha256::new),
        };
        Self { md5: header("content-md5"), hasher, sums, trailers: request.trailing_headers.clone() }
    }

    /// Whether there is any: without one, nothing is taken that is to be locked.
    pub(super) fn is_any(&self) -> bool {
        self.md5.is_some() || !self.sums.is_empty()
    }

    fn check(self, md5: &[u8]) -> S3Result<()> {
        if self.md5.is_some_and(|promised| promised != BASE64_STANDARD.encode(md5)) {
            return Err(s3_error!(BadDigest, "the body does not have the Content-MD5 of its head"));
        }
        let found = self.hasher.finalize();
        let trailers = self.trailers.and_then(|trailers| trailers.take()).unwrap_or_default();
        for (name, promised) in self.sums {
            let promised = promised.or_else(|| Some(trailers.get(name)?.to_str().ok()?.to_owned()));
            let found = match name {
                "x-amz-checksum-crc32" => &found.checksum_crc32,
                "x-amz-checksum-crc32c" => &found.checksum_crc32c,
                "x-amz-checksum-crc64nvme" => &found.checksum_crc64nvme,
                "x-amz-checksum-sha1" => &found.checksum_sha1,
                _ => &found.checksum_sha256,
            };
            if promised.is_some_and(|promised| found.as_ref() != Some(&promised)) {
                return Err(s3_error!(BadDigest, "the body does not have the {name} it came with"));
            }
        }
        Ok(())
    }
}

/// Takes the whole body in. Nothing is kept unless it is as long as announced and has the sums promised.
pub(super) async fn receive(
    objects: &Arc<Objects>,
    body: Option<StreamingBlob>,
    length: Option<i64>,
    mut promised: Promised,
) -> S3Result<Received> {
    let objects = Arc::clone(objects);
    let (file, handle) = blocking(move || {
        let file = objects.temporary()?;
        let handle = file.as_file().try_clone().map_err(broken)?;
        Ok((file, handle))
    })
    .await?;
    let mut writer = BufWriter::with_capacity(BUFFER, tokio::fs::File::from_std(handle));
    let mut md5 = Md5::new();
    let mut received = 0;
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(cut_off)?;
            received += chunk.len() as u64;
            md5.update(&chunk);
            promised.hasher.update(&chunk);
            writer.write_all(&chunk).await.map_err(broken)?;
        }
    }
    writer.flush().await.map_err(broken)?;
    if length.is_some_and(|length| u64::try_from(length) != Ok(received)) {
        return Err(s3_error!(IncompleteBody, "{received} bytes arrived, others were announced"));
    }
    let md5 = md5.finalize();
    promised.check(&md5)?;
    Ok(Received { file, etag: hex(&md5) })
}

/// A body that ends early, or whose chunks are not signed as they must be: the error says which.
fn cut_off(error: Box<dyn std::error::Error + Send + Sync>) -> S3Error {
    match error.downcast::<S3Error>() {
        Ok(refused) => *refused,
        Err(error) if error.is::<io::Error>() => s3_error!(IncompleteBody, "the body broke off: {error}"),
        Err(error) => s3_error!(IncompleteBody, "the body was not as announced: {error}"),
    }
}
