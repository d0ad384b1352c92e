//! Copying a store to another place, object by object, so that what lies there can be restored at any moment.
//!
//! Of each volume the blocks go first, then the configurations of its backups, then `volume.cfg`: a copy that was cut
//! short lacks backups, and has none that lacks blocks. Blocks are what their names say, so they are checked on their
//! way, and one that is there with the same size is not moved again. Unfinished backups and locks stay where they are.

mod moving;
mod prune;
mod tally;

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU64,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;

use self::moving::{Mover, Outcome};
pub use self::tally::Tally;
use super::{
    Catalog, Progress,
    block::Checksum,
    catalog::{REQUESTS, known},
    config::VolumeConfig,
    family::{Entry, Family, State},
    layout::{self, BlockPool, MAX_BACKUP_CONFIG, MAX_CONFIG, VolumeKeys},
    lock,
};
use crate::{
    Error, Kind, Result,
    objectstore::{Depth, Store},
};

/// Most problems and notes that are told one by one; all are counted.
const TOLD: usize = 1000;

/// How to copy.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// Most bytes moved in a second, counted once though they come in and go out.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Blocks on their way at the same time; each takes twice its raw size of memory.
    pub at_once: usize,
    /// Whether to delete from the copy what the store no longer has.
    pub prune: bool,
    /// Whether that goes for the last backup of a volume, for those of before the store had the volume, for volumes that are
    /// gone from the store, and for backing images.
    pub prune_volumes: bool,
    /// Keys of objects that are not to be taken as they are in the copy, because verifying found them damaged.
    pub replace: HashSet<String>,
    /// Counts while it goes on.
    pub tally: Tally,
    /// How long the lock settles that keeps others away from a volume of the copy while it is pruned.
    pub settle: Duration,
    /// Told the bytes moved, and those to move as far as is known.
    pub progress: Option<Progress>,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            bytes_per_second: None,
            at_once: 8,
            prune: false,
            prune_volumes: false,
            replace: HashSet::new(),
            tally: Tally::default(),
            settle: lock::SETTLE,
            progress: None,
        }
    }
}

/// An object that was not copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its key in the store.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Copied {
    /// Objects moved.
    pub copied: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were there already.
    pub skipped: u64,
    /// Objects deleted from the copy.
    pub pruned: u64,
    /// The backups, volumes, images and system backups that went with them, the first thousand.
    pub removed: Vec<String>,
    /// What was not pruned because [`CopyOptions::prune_volumes`] was not set, the first thousand.
    pub kept: Vec<String>,
    /// Objects that should have been moved and were not.
    pub failed: u64,
    /// Those, the first thousand.
    pub problems: Vec<Problem>,
    /// What else should be known: backups left out, and what was not pruned.
    pub notes: Vec<String>,
}

impl Copied {
    fn count(&mut self, outcome: Outcome, key: String) {
        match outcome {
            Outcome::Moved(bytes) => {
                self.copied += 1;
                self.bytes = self.bytes.saturating_add(bytes);
            }
            Outcome::There => self.skipped += 1,
            Outcome::Gone => {}
            Outcome::Bad(why) => self.fail(key, why),
        }
    }

    fn fail(&mut self, key: String, why: String) {
        self.failed += 1;
        if self.problems.len() < TOLD {
            self.problems.push(Problem { key, why });
        }
    }

    fn note(&mut self, text: String) {
        if self.notes.len() < TOLD {
            self.notes.push(text);
        }
    }
}

/// Copies all that can be restored: backing images, volumes with their complete backups, system backups. What cannot be
/// copied is named in the answer and keeps nothing else from being copied.
///
/// With [`CopyOptions::prune`], what the store no longer has is deleted from the copy afterwards, configurations before
/// blocks. What the copy's own users added since is kept, and a refused deletion is noted. A store that was begun anew
/// lacks nearly everything, so the last backup of a volume, and what is older than all the store knows of it, goes only with
/// [`CopyOptions::prune_volumes`].
///
/// # Errors
/// `usage` when both are the same place; `not-found` when the store holds nothing to copy, which is more likely a wrong
/// path than a wish. Else the store or the place could not be used; what was copied so far stays, and copying again goes
/// on from there.
pub async fn copy(from: &Store, to: &Store, options: CopyOptions) -> Result<Copied> {
    if from.is_same_place(to) {
        let text = format!("{} is the place that is to be copied, not a second one", to.describe());
        return Err(Error::new(Kind::Usage, text).hint("name another server, bucket or path for the copy"));
    }
    let catalog = Catalog::new(from.clone());
    let volumes = catalog.volume_names().await?;
    let images = catalog.backing_image_names().await?;
    let systems = catalog.system_backups().await?;
    if volumes.is_empty() && images.is_empty() && systems.is_empty() {
        let text = format!("{} holds no backups: nothing is copied, and nothing deleted", from.describe());
        return Err(Error::new(Kind::NotFound, text).hint("check the bucket and the path"));
    }
    let mut copier = Copier {
        catalog,
        to: to.clone(),
        mover: Mover::new(from.clone(), to.clone(), &options),
        at_once: options.at_once.max(1),
        done: Copied::default(),
        newest: Newest::default(),
    };
    // Volumes lie over images, and system backups tell of volumes.
    copier.family(&Family::Images).await?;
    for volume in &volumes {
        copier.volume(volume).await?;
    }
    for system in &systems {
        copier.system_backup(&system.version, &system.name).await?;
    }
    if options.prune {
        prune::prune(&copier.catalog, to, &copier.newest, &options, &mut copier.done).await?;
    }
    Ok(copier.done)
}

struct Copier {
    catalog: Catalog,
    to: Store,
    mover: Mover,
    at_once: usize,
    done: Copied,
    newest: Newest,
}

/// The times of the newest complete ones in the store.
#[derive(Default)]
struct Newest {
    backup: Option<Timestamp>,
    image: Option<Timestamp>,
}

/// A block that the copy lacks.
struct Wanted {
    checksum: Checksum,
    /// Raw bytes.
    length: usize,
    /// Packed bytes.
    size: u64,
}

impl Copier {
    async fn volume(&mut self, volume: &str) -> Result<()> {
        let key = VolumeKeys::new(volume)?.config();
        // Read before the backups are, so that it names none of them that is not known yet.
        let body = match known(self.catalog.store().get_limited(&key, MAX_CONFIG).await)? {
            Ok(body) => Some(body),
            Err(error) if error.kind() == Kind::NotFound => {
                self.done
                    .note(format!("volume {volume} has no volume.cfg, as after a crash: Longhorn does not see it"));
                None
            }
            Err(error) => {
                self.done.fail(key.clone(), error.to_string());
                None
            }
        };
        let lost = self.family(&Family::Volume(VolumeKeys::new(volume)?)).await?;
        let Some(body) = body else { return Ok(()) };
        match VolumeConfig::parse(volume, &body) {
            Err(error) => self.done.fail(key, error.to_string()),
            // What the copy has names a backup that is there.
            Ok(config) if lost.contains(&config.last_backup_name) && self.to.head(&key).await?.is_some() => {}
            Ok(_) => {
                let outcome = self.mover.body(&key, body).await?;
                self.done.count(outcome, key);
            }
        }
        Ok(())
    }

    /// Copies blocks, then the configurations that list them. Gives the names of those that were not copied.
    async fn family(&mut self, family: &Family) -> Result<HashSet<String>> {
        let entries = family.entries(&self.catalog).await?;
        let (complete, needed, mut left) = self.needed(family, entries).await?;
        let bad = self.blocks(&family.pool(), needed).await?;
        // Who lists a bad block is found by reading again: remembering it for all blocks would take more memory.
        let (mut explained, mut ready) = (HashSet::new(), Vec::new());
        for entry in complete {
            let mut missing = 0;
            if !bad.is_empty() {
                let Some(member) = family.load(&self.catalog, &entry).await? else { continue };
                for checksum in member.checksums().filter(|checksum| bad.contains_key(checksum)) {
                    missing += 1;
                    explained.insert(checksum);
                }
            }
            if missing > 0 {
                self.done.note(format!("{} is not copied: {missing} of its blocks are bad", family.told(&entry)));
                left.insert(entry.name);
            } else {
                ready.push(entry.key);
            }
        }
        self.configs(ready).await?;
        // The others went with a backup that was deleted meanwhile.
        let mut bad: Vec<_> = bad.into_iter().filter(|(checksum, _)| explained.contains(checksum)).collect();
        bad.sort_unstable_by_key(|(checksum, _)| *checksum);
        for (checksum, why) in bad {
            self.done.fail(family.pool().key(&checksum), why);
        }
        Ok(left)
    }

    /// Compares many configurations at the same time, and moves one after the other, since they may be large.
    async fn configs(&mut self, keys: Vec<String>) -> Result<()> {
        let mut looks = stream::iter(keys)
            .map(|key| {
                let mover = self.mover.clone();
                async move { Ok::<_, Error>((mover.is_same(&key).await?, key)) }
            })
            .buffered(REQUESTS)
            .boxed();
        while let Some((is_same, key)) = looks.try_next().await? {
            let outcome = if is_same { Outcome::There } else { self.mover.config(&key, MAX_BACKUP_CONFIG).await? };
            self.done.count(outcome, key);
        }
        Ok(())
    }

    /// The complete ones, the blocks they list with their raw bytes, and the names of the others.
    async fn needed(
        &mut self,
        family: &Family,
        entries: Vec<Entry>,
    ) -> Result<(Vec<Entry>, HashMap<Checksum, usize>, HashSet<String>)> {
        let (mut complete, mut needed, mut left) = (Vec::new(), HashMap::new(), HashSet::new());
        for entry in entries {
            let Some(member) = family.load(&self.catalog, &entry).await? else { continue };
            match &member.state {
                State::Complete => {
                    let newest = match family {
                        Family::Volume(_) => &mut self.newest.backup,
                        Family::Images => &mut self.newest.image,
                    };
                    *newest = (*newest).max(member.begun);
                    // A terabyte has half a million blocks.
                    needed = super::blocking(move || {
                        needed.extend(member.blocks());
                        Ok(needed)
                    })
                    .await?;
                    complete.push(entry);
                }
                State::Unfinished => {
                    let told = family.told(&entry);
                    self.done.note(format!("{told} is not copied: it is being made, or was left by a crash"));
                    left.insert(entry.name);
                }
                State::Damaged(error) => {
                    self.done.fail(entry.key, error.to_string());
                    left.insert(entry.name);
                }
            }
        }
        Ok((complete, needed, left))
    }

    /// Moves the needed blocks that the copy lacks. Gives those it still lacks then, with the reason.
    async fn blocks(
        &mut self,
        pool: &BlockPool,
        mut needed: HashMap<Checksum, usize>,
    ) -> Result<HashMap<Checksum, String>> {
        let mut bad = HashMap::new();
        if needed.is_empty() {
            return Ok(bad);
        }
        let there = sizes(&self.to, pool).await?;
        let mut wanted = Vec::new();
        let mut pages = self.catalog.store().list_pages(pool.prefix(), Depth::All);
        while let Some(page) = pages.try_next().await? {
            for object in page.objects {
                let Some(checksum) = pool.checksum(&object.key) else { continue };
                let Some(length) = needed.remove(&checksum) else { continue };
                let is_there = there.get(&checksum) == Some(&object.size) && object.size > 0;
                if is_there && !self.mover.replaces(&object.key) {
                    self.done.skipped += 1;
                } else {
                    wanted.push(Wanted { checksum, length, size: object.size });
                }
            }
        }
        for checksum in needed.into_keys() {
            let is_there = there.get(&checksum).is_some_and(|size| *size > 0);
            if is_there && !self.mover.replaces(&pool.key(&checksum)) {
                // Lost in the store, and still in the copy: whoever needs it can be restored from there.
                self.done.fail(pool.key(&checksum), "it is missing, but the copy has it".into());
            } else {
                bad.insert(checksum, "it is missing".into());
            }
        }
        drop(there);
        self.mover.expect(wanted.iter().map(|block| block.size).sum());
        let mut moves = stream::iter(wanted)
            .map(|block| {
                let (mover, key) = (self.mover.clone(), pool.key(&block.checksum));
                async move {
                    let outcome = mover.block(&key, block.checksum, block.length, block.size).await?;
                    Ok::<_, Error>((block.checksum, key, outcome))
                }
            })
            .buffer_unordered(self.at_once)
            .boxed();
        let mut outcomes = Copied::default();
        while let Some((checksum, key, outcome)) = moves.try_next().await? {
            match outcome {
                Outcome::Bad(why) => drop(bad.insert(checksum, why)),
                outcome => outcomes.count(outcome, key),
            }
        }
        drop(moves);
        self.done.copied += outcomes.copied;
        self.done.bytes += outcomes.bytes;
        Ok(bad)
    }

    /// Copies a system backup, the archive before its configuration.
    async fn system_backup(&mut self, version: &str, name: &str) -> Result<()> {
        let folder = layout::system_backup(version, name)?;
        let (config, archive) = (folder.clone() + super::system::CONFIG, folder + super::system::ARCHIVE);
        // One made anew under the same name has another checksum, which is in its configuration.
        if self.mover.is_same(&config).await? && self.mover.has_same_size(&archive).await? {
            self.done.skipped += 2;
            return Ok(());
        }
        let body = match known(super::system::archive(self.catalog.store(), version, name).await)? {
            Ok((_, body)) => body,
            Err(error) => {
                self.done.fail(error.object_name().unwrap_or(&archive).to_owned(), error.to_string());
                return Ok(());
            }
        };
        let outcome = self.mover.body(&archive, body).await?;
        let is_bad = matches!(outcome, Outcome::Bad(_));
        self.done.count(outcome, archive);
        if !is_bad {
            let outcome = self.mover.config(&config, MAX_CONFIG).await?;
            self.done.count(outcome, config);
        }
        Ok(())
    }
}

/// The blocks of a pool and their packed bytes.
async fn sizes(store: &Store, pool: &BlockPool) -> Result<HashMap<Checksum, u64>> {
    let mut sizes = HashMap::new();
    let mut pages = store.list_pages(pool.prefix(), Depth::All);
    while let Some(page) = pages.try_next().await? {
        sizes.extend(page.objects.iter().filter_map(|object| Some((pool.checksum(&object.key)?, object.size))));
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests;
