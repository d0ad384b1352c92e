//! The volumes and locks of a store at a glance.

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::{
    Catalog,
    catalog::{BackupState, REQUESTS, known},
    claim::KubernetesStatus,
    config::{Labels, VolumeConfig},
    layout::VolumeKeys,
    lock,
    view::{LockView, claim, others, packing},
};
use crate::{Error, Kind, Result};

/// The configuration of a backup that is not complete has no blocks and hardly a label, so it is small: that of a
/// complete one is larger from about a dozen blocks. Only what is smaller, in bytes, is read to list volumes.
const SMALL: u64 = 2048;

/// A volume at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct VolumeView {
    /// Its name in the store.
    pub volume: String,
    /// `namespace/name` of the claim its latest backup was of.
    pub claim: Option<String>,
    /// Bytes of the volume.
    pub size: Option<u64>,
    /// How many backups there are, in whatever state.
    pub backup_count: usize,
    /// Blocks in its pool as its configuration says; a hint that may be off.
    pub blocks: Option<u64>,
    /// The latest complete backup.
    pub latest: Option<String>,
    /// When that was begun, RFC 3339.
    pub latest_at: Option<String>,
    /// `ok`, `damaged` (a configuration cannot be read), `no-volume-cfg`, `crashed` (a backup was begun and left) or
    /// `in-progress`. It says nothing of blocks: that is what verifying is for.
    pub state: &'static str,
    /// What is wrong.
    pub error: Option<String>,
    /// Backups that are not complete.
    pub unfinished: Vec<String>,
}

/// A volume with all that is known of it.
#[derive(Clone, Debug, Serialize)]
pub struct VolumeDetail {
    /// At a glance.
    #[serde(flatten)]
    pub view: VolumeView,
    /// When it appeared in the store, RFC 3339.
    pub created: Option<String>,
    /// The backing image it lies over.
    pub backing_image: Option<String>,
    /// SHA-512 of that image's file.
    pub backing_image_checksum: Option<String>,
    /// How new blocks are packed.
    pub compression: Option<String>,
    /// The storage class its claim had.
    pub storage_class: Option<String>,
    /// `v1` or `v2`.
    pub data_engine: Option<String>,
    /// Who used it at its latest backup.
    pub kubernetes: Option<KubernetesStatus>,
    /// The other labels of its latest backup.
    pub labels: Labels,
}

impl Catalog {
    /// All volumes at a glance, by name. Of their backups only those are read that may not be complete.
    pub async fn overview(&self) -> Result<Vec<VolumeView>> {
        stream::iter(self.volume_names().await?)
            .map(|name| async move { Ok(self.look(&name).await?.0) })
            .buffered(REQUESTS)
            .try_collect()
            .await
    }

    /// A volume with all that is known of it, but for its backups.
    ///
    /// # Errors
    /// `not-found` when there is nothing of it.
    pub async fn detail(&self, volume: &str) -> Result<VolumeDetail> {
        let (view, config) = self.look(volume).await?;
        if view.backup_count == 0 && view.state == "no-volume-cfg" {
            return Err(no_volume(self, volume));
        }
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Ok(VolumeDetail {
            view,
            created: some(&config.created_time),
            backing_image: some(&config.backing_image_name),
            backing_image_checksum: some(&config.backing_image_checksum),
            compression: (!config.name.is_empty()).then(|| packing(&config.compression_method)),
            storage_class: some(&config.storage_class_name),
            data_engine: (!config.name.is_empty()).then(|| some(&config.data_engine).unwrap_or_else(|| "v1".into())),
            kubernetes: KubernetesStatus::from_labels(&config.labels),
            labels: others(config.labels),
        })
    }

    /// The volume, and its configuration, which is empty when it cannot be read.
    async fn look(&self, volume: &str) -> Result<(VolumeView, VolumeConfig)> {
        let (config, objects) =
            tokio::try_join!(async { known(self.volume(volume).await) }, self.backup_objects(volume))?;
        let latest = config.as_ref().map(|config| config.last_backup_name.as_str()).unwrap_or_default();
        // A latest backup that is not there any more, or nobody named, must be looked for.
        let lost = objects.iter().all(|(backup, _)| backup.backup != latest);
        let backups = objects.len();
        let mut wanted = objects;
        wanted.retain(|(_, object)| lost || object.size < SMALL);
        let read = self.summaries(volume, wanted).await?;

        let found = |state: &str| read.iter().find(|backup| backup.state.as_str() == state);
        let newest = read.iter().rev().find(|backup| matches!(backup.state, BackupState::Complete));
        let (state, error) = match (&config, found("damaged").map(|backup| &backup.state)) {
            (Err(error), _) if error.kind() == Kind::NotFound => ("no-volume-cfg", Some(error)),
            (Err(error), _) | (Ok(_), Some(BackupState::Damaged(error))) => ("damaged", Some(error)),
            _ if found("crashed").is_some() => ("crashed", None),
            _ if found("in-progress").is_some() => ("in-progress", None),
            _ => ("ok", None),
        };
        let error = error.map(ToString::to_string);
        let unfinished = ["crashed", "in-progress"];
        let unfinished = read.iter().filter(|backup| unfinished.contains(&backup.state.as_str()));
        let unfinished = unfinished.map(|backup| backup.backup.backup.clone()).collect();
        let known = config.as_ref().ok();
        let labels = known.map(|config| &config.labels).or(newest.map(|newest| &newest.config.labels));
        let (latest, latest_at) = match (lost, known) {
            (false, Some(config)) => (Some(config.last_backup_name.clone()), Some(config.last_backup_at.clone())),
            _ => newest.map(|found| (found.backup.backup.clone(), found.config.snapshot_created_at.clone())).unzip(),
        };
        let view = VolumeView {
            volume: volume.to_owned(),
            claim: labels.and_then(claim),
            size: known.map(|config| config.size),
            backup_count: backups,
            blocks: known.map(|config| config.block_count),
            latest,
            latest_at: latest_at.filter(|time| !time.is_empty()),
            state,
            error,
            unfinished,
        };
        Ok((view, config.unwrap_or_default()))
    }

    /// The locks of a volume, or of all volumes and of the backing images, abandoned ones included.
    ///
    /// # Errors
    /// `not-found` when there is nothing of the named volume.
    pub async fn locks(&self, volume: Option<&str>) -> Result<Vec<LockView>> {
        let mut places = Vec::new();
        if let Some(volume) = volume {
            places.push((Some(volume.to_owned()), VolumeKeys::new(volume)?));
        } else {
            for name in self.volume_names().await? {
                let keys = VolumeKeys::new(&name)?;
                places.push((Some(name), keys));
            }
            places.push((None, VolumeKeys::backing_image_locks()));
        }
        let found: Vec<(Option<String>, Vec<lock::FoundLock>)> = stream::iter(places)
            .map(|(volume, keys)| async move { Ok::<_, Error>((volume, lock::list(self.store(), &keys).await?)) })
            .buffered(REQUESTS)
            .try_collect()
            .await?;
        if found.iter().all(|(_, locks)| locks.is_empty()) {
            if let Some(volume) = volume
                && known(self.volume(volume).await)?.is_err()
                && self.backup_objects(volume).await?.is_empty()
            {
                return Err(no_volume(self, volume));
            }
            return Ok(Vec::new());
        }
        let now = self.store().now().await?;
        let views = found.into_iter().flat_map(|(volume, locks)| {
            locks.into_iter().map(move |lock| LockView::of(volume.clone(), &lock, now)).collect::<Vec<_>>()
        });
        Ok(views.collect())
    }
}

/// There is nothing of that volume in the store.
pub fn no_volume(catalog: &Catalog, volume: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no volume {volume} in {}", catalog.store().describe())).object(volume)
}

#[cfg(test)]
mod tests;
