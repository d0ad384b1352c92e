//! The Longhorn backup format without a cluster: names, configuration objects, blocks, locks, reading and writing.

mod backing;
pub mod block;
pub mod catalog;
pub mod claim;
pub mod codec;
pub mod config;
pub mod copy;
pub mod delete;
mod extents;
mod family;
mod fetch;
pub mod files;
mod image;
pub mod layout;
pub mod lock;
pub mod overview;
mod plan;
pub mod protection;
pub mod restore;
pub mod select;
pub mod system;
mod target;
#[cfg(test)]
mod testing;
mod upload;
pub mod url;
pub mod usage;
pub mod verify;
pub mod view;
mod workers;
pub mod write;

pub use block::Compression;
pub use catalog::Catalog;
pub use config::Mode;
pub use image::{Fetched, Image, ImageOptions};
pub use layout::BackupRef;
pub use url::{StoreUrl, TargetUrl};

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use crate::{Error, Kind, Result};

/// A time as Longhorn writes it: RFC 3339 in UTC, whole seconds.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Told how far long work has come: bytes done, bytes in all. Called from the task that does the work; must not block.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(u64, u64) + Send + Sync>);

impl Progress {
    /// Calls that function after each block.
    pub fn new(told: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    fn report(&self, done: u64, total: u64) {
        (self.0)(done, total);
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// Runs work that would hold up the async threads elsewhere.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let failed = |error| Err(Error::new(Kind::Failed, "a worker thread was given up").source(error));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;

    fn may_change_threads(future: impl Future + Send) {
        drop(future);
    }

    #[test]
    fn all_work_can_be_spawned() {
        let place = testing::scratch();
        let (store, of) = (place.store(), BackupRef::new("pvc-1", "b-1").unwrap());
        let catalog = Catalog::new(store.clone());
        may_change_threads(catalog.volumes());
        may_change_threads(catalog.backups("pvc-1"));
        may_change_threads(catalog.backup("pvc-1", "b-1"));
        may_change_threads(catalog.system_backups());
        may_change_threads(catalog.backing_images());
        may_change_threads(catalog.overview());
        may_change_threads(catalog.locks(None));
        may_change_threads(copy::copy(&store, &store, copy::CopyOptions::default()));
        may_change_threads(protection::report(&store, None, |_, _, _| ()));
        may_change_threads(usage::store(&store, |_, _, _| ()));
        may_change_threads(restore::to_file(&store, &of, "image", restore::RestoreOptions::default()));
        may_change_threads(restore::backing_image_to_file(&store, "i-1", "image", restore::RestoreOptions::default()));
        may_change_threads(select::backup(&store, "pvc-1@latest", Timestamp::now()));
        may_change_threads(write::backup_file(&store, "image", write::BackupRequest::new(of.clone(), "s-1", 1)));
        may_change_threads(delete::backup(&store, &of, Duration::ZERO));
        may_change_threads(delete::volume(&store, "pvc-1", Duration::ZERO));
        may_change_threads(system::read(&store, "v1.10.2", "sb1"));
        let config = config::SystemBackupConfig::default();
        may_change_threads(system::write(&store, config, system::Metadata::default(), BTreeMap::new()));
        may_change_threads(system::delete(&store, "v1.10.2", "sb1"));
        may_change_threads(files::browse(&store, &of, ImageOptions::default(), |_| Ok(())));
        let everything = verify::Selection::default();
        may_change_threads(verify::store(&store, &everything, verify::VerifyOptions::new(verify::Level::Deep)));
    }
}
