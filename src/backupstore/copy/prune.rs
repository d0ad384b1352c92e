//! Deleting from a copy what the store no longer has.
//!
//! Every deletion rests on a listing of the store that was read to its end. What is younger than all the store has was
//! not copied from it: somebody uses the copy as a store of its own, and that is kept. A block goes when no configuration
//! left in the copy lists it and the store does not have it either. What is locked is left alone: a mark of deletion would
//! hide it and free nothing.
//!
//! A store that was begun anew looks like one whose volumes were deleted. So the last backup of a volume, a whole volume,
//! what is older than all of the volume in the store, and the images volumes may lie over go only when that was asked for as
//! such.

use std::collections::HashSet;

use futures::TryStreamExt;
use jiff::Timestamp;

use super::{Copied, CopyOptions, Newest, TOLD, moving::is_refusal, sizes};
use crate::{
    Kind, Result,
    backupstore::{
        Catalog,
        block::Checksum,
        catalog::{SystemBackupEntry, known},
        config::LockType,
        family::{Entry, Family, State},
        layout::{self, VolumeKeys},
        lock::Lock,
        rfc3339, system, view,
    },
    objectstore::{Depth, Store},
};

pub(super) async fn prune(
    from: &Catalog,
    to: &Store,
    newest: &Newest,
    options: &CopyOptions,
    done: &mut Copied,
) -> Result<()> {
    let copy = Catalog::new(to.clone());
    let locks = match to.object_lock().await {
        Ok(None) => None,
        Ok(Some(_)) => Some(to.now().await?),
        Err(error) if error.kind() == Kind::Invalid => None,
        Err(error) if is_refusal(&error) => {
            done.note(format!("whether the copy is locked is not known: {error}"));
            None
        }
        Err(error) => return Err(error),
    };
    let pruner = Pruner { from, copy: &copy, to, options, locks };
    for volume in copy.volume_names().await? {
        let keys = VolumeKeys::new(&volume)?;
        let Some(newest) = newest.backup else {
            done.note(format!("volume {volume} is not pruned: the store has no complete backup of any volume"));
            continue;
        };
        pruner.family(&Family::Volume(keys), newest, done).await?;
    }
    match newest.image {
        Some(newest) => pruner.family(&Family::Images, newest, done).await?,
        None if copy.backing_image_names().await?.is_empty() => {}
        None => done.note("backing images are not pruned: the store has no complete one".into()),
    }
    pruner.system_backups(done).await
}

struct Pruner<'a> {
    from: &'a Catalog,
    copy: &'a Catalog,
    to: &'a Store,
    options: &'a CopyOptions,
    /// The time there, in a copy with object lock.
    locks: Option<Timestamp>,
}

/// A configuration that the store no longer has.
struct Old {
    entry: Entry,
    is_complete: bool,
    begun: Option<Timestamp>,
}

impl Pruner<'_> {
    async fn family(&self, family: &Family, newest: Timestamp, done: &mut Copied) -> Result<()> {
        let kept: HashSet<String> = family.entries(self.from).await?.into_iter().map(|entry| entry.key).collect();
        let entries = family.entries(self.copy).await?.into_iter();
        let (mut left, gone): (Vec<_>, Vec<_>) = entries.partition(|entry| kept.contains(&entry.key));
        let history = if gone.is_empty() { None } else { self.history(family).await? };
        let mut old = Vec::new();
        for entry in gone {
            let Some(member) = family.load(self.copy, &entry).await? else { continue };
            let told = family.told(&entry);
            if matches!(member.state, State::Unfinished) {
                done.note(format!("{told} is not pruned: it is being made in the copy itself, or was left by a crash"));
            } else if member.begun.is_some_and(|begun| begun > newest) {
                done.note(format!("{told} is not pruned: it is younger than all the store has"));
                left.push(entry);
            } else if let Some(since) = history.filter(|since| member.completed.is_some_and(|time| time < *since)) {
                let text = format!("{told}: the store has the volume since {} only", rfc3339(since));
                tell(&mut done.kept, text);
                left.push(entry);
            } else if self.may_delete(&entry.key, done).await? {
                let is_complete = matches!(member.state, State::Complete);
                old.push(Old { entry, is_complete, begun: member.begun });
            } else {
                left.push(entry);
            }
        }
        let is_gone = match family {
            Family::Volume(keys) => {
                let (objects, folders) = self.from.store().list_names(keys.root()).await?;
                objects.is_empty() && folders.is_empty()
            }
            Family::Images => false,
        };
        if !self.options.prune_volumes && self.is_kept(family, &mut old, &left, is_gone, done).await? {
            return Ok(());
        }
        if old.is_empty() && !is_gone {
            return Ok(());
        }
        let lock = match Lock::acquire(self.to, &family.locks(), LockType::Delete, self.options.settle).await {
            Err(error) if is_refusal(&error) => {
                done.note(format!("the copy is not pruned there: {error}"));
                return Ok(());
            }
            lock => lock?,
        };
        let outcome = self.locked(family, old, is_gone, done).await;
        lock.release().await?;
        outcome
    }

    /// When the volume was first backed up to the store as it is now: what was complete before is of another history, which
    /// the store did not give up itself. Nothing when that may go, too, or is not known.
    async fn history(&self, family: &Family) -> Result<Option<Timestamp>> {
        let Family::Volume(keys) = family else { return Ok(None) };
        if self.options.prune_volumes {
            return Ok(None);
        }
        let config = known(self.from.volume(keys.name()).await)?;
        Ok(config.ok().and_then(|config| config.created_time.parse().ok()))
    }

    /// Whether all of it is kept, as it may be the last there is. Takes the last backup of a volume out of what goes.
    async fn is_kept(
        &self,
        family: &Family,
        old: &mut Vec<Old>,
        left: &[Entry],
        is_gone: bool,
        done: &mut Copied,
    ) -> Result<bool> {
        let Family::Volume(keys) = family else {
            let names = old.iter().map(|old| family.told(&old.entry));
            names.for_each(|name| tell(&mut done.kept, name));
            return Ok(true);
        };
        if is_gone && old.len() + left.len() > 0 {
            let newest = old.iter().filter(|old| old.is_complete).filter_map(|old| old.begun).max();
            let newest = newest.map(|begun| format!(", the newest of {}", rfc3339(begun))).unwrap_or_default();
            let text = format!("{}: {} backups{newest}", self.called(keys).await, old.len() + left.len());
            tell(&mut done.kept, text);
            return Ok(true);
        }
        for entry in left {
            let member = family.load(self.copy, entry).await?;
            if member.is_some_and(|member| matches!(member.state, State::Complete)) {
                return Ok(false);
            }
        }
        let last = old.iter().enumerate().filter(|(_, old)| old.is_complete).max_by_key(|(_, old)| old.begun);
        if let Some(i) = last.map(|(i, _)| i) {
            let Old { entry, begun, .. } = old.remove(i);
            let told = family.told(&entry);
            let begun = begun.map(|begun| format!(", of {}", rfc3339(begun))).unwrap_or_default();
            tell(&mut done.kept, format!("{told}{begun}: the last one of {}", self.called(keys).await));
        }
        Ok(false)
    }

    /// The volume with the claim it was of.
    async fn called(&self, keys: &VolumeKeys) -> String {
        let config = self.copy.volume(keys.name()).await.ok();
        match config.and_then(|config| view::claim(&config.labels)) {
            Some(claim) => format!("volume {} of the claim {claim}", keys.name()),
            None => format!("volume {}", keys.name()),
        }
    }

    async fn locked(&self, family: &Family, old: Vec<Old>, is_gone: bool, done: &mut Copied) -> Result<()> {
        for Old { entry, .. } in &old {
            if self.delete(&entry.key, done).await? {
                tell(&mut done.removed, family.told(entry));
            }
        }
        let mut used = HashSet::new();
        let left = family.entries(self.copy).await?;
        for entry in &left {
            let Some(member) = family.load(self.copy, entry).await? else { continue };
            if !matches!(member.state, State::Complete) {
                let told = family.told(entry);
                done.note(format!("no block is pruned there: {told} is not complete or cannot be read"));
                return Ok(());
            }
            used = crate::backupstore::blocking(move || {
                used.extend(member.checksums());
                Ok(used)
            })
            .await?;
        }
        self.blocks(family, &used, done).await?;
        match family {
            Family::Volume(keys) if is_gone && left.is_empty() => {
                let called = self.called(keys).await;
                if self.to.head(&keys.config()).await?.is_some() && self.delete(&keys.config(), done).await? {
                    tell(&mut done.removed, called);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn blocks(&self, family: &Family, used: &HashSet<Checksum>, done: &mut Copied) -> Result<()> {
        let pool = family.pool();
        let stored = sizes(self.from.store(), &pool).await?;
        let mut unused = Vec::new();
        let mut pages = self.to.list_pages(pool.prefix(), Depth::All);
        while let Some(page) = pages.try_next().await? {
            let goes =
                |key: &String| pool.checksum(key).is_some_and(|sum| !used.contains(&sum) && !stored.contains_key(&sum));
            unused.extend(page.objects.into_iter().map(|object| object.key).filter(goes));
        }
        for key in unused {
            self.delete(&key, done).await?;
        }
        Ok(())
    }

    /// System backups the store no longer has, unless they are younger than all it has.
    async fn system_backups(&self, done: &mut Copied) -> Result<()> {
        let stored = self.from.system_backups().await?;
        let created = |entry: &SystemBackupEntry| entry.config.as_ref().ok()?.created_at.parse::<Timestamp>().ok();
        let newest = stored.iter().filter_map(created).max();
        for entry in self.copy.system_backups().await? {
            if stored.iter().any(|other| other.version == entry.version && other.name == entry.name) {
                continue;
            }
            if newest.is_none_or(|newest| created(&entry).is_some_and(|created| created > newest)) {
                let name = &entry.name;
                done.note(format!("system backup {name} is not pruned: the store has none that is as young"));
                continue;
            }
            let folder = layout::system_backup(&entry.version, &entry.name)?;
            let mut is_gone = true;
            for key in [folder.clone() + system::CONFIG, folder + system::ARCHIVE] {
                if self.to.head(&key).await?.is_some() && !self.delete(&key, done).await? {
                    is_gone = false;
                    break;
                }
            }
            if is_gone {
                tell(&mut done.removed, format!("system backup {}", entry.name));
            }
        }
        Ok(())
    }

    /// Deletes an object of the copy, and tells whether that was allowed.
    async fn delete(&self, key: &str, done: &mut Copied) -> Result<bool> {
        if !self.may_delete(key, done).await? {
            return Ok(false);
        }
        match self.to.delete(key).await {
            Ok(()) => {
                done.pruned += 1;
                self.options.tally.remove();
                Ok(true)
            }
            Err(error) if is_refusal(&error) => {
                done.note(format!("{key} is not pruned: {error}"));
                Ok(false)
            }
            Err(error) if error.kind() == Kind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether an object is not locked; says when it is, and when nobody tells.
    async fn may_delete(&self, key: &str, done: &mut Copied) -> Result<bool> {
        let Some(now) = self.locks else { return Ok(true) };
        match self.to.protection(key).await {
            Ok(Some(protection)) if protection.is_locked(now) => {
                done.note(format!("{key} is not pruned: it is locked"));
                Ok(false)
            }
            Err(error) if is_refusal(&error) => {
                done.note(format!("{key} is not pruned: {error}"));
                Ok(false)
            }
            found => found.map(|_| true),
        }
    }
}

fn tell(names: &mut Vec<String>, name: String) {
    if names.len() < TOLD {
        names.push(name);
    }
}
