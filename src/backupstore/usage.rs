//! What takes the space: by volume and backup, what only one of them needs, what several share, what nobody needs.
//!
//! One listing of a volume's objects and the block lists of its backups answer it; no block is read. Memory grows with
//! the number of different blocks of a few volumes.

mod tally;

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

pub use self::tally::Amount;
use self::tally::Tally;
use super::{
    Catalog,
    block::DEFAULT_BLOCK_SIZE,
    catalog::{BackupState, BackupSummary, known},
    layout::{self, BlockPool, VolumeKeys},
    lock,
    overview::no_volume,
};
use crate::{
    Error, Kind, Result,
    objectstore::{Depth, ObjectMeta, Store, Versioning},
};

/// Volumes looked at at the same time.
const VOLUMES: usize = 4;
/// Backup configurations of one volume read at the same time.
const READS: usize = 8;

/// Objects that are not blocks in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Objects {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Objects {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn plus(self, other: Self) -> Self {
        Self { objects: self.objects + other.objects, bytes: self.bytes.saturating_add(other.bytes) }
    }
}

/// Former versions that a bucket with versions keeps: they are paid for and seen in no ordinary listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Noncurrent {
    /// Versions that were overwritten or deleted.
    pub versions: Objects,
    /// Marks of deletion.
    pub delete_markers: u64,
}

/// What one backup needs.
#[derive(Clone, Debug, Serialize)]
pub struct BackupUsage {
    /// The backup, or the backing image.
    pub backup: String,
    /// `complete`, `in-progress`, `crashed` or `damaged`.
    pub state: &'static str,
    /// All its blocks.
    pub all: Amount,
    /// Those no other backup has.
    pub unique: Amount,
    /// Those another backup has too.
    pub shared: Amount,
    /// Blocks it lists that the store does not have: it cannot be restored.
    pub missing: u64,
    /// Packed bytes of blocks that go when it is deleted; 0 while another backup keeps Longhorn from removing blocks.
    pub frees: u64,
}

/// What the backups of one volume, or all backing images, take.
#[derive(Clone, Debug, Serialize)]
pub struct PoolUsage {
    /// The volume; `None` for the backing images.
    pub volume: Option<String>,
    /// Each backup, oldest first, or each image.
    pub backups: Vec<BackupUsage>,
    /// Blocks that backups need.
    pub used: Amount,
    /// Those that several of them need.
    pub shared: Amount,
    /// Blocks that no backup lists. They go with the next deletion of any backup of the volume, unless that is blocked.
    pub unreferenced: Objects,
    /// Configurations, locks, and what is none of Longhorn's objects.
    pub other: Objects,
    /// All bytes of it in the store, former versions aside.
    pub bytes: u64,
    /// Former versions; `None` when these keys, or the server, do not tell.
    pub noncurrent: Option<Noncurrent>,
    /// Backups that are not complete or cannot be read. While there is one, what is unreferenced or unique is so at
    /// most, and Longhorn removes no block of the volume.
    pub blocked_by: Vec<String>,
    /// Whether somebody holds a lock: blocks that look unreferenced may be of a backup that is just being made.
    pub in_use: bool,
}

/// What a whole store takes.
#[derive(Clone, Debug, Serialize)]
pub struct StoreUsage {
    /// Each volume, by name.
    pub volumes: Vec<PoolUsage>,
    /// All backing images.
    pub backing_images: PoolUsage,
    /// System backups.
    pub system_backups: Objects,
    /// Blocks that backups and backing images need.
    pub used: Amount,
    /// Blocks that nothing lists.
    pub unreferenced: Objects,
    /// All bytes, former versions aside.
    pub bytes: u64,
    /// Former versions of the objects of volumes and backing images.
    pub noncurrent: Option<Noncurrent>,
}

/// What the whole store takes. `told` hears how many volumes are done, of how many, and which is next.
pub async fn store(store: &Store, told: impl Fn(usize, usize, &str)) -> Result<StoreUsage> {
    let catalog = Catalog::new(store.clone());
    let versions = versions_kept(store).await?;
    let names = catalog.volume_names().await?;
    let mut volumes = Vec::new();
    let mut found = stream::iter(&names)
        .map(|name| async {
            match of_volume(&catalog, name, versions).await {
                // Deleted since it was listed.
                Err(error) if error.kind() == Kind::NotFound => Ok(None),
                found => found.map(Some),
            }
        })
        .buffered(VOLUMES)
        .boxed();
    for (done, name) in names.iter().enumerate() {
        told(done, names.len(), name);
        volumes.extend(found.try_next().await?.flatten());
    }
    told(names.len(), names.len(), "backing images");
    let backing_images = of_images(&catalog, versions).await?;
    let mut system_backups = Objects::default();
    let mut pages = store.list_pages(layout::SYSTEM_BACKUPS, Depth::All);
    while let Some(page) = pages.try_next().await? {
        page.objects.iter().for_each(|object| system_backups.add(object.size));
    }
    let pools = || volumes.iter().chain([&backing_images]);
    let noncurrent = pools().map(|pool| pool.noncurrent).try_fold(Noncurrent::default(), |sum, more| {
        let more = more?;
        let delete_markers = sum.delete_markers + more.delete_markers;
        Some(Noncurrent { versions: sum.versions.plus(more.versions), delete_markers })
    });
    Ok(StoreUsage {
        used: pools().map(|pool| pool.used).fold(Amount::default(), Amount::plus),
        unreferenced: pools().map(|pool| pool.unreferenced).fold(Objects::default(), Objects::plus),
        bytes: pools().map(|pool| pool.bytes).fold(system_backups.bytes, u64::saturating_add),
        noncurrent,
        volumes,
        backing_images,
        system_backups,
    })
}

/// What one volume takes.
///
/// # Errors
/// `not-found` when there is nothing of it.
pub async fn volume(store: &Store, volume: &str) -> Result<PoolUsage> {
    let versions = versions_kept(store).await?;
    of_volume(&Catalog::new(store.clone()), volume, versions).await
}

async fn of_volume(catalog: &Catalog, volume: &str, versions: Option<bool>) -> Result<PoolUsage> {
    let keys = VolumeKeys::new(volume)?;
    let mut other = Objects::default();
    let mut before = Vec::new();
    let mut tally = list(catalog.store(), keys.root(), &keys.blocks(), |object| {
        other.add(object.size);
        if keys.backup_name(&object.key).is_some() {
            before.push(object);
        }
    })
    .await?;
    if tally.is_empty() && other == Objects::default() {
        return Err(no_volume(catalog, volume));
    }
    // Blocks are in the store before the backup that lists them. So what a backup lists that was there before the
    // blocks were listed, and is the same now, must have been among them.
    let now = catalog.backup_objects(volume).await?;
    let mut reads = stream::iter(now)
        .map(|(backup, object)| {
            let settled = before.contains(&object);
            async move { Ok::<_, Error>((settled, catalog.load(backup, object.size).await?)) }
        })
        .buffered(READS)
        .boxed();
    let (mut summaries, mut settled) = (Vec::new(), Vec::new());
    while let Some((same, loaded)) = reads.try_next().await? {
        let Some(loaded) = loaded else { continue };
        let (blocks, size) = (loaded.blocks, loaded.summary.config.block_size());
        summaries.push(loaded.summary);
        settled.push(same);
        // A terabyte has half a million blocks, which are not to be counted between two network packets.
        tally = super::blocking(move || {
            tally.used(&blocks, |_| size);
            Ok(tally)
        })
        .await?;
    }
    drop(reads);
    let unfinished: Vec<bool> = summaries.iter().map(|found| found.config.is_incomplete()).collect();
    catalog.tell_crashed(volume, &mut summaries).await?;
    for (summary, unfinished) in summaries.iter_mut().zip(unfinished) {
        // Completed since it was read, so its blocks are not counted.
        if unfinished && matches!(summary.state, BackupState::Complete) {
            summary.state = BackupState::InProgress;
        }
    }
    let locks = lock::list(catalog.store(), &keys).await?;
    let time = if locks.is_empty() { None } else { Some(catalog.store().now().await?) };
    let in_use = time.is_some_and(|now| locks.iter().any(|lock| !lock.is_expired(now)));

    let users = summaries.iter().map(|summary| (summary.backup.backup.clone(), summary.state.as_str())).collect();
    let mut usage = tally.finish(Some(volume.to_owned()), users, other);
    for (backup, settled) in usage.backups.iter_mut().zip(settled) {
        backup.missing = if settled { backup.missing } else { 0 };
    }
    // The tally counts backups in the order they were read.
    let mut order: Vec<_> = summaries.iter().map(BackupSummary::begun).zip(usage.backups).collect();
    order.sort_by(|(a, x), (b, y)| (a, &x.backup).cmp(&(b, &y.backup)));
    usage.backups = order.into_iter().map(|(_, backup)| backup).collect();
    usage.in_use = in_use;
    usage.noncurrent = noncurrent(catalog.store(), keys.root(), versions).await?;
    Ok(usage)
}

async fn of_images(catalog: &Catalog, versions: Option<bool>) -> Result<PoolUsage> {
    const ROOT: &str = "backupstore/backing-images/";
    let mut other = Objects::default();
    let mut tally = list(catalog.store(), ROOT, &BlockPool::backing_images(), |object| other.add(object.size)).await?;
    let mut users = Vec::new();
    for name in catalog.backing_image_names().await? {
        let (state, blocks, size) = match known(catalog.backing_image(&name).await)? {
            Ok(image) if image.complete_time.is_empty() => ("in-progress", image.blocks, image.size),
            Ok(image) => ("complete", image.blocks, image.size),
            Err(error) if error.kind() == Kind::NotFound => continue,
            Err(_) => ("damaged", super::config::BlockMap::default(), 0),
        };
        users.push((name, state));
        tally.used(&blocks, |offset| DEFAULT_BLOCK_SIZE.min(size.saturating_sub(offset)));
    }
    let mut usage = tally.finish(None, users, other);
    usage.noncurrent = noncurrent(catalog.store(), ROOT, versions).await?;
    Ok(usage)
}

/// Lists blocks into a tally, and hands over everything else.
async fn list(store: &Store, root: &str, pool: &BlockPool, mut other: impl FnMut(ObjectMeta)) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut pages = store.list_pages(root, Depth::All);
    while let Some(page) = pages.try_next().await? {
        for object in page.objects {
            match pool.checksum(&object.key) {
                Some(checksum) => tally.listed(checksum, object.size),
                None => other(object),
            }
        }
    }
    Ok(tally)
}

/// Whether the store keeps versions; `None` when nobody tells.
async fn versions_kept(store: &Store) -> Result<Option<bool>> {
    Ok(told(store.versioning().await)?.map(|versioning| versioning != Versioning::Never))
}

/// Former versions below a prefix; nothing when nobody tells.
pub(super) async fn noncurrent(store: &Store, root: &str, versions: Option<bool>) -> Result<Option<Noncurrent>> {
    match versions {
        None => return Ok(None),
        Some(false) => return Ok(Some(Noncurrent::default())),
        Some(true) => {}
    }
    let mut found = Noncurrent::default();
    let mut pages = store.list_versions(root);
    loop {
        let Some(page) = told(pages.try_next().await)? else { return Ok(None) };
        let Some(page) = page else { return Ok(Some(found)) };
        for version in page {
            match version.size {
                None => found.delete_markers += 1,
                Some(size) if !version.is_current => found.versions.add(size),
                Some(_) => {}
            }
        }
    }
}

/// Servers without versions, and keys that may not ask, are no failure.
fn told<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Err(error) if matches!(error.kind(), Kind::Invalid | Kind::Denied) => Ok(None),
        answer => answer.map(Some),
    }
}

#[cfg(test)]
mod tests;
