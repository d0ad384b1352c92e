//! `lhrun backups ls`.

use serde::Serialize;

use super::{
    shown::{age, brief, bytes},
    store,
};
use crate::{
    backupstore::{
        Catalog,
        catalog::BackupSummary,
        overview::VolumeView,
        select::{self, Candidate},
        view::{BackingImageView, BackupView, SystemBackupView},
    },
    cli::{Failure, Setting},
    objectstore::Store,
    terminal::{human, table},
};

/// List what is in the store, or the backups of a volume, oldest first
///
/// Without a volume: volumes, system backups and backing images. A state of ok or complete is what the configurations say;
/// whether the data are whole is for `lhrun backups verify`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  lhrun backups ls
  lhrun backups ls pvc-0b3a7c1e-5a1f-4b57-9c53-2f7d1a9f6c11
  lhrun backups ls postgres/data-postgres-0 -o json")]
pub struct Args {
    /// A volume, by its name or as namespace/claim
    volume: Option<String>,
}

/// Everything, as programs read it.
#[derive(Serialize)]
struct Listing {
    store: String,
    volumes: Vec<VolumeView>,
    system_backups: Vec<SystemBackupView>,
    backing_images: Vec<BackingImageView>,
}

pub fn run(setting: &Setting, store: &Store, args: &Args) -> Result<u8, Failure> {
    let catalog = Catalog::new(store.clone());
    match &args.volume {
        Some(volume) => backups(setting, &catalog, volume),
        None => everything(setting, &catalog, store),
    }
}

fn everything(setting: &Setting, catalog: &Catalog, store: &Store) -> Result<u8, Failure> {
    let (volumes, systems, images) = store::look(setting, "listing the store", async {
        tokio::try_join!(catalog.overview(), catalog.system_backups(), catalog.backing_images())
    })?;
    let listing = Listing {
        store: store.describe(),
        volumes,
        system_backups: systems.into_iter().map(SystemBackupView::of).collect(),
        backing_images: images.into_iter().map(BackingImageView::of).collect(),
    };
    if setting.is_for_programs() {
        setting.result(&listing)?;
        return Ok(0);
    }
    let tables: Vec<String> =
        [volume_table(&listing.volumes), system_table(&listing.system_backups), image_table(&listing.backing_images)]
            .into_iter()
            .flatten()
            .collect();
    if tables.is_empty() {
        setting.terminal.note(&format!("there are no backups in {}: it has no folder backupstore/", listing.store));
    } else {
        setting.terminal.out_styled(tables.join("\n\n"));
    }
    Ok(0)
}

fn volume_table(volumes: &[VolumeView]) -> Option<String> {
    let cells = |volume: &VolumeView| {
        vec![
            volume.volume.clone(),
            volume.claim.clone().unwrap_or_default(),
            bytes(volume.size),
            volume.backup_count.to_string(),
            volume.blocks.map(|blocks| blocks.to_string()).unwrap_or_default(),
            volume.latest_at.clone().unwrap_or_default(),
            age(volume.latest_at.as_deref()),
            volume.state.to_owned(),
        ]
    };
    let headings = ["volume", "claim", "size", "backups", "blocks", "latest", "age", "state"];
    (!volumes.is_empty()).then(|| table::plain(&headings, &volumes.iter().map(cells).collect::<Vec<_>>()))
}

fn system_table(backups: &[SystemBackupView]) -> Option<String> {
    let cells = |backup: &SystemBackupView| {
        vec![
            backup.name.clone(),
            backup.version.clone(),
            backup.created.clone().unwrap_or_default(),
            age(backup.created.as_deref()),
            backup.checksum.clone().unwrap_or_default(),
            backup.state.to_owned(),
        ]
    };
    let headings = ["system backup", "version", "created", "age", "sha-256", "state"];
    (!backups.is_empty()).then(|| table::plain(&headings, &backups.iter().map(cells).collect::<Vec<_>>()))
}

fn image_table(images: &[BackingImageView]) -> Option<String> {
    let cells = |image: &BackingImageView| {
        vec![
            image.name.clone(),
            bytes(image.size),
            image.blocks.to_string(),
            image.compression.clone().unwrap_or_default(),
            image.completed.clone().unwrap_or_default(),
            image.state.to_owned(),
        ]
    };
    let headings = ["backing image", "size", "blocks", "compression", "completed", "state"];
    (!images.is_empty()).then(|| table::plain(&headings, &images.iter().map(cells).collect::<Vec<_>>()))
}

fn backups(setting: &Setting, catalog: &Catalog, volume: &str) -> Result<u8, Failure> {
    let (volumes, mut backups) = store::look(setting, "listing the backups", async {
        let (mut volumes, mut backups) = (Vec::new(), Vec::new());
        for Candidate { volume, .. } in select::volumes(catalog, volume).await? {
            let found = catalog.backups(&volume).await?;
            if found.is_empty() {
                // There is a difference between a volume without backups and none.
                catalog.detail(&volume).await?;
            }
            backups.extend(found);
            volumes.push(volume);
        }
        Ok((volumes, backups))
    })
    .map_err(|error| store::named(setting, catalog, error))?;
    backups.sort_by_key(BackupSummary::begun);
    let views: Vec<BackupView> = backups.iter().map(BackupView::of).collect();
    if setting.is_for_programs() {
        setting.result(&views)?;
    } else if views.is_empty() {
        setting.terminal.note(&format!("volume {} has no backups", volumes.join(", ")));
    } else if volumes.len() > 1 {
        setting
            .terminal
            .note(&format!("the claim {volume} had {} volumes; the newest backup is the last line", volumes.len()));
        setting.terminal.out_styled(backup_table(&views, true));
    } else {
        setting.terminal.out_styled(backup_table(&views, false));
    }
    Ok(0)
}

/// Backups, with the volume of each when they are of several.
pub fn backup_table(backups: &[BackupView], names_volumes: bool) -> String {
    let mut headings = HEADINGS.to_vec();
    let mut rows: Vec<_> = backups.iter().map(backup_cells).collect();
    if names_volumes {
        headings.insert(0, "volume");
        for (row, backup) in rows.iter_mut().zip(backups) {
            row.insert(0, backup.volume.clone());
        }
    }
    table::plain(&headings, &rows)
}

/// What [`backup_cells`] shows.
const HEADINGS: [&str; 10] =
    ["backup", "begun", "age", "size", "blocks", "new", "compression", "mode", "state", "labels"];

fn backup_cells(backup: &BackupView) -> Vec<String> {
    if backup.state == "damaged" {
        let mut cells = vec![String::new(); 9];
        cells[0].clone_from(&backup.backup);
        backup.state.clone_into(&mut cells[8]);
        return cells;
    }
    vec![
        backup.backup.clone(),
        backup.begun.clone().unwrap_or_default(),
        age(backup.begun.as_deref()),
        human::bytes(backup.size),
        format!("{} × {}", backup.blocks, block_size(backup.block_size)),
        human::bytes(backup.new_bytes),
        backup.compression.clone(),
        backup.mode.to_owned(),
        backup.state.to_owned(),
        brief(&backup.labels),
    ]
}

/// `2 MiB`, `16 MiB`.
pub fn block_size(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
