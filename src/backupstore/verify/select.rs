//! What of a store is verified.

use std::{collections::BTreeMap, str::FromStr};

use futures::{StreamExt, TryStreamExt, stream};

use super::{REQUESTS, Verifier};
use crate::{
    Error, Kind, Result,
    backupstore::layout::{VOLUMES, check_name},
};

/// A backup to verify: of one volume (`VOLUME@BACKUP`), or of any (`BACKUP`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupChoice {
    /// The volume it is of, if that was said.
    pub volume: Option<String>,
    /// Its name.
    pub backup: String,
}

impl FromStr for BackupChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (volume, backup) = match text.split_once('@') {
            Some((volume, backup)) => (Some(volume), backup),
            None => (None, text),
        };
        if let Some(volume) = volume {
            check_name("volume", volume)?;
        }
        check_name("backup", backup)?;
        Ok(Self { volume: volume.map(str::to_owned), backup: backup.to_owned() })
    }
}

/// What to verify. Empty is everything, system backups and all backing images included; else it is the volumes named,
/// of which backups named without a volume select some, the backups named with one, and the backing images they need.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Volumes by name.
    pub volumes: Vec<String>,
    /// Backups by name.
    pub backups: Vec<BackupChoice>,
}

/// A volume to verify.
#[derive(Debug)]
pub struct Target {
    pub volume: String,
    /// The backups that are meant, sorted; nothing for all.
    pub backups: Option<Vec<String>>,
}

impl Selection {
    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.volumes.is_empty() && self.backups.is_empty()
    }
}

impl Verifier {
    /// The volumes and backups that are selected, by name.
    ///
    /// # Errors
    /// `not-found` when one of them does not exist.
    pub(super) async fn targets(&self, selection: &Selection) -> Result<Vec<Target>> {
        let names = self.catalog.volume_names().await?;
        let all = |volume: String| Target { volume, backups: None };
        if selection.is_everything() {
            return Ok(names.into_iter().map(all).collect());
        }
        let of_volumes = selection.backups.iter().filter_map(|choice| choice.volume.as_ref());
        if let Some(missing) = selection.volumes.iter().chain(of_volumes).find(|name| !names.contains(name)) {
            return Err(self.missing(&format!("there is no volume {missing}")));
        }
        // Nothing for all backups of a volume.
        let mut chosen: BTreeMap<String, Option<Vec<String>>> = BTreeMap::new();
        let anywhere: Vec<&String> =
            selection.backups.iter().filter(|choice| choice.volume.is_none()).map(|choice| &choice.backup).collect();
        if anywhere.is_empty() {
            chosen.extend(selection.volumes.iter().map(|volume| (volume.clone(), None)));
        } else {
            let among = if selection.volumes.is_empty() { &names } else { &selection.volumes };
            let listed = self.backups_of(among.clone()).await?;
            for backup in anywhere {
                let mut found = listed.iter().filter(|(_, backups)| backups.contains(backup)).peekable();
                if found.peek().is_none() {
                    return Err(self.missing(&format!("no volume has a backup {backup}")));
                }
                for (volume, _) in found {
                    chosen
                        .entry(volume.clone())
                        .or_insert_with(|| Some(Vec::new()))
                        .get_or_insert_default()
                        .push(backup.clone());
                }
            }
        }
        for choice in &selection.backups {
            let Some(volume) = &choice.volume else { continue };
            if !self.catalog.backup_names(volume).await?.contains(&choice.backup) {
                return Err(self.missing(&format!("volume {volume} has no backup {}", choice.backup)));
            }
            // All its backups may be meant already.
            if let Some(backups) = chosen.entry(volume.clone()).or_insert_with(|| Some(Vec::new())) {
                backups.push(choice.backup.clone());
            }
        }
        let sorted = |mut backups: Vec<String>| {
            backups.sort_unstable();
            backups.dedup();
            backups
        };
        Ok(chosen.into_iter().map(|(volume, backups)| Target { volume, backups: backups.map(sorted) }).collect())
    }

    async fn backups_of(&self, volumes: Vec<String>) -> Result<Vec<(String, Vec<String>)>> {
        stream::iter(volumes)
            .map(|volume| async move {
                let backups = self.catalog.backup_names(&volume).await?;
                Ok::<_, Error>((volume, backups))
            })
            .buffered(REQUESTS)
            .try_collect()
            .await
    }

    fn missing(&self, text: &str) -> Error {
        Error::new(Kind::NotFound, format!("{text} in {}", self.store.describe()))
            .object(VOLUMES)
            .hint("`lhrun backups ls` shows what there is")
    }
}
