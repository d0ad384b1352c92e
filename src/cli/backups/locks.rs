//! `lhrun backups locks`.

use std::time::Duration;

use super::store;
use crate::{
    backupstore::{Catalog, select, view::LockView},
    cli::{Failure, Setting},
    objectstore::Store,
    terminal::{human, table},
};

/// List the locks on volumes: what each is for, whether it still counts, and what it keeps waiting
///
/// Whoever holds a lock rewrites it every minute; one that was not rewritten for 150 seconds has expired, and nobody minds
/// it. Ages are by the store's clock. A lock does not say who took it.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  lhrun backups locks
  lhrun backups locks postgres/data-postgres-0")]
pub struct Args {
    /// A volume, by its name or as namespace/claim; all without it
    volume: Option<String>,
}

pub fn run(setting: &Setting, store: &Store, args: &Args) -> Result<u8, Failure> {
    let catalog = Catalog::new(store.clone());
    let locks = store::look(setting, "listing the locks", async {
        let Some(volume) = &args.volume else { return catalog.locks(None).await };
        let mut locks = Vec::new();
        for found in select::volumes(&catalog, volume).await? {
            locks.extend(catalog.locks(Some(&found.volume)).await?);
        }
        Ok(locks)
    })
    .map_err(|error| store::named(setting, &catalog, error))?;
    if setting.is_for_programs() {
        setting.result(&locks)?;
    } else if locks.is_empty() {
        setting.terminal.note("nobody holds a lock");
    } else {
        setting.terminal.out_styled(shown(&locks));
    }
    Ok(0)
}

fn shown(locks: &[LockView]) -> String {
    let cells = |lock: &LockView| {
        let state = match (lock.expired, lock.held) {
            (true, _) => "expired",
            (false, true) => "held",
            (false, false) => "asked for",
        };
        vec![
            lock.volume.clone().unwrap_or_else(|| "(backing images)".into()),
            lock.lock.clone(),
            lock.purpose.to_owned(),
            state.to_owned(),
            lock.refreshed.clone(),
            human::duration(Duration::from_secs(lock.age.unsigned_abs())),
            lock.blocks.unwrap_or("nothing").to_owned(),
        ]
    };
    let headings = ["volume", "lock", "for", "state", "refreshed", "age", "keeps waiting"];
    table::plain(&headings, &locks.iter().map(cells).collect::<Vec<_>>())
}
