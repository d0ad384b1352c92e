//! What Longhorn means: backup targets, backups, restores, system backups, persistent volumes and claims, recurring jobs.
//!
//! Everything here talks to Longhorn through its custom resources (`longhorn.io/v1beta2`) and to the backup store
//! through S3. What the objects mean, and where they mislead, is documented with each function.

mod backup;
mod backups;
mod bind;
mod bundle;
mod credentials;
mod expected;
mod fields;
mod hold;
mod inventory;
mod outcome;
mod persistent;
pub mod quantity;
mod recurring;
mod restore;
mod risk;
mod standing;
mod sync;
mod system;
mod target;
#[cfg(test)]
mod tests;
mod version;
mod volume;

use std::time::Duration;

pub use backup::BackupRequest;
pub use backups::{Backup, ClaimInfo};
pub use bind::{BindRequest, Bound};
pub use bundle::Bundle;
pub use credentials::Credentials;
pub use expected::{Expected, ExpectedSet, expected};
pub use hold::Held;
pub use inventory::Inventory;
pub use persistent::Wishes;
pub use recurring::RecurringJob;
pub use restore::{RestoreRequest, Restored};
pub use risk::risks;
pub use standing::{Standing, State};
pub use sync::Synced;
pub use system::{SystemBackup, SystemRestored};
pub use target::{Target, TargetRequest};
pub use version::Version;
pub use volume::Volume;

use crate::{
    Error, Kind, Result,
    cluster::{Cluster, ListOptions, ObjectRef},
};

/// The backup target Longhorn always has; the only one that holds system backups.
pub const DEFAULT_TARGET: &str = "default";
/// Driver of the persistent volumes Longhorn provides.
const CSI_DRIVER: &str = "driver.longhorn.io";
/// Where Longhorn is installed unless its chart was told otherwise.
const USUAL_NAMESPACE: &str = "longhorn-system";

const BACKUP: &str = "backups.longhorn.io";
const BACKUP_TARGET: &str = "backuptargets.longhorn.io";
const BACKUP_VOLUME: &str = "backupvolumes.longhorn.io";
const ENGINE: &str = "engines.longhorn.io";
const RECURRING_JOB: &str = "recurringjobs.longhorn.io";
const SETTING: &str = "settings.longhorn.io";
const SNAPSHOT: &str = "snapshots.longhorn.io";
const SYSTEM_BACKUP: &str = "systembackups.longhorn.io";
const SYSTEM_RESTORE: &str = "systemrestores.longhorn.io";
const VOLUME: &str = "volumes.longhorn.io";

/// Longest time until an object that is being deleted is gone.
const GONE: Duration = Duration::from_mins(2);

/// Version of all of Longhorn's kinds; served since Longhorn 1.3.
const API_VERSION: &str = "longhorn.io/v1beta2";

/// How far something is, told while it is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// 0 to 100, if known.
    pub percent: Option<u8>,
    /// What is going on.
    pub note: String,
}

/// Receives the progress of a long operation.
pub type OnProgress<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// The Longhorn installed in a cluster; cheap to clone.
#[derive(Clone, Debug)]
pub struct Longhorn {
    cluster: Cluster,
    namespace: String,
}

impl Longhorn {
    /// Finds Longhorn in whatever namespace it was installed.
    ///
    /// Errors: `not-found` when the cluster has no Longhorn.
    pub async fn find(cluster: &Cluster) -> Result<Self> {
        let fields = Some("metadata.name=current-longhorn-version".to_string());
        let settings = cluster.list(SETTING, &ListOptions { fields, ..ListOptions::everywhere() }).await;
        let settings = settings.map_err(|error| match error.kind() {
            Kind::NotFound => {
                Error::new(Kind::NotFound, "Longhorn is not installed in this cluster: it has no longhorn.io kinds")
                    .hint("install Longhorn first, for example with its Helm chart")
            }
            _ => error,
        })?;
        // An installation that has not started yet has its kinds and no settings.
        let found = settings.first().map(|setting| fields::text(setting, "/metadata/namespace"));
        let namespace = found.filter(|namespace| !namespace.is_empty()).unwrap_or(USUAL_NAMESPACE).to_string();
        Ok(Self { cluster: cluster.clone(), namespace })
    }

    /// One of Longhorn's objects.
    fn object(&self, kind: &str, name: &str) -> Result<ObjectRef> {
        ObjectRef::namespaced(kind, &self.namespace, name)
    }

    fn all(&self) -> ListOptions {
        ListOptions::namespace(&self.namespace)
    }

    /// The value of a setting; `None` when this version has no such setting.
    ///
    /// Since 1.10 the value of some settings is JSON with one value per data engine; that of the first engine is given.
    pub async fn setting(&self, name: &str) -> Result<Option<String>> {
        let setting = self.cluster.find(&self.object(SETTING, name)?).await?;
        Ok(setting.map(|setting| {
            let value = fields::text(&setting, "/value");
            match serde_json::from_str::<serde_json::Value>(value) {
                Ok(serde_json::Value::Object(engines)) => {
                    engines.get("v1").and_then(serde_json::Value::as_str).unwrap_or(value).to_string()
                }
                _ => value.to_string(),
            }
        }))
    }
}

/// Rest of a limit after `start`, at least a second, so that a last look is always taken.
fn rest(limit: Duration, start: tokio::time::Instant) -> Duration {
    limit.saturating_sub(start.elapsed()).max(Duration::from_secs(1))
}
