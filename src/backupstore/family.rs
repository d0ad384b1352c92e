//! Configurations that list blocks of one pool: the backups of a volume, or all backing images.

use jiff::Timestamp;

use crate::{
    Error, Kind, Result,
    backupstore::{
        Catalog,
        block::{Checksum, DEFAULT_BLOCK_SIZE},
        catalog::{BackupState, Loaded, known},
        config::{BackingImageConfig, BlockMap},
        layout::{self, BackupRef, BlockPool, VolumeKeys},
        view::claim,
    },
    objectstore::ObjectMeta,
};

/// A pool and who lists its blocks.
pub(super) enum Family {
    Volume(VolumeKeys),
    Images,
}

/// A configuration in a store.
pub(super) struct Entry {
    /// The backup or the image.
    pub name: String,
    pub key: String,
    /// Bytes, as far as known.
    size: u64,
}

/// What a configuration says.
pub(super) struct Member {
    pub state: State,
    /// The time of the data.
    pub begun: Option<Timestamp>,
    /// When it was complete.
    pub completed: Option<Timestamp>,
    /// `namespace/name` of the claim it is of.
    pub claim: Option<String>,
    content: Content,
}

pub(super) enum State {
    Complete,
    Unfinished,
    Damaged(Error),
}

enum Content {
    /// With the leave to hold it in memory.
    Backup(Box<Loaded>),
    Image(BackingImageConfig),
}

impl Family {
    pub(super) fn pool(&self) -> BlockPool {
        match self {
            Self::Volume(keys) => keys.blocks(),
            Self::Images => BlockPool::backing_images(),
        }
    }

    /// The volume.
    pub(super) fn volume(&self) -> Option<String> {
        match self {
            Self::Volume(keys) => Some(keys.name().to_owned()),
            Self::Images => None,
        }
    }

    /// Where the locks are that keep others away.
    pub(super) fn locks(&self) -> VolumeKeys {
        match self {
            Self::Volume(keys) => keys.clone(),
            Self::Images => VolumeKeys::backing_image_locks(),
        }
    }

    /// The entry as people call it.
    pub(super) fn told(&self, entry: &Entry) -> String {
        match self {
            Self::Volume(keys) => format!("volume {}, backup {}", keys.name(), entry.name),
            Self::Images => format!("backing image {}", entry.name),
        }
    }

    /// All configurations, in whatever state, by name.
    pub(super) async fn entries(&self, catalog: &Catalog) -> Result<Vec<Entry>> {
        match self {
            Self::Volume(keys) => {
                let found = catalog.backup_objects(keys.name()).await?;
                let entry = |(of, object): (BackupRef, ObjectMeta)| Entry {
                    name: of.backup,
                    key: object.key,
                    size: object.size,
                };
                Ok(found.into_iter().map(entry).collect())
            }
            Self::Images => {
                let entry = |name: String| Ok(Entry { key: layout::backing_image_config(&name)?, name, size: 0 });
                catalog.backing_image_names().await?.into_iter().map(entry).collect()
            }
        }
    }

    /// Reads a configuration; nothing when it was deleted meanwhile.
    pub(super) async fn load(&self, catalog: &Catalog, entry: &Entry) -> Result<Option<Member>> {
        match self {
            Self::Volume(keys) => {
                let of = BackupRef::new(keys.name(), &entry.name)?;
                let Some(loaded) = catalog.load(of, entry.size).await? else { return Ok(None) };
                let state = match &loaded.summary.state {
                    BackupState::Complete => State::Complete,
                    BackupState::InProgress | BackupState::Crashed => State::Unfinished,
                    BackupState::Damaged(error) => State::Damaged(error.clone()),
                };
                Ok(Some(Member {
                    state,
                    begun: loaded.summary.begun(),
                    completed: loaded.summary.config.created_time.parse().ok(),
                    claim: claim(&loaded.summary.config.labels),
                    content: Content::Backup(Box::new(loaded)),
                }))
            }
            Self::Images => {
                let (state, image) = match known(catalog.backing_image(&entry.name).await)? {
                    Err(error) if error.kind() == Kind::NotFound => return Ok(None),
                    Err(error) => (State::Damaged(error), BackingImageConfig::default()),
                    Ok(image) if image.complete_time.is_empty() => (State::Unfinished, image),
                    Ok(image) => (State::Complete, image),
                };
                Ok(Some(Member {
                    state,
                    begun: image.created_time.parse().ok(),
                    completed: image.complete_time.parse().ok(),
                    claim: None,
                    content: Content::Image(image),
                }))
            }
        }
    }
}

impl Member {
    /// The blocks with their raw bytes.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (Checksum, usize)> {
        let (map, size, end) = match &self.content {
            Content::Backup(loaded) => (&loaded.blocks, loaded.summary.config.block_size(), u64::MAX),
            Content::Image(image) => (&image.blocks, DEFAULT_BLOCK_SIZE, image.size),
        };
        let length = move |offset: u64| usize::try_from(size.min(end.saturating_sub(offset))).unwrap_or_default();
        map.as_slice().iter().map(move |block| (block.checksum, length(block.offset)))
    }

    pub(super) fn checksums(&self) -> impl Iterator<Item = Checksum> {
        let map: &BlockMap = match &self.content {
            Content::Backup(loaded) => &loaded.blocks,
            Content::Image(image) => &image.blocks,
        };
        map.as_slice().iter().map(|block| block.checksum)
    }
}
