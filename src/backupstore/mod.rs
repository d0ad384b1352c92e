//! The Longhorn backup format without a cluster: names, configuration objects, blocks, locks, reading and writing.

pub mod block;
pub mod catalog;
pub mod claim;
pub mod codec;
pub mod config;
pub mod layout;
pub mod lock;
#[cfg(test)]
mod testing;
pub mod url;

pub use block::Compression;
pub use catalog::Catalog;
pub use config::Mode;
pub use layout::BackupRef;
pub use url::TargetUrl;

use crate::{Error, Kind, Result};

/// Runs work that would hold up the async threads elsewhere.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let failed = |error| Err(Error::new(Kind::Failed, "a worker thread was given up").source(error));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
}
