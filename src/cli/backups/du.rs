//! `lhrun backups du`.

use super::{
    shown::{facts, several},
    store,
};
use crate::{
    backupstore::{
        Catalog, select,
        usage::{self, Noncurrent, PoolUsage, StoreUsage},
    },
    cli::{Failure, Setting},
    objectstore::Store,
    terminal::{Unit, human, table},
};

/// Tell what takes the space: what only one backup needs, what several share, what nobody needs
///
/// No block is read: one listing and the block lists of the backups answer it. FREES is what goes when that one backup is
/// deleted. Blocks that no backup lists go with the next deletion of any backup of their volume; while a backup is being
/// made, its blocks look like that too.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  lhrun backups du
  lhrun backups du postgres/data-postgres-0
  lhrun backups du -o json")]
pub struct Args {
    /// A volume, by its name or as namespace/claim; the whole store without it
    volume: Option<String>,
}

pub fn run(setting: &Setting, store: &Store, args: &Args) -> Result<u8, Failure> {
    match &args.volume {
        Some(volume) => of_volume(setting, store, volume),
        None => of_store(setting, store),
    }
}

fn of_store(setting: &Setting, store: &Store) -> Result<u8, Failure> {
    let progress = setting.terminal.progress("adding up the store", Unit::Items);
    let used = store::wait(
        setting,
        usage::store(store, |done, total, next| {
            progress.total(total as u64);
            progress.set(done as u64);
            progress.note(next);
        }),
    )?;
    drop(progress);
    if setting.is_for_programs() {
        setting.result(&used)?;
        return Ok(0);
    }
    setting.terminal.out_styled(store_table(&used));
    for pool in used.volumes.iter().chain([&used.backing_images]) {
        warn(setting, pool);
    }
    Ok(0)
}

fn store_table(used: &StoreUsage) -> String {
    let row = |pool: &PoolUsage| {
        vec![
            pool.volume.clone().unwrap_or_else(|| "(backing images)".into()),
            pool.backups.len().to_string(),
            human::bytes(pool.bytes),
            human::bytes(pool.used.stored),
            human::bytes(pool.used.raw),
            human::bytes(pool.shared.stored),
            human::bytes(pool.unreferenced.bytes),
            former(pool.noncurrent),
        ]
    };
    let mut rows: Vec<_> = used.volumes.iter().map(row).collect();
    if used.backing_images.bytes > 0 {
        rows.push(row(&used.backing_images));
    }
    if used.system_backups.objects > 0 {
        rows.push(vec!["(system backups)".into(), String::new(), human::bytes(used.system_backups.bytes)]);
    }
    rows.push(vec![
        "(total)".into(),
        String::new(),
        human::bytes(used.bytes),
        human::bytes(used.used.stored),
        human::bytes(used.used.raw),
        String::new(),
        human::bytes(used.unreferenced.bytes),
        former(used.noncurrent),
    ]);
    let headings = ["volume", "backups", "total", "blocks", "unpacked", "shared", "unreferenced", "former versions"];
    table::plain(&headings, &rows)
}

fn of_volume(setting: &Setting, store: &Store, volume: &str) -> Result<u8, Failure> {
    let catalog = Catalog::new(store.clone());
    let (used, note) = store::look(setting, "adding up the volume", async {
        let meant = select::volume(&catalog, volume).await?;
        Ok((usage::volume(store, &meant.volume).await?, meant.note))
    })
    .map_err(|error| store::named(setting, &catalog, error))?;
    store::tell(setting, note.as_deref());
    if setting.is_for_programs() {
        setting.result(&used)?;
        return Ok(0);
    }
    if !used.backups.is_empty() {
        setting.terminal.out_styled(format_args!("{}\n", backup_table(&used)));
    }
    setting.terminal.out_styled(facts(&[
        ("Volume", used.volume.clone().unwrap_or_default()),
        ("Total", human::bytes(used.bytes)),
        ("Blocks", format!("{}, unpacked {}", amount(used.used.blocks, used.used.stored), human::bytes(used.used.raw))),
        ("Shared", amount(used.shared.blocks, used.shared.stored)),
        ("Unreferenced", amount(used.unreferenced.objects, used.unreferenced.bytes)),
        ("Other objects", amount(used.other.objects, used.other.bytes)),
        ("Former versions", former(used.noncurrent)),
    ]));
    warn(setting, &used);
    Ok(0)
}

fn backup_table(used: &PoolUsage) -> String {
    let rows = used.backups.iter().map(|backup| {
        vec![
            backup.backup.clone(),
            backup.state.to_owned(),
            backup.all.blocks.to_string(),
            human::bytes(backup.all.stored),
            human::bytes(backup.all.raw),
            human::bytes(backup.unique.stored),
            human::bytes(backup.shared.stored),
            human::bytes(backup.frees),
            if backup.missing == 0 { String::new() } else { backup.missing.to_string() },
        ]
    });
    let headings = ["backup", "state", "blocks", "stored", "unpacked", "unique", "shared", "frees", "missing"];
    table::plain(&headings, &rows.collect::<Vec<_>>())
}

fn amount(count: u64, bytes: u64) -> String {
    format!("{} in {count}", human::bytes(bytes))
}

fn former(noncurrent: Option<Noncurrent>) -> String {
    let Some(Noncurrent { versions, delete_markers }) = noncurrent else { return "not known".into() };
    match (versions.objects, delete_markers) {
        (0, 0) => "none".into(),
        (_, 0) => amount(versions.objects, versions.bytes),
        (_, marks) => format!("{}, {marks} marks of deletion", amount(versions.objects, versions.bytes)),
    }
}

/// What keeps the figures from being certain, and what they show to be wrong.
fn warn(setting: &Setting, pool: &PoolUsage) {
    let what = pool.volume.as_ref().map_or_else(|| "the backing images".into(), |volume| format!("volume {volume}"));
    if pool.in_use && pool.unreferenced.objects > 0 {
        setting.terminal.warn(&format!(
            "{what}: somebody holds a lock, so unreferenced blocks may be those of a backup that is being made"
        ));
    }
    if !pool.blocked_by.is_empty() {
        let names: Vec<_> = pool.blocked_by.iter().map(String::as_str).collect();
        setting.terminal.warn(&format!(
            "{what}: {} cannot be counted, so what is unreferenced or unique is so at most; Longhorn removes no block \
             until that is complete or deleted",
            several(&names)
        ));
    }
    let broken = pool.backups.iter().filter(|backup| backup.missing > 0);
    let names: Vec<_> = broken.map(|backup| backup.backup.as_str()).collect();
    if !names.is_empty() {
        setting.terminal.warn(&format!("{what}: blocks of {} are missing from the store: verify it", several(&names)));
    }
}
