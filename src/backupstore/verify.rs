//! Are the backups whole? Answered from the store alone, without a restore.
//!
//! Each block is looked at once, however many backups share it; what is wrong with it is then traced to every backup and
//! offset it spoils. Memory grows with the number of different blocks of one volume, not with its backups.

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    Catalog, Progress,
    block::{Checksum, DEFAULT_BLOCK_SIZE},
    catalog::{BackupState, BackupSummary},
    codec::Fault,
    config::{BlockMap, VolumeConfig},
    fetch::{BlockReader, Loss},
    layout::{self, BackupRef, BlockPool, VolumeKeys},
    workers::Workers,
};
use crate::{
    Error, Kind, Result,
    objectstore::{Depth, Store},
};

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Every block is there and not empty, by one listing. Says nothing of its content.
    Exists,
    /// Every block is read, unpacked and hashed.
    Deep,
}

/// How to verify.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// How closely to look.
    pub level: Level,
    /// Blocks requested at the same time.
    pub concurrency: usize,
    /// Told the raw bytes of blocks looked at so far and in all, for each volume anew.
    pub progress: Option<Progress>,
}

impl VerifyOptions {
    /// Eight blocks at the same time, telling nobody.
    pub fn new(level: Level) -> Self {
        Self { level, concurrency: 8, progress: None }
    }
}

/// What is known of one backup.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Everything it needs was found as it must be.
    Whole,
    /// It cannot be restored, or not by Longhorn.
    Damaged(Vec<Spoilt>),
    /// Its configuration, or the volume's, cannot be used.
    Unusable(Error),
    /// It is being made.
    InProgress,
    /// It was begun, and nobody works on it any more; there is nothing to restore.
    Crashed,
    /// It was deleted while it was looked at.
    Deleted,
}

/// A bad block and where a backup has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoilt {
    /// The block's key.
    pub key: String,
    /// Every offset of the volume that it spoils, ascending.
    pub offsets: Vec<u64>,
}

/// An object that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBlock {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is known of the backups of one volume.
#[derive(Clone, Debug)]
pub struct VolumeReport {
    /// The volume.
    pub volume: String,
    /// Each backup, oldest first.
    pub backups: Vec<(BackupRef, Verdict)>,
    /// The bad objects, by key.
    pub bad: Vec<BadBlock>,
    /// Different blocks looked at.
    pub blocks: usize,
    /// Their raw bytes.
    pub bytes: u64,
    /// Packed bytes read from the store; 0 unless [`Level::Deep`].
    pub stored_bytes: u64,
}

impl VolumeReport {
    /// Whether every complete backup is whole.
    pub fn is_whole(&self) -> bool {
        self.backups.iter().all(|(_, verdict)| !matches!(verdict, Verdict::Damaged(_) | Verdict::Unusable(_)))
    }
}

/// Verifies the backups of a volume, all or those named.
///
/// The store is only read. A damaged block is read a second time before it is reported, and a backup that was deleted
/// meanwhile is told from a loss.
///
/// # Errors
/// Only when the store cannot be asked, or a named backup does not exist; damage is part of the result.
pub async fn volume(
    store: &Store,
    volume: &str,
    only: Option<&[String]>,
    options: &VerifyOptions,
) -> Result<VolumeReport> {
    let keys = VolumeKeys::new(volume)?;
    let catalog = Catalog::new(store.clone());
    let mut summaries = catalog.backups(volume).await?;
    if let Some(only) = only {
        if let Some(missing) = only.iter().find(|name| summaries.iter().all(|found| found.backup.backup != **name)) {
            let text = format!("volume {volume} has no backup {missing}");
            return Err(Error::new(Kind::NotFound, text).object(keys.backups()));
        }
        summaries.retain(|found| only.contains(&found.backup.backup));
    }
    let config = match catalog.volume(volume).await {
        Err(error) if !about_the_object(&error) => return Err(error),
        config => config,
    };
    let image = match &config {
        Ok(config) if !config.backing_image_name.is_empty() => {
            Some(backing_image(store, &config.backing_image_name, options).await?)
        }
        _ => None,
    };

    let mut wanted = HashMap::new();
    let mut verdicts = Vec::new();
    for summary in summaries {
        let verdict = first_verdict(&catalog, &summary, &config, image.as_ref(), &mut wanted).await?;
        verdicts.push((summary.backup, verdict));
    }
    let looked = look(store, &keys.blocks(), &wanted, options).await?;
    let mut report = VolumeReport {
        volume: volume.into(),
        backups: Vec::new(),
        blocks: wanted.len(),
        bytes: wanted.values().sum(),
        stored_bytes: looked.stored_bytes,
        bad: looked.report(&keys.blocks()),
    };
    for (backup, verdict) in verdicts {
        let verdict = match verdict {
            Verdict::Whole if !looked.bad.is_empty() => trace(&catalog, &keys, &backup, &looked.bad).await?,
            verdict => verdict,
        };
        report.backups.push((backup, verdict));
    }
    Ok(report)
}

/// Says what is wrong with a backup before any block is looked at, and else which blocks it needs.
async fn first_verdict(
    catalog: &Catalog,
    summary: &BackupSummary,
    volume: &Result<VolumeConfig>,
    image: Option<&Result<()>>,
    wanted: &mut HashMap<Checksum, u64>,
) -> Result<Verdict> {
    match &summary.state {
        BackupState::InProgress => return Ok(Verdict::InProgress),
        BackupState::Crashed => return Ok(Verdict::Crashed),
        BackupState::Damaged(error) => return Ok(Verdict::Unusable(error.clone())),
        BackupState::Complete => {}
    }
    let backup = match catalog.backup(&summary.backup.volume, &summary.backup.backup).await {
        Ok(backup) => backup,
        Err(error) if error.kind() == Kind::NotFound => return Ok(Verdict::Deleted),
        Err(error) if about_the_object(&error) => return Ok(Verdict::Unusable(error)),
        Err(error) => return Err(error),
    };
    let usable = match (volume, image) {
        (Err(error), _) | (_, Some(Err(error))) => Err(error.clone()),
        (Ok(volume), _) => backup.check_restorable(volume),
    };
    for block in backup.blocks.as_slice() {
        wanted.insert(block.checksum, backup.block_size());
    }
    Ok(usable.map_or_else(Verdict::Unusable, |()| Verdict::Whole))
}

fn about_the_object(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Invalid)
}

/// Finds the places of bad blocks in one backup.
async fn trace(
    catalog: &Catalog,
    keys: &VolumeKeys,
    of: &BackupRef,
    bad: &HashMap<Checksum, Fault>,
) -> Result<Verdict> {
    let blocks = match catalog.backup(&of.volume, &of.backup).await {
        Ok(backup) => backup.blocks,
        Err(error) if error.kind() == Kind::NotFound => return Ok(Verdict::Deleted),
        Err(error) if about_the_object(&error) => return Ok(Verdict::Unusable(error)),
        Err(error) => return Err(error),
    };
    let spoilt = spoilt(&keys.blocks(), &blocks, bad);
    Ok(if spoilt.is_empty() { Verdict::Whole } else { Verdict::Damaged(spoilt) })
}

fn spoilt(pool: &BlockPool, blocks: &BlockMap, bad: &HashMap<Checksum, Fault>) -> Vec<Spoilt> {
    let mut places: BTreeMap<Checksum, Vec<u64>> = BTreeMap::new();
    for block in blocks.as_slice().iter().filter(|block| bad.contains_key(&block.checksum)) {
        places.entry(block.checksum).or_default().push(block.offset);
    }
    places.into_iter().map(|(checksum, offsets)| Spoilt { key: pool.key(&checksum), offsets }).collect()
}

/// Whether a backing image can be laid under a volume.
async fn backing_image(store: &Store, name: &str, options: &VerifyOptions) -> Result<Result<()>> {
    let image = match Catalog::new(store.clone()).backing_image(name).await {
        Ok(image) => image,
        Err(error) if about_the_object(&error) => return Ok(Err(error)),
        Err(error) => return Err(error),
    };
    let key = layout::backing_image_config(name)?;
    if image.complete_time.is_empty() {
        let text = format!("the backup of its backing image {name} was never completed");
        return Ok(Err(Error::new(Kind::Invalid, text).object(key)));
    }
    let length = |offset: u64| DEFAULT_BLOCK_SIZE.min(image.size - offset);
    let wanted = image.blocks.as_slice().iter().map(|block| (block.checksum, length(block.offset))).collect();
    let pool = BlockPool::backing_images();
    let quiet = VerifyOptions { progress: None, ..options.clone() };
    let looked = look(store, &pool, &wanted, &quiet).await?;
    let Some(first) = spoilt(&pool, &image.blocks, &looked.bad).into_iter().next() else { return Ok(Ok(())) };
    let fault = &looked.report(&pool)[0].fault;
    let text = format!("its backing image {name} is damaged at offset {}: {fault} ({})", first.offsets[0], first.key);
    Ok(Err(Error::new(Kind::Damaged, text).object(first.key)))
}

#[derive(Default)]
struct Looked {
    bad: HashMap<Checksum, Fault>,
    stored_bytes: u64,
}

impl Looked {
    fn report(&self, pool: &BlockPool) -> Vec<BadBlock> {
        let bad = self.bad.iter().map(|(checksum, fault)| BadBlock { key: pool.key(checksum), fault: fault.clone() });
        let mut bad: Vec<BadBlock> = bad.collect();
        bad.sort_by(|a, b| a.key.cmp(&b.key));
        bad
    }
}

async fn look(
    store: &Store,
    pool: &BlockPool,
    wanted: &HashMap<Checksum, u64>,
    options: &VerifyOptions,
) -> Result<Looked> {
    match options.level {
        Level::Exists => exists(store, pool, wanted).await,
        Level::Deep => deep(store, pool, wanted, options).await,
    }
}

/// Compares the wanted blocks with a listing.
async fn exists(store: &Store, pool: &BlockPool, wanted: &HashMap<Checksum, u64>) -> Result<Looked> {
    let mut bad: HashMap<Checksum, Fault> = wanted.keys().map(|checksum| (*checksum, Fault::Missing)).collect();
    let mut pages = store.list_pages(pool.prefix(), Depth::All);
    while let Some(page) = pages.try_next().await? {
        for object in page.objects {
            let Some(checksum) = pool.checksum(&object.key) else { continue };
            let Some(length) = wanted.get(&checksum) else { continue };
            match object.size {
                0 => bad.insert(checksum, Fault::Empty),
                size if size > super::codec::max_stored(*length) => bad.insert(checksum, Fault::TooLarge),
                _ => bad.remove(&checksum),
            };
        }
    }
    Ok(Looked { bad, stored_bytes: 0 })
}

/// Reads every wanted block.
async fn deep(
    store: &Store,
    pool: &BlockPool,
    wanted: &HashMap<Checksum, u64>,
    options: &VerifyOptions,
) -> Result<Looked> {
    let reader = BlockReader::new(store.clone(), pool.clone(), Workers::new());
    let total = wanted.values().sum();
    let mut looked = Looked::default();
    let mut bytes = 0;
    let mut done = stream::iter(wanted)
        .map(|(checksum, length)| {
            let read = reader.read(*checksum, usize::try_from(*length).unwrap_or_default(), |block| Ok(block.flaw));
            async move { (*checksum, *length, read.await) }
        })
        .buffer_unordered(options.concurrency.max(1))
        .boxed();
    while let Some((checksum, length, read)) = done.next().await {
        match read {
            Ok(got) => {
                looked.stored_bytes += got.stored;
                if let Some(flaw) = got.value {
                    looked.bad.insert(checksum, Fault::Flawed(flaw));
                }
            }
            Err(Loss::Fault(fault)) => {
                looked.bad.insert(checksum, fault);
            }
            Err(Loss::Error(error)) => return Err(error),
        }
        bytes += length;
        if let Some(progress) = &options.progress {
            progress.report(bytes, total);
        }
    }
    Ok(looked)
}

#[cfg(test)]
mod tests;
