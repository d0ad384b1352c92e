//! An S3 endpoint over a folder.
//!
//! The protocol (requests, signatures, XML) is the crate `s3s`; this is its storage and the server around it. It does
//! what backup tools use: buckets, objects with ranges and conditions, listings, copies, multipart uploads, versions,
//! object lock. What it lacks (access lists, life cycles) is answered `NotImplemented`. See [`objects`] for the folder's
//! layout.

mod answers;
mod faults;
mod key;
mod listing;
mod objects;
mod protection;
mod receive;
mod service;
mod uploads;
mod versions;

use std::{
    io::ErrorKind,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{
    S3Result,
    auth::{S3Auth, SecretKey},
    s3_error,
    service::{S3Service, S3ServiceBuilder},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

pub use faults::Faults;
use objects::Objects;
use protection::{DefaultRetention, Length, Lock, Mode, Settings, Versioning};

use crate::{Error, Kind, Result};

/// How to serve.
#[derive(Debug)]
pub struct S3Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder with the buckets; made when missing.
    pub root: PathBuf,
    /// The one key id that is let in.
    pub access_key: String,
    /// Its secret.
    pub secret_key: SecretString,
}

/// A running server. Dropping it stops it as well.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    objects: Arc<Objects>,
    faults: Faults,
    serving: Mutex<Option<JoinHandle<()>>>,
}

impl S3Server {
    /// Starts to serve.
    ///
    /// # Errors
    /// `refused` when the port or the folder is in use, `failed` when the folder cannot be used.
    pub async fn start(config: S3Config) -> Result<Self> {
        let root = config.root.clone();
        let objects = tokio::task::spawn_blocking(move || Objects::open(&root)).await;
        let objects =
            Arc::new(objects.map_err(|error| Error::new(Kind::Failed, "opening the S3 folder").source(error))??);
        let listener = TcpListener::bind(config.listen).await.map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => Error::new(Kind::Refused, format!("the S3 address {} is in use", config.listen))
                .hint("another sandbox may be running: stop it, or choose another port"),
            _ => Error::new(Kind::Failed, format!("cannot listen on {} for S3", config.listen)).source(error),
        })?;
        let address = listener.local_addr().map_err(|error| Error::new(Kind::Failed, "starting S3").source(error))?;
        let faults = Faults::default();
        let mut service = S3ServiceBuilder::new(service::Folder::new(Arc::clone(&objects), faults.clone()));
        service.set_auth(OneKey { id: config.access_key, secret: config.secret_key });
        service.set_access(faults.clone());
        let serving = tokio::spawn(serve(listener, service.build()));
        Ok(Self { address, objects, faults, serving: Mutex::new(Some(serving)) })
    }

    /// `http://host:port`, for path-style requests.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Faults to ask for.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Makes the bucket unless it is there.
    pub async fn create_bucket(&self, bucket: &str) -> Result<()> {
        let failed = |text: &str| Error::new(Kind::Invalid, format!("creating bucket {bucket}: {text}")).object(bucket);
        if !s3s::path::check_bucket_name(bucket) {
            return Err(failed("that is no bucket name")
                .hint("3 to 63 lower-case letters, digits, dots and hyphens, starting with a letter or digit"));
        }
        let (objects, name) = (Arc::clone(&self.objects), bucket.to_owned());
        match blocking(move || objects.create_bucket(&name)).await {
            Err(error) if *error.code() != s3s::S3ErrorCode::BucketAlreadyOwnedByYou => {
                Err(failed(error.message().unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }

    /// Has the bucket keep versions, and with a number of days lock each new object for so long in the mode GOVERNANCE.
    pub async fn protect_bucket(&self, bucket: &str, days: Option<u16>) -> Result<()> {
        let (objects, name) = (Arc::clone(&self.objects), bucket.to_owned());
        let retention = |days| DefaultRetention { mode: Mode::Governance, length: Length::Days(i32::from(days)) };
        let protect = move |settings: &mut Settings| {
            settings.versioning = Some(Versioning::Enabled);
            settings.lock = days.map(|days| Lock { default: Some(retention(days)) }).or(settings.lock);
            Ok(())
        };
        blocking(move || objects.set(&name, protect)).await.map_err(|error| {
            let text = format!("protecting bucket {bucket}: {}", error.message().unwrap_or_default());
            Error::new(Kind::Failed, text).object(bucket)
        })
    }

    /// Stops at once: requests under way are cut off, what they were writing is dropped.
    pub async fn stop(&self) {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(serving) = serving {
            serving.abort();
            // Being cancelled is the point.
            drop(serving.await);
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.get_mut().unwrap_or_else(PoisonError::into_inner) {
            serving.abort();
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    let http = Builder::new(TokioExecutor::new()).http1_only();
    // Dropping the set ends the connections with the server.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Small answers must not wait for the client's acknowledgement of the last one.
                    drop(stream.set_nodelay(true));
                    let (http, service) = (http.clone(), service.clone());
                    connections.spawn(async move {
                        if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                            tracing::debug!(%error, "S3 connection ended");
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: some will be closed soon.
                    tracing::warn!(%error, "S3 cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The one key pair that is let in.
struct OneKey {
    id: String,
    secret: SecretString,
}

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.id {
            Ok(SecretKey::from(self.secret.expose_secret()))
        } else {
            Err(s3_error!(InvalidAccessKeyId, "the access key id is not known here"))
        }
    }
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> S3Result<T> + Send + 'static) -> S3Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| s3_error!(error, InternalError, "the server is stopping"))?
}

#[cfg(test)]
mod tests;
