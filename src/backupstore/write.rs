//! Backing up: the mapped blocks of an image into a store, as Longhorn writes them, so that Longhorn restores them.
//!
//! Order of writing (`deltablock.go`): lock, `volume.cfg` if there is none, the backup's configuration without an end,
//! blocks, the complete configuration, `volume.cfg`. A backup that says it is complete has all its blocks.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::{
    Catalog, Compression, Mode, Progress,
    block::{Checksum, DEFAULT_BLOCK_SIZE, LARGE_BLOCK_SIZE},
    config::{BackupConfig, Block, BlockMap, Labels, LockType, VolumeConfig},
    extents::{mapped_blocks, read_block},
    layout::{BackupRef, VolumeKeys},
    lock::{Lock, SETTLE},
    rfc3339,
    upload::{Upload, Uploaded},
};
use crate::{Error, Kind, Result, objectstore::Store};

/// What to back up, and how.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    /// Volume and name of the backup, which must be new.
    pub backup: BackupRef,
    /// The snapshot the image is of.
    pub snapshot: String,
    /// Bytes of the volume, in whole blocks; what the image lacks at its end is not mapped.
    pub size: u64,
    /// When the backup was begun.
    pub begun: Timestamp,
    /// Labels of the backup and, as its latest, of the volume.
    pub labels: Labels,
    /// Everything, or what changed since the latest backup.
    pub mode: Mode,
    /// How new blocks are packed, if the volume is new in the store; else it stays with its method, as in Longhorn.
    pub compression: Compression,
    /// Bytes of a block: 2 MiB or 16 MiB.
    pub block_size: u64,
    /// The storage class of the volume's claim.
    pub storage_class: String,
    /// Blocks uploaded at the same time.
    pub concurrency: usize,
    /// How long the lock settles; [`SETTLE`] wherever a real Longhorn may use the store.
    pub settle: Duration,
    /// Told the bytes of the image done so far and in all.
    pub progress: Option<Progress>,
}

impl BackupRequest {
    /// An incremental backup in 2 MiB blocks, packed with lz4, begun now.
    pub fn new(backup: BackupRef, snapshot: impl Into<String>, size: u64) -> Self {
        Self {
            backup,
            snapshot: snapshot.into(),
            size,
            begun: Timestamp::now(),
            labels: Labels::new(),
            mode: Mode::default(),
            compression: Compression::default(),
            block_size: DEFAULT_BLOCK_SIZE,
            storage_class: String::new(),
            concurrency: 8,
            settle: SETTLE,
            progress: None,
        }
    }
}

/// What was backed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the listed blocks.
    pub size: u64,
    /// Blocks listed.
    pub blocks: usize,
    /// Packed bytes new in the store.
    pub uploaded_bytes: u64,
    /// Packed bytes written over existing blocks, by a full backup.
    pub reuploaded_bytes: u64,
    /// Whether it continues the latest backup.
    pub incremental: bool,
    /// When it was begun, as written.
    pub snapshot_created_at: String,
    /// When it was complete, as written.
    pub created_time: String,
}

/// Backs up a raw image file.
///
/// An incremental backup reads the mapped blocks and uploads what the store lacks. Its list is complete, and what an
/// earlier backup listed stays listed, as zeros where the image has a hole now. An upload that fails takes the unfinished
/// configuration away again; blocks that nothing refers to are removed with the next deletion.
///
/// # Errors
/// `invalid` for a size that is not in whole blocks or smaller than before, `conflict` when the backup exists or the
/// volume is locked for a deletion, `damaged` when its `volume.cfg` is.
pub async fn backup_file(store: &Store, image: impl AsRef<Path>, request: BackupRequest) -> Result<Written> {
    let keys = VolumeKeys::new(&request.backup.volume)?;
    let source = Source::open(image.as_ref(), &request)?;
    let lock = Lock::acquire(store, &keys, LockType::Use, request.settle).await?;
    let writer = Writer { store, catalog: Catalog::new(store.clone()), keys, source: Arc::new(source), request };
    let written = writer.write().await;
    lock.release().await?;
    written.map_err(|error| error.context(format_args!("backing up {}", writer.request.backup)))
}

struct Source {
    file: File,
    path: PathBuf,
}

impl Source {
    fn open(path: &Path, request: &BackupRequest) -> Result<Self> {
        let BackupRequest { size, block_size, .. } = *request;
        if !matches!(block_size, DEFAULT_BLOCK_SIZE | LARGE_BLOCK_SIZE) {
            return Err(Error::new(Kind::Invalid, format!("a block cannot have {block_size} bytes"))
                .hint("Longhorn has blocks of 2 MiB and 16 MiB"));
        }
        if size == 0 || size % block_size != 0 {
            return Err(Error::new(
                Kind::Invalid,
                format!("a volume of {size} bytes is not made of {block_size} byte blocks"),
            )
            .hint("only volumes in whole blocks can be restored by Longhorn"));
        }
        let file = File::open(path).map_err(|error| fault(path, error))?;
        let length = file.metadata().map_err(|error| fault(path, error))?.len();
        if length > size {
            let text = format!("{} has {length} bytes, more than the {size} of its volume", path.display());
            return Err(Error::new(Kind::Invalid, text).object(path.to_string_lossy()));
        }
        Ok(Self { file, path: path.to_owned() })
    }
}

fn fault(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::PermissionDenied => Kind::Denied,
        _ => Kind::Failed,
    };
    Error::new(kind, format!("reading {}", path.display())).object(path.to_string_lossy()).source(error)
}

struct Writer<'a> {
    store: &'a Store,
    catalog: Catalog,
    keys: VolumeKeys,
    source: Arc<Source>,
    request: BackupRequest,
}

impl Writer<'_> {
    async fn write(&self) -> Result<Written> {
        let key = self.keys.backup(&self.request.backup.backup)?;
        if self.store.head(&key).await?.is_some() {
            return Err(Error::new(Kind::Conflict, "a backup of that name exists already")
                .object(key)
                .hint("choose another name, or delete that backup first"));
        }
        let volume = self.volume().await?;
        let last = self.last_backup(&volume).await?;
        let request = &self.request;
        let mut config = BackupConfig::begin(&request.backup, request.mode, request.block_size);
        config.compression_method = volume.compression_method;
        config.is_incremental = last.is_some();
        config.labels = request.labels.clone();
        self.store.put(&key, config.to_bytes()?.into()).await?;
        match self.finish(&key, config, last).await {
            Ok(written) => Ok(written),
            Err(error) => {
                if let Err(left) = self.store.delete(&key).await {
                    tracing::warn!("the unfinished backup {key} could not be removed: {left}");
                }
                Err(error)
            }
        }
    }

    /// The volume as the store has it, or as it is made there now.
    async fn volume(&self) -> Result<VolumeConfig> {
        let request = &self.request;
        match self.catalog.volume(&request.backup.volume).await {
            Ok(volume) if volume.size > request.size => {
                let text =
                    format!("the volume has {} bytes in the store, it cannot shrink to {}", volume.size, request.size);
                Err(Error::new(Kind::Invalid, text).object(self.keys.config()))
            }
            Ok(volume) if !volume.backing_image_name.is_empty() => {
                let text = format!("the volume lies over the backing image {}", volume.backing_image_name);
                Err(Error::new(Kind::Invalid, text)
                    .object(self.keys.config())
                    .hint("an image of such a volume does not tell what is the volume's own; back it up by Longhorn"))
            }
            Err(error) if error.kind() == Kind::NotFound => {
                let volume = VolumeConfig {
                    name: request.backup.volume.clone(),
                    size: request.size,
                    labels: request.labels.clone(),
                    created_time: rfc3339(Timestamp::now()),
                    compression_method: request.compression.as_str().into(),
                    storage_class_name: request.storage_class.clone(),
                    data_engine: "v1".into(),
                    ..VolumeConfig::default()
                };
                self.store.put(&self.keys.config(), volume.to_bytes()?.into()).await?;
                Ok(volume)
            }
            found => found,
        }
    }

    /// The backup to continue: the latest, if it is whole, of another snapshot, and in blocks of the same size.
    async fn last_backup(&self, volume: &VolumeConfig) -> Result<Option<BackupConfig>> {
        let request = &self.request;
        if request.mode == Mode::Full || volume.last_backup_name.is_empty() {
            return Ok(None);
        }
        match self.catalog.backup(&volume.name, &volume.last_backup_name).await {
            Ok(last) => {
                let fits = last.check_restorable(volume).is_ok()
                    && last.block_size() == request.block_size
                    && last.snapshot_name != request.snapshot;
                Ok(fits.then_some(last))
            }
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Invalid) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn finish(&self, key: &str, mut config: BackupConfig, last: Option<BackupConfig>) -> Result<Written> {
        let request = &self.request;
        let compression = config.compression_method.parse().unwrap_or(request.compression);
        let again = request.mode == Mode::Full;
        let upload = Upload::into_pool(self.store, self.keys.blocks(), compression, again).await?;
        let (blocks, uploaded) = self.blocks(&upload, last.map(|last| last.blocks).unwrap_or_default()).await?;
        config.snapshot_name.clone_from(&request.snapshot);
        config.snapshot_created_at = rfc3339(request.begun);
        config.created_time = rfc3339(Timestamp::now());
        config.size = blocks.len() as u64 * request.block_size;
        config.newly_uploaded_data_size = uploaded.new_bytes;
        config.re_uploaded_data_size = uploaded.again_bytes;
        config.blocks = blocks;
        self.store.put(key, config.to_bytes()?.into()).await?;
        self.update_volume(&config, uploaded.new_blocks).await?;
        Ok(Written {
            size: config.size,
            blocks: config.blocks.len(),
            uploaded_bytes: uploaded.new_bytes,
            reuploaded_bytes: uploaded.again_bytes,
            incremental: config.is_incremental,
            snapshot_created_at: config.snapshot_created_at,
            created_time: config.created_time,
        })
    }

    async fn blocks(&self, upload: &Upload, last: BlockMap) -> Result<(BlockMap, Uploaded)> {
        let block_size = self.request.block_size;
        let source = self.source.clone();
        let mapped = super::blocking(move || {
            mapped_blocks(&source.file, block_size).map_err(|error| fault(&source.path, error))
        })
        .await?;
        let mut blocks = Vec::with_capacity(mapped.len());
        let mut uploaded = Uploaded::default();
        let total = mapped.len() as u64 * block_size;
        let mut done = stream::iter(&mapped)
            .map(|offset| self.block(upload, *offset))
            .buffer_unordered(self.request.concurrency.max(1))
            .boxed();
        while let Some((block, sent)) = done.try_next().await? {
            blocks.push(block);
            uploaded.add(sent);
            if let Some(progress) = &self.request.progress {
                progress.report(blocks.len() as u64 * block_size, total);
            }
        }
        let holes = last.as_slice().iter().filter(|block| mapped.binary_search(&block.offset).is_err());
        let zeros = Checksum::of_zeros(block_size);
        let holes: Vec<Block> = holes.map(|block| Block { offset: block.offset, checksum: zeros }).collect();
        if !holes.is_empty() {
            let fill = |buffer: &mut [u8]| {
                buffer.fill(0);
                Ok(())
            };
            uploaded.add(upload.block(block_size, fill).await?.1);
            blocks.extend(holes);
        }
        Ok((BlockMap::from_blocks(blocks), uploaded))
    }

    async fn block(&self, upload: &Upload, offset: u64) -> Result<(Block, Uploaded)> {
        let source = self.source.clone();
        let fill = move |buffer: &mut [u8]| {
            read_block(&source.file, offset, buffer).map_err(|error| fault(&source.path, error))
        };
        let (checksum, uploaded) = upload.block(self.request.block_size, fill).await?;
        Ok((Block { offset, checksum }, uploaded))
    }

    /// Another backup of the volume may have finished meanwhile, so the volume is read again.
    async fn update_volume(&self, backup: &BackupConfig, new_blocks: u64) -> Result<()> {
        let mut volume = self.catalog.volume(&self.request.backup.volume).await?;
        volume.size = volume.size.max(self.request.size);
        volume.labels.clone_from(&backup.labels);
        volume.last_backup_name.clone_from(&backup.name);
        volume.last_backup_at.clone_from(&backup.snapshot_created_at);
        volume.block_count += new_blocks;
        self.store.put(&self.keys.config(), volume.to_bytes()?.into()).await
    }
}

#[cfg(test)]
mod tests;
