//! Deleting from a copy what the store no longer has.
//!
//! Every deletion rests on a listing of the store that was read to its end. What is younger than all the store has was
//! not copied from it: somebody uses the copy as a store of its own, and that is kept. A block goes when no configuration
//! left in the copy lists it and the store does not have it either. What is locked is left alone: a mark of deletion would
//! hide it and free nothing.

use std::{collections::HashSet, time::Duration};

use futures::TryStreamExt;
use jiff::Timestamp;

use super::{Copied, Newest, moving::is_refusal, sizes};
use crate::{
    Kind, Result,
    backupstore::{
        Catalog,
        block::Checksum,
        catalog::SystemBackupEntry,
        config::LockType,
        family::{Family, State},
        layout::{self, VolumeKeys},
        lock::Lock,
        system,
    },
    objectstore::{Depth, Store},
};

pub(super) async fn prune(
    from: &Catalog,
    to: &Store,
    newest: &Newest,
    settle: Duration,
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
    let pruner = Pruner { from, copy: &copy, to, settle, locks };
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
    settle: Duration,
    /// The time there, in a copy with object lock.
    locks: Option<Timestamp>,
}

impl Pruner<'_> {
    async fn family(&self, family: &Family, newest: Timestamp, done: &mut Copied) -> Result<()> {
        let kept: HashSet<String> = family.entries(self.from).await?.into_iter().map(|entry| entry.key).collect();
        let mut old = Vec::new();
        for entry in family.entries(self.copy).await? {
            if kept.contains(&entry.key) {
                continue;
            }
            let Some(member) = family.load(self.copy, &entry).await? else { continue };
            let told = family.told(&entry);
            if matches!(member.state, State::Unfinished) {
                done.note(format!("{told} is not pruned: it is being made in the copy itself, or was left by a crash"));
            } else if member.begun.is_some_and(|begun| begun > newest) {
                done.note(format!("{told} is not pruned: it is younger than all the store has"));
            } else if self.may_delete(&entry.key, done).await? {
                old.push(entry.key);
            }
        }
        let is_gone = match family {
            Family::Volume(keys) => {
                let (objects, folders) = self.from.store().list_names(keys.root()).await?;
                objects.is_empty() && folders.is_empty()
            }
            Family::Images => false,
        };
        if old.is_empty() && !is_gone {
            return Ok(());
        }
        let lock = match Lock::acquire(self.to, &family.locks(), LockType::Delete, self.settle).await {
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

    async fn locked(&self, family: &Family, old: Vec<String>, is_gone: bool, done: &mut Copied) -> Result<()> {
        for key in &old {
            self.delete(key, done).await?;
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
                if self.to.head(&keys.config()).await?.is_some() {
                    self.delete(&keys.config(), done).await?;
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
            for key in [folder.clone() + system::CONFIG, folder + system::ARCHIVE] {
                if self.to.head(&key).await?.is_some() && !self.delete(&key, done).await? {
                    break;
                }
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
