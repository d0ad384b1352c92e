//! A bucket and prefix on an S3 server.

mod protection;
mod versions;

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        SharedHttpClient, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
    operation::put_object::{PutObjectError, PutObjectOutput},
    primitives::{ByteStream, DateTime},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::ExposeSecret;

use super::{Depth, ObjectMeta, Page, StoreConfig, too_large};
use crate::{Error, Kind, Result};

/// How often a request is sent at most, and a body that broke off fetched.
const ATTEMPTS: u32 = 5;
/// The pause before the second attempt, at most; it doubles from one to the next.
const BACKOFF: Duration = Duration::from_millis(200);
/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one attempt may take until the answer's head is there.
const ATTEMPT: Duration = Duration::from_secs(30);
/// The slowest upload that is not given up, in bytes a second.
const SLOWEST_UPLOAD: u64 = 128 << 10;
/// Servers copy on their own side, up to 5 GiB, before they answer.
const COPY: Duration = Duration::from_mins(10);

/// A bucket and prefix with its client. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bucket {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    name: String,
    region: String,
    /// Empty, or ends in `/`.
    prefix: String,
    endpoint: Option<String>,
    key_id: String,
    /// Whether the server was seen to take nothing without a checksum.
    wants_checksums: AtomicBool,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.describe())
    }
}

impl Bucket {
    pub(super) fn connect(config: &StoreConfig) -> Result<Self> {
        if config.bucket.is_empty() {
            return Err(
                Error::new(Kind::Usage, "the store has no bucket name").hint("name it as s3://bucket@region/path/")
            );
        }
        let (Some(key_id), Some(secret)) = (&config.access_key, &config.secret_key) else {
            return Err(Error::new(Kind::Denied, format!("no keys for bucket {}", config.bucket))
                .hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a credential secret"));
        };
        let token = config.session_token.as_ref().map(|token| token.expose_secret().to_owned());
        let region = if config.region.is_empty() { "us-east-1" } else { &config.region };
        let mut builder = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .credentials_provider(Credentials::new(key_id, secret.expose_secret(), token, None, "lhrun"))
            .http_client(http_client(config)?)
            .force_path_style(!config.virtual_hosted.unwrap_or(config.endpoint.is_none()))
            // Servers other than AWS often lack the newer checksums; blocks carry their own.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(BACKOFF))
            .timeout_config(
                TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT).build(),
            );
        if let Some(endpoint) = &config.endpoint {
            if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
                return Err(Error::new(Kind::Usage, format!("the S3 endpoint '{endpoint}' is no http(s) address"))
                    .hint(format!("write http://{endpoint} or https://{endpoint}")));
            }
            builder = builder.endpoint_url(endpoint);
        }
        let mut prefix = config.prefix.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        if !prefix.is_empty() {
            prefix.push('/');
        }
        Ok(Self {
            inner: Arc::new(Inner {
                client: Client::from_conf(builder.build()),
                name: config.bucket.clone(),
                region: region.to_owned(),
                prefix,
                endpoint: config.endpoint.clone(),
                key_id: key_id.clone(),
                wants_checksums: AtomicBool::new(false),
            }),
        })
    }

    pub(super) fn describe(&self) -> String {
        format!("s3://{}@{}/{}", self.inner.name, self.inner.region, self.inner.prefix)
    }

    /// The server, for messages.
    pub(super) fn endpoint(&self) -> String {
        self.inner.endpoint.clone().unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", self.inner.region))
    }

    /// Server, bucket and prefix. The region does not tell servers apart that are not AWS.
    pub(super) fn place(&self) -> (String, &str, &str) {
        let server = self.endpoint().trim_end_matches('/').to_ascii_lowercase();
        (server, &self.inner.name, &self.inner.prefix)
    }

    pub(super) fn key_id(&self) -> &str {
        &self.inner.key_id
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.inner.prefix)
    }

    /// The key as callers know it. A server that lists what was not asked for is not believed.
    fn relative(&self, key: &str) -> Result<String> {
        key.strip_prefix(&self.inner.prefix).map(str::to_owned).ok_or_else(|| {
            let place = self.describe();
            Error::new(Kind::Invalid, format!("listing {place}: the server listed {key}, which lies outside"))
                .object(key)
        })
    }

    pub(super) fn list_pages(&self, prefix: &str, depth: Depth) -> BoxStream<'static, Result<Page>> {
        let (bucket, prefix) = (self.clone(), prefix.to_owned());
        stream::try_unfold(Some(None), move |next: Option<Option<String>>| {
            let (bucket, prefix) = (bucket.clone(), prefix.clone());
            async move {
                let Some(token) = next else { return Ok(None) };
                let (page, next) = bucket.list_page(&prefix, depth, token).await?;
                Ok(Some((page, next.map(Some))))
            }
        })
        .boxed()
    }

    async fn list_page(&self, prefix: &str, depth: Depth, token: Option<String>) -> Result<(Page, Option<String>)> {
        let answer = self
            .inner
            .client
            .list_objects_v2()
            .bucket(&self.inner.name)
            .prefix(self.full(prefix))
            .set_delimiter((depth == Depth::Level).then(|| "/".to_owned()))
            .set_continuation_token(token.clone())
            .send()
            .await
            .map_err(|error| self.fault("listing", prefix, error))?;
        let mut page = Page::default();
        for object in answer.contents() {
            let Some(key) = object.key() else { continue };
            page.objects.push(self.meta(self.relative(key)?, object.size(), object.last_modified(), object.e_tag())?);
        }
        for common in answer.common_prefixes() {
            page.prefixes.push(self.relative(common.prefix().unwrap_or_default())?);
        }
        let next = answer.next_continuation_token().map(str::to_owned).filter(|_| answer.is_truncated() == Some(true));
        if next.is_some() && next == token {
            let place = self.describe();
            return Err(Error::new(Kind::Invalid, format!("listing {prefix} in {place}: the server repeats a page"))
                .object(prefix));
        }
        Ok((page, next))
    }

    fn meta(
        &self,
        key: String,
        size: Option<i64>,
        modified: Option<&DateTime>,
        etag: Option<&str>,
    ) -> Result<ObjectMeta> {
        let size = size.and_then(|size| u64::try_from(size).ok());
        let modified = modified.and_then(|time| Timestamp::from_nanosecond(time.as_nanos()).ok());
        let (Some(size), Some(last_modified)) = (size, modified) else {
            let place = self.describe();
            let text = format!("{key} in {place}: the server told no valid size and time of change");
            return Err(Error::new(Kind::Invalid, text).object(key));
        };
        let etag = etag.map(|tag| tag.trim_matches('"').to_owned());
        Ok(ObjectMeta { key, size, last_modified, etag })
    }

    pub(super) async fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        let head = self.inner.client.head_object().bucket(&self.inner.name).key(self.full(key)).send().await;
        match head {
            Ok(head) => self.meta(key.to_owned(), head.content_length(), head.last_modified(), head.e_tag()).map(Some),
            // An answer to HEAD has no body, hence no code: the status is all there is.
            Err(SdkError::ServiceError(answer)) if answer.raw().status().as_u16() == 404 => Ok(None),
            Err(error) => Err(self.fault("looking at", key, error)),
        }
    }

    /// The object or a part of it, at most `max_bytes` long, in place of what the buffer held. A body that breaks off
    /// is asked for again. Without a version it is the current one.
    pub(super) async fn get(
        &self,
        key: &str,
        version: Option<&str>,
        range: Option<Range<u64>>,
        max_bytes: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let header = range.map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        let mut attempt = 1;
        loop {
            let answer = self
                .inner
                .client
                .get_object()
                .bucket(&self.inner.name)
                .key(self.full(key))
                .set_version_id(version.map(str::to_owned))
                .set_range(header.clone())
                .send()
                .await
                .map_err(|error| self.fault("reading", key, error))?;
            let announced = answer.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
            if announced > max_bytes {
                return Err(too_large(key, &self.describe(), max_bytes));
            }
            // An announced length is a claim: it may save growing the buffer, but only so far.
            buffer.clear();
            buffer.reserve_exact(usize::try_from(announced.min(32 << 20)).unwrap_or_default());
            match self.collect(answer.body, key, max_bytes, buffer).await {
                Err(error) if error.kind() == Kind::Unreachable && attempt < ATTEMPTS => {
                    tracing::debug!(key, attempt, %error, "reading again");
                    tokio::time::sleep(BACKOFF * (1 << (attempt - 1)) / 2).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn collect(&self, mut body: ByteStream, key: &str, max_bytes: u64, buffer: &mut Vec<u8>) -> Result<()> {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| {
                let text = format!("reading {key} in {}: it broke off after {} bytes", self.describe(), buffer.len());
                Error::new(Kind::Unreachable, text).object(key).source(error)
            })?;
            if (buffer.len() + chunk.len()) as u64 > max_bytes {
                return Err(too_large(key, &self.describe(), max_bytes));
            }
            buffer.extend_from_slice(&chunk);
        }
        Ok(())
    }

    pub(super) async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        let asked = self.inner.wants_checksums.load(Relaxed);
        let mut put = self.send(key, body.clone(), asked).await;
        // Where object lock applies, AWS takes only what comes with a checksum; others refuse that they do not know.
        if !asked && matches!(&put, Err(SdkError::ServiceError(no)) if no.err().code() == Some("InvalidRequest")) {
            put = self.send(key, body, true).await;
            self.inner.wants_checksums.store(put.is_ok(), Relaxed);
        }
        put.map(|_| ()).map_err(|error| self.fault("writing", key, error))
    }

    async fn send(
        &self,
        key: &str,
        body: Bytes,
        has_checksum: bool,
    ) -> std::result::Result<PutObjectOutput, SdkError<PutObjectError>> {
        let mut setting = patient(ATTEMPT + Duration::from_secs(body.len() as u64 / SLOWEST_UPLOAD));
        if has_checksum {
            setting = setting.request_checksum_calculation(RequestChecksumCalculation::WhenSupported);
        }
        self.inner
            .client
            .put_object()
            .bucket(&self.inner.name)
            .key(self.full(key))
            .body(ByteStream::from(body))
            .customize()
            .config_override(setting)
            .send()
            .await
    }

    pub(super) async fn copy(&self, from: &str, to: &str) -> Result<()> {
        let source = url_encode(&format!("{}/{}", self.inner.name, self.full(from)));
        self.inner
            .client
            .copy_object()
            .bucket(&self.inner.name)
            .copy_source(source)
            .key(self.full(to))
            .customize()
            .config_override(patient(COPY))
            .send()
            .await
            .map_err(|error| self.fault("copying", from, error))?;
        Ok(())
    }

    pub(super) async fn delete(&self, key: &str) -> Result<()> {
        let deleted = self.inner.client.delete_object().bucket(&self.inner.name).key(self.full(key)).send().await;
        match deleted.map_err(|error| self.fault("deleting", key, error)) {
            // Some servers answer 404 where AWS says it is done; a missing bucket is still an error.
            Err(error) if error.kind() == Kind::NotFound && error.hint_text().is_none() => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

fn patient(attempt: Duration) -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(attempt).build();
    Config::builder().timeout_config(timeouts)
}

fn http_client(config: &StoreConfig) -> Result<SharedHttpClient> {
    if config.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://")) {
        // Without TLS nobody need read the system's certificates.
        return Ok(Builder::new().build_http());
    }
    let mut trust = TrustStore::default();
    if let Some(pem) = &config.ca_pem {
        check_certificates(pem)?;
        trust.add_pem_certificate(pem.as_bytes());
    }
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|error| Error::new(Kind::Usage, "setting up TLS for S3").source(error))?;
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build_https())
}

/// The HTTP client panics on what it cannot parse, so it only gets what parses.
fn check_certificates(pem: &str) -> Result<()> {
    let bad = || Error::new(Kind::Usage, "the CA given for the S3 endpoint is no PEM certificate");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| bad().source(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad().source(error))?;
    }
    if roots.is_empty() { Err(bad()) } else { Ok(()) }
}

/// RFC 3986 percent-encoding with `/` kept, which is what `x-amz-copy-source` wants.
fn url_encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut url, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => url.push(byte.into()),
            // Writing to a String cannot fail.
            _ => {
                let _ = write!(url, "%{byte:02X}");
            }
        }
        url
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_sources_are_percent_encoded() {
        assert_eq!(url_encode("b/a b+c/ü%2F.cfg"), "b/a%20b%2Bc/%C3%BC%252F.cfg");
    }

    #[test]
    fn what_is_no_certificate_is_refused_instead_of_a_panic() {
        for pem in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(check_certificates(pem).unwrap_err().kind(), Kind::Usage, "{pem:?}");
        }
    }
}
