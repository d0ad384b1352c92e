//! The backups of one volume.

use futures::{StreamExt, stream};

use super::{
    Images, REQUESTS, Verifier, is_about_the_object,
    lock::Others,
    needs::{Needs, Spoilt, whole_blocks},
    report::{BadObject, Item, Part, Row, Verdict},
};
use crate::{
    Error, Kind, Result,
    backupstore::{
        BackupRef,
        block::Compression,
        blocking,
        config::{BackupConfig, VolumeConfig},
        layout::{self, VolumeKeys},
    },
    objectstore::ObjectMeta,
};

/// The volume's configuration, or what is wrong with it.
type Volume = Result<VolumeConfig>;

impl Verifier {
    /// Verifies the backups of a volume, all or those named.
    ///
    /// # Errors
    /// Only when the store cannot be asked for the volume at all.
    pub(super) async fn volume(&self, name: &str, only: Option<&[String]>, images: &Images) -> Result<Part> {
        let keys = VolumeKeys::new(name)?;
        let mut notes = Vec::new();
        let others = match self.others(&keys, &mut notes).await {
            // The backups may be readable all the same, with keys that see no more than them for instance.
            Err(error) if !matches!(error.kind(), Kind::Unreachable | Kind::Timeout) => {
                notes.push(format!("{name}: its locks cannot be read: {error}"));
                Others::default()
            }
            others => others?,
        };
        let lock = self.lock(&keys, &mut notes).await;
        let checked = self.check(&keys, only, images, &others).await;
        self.unlock(lock, &keys, &mut notes).await;
        let mut part = checked?;
        notes.append(&mut part.notes);
        Ok(Part { notes, ..part })
    }

    async fn check(
        &self,
        keys: &VolumeKeys,
        only: Option<&[String]>,
        images: &Images,
        others: &Others,
    ) -> Result<Part> {
        let name = keys.name();
        let volume = known(self.catalog.volume(name).await)?;
        let listed = self.catalog.backup_objects(name).await?;
        let mut part = Part::default();
        let chosen: Vec<_> = listed
            .iter()
            .filter(|(backup, _)| only.is_none_or(|only| only.contains(&backup.backup)))
            .cloned()
            .collect();
        let _room = self.room(&self.lists, chosen.iter().map(|(_, object)| object.size).sum()).await;

        let mut needs = Needs::default();
        let mut rows = self.configurations(keys, &volume, chosen, others, &mut needs, &mut part).await;
        // The oldest first, those whose time is unknown before them.
        rows.sort_by(|a, b| (&a.begun, &a.item).cmp(&(&b.begun, &b.item)));

        let pool = keys.blocks();
        part.covered = self.look(&pool, &pool_name(name, only), &mut needs).await;
        part.totals = needs.totals;
        if needs.is_troubled() {
            self.trace(keys, &needs, &mut rows, &mut part).await;
        }
        match &volume {
            Ok(volume) => {
                rows.extend(self.check_latest(keys, volume, &listed, others, &mut part).await);
                lay_image(volume, images, &mut rows, &mut part)?;
            }
            Err(error) => self.without_volume(keys, error, &mut rows, &mut part).await?,
        }
        part.items = rows;
        Ok(part)
    }

    /// Reads the backups' configurations: a row for each, and the blocks they need.
    async fn configurations(
        &self,
        keys: &VolumeKeys,
        volume: &Volume,
        listed: Vec<(BackupRef, ObjectMeta)>,
        others: &Others,
        needs: &mut Needs,
        part: &mut Part,
    ) -> Vec<Row> {
        let mut found = stream::iter(listed)
            .map(|(backup, object)| async move {
                let room = self.room(&self.held, object.size).await;
                let config = self.catalog.backup(&backup.volume, &backup.backup).await;
                (backup, object.size, room, config)
            })
            .buffer_unordered(REQUESTS)
            .boxed();
        let (mut rows, mut begun) = (Vec::new(), Vec::new());
        while let Some((backup, size, room, config)) = found.next().await {
            match config {
                Ok(config) if config.is_incomplete() => begun.push((backup, size)),
                config => rows.push(self.configuration(keys, volume, &backup, config, needs, part).await),
            }
            drop(room);
        }
        drop(found);
        for (backup, size) in begun {
            if others.used {
                rows.push(Row { why: Some("it is being made".into()), ..Row::new(item(&backup), Verdict::InProgress) });
                continue;
            }
            // It may just have been finished.
            let _room = self.room(&self.held, size).await;
            let config = self.catalog.backup(&backup.volume, &backup.backup).await;
            rows.push(self.configuration(keys, volume, &backup, config, needs, part).await);
        }
        rows
    }

    /// The row of a backup that nobody is making, and the blocks it needs.
    async fn configuration(
        &self,
        keys: &VolumeKeys,
        volume: &Volume,
        backup: &BackupRef,
        config: Result<BackupConfig>,
        needs: &mut Needs,
        part: &mut Part,
    ) -> Row {
        let mut row = Row::new(item(backup), Verdict::Whole);
        let key = keys.backup(&backup.backup).unwrap_or_default();
        let config = match config {
            Ok(config) => config,
            Err(error) if error.kind() == Kind::NotFound => return gone(row),
            Err(error) if is_about_the_object(&error) => {
                let mut bad = BadObject::from_error(&error, &key);
                row.damage(format!("its configuration: {}", bad.what));
                bad.spoil(row.item.clone(), Vec::new());
                part.bad.push(bad);
                return row;
            }
            Err(error) => {
                self.note_loss(&error);
                return Row::unchecked(row.item, &error);
            }
        };
        row.begun = Some(config.snapshot_created_at.clone()).filter(|time| !time.is_empty());
        row.blocks = config.blocks.len() as u64;
        if config.is_incomplete() {
            let why = "it was never finished, and nobody works on it; until it is deleted, Longhorn frees no space of this volume";
            return Row { verdict: Verdict::Crashed, why: Some(why.into()), ..row };
        }
        if let Err(method) = config.compression_method.parse::<Compression>() {
            // How each block is packed is seen by its first bytes.
            part.notes.push(format!(
                "{}: {method}, so Longhorn cannot restore it; its blocks tell how they are packed",
                row.item
            ));
        }
        match self.fault(keys, volume, &config).await {
            Ok(None) => {}
            Ok(Some(mut bad)) => {
                row.damage(bad.what.clone());
                bad.spoil(row.item.clone(), Vec::new());
                part.bad.push(bad);
            }
            Err(error) => row = Row { blocks: row.blocks, begun: row.begun, ..Row::unchecked(row.item, &error) },
        }
        let mut merged = std::mem::take(needs);
        let merged = blocking(move || {
            merged.add(whole_blocks(&config.blocks, config.block_size()));
            Ok(merged)
        });
        match merged.await {
            Ok(merged) => *needs = merged,
            Err(error) => row = Row::unchecked(row.item, &error),
        }
        row
    }

    /// What is wrong with a complete backup as a whole.
    ///
    /// # Errors
    /// When that cannot be told.
    async fn fault(&self, keys: &VolumeKeys, volume: &Volume, config: &BackupConfig) -> Result<Option<BadObject>> {
        let key = keys.backup(&config.name)?;
        // Longhorn writes it so since its first version; a list that lost entries differs.
        let bytes = config.blocks.len() as u64 * config.block_size();
        if config.size != bytes {
            let what = format!("it lists blocks of {bytes} bytes, but says that they have {}", config.size);
            return Ok(Some(BadObject { key, what, spoils: Vec::new() }));
        }
        let Ok(volume) = volume else { return Ok(None) };
        let Err(error) = config.check_restorable(volume) else { return Ok(None) };
        if error.kind() != Kind::Damaged {
            return Err(error);
        }
        // The volume may have grown and been backed up since its configuration was read.
        let error = match known(self.catalog.volume(keys.name()).await)? {
            Ok(volume) => config.check_restorable(&volume).err(),
            Err(_) => Some(error),
        };
        Ok(error.map(|error| BadObject::from_error(&error, &key)))
    }

    /// Finds what bad blocks spoil.
    async fn trace(&self, keys: &VolumeKeys, needs: &Needs, rows: &mut [Row], part: &mut Part) {
        let pool = keys.blocks();
        let mut spoilt = Spoilt::default();
        for row in rows.iter_mut().filter(|row| matches!(row.verdict, Verdict::Whole | Verdict::Damaged)) {
            let Item::Backup { volume, backup } = &row.item else { continue };
            if row.blocks == 0 {
                continue;
            }
            let _room = self.room(&self.held, row.blocks * 105).await;
            let config = match self.catalog.backup(volume, backup).await {
                Ok(config) => config,
                // Its blocks went with it.
                Err(error) if error.kind() == Kind::NotFound => {
                    *row = gone(row.clone());
                    continue;
                }
                Err(error) => {
                    if row.verdict == Verdict::Whole {
                        *row = Row {
                            begun: row.begun.clone(),
                            blocks: row.blocks,
                            ..Row::unchecked(row.item.clone(), &error)
                        };
                    }
                    continue;
                }
            };
            let length = u32::try_from(config.block_size()).unwrap_or_default();
            let places = needs.trace(&config.blocks, |_| length);
            match (places.bad.len(), places.unknown) {
                (0, 0) => {}
                (0, unknown) => {
                    if row.verdict == Verdict::Whole {
                        row.verdict = Verdict::Unchecked;
                        row.why = Some(why_unknown(unknown, needs));
                    }
                }
                (bad, _) => row.damage(bad_blocks(bad)),
            }
            spoilt.add(needs, &pool, &row.item, places);
        }
        // A configuration that was bad may be gone as well by now.
        let deleted = |item: &Item| rows.iter().any(|row| row.verdict == Verdict::Deleted && row.item == *item);
        part.bad.retain(|bad| !bad.spoils.iter().any(|spoils| deleted(&spoils.item)));
        let (bad, unnamed) = spoilt.into_objects();
        part.bad.extend(bad);
        part.bad_unnamed += unnamed;
    }

    /// The latest backup must be there: without it, nothing would tell that it was lost.
    async fn check_latest(
        &self,
        keys: &VolumeKeys,
        volume: &VolumeConfig,
        listed: &[(BackupRef, ObjectMeta)],
        others: &Others,
        part: &mut Part,
    ) -> Option<Row> {
        let latest = &volume.last_backup_name;
        if latest.is_empty() || others.deleting || listed.iter().any(|(backup, _)| backup.backup == *latest) {
            return None;
        }
        // Deleted, or made, since.
        let again = self.catalog.volume(keys.name()).await;
        if again.is_ok_and(|again| again.last_backup_name != *latest) {
            return None;
        }
        let Ok(key) = keys.backup(latest) else {
            let what = "it names a latest backup that no backup can be named".to_owned();
            part.bad.push(BadObject { key: keys.config(), what, spoils: Vec::new() });
            return None;
        };
        if !matches!(self.store.head(&key).await, Ok(None)) {
            return None;
        }
        let what = "it is missing, though the volume names it as its latest backup: it was lost, or its deletion was cut short";
        let mut row = Row::new(Item::Backup { volume: keys.name().into(), backup: latest.clone() }, Verdict::Damaged);
        row.why = Some("its configuration is missing".into());
        let mut bad = BadObject { key, what: what.into(), spoils: Vec::new() };
        bad.spoil(row.item.clone(), Vec::new());
        part.bad.push(bad);
        Some(row)
    }

    /// Without its configuration, no backup of a volume can be restored.
    async fn without_volume(&self, keys: &VolumeKeys, error: &Error, rows: &mut [Row], part: &mut Part) -> Result<()> {
        let mut bad = BadObject::from_error(error, &keys.config());
        // It goes last when a volume is deleted, so its backups may be gone, too.
        let left = self.catalog.backup_names(keys.name()).await?;
        for row in rows.iter_mut() {
            let Item::Backup { backup, .. } = &row.item else { continue };
            if !left.contains(backup) {
                *row = gone(row.clone());
            } else if !matches!(row.verdict, Verdict::InProgress | Verdict::Crashed | Verdict::Deleted) {
                row.damage(format!("volume.cfg: {}", bad.what));
                bad.spoil(row.item.clone(), Vec::new());
            }
        }
        if error.kind() == Kind::NotFound && bad.spoils.is_empty() {
            part.notes.push(format!("{}: it has neither a configuration nor a backup", keys.name()));
        } else {
            part.bad.push(bad);
        }
        Ok(())
    }
}

/// A backing image is laid under every backup of the volume.
fn lay_image(volume: &VolumeConfig, images: &Images, rows: &mut [Row], part: &mut Part) -> Result<()> {
    let name = &volume.backing_image_name;
    let mut above: Vec<&mut Row> = rows
        .iter_mut()
        .filter(|row| matches!(row.verdict, Verdict::Whole | Verdict::Damaged | Verdict::Unchecked))
        .collect();
    if name.is_empty() || above.is_empty() {
        return Ok(());
    }
    let wrong = |what: &str, above: &mut [&mut Row], part: &mut Part| {
        let mut bad = BadObject { key: layout::backing_image_config(name)?, what: what.to_owned(), spoils: Vec::new() };
        for row in above {
            row.damage(format!("its backing image {name}: {what}"));
            bad.spoil(row.item.clone(), Vec::new());
        }
        part.bad.push(bad);
        Ok(())
    };
    let Some(image) = images.get(name) else { return wrong("it is missing", &mut above, part) };
    let (found, expected) = (&image.checksum, &volume.backing_image_checksum);
    if !found.is_empty() && !expected.is_empty() && !found.eq_ignore_ascii_case(expected) {
        return wrong("it is another image than the one the volume was made over, by its checksum", &mut above, part);
    }
    for row in above {
        match image.verdict {
            Verdict::Damaged => {
                row.damage(format!("its backing image {name} is damaged"));
                part.over.push((name.clone(), row.item.clone()));
            }
            Verdict::Crashed | Verdict::Deleted => {
                row.damage(format!("the backup of its backing image {name} was never completed"));
            }
            Verdict::InProgress | Verdict::Unchecked if row.verdict == Verdict::Whole => {
                row.verdict = Verdict::Unchecked;
                row.why = Some(format!("its backing image {name} is {}", image.verdict));
            }
            Verdict::Whole | Verdict::InProgress | Verdict::Unchecked => {}
        }
    }
    Ok(())
}

fn item(backup: &BackupRef) -> Item {
    Item::Backup { volume: backup.volume.clone(), backup: backup.backup.clone() }
}

fn gone(row: Row) -> Row {
    Row { verdict: Verdict::Deleted, why: Some("it was deleted meanwhile".into()), ..row }
}

/// What a sample remembers a volume's blocks by: those of some backups only are another set.
fn pool_name(volume: &str, only: Option<&[String]>) -> String {
    match only {
        None => volume.to_owned(),
        Some(backups) => format!("{volume}@{}", backups.join(",")),
    }
}

pub(super) fn bad_blocks(count: usize) -> String {
    if count == 1 { "1 bad block".into() } else { format!("{count} bad blocks") }
}

pub(super) fn why_unknown(count: usize, needs: &Needs) -> String {
    let blocks = if count == 1 { "1 block was".into() } else { format!("{count} blocks were") };
    let why = needs.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    format!("{blocks} not looked at{why}")
}

/// Tells what is known of an object from a failure to look at it.
pub(super) fn known<T>(found: Result<T>) -> Result<Result<T>> {
    match found {
        Err(error) if !is_about_the_object(&error) => Err(error),
        found => Ok(found),
    }
}
