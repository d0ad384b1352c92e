//! System backups: the archive is the one its configuration names, and it can be read.

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use super::{
    Verifier, is_about_the_object,
    report::{BadObject, Item, Part, Row, Verdict},
};
use crate::{
    Kind, Result,
    backupstore::{catalog::SystemBackupEntry, layout, system},
};

/// Archives read at the same time.
const ARCHIVES: usize = 4;
/// An archive without its configuration, which is written right after it, is being made for at most so long.
const UPLOAD: SignedDuration = SignedDuration::from_mins(10);

impl Verifier {
    /// Verifies all system backups.
    pub(super) async fn systems(&self) -> Part {
        let everything = Item::SystemBackup { longhorn_version: "(any)".into(), system_backup: "(all)".into() };
        if let Some(error) = self.stopped() {
            return Part::unchecked(everything, &error);
        }
        let entries = match self.catalog.system_backups().await {
            Ok(entries) => entries,
            Err(error) => return Part::unchecked(everything, &error),
        };
        let mut parts = stream::iter(entries).map(|entry| self.system(entry)).buffered(ARCHIVES).boxed();
        let mut found = Part::default();
        while let Some(part) = parts.next().await {
            found.add(part);
        }
        found
    }

    async fn system(&self, entry: SystemBackupEntry) -> Part {
        let SystemBackupEntry { version, name, config } = entry;
        let item = Item::SystemBackup { longhorn_version: version.clone(), system_backup: name.clone() };
        let mut part = Part::default();
        let mut row = Row::new(item.clone(), Verdict::Whole);
        let folder = layout::system_backup(&version, &name).unwrap_or_default();
        if let Ok(config) = &config {
            row.begun = Some(config.created_at.clone()).filter(|time| !time.is_empty());
        }
        let read = match config {
            Err(error) if error.kind() == Kind::NotFound => match self.is_being_made(&folder).await {
                Ok(true) => {
                    row.verdict = Verdict::InProgress;
                    row.why = Some("its archive is there, its configuration not yet".into());
                    part.items.push(row);
                    return part;
                }
                Ok(false) => Err(error),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
            Ok(config) if config.longhorn_version != version => {
                let what = format!("it is of version {:?}, not of {version:?}", config.longhorn_version);
                row.damage(format!("its configuration: {what}"));
                let mut bad = BadObject { key: folder.clone() + "system-backup.cfg", what, spoils: Vec::new() };
                bad.spoil(item.clone(), Vec::new());
                part.bad.push(bad);
                Ok(())
            }
            Ok(_) => system::read(&self.store, &version, &name).await.map(drop),
        };
        if let Err(error) = read {
            if is_about_the_object(&error) {
                let mut bad = BadObject::from_error(&error, &folder);
                let file = bad.key.rsplit('/').next().unwrap_or_default();
                row.damage(format!("{file}: {}", bad.what));
                bad.spoil(item, Vec::new());
                part.bad.push(bad);
            } else {
                self.note_loss(&error);
                row = Row { begun: row.begun, ..Row::unchecked(item, &error) };
            }
        }
        part.items.push(row);
        part
    }

    async fn is_being_made(&self, folder: &str) -> Result<bool> {
        let archive = self.store.head(&format!("{folder}system-backup.zip")).await?;
        Ok(archive.is_some_and(|archive| Timestamp::now().duration_since(archive.last_modified) < UPLOAD))
    }
}
