//! A system backup read from the store itself: no cluster needed, and nothing of it is applied.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::Inventory;
use crate::{
    Error, Kind, Result,
    backupstore::{Catalog, system},
    objectstore::Store,
};

/// What a system backup holds, by kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bundle {
    /// Name of the system backup.
    pub name: String,
    /// Version of Longhorn that made it.
    pub version: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Version of Kubernetes it was made on; empty when it does not say.
    pub kubernetes_version: String,
    /// Image its system restore would run.
    pub manager_image: String,
    /// Longhorn's volumes.
    pub volumes: Vec<Value>,
    /// PersistentVolumes of Longhorn.
    pub persistent_volumes: Vec<Value>,
    /// Claims of classes that Longhorn provides; a class without name brings foreign ones along.
    pub claims: Vec<Value>,
    /// Storage classes of Longhorn.
    pub storage_classes: Vec<Value>,
    /// Recurring jobs.
    pub recurring_jobs: Vec<Value>,
    /// Longhorn's settings.
    pub settings: Vec<Value>,
    /// Backup targets, without their secrets.
    pub backup_targets: Vec<Value>,
    /// Backing images.
    pub backing_images: Vec<Value>,
}

impl Bundle {
    /// Reads the system backup of that name; of several versions' the newest.
    ///
    /// Errors: `not-found`, naming those there are; `damaged` when it is not what was written.
    pub async fn read(store: &Store, name: &str) -> Result<Self> {
        let entries = Catalog::new(store.clone()).system_backups().await?;
        let created = |entry: &crate::backupstore::catalog::SystemBackupEntry| {
            entry.config.as_ref().map(|config| config.created_at.clone()).unwrap_or_default()
        };
        let found = entries.iter().filter(|entry| entry.name == name).max_by_key(|entry| created(entry));
        let Some(entry) = found else {
            let known: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
            let error = Error::new(Kind::NotFound, format!("{} has no system backup {name:?}", store.describe()));
            return Err(if known.is_empty() {
                error.hint("it has none at all: make one with longhorn::system_backup(name)")
            } else {
                error.hint(format!("there are: {}", known.join(", ")))
            });
        };
        let bundle = system::read(store, &entry.version, name).await?;
        Ok(Self {
            name: name.to_string(),
            version: bundle.config.longhorn_version.clone(),
            created: bundle.config.created_at.clone(),
            kubernetes_version: bundle.metadata.kubernetes_version.clone(),
            manager_image: bundle.config.manager_image.clone(),
            volumes: bundle.objects("Volume")?,
            persistent_volumes: bundle.objects("PersistentVolume")?,
            claims: bundle.objects("PersistentVolumeClaim")?,
            storage_classes: bundle.objects("StorageClass")?,
            recurring_jobs: bundle.objects("RecurringJob")?,
            settings: bundle.objects("Setting")?,
            backup_targets: bundle.objects("BackupTarget")?,
            backing_images: bundle.objects("BackingImage")?,
        })
    }

    /// The newest system backup in the store that can be read; `None` when there is none.
    pub async fn newest(store: &Store) -> Result<Option<Self>> {
        let mut entries = Catalog::new(store.clone()).system_backups().await?;
        entries.retain(|entry| entry.config.is_ok());
        entries.sort_by_key(|entry| entry.config.as_ref().map(|config| config.created_at.clone()).unwrap_or_default());
        for entry in entries.iter().rev() {
            match Self::read(store, &entry.name).await {
                Err(error) if error.kind() == Kind::Damaged => {
                    tracing::warn!(%error, "a damaged system backup is passed over");
                }
                other => return other.map(Some),
            }
        }
        Ok(None)
    }

    /// Moment it was made.
    pub fn moment(&self) -> Option<Timestamp> {
        self.created.parse().ok()
    }

    /// Its volumes, PersistentVolumes and claims.
    pub fn inventory(&self) -> Inventory {
        Inventory::of(self.volumes.iter().chain(&self.persistent_volumes).chain(&self.claims))
    }
}
