//! `lhrun backups ls`.

use serde::Serialize;

use super::store;
use crate::{
    backupstore::{Catalog, catalog::VolumeEntry, claim::KubernetesStatus},
    cli::{Failure, Setting},
    objectstore::Store,
    terminal::{human, table},
};

/// List the volumes of the store
#[derive(clap::Args, Debug)]
pub struct Args {}

/// A volume as programs read it.
#[derive(Serialize)]
struct Row {
    volume: String,
    /// `namespace/claim` the latest backup was of.
    claim: Option<String>,
    /// Bytes.
    size: Option<u64>,
    /// When the latest backup was begun, RFC 3339.
    last_backup: Option<String>,
    /// What is wrong with its configuration.
    error: Option<String>,
}

pub fn run(setting: &Setting, store: &Store, _: &Args) -> Result<u8, Failure> {
    let volumes = store::wait(setting, Catalog::new(store.clone()).volumes())?;
    let rows: Vec<Row> = volumes.into_iter().map(row).collect();
    if setting.is_for_programs() {
        setting.result(&rows)?;
        return Ok(0);
    }
    let cells = |row: &Row| {
        let state = row.error.as_ref().map_or("ok", |_| "damaged");
        vec![
            row.volume.clone(),
            row.claim.clone().unwrap_or_default(),
            row.size.map(human::bytes).unwrap_or_default(),
            row.last_backup.clone().unwrap_or_default(),
            state.to_owned(),
        ]
    };
    let headings = ["volume", "claim", "size", "last backup", "state"];
    setting.terminal.out_styled(table::plain(&headings, &rows.iter().map(cells).collect::<Vec<_>>()));
    Ok(0)
}

fn row(entry: VolumeEntry) -> Row {
    let volume = entry.name;
    match entry.config {
        Err(error) => Row { volume, claim: None, size: None, last_backup: None, error: Some(error.to_string()) },
        Ok(config) => {
            let claim = KubernetesStatus::from_labels(&config.labels);
            let claim = claim.filter(|status| !status.pvc_name.is_empty());
            Row {
                volume,
                claim: claim.map(|status| format!("{}/{}", status.namespace, status.pvc_name)),
                size: Some(config.size),
                last_backup: Some(config.last_backup_at).filter(|time| !time.is_empty()),
                error: None,
            }
        }
    }
}
