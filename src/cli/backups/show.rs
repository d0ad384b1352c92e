//! `lhrun backups show`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    ls::{backup_table, block_size},
    shown::{age, bytes, facts},
    store,
};
use crate::{
    Error, Kind, Result,
    backupstore::{
        Catalog,
        claim::KubernetesStatus,
        overview::{VolumeDetail, VolumeView},
        select,
        view::{BackingImageView, BackupView},
    },
    cli::{Failure, Setting},
    longhorn::{Bundle, expected},
    objectstore::Store,
    terminal::{human, table},
};

/// Show all that is known of a volume, a backup, a system backup or a backing image
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  lhrun backups show postgres/data-postgres-0
  lhrun backups show pvc-0b3a7c1e@backup-0123456789abcdef
  lhrun backups show postgres/data-postgres-0@3d
  lhrun backups show system:weekly-1
  lhrun backups show image:debian-base")]
pub struct Args {
    /// VOLUME, VOLUME@BACKUP, system:NAME or image:NAME; a volume by its name or as namespace/claim, a backup by its name,
    /// as latest, or by a time, as for `restore`
    #[arg(value_name = "WHAT")]
    what: String,
}

/// A volume and its backups, as programs read it.
#[derive(Serialize)]
struct Volume {
    #[serde(flatten)]
    detail: VolumeDetail,
    backups: Vec<BackupView>,
}

/// A system backup, as programs read it.
#[derive(Serialize)]
struct System {
    name: String,
    version: String,
    created: String,
    kubernetes_version: String,
    manager_image: String,
    namespaces: BTreeSet<String>,
    volumes: Vec<Held>,
    /// `namespace/name` of claims that are on none of these volumes.
    other_claims: Vec<String>,
    storage_classes: Vec<String>,
    recurring_jobs: Vec<String>,
    backing_images: Vec<String>,
}

/// A volume in a system backup.
#[derive(Serialize)]
struct Held {
    claim: Option<String>,
    volume: String,
    size: Option<u64>,
    class: Option<String>,
    /// The backup that Longhorn's system restore would take.
    backup: Option<String>,
    /// Whether the store still has that one: `there`, `gone`, or `none` when the system backup names none.
    state: &'static str,
    /// The latest complete backup in the store, which `full-restore` takes.
    latest: Option<String>,
    latest_at: Option<String>,
}

pub fn run(setting: &Setting, store: &Store, args: &Args) -> Result<u8, Failure> {
    let catalog = Catalog::new(store.clone());
    if let Some(name) = args.what.strip_prefix("system:") {
        return system(setting, store, name);
    }
    if let Some(name) = args.what.strip_prefix("image:") {
        return image(setting, &catalog, name);
    }
    if args.what.contains('@') { backup(setting, store, &args.what) } else { volume(setting, &catalog, &args.what) }
}

fn volume(setting: &Setting, catalog: &Catalog, name: &str) -> Result<u8, Failure> {
    let (detail, backups, note) = store::look(setting, "reading the volume", async {
        let meant = select::volume(catalog, name).await?;
        let (detail, backups) = tokio::try_join!(catalog.detail(&meant.volume), catalog.backups(&meant.volume))?;
        Ok((detail, backups, meant.note))
    })
    .map_err(|error| store::named(setting, catalog, error))?;
    store::tell(setting, note.as_deref());
    let volume = Volume { detail, backups: backups.iter().map(BackupView::of).collect() };
    if setting.is_for_programs() {
        setting.result(&volume)?;
        return Ok(0);
    }
    let Volume { detail, backups } = &volume;
    let view = &detail.view;
    let mut shown = vec![
        ("Volume", view.volume.clone()),
        ("State", view.state.to_owned()),
        ("Error", text(&view.error)),
        ("Unfinished backups", view.unfinished.join(", ")),
        ("Claim", text(&view.claim)),
        ("Size", bytes(view.size)),
        ("Latest backup", at(&view.latest, &view.latest_at)),
        ("Created", text(&detail.created)),
        ("Compression", text(&detail.compression)),
        ("Storage class", text(&detail.storage_class)),
        ("Data engine", text(&detail.data_engine)),
        ("Backing image", text(&detail.backing_image)),
        ("Image checksum", text(&detail.backing_image_checksum)),
    ];
    shown.extend(used_by(detail.kubernetes.as_ref()));
    shown.push(("Labels", labels(&detail.labels)));
    setting.terminal.out_styled(facts(&shown));
    if !backups.is_empty() {
        setting.terminal.out_styled(format_args!("\n{}", backup_table(backups, false)));
    }
    Ok(0)
}

fn backup(setting: &Setting, store: &Store, reference: &str) -> Result<u8, Failure> {
    let (of, note) = store::look(setting, "reading the backup", async {
        let found = select::backup(store, reference, Timestamp::now()).await?;
        let deleted = || Error::new(Kind::NotFound, format!("{} was deleted just now", found.backup));
        Ok((Catalog::new(store.clone()).one(&found.backup).await?.ok_or_else(deleted)?, found.note))
    })?;
    store::tell(setting, note.as_deref());
    let view = BackupView::of(&of);
    if setting.is_for_programs() {
        setting.result(&view)?;
        return Ok(0);
    }
    let mut shown =
        vec![("Backup", view.backup.clone()), ("Volume", view.volume.clone()), ("State", view.state.to_owned())];
    if let Some(error) = &view.error {
        shown.push(("Error", error.clone()));
    } else {
        shown.extend([
            ("Claim", text(&view.claim)),
            ("Begun", at(&view.begun, &view.begun)),
            ("Completed", text(&view.completed)),
            ("Snapshot", text(&view.snapshot)),
            ("Recurring job", text(&view.recurring_job)),
            ("Mode", view.mode.to_owned()),
            ("Compression", view.compression.clone()),
            ("Block size", block_size(view.block_size)),
            ("Blocks", view.blocks.to_string()),
            ("Size", human::bytes(view.size)),
            ("New data", human::bytes(view.new_bytes)),
            ("Data written again", human::bytes(view.rewritten_bytes)),
        ]);
        shown.extend(used_by(view.kubernetes.as_ref()));
        shown.push(("Labels", labels(&view.labels)));
    }
    setting.terminal.out_styled(facts(&shown));
    Ok(0)
}

fn image(setting: &Setting, catalog: &Catalog, name: &str) -> Result<u8, Failure> {
    let image = store::look(setting, "reading the backing images", catalog.backing_images())?
        .into_iter()
        .find(|image| image.name == name)
        .map(BackingImageView::of)
        .ok_or_else(|| {
            Error::new(Kind::NotFound, format!("there is no backing image {name} in the store"))
                .hint("`lhrun backups ls` lists those there are")
        })?;
    if setting.is_for_programs() {
        setting.result(&image)?;
        return Ok(0);
    }
    setting.terminal.out_styled(facts(&[
        ("Backing image", image.name.clone()),
        ("State", image.state.to_owned()),
        ("Error", text(&image.error)),
        ("Size", bytes(image.size)),
        ("Blocks", image.blocks.to_string()),
        ("Compression", text(&image.compression)),
        ("Created", text(&image.created)),
        ("Completed", text(&image.completed)),
        ("SHA-512", text(&image.checksum)),
        ("Labels", labels(&image.labels)),
    ]));
    Ok(0)
}

fn system(setting: &Setting, store: &Store, name: &str) -> Result<u8, Failure> {
    let system = store::look(setting, "reading the system backup", read_system(store, name))?;
    if setting.is_for_programs() {
        setting.result(&system)?;
        return Ok(0);
    }
    setting.terminal.out_styled(facts(&[
        ("System backup", system.name.clone()),
        ("Longhorn", system.version.clone()),
        ("Kubernetes", system.kubernetes_version.clone()),
        ("Created", at(&Some(system.created.clone()), &Some(system.created.clone()))),
        ("Manager image", system.manager_image.clone()),
        ("Namespaces", system.namespaces.iter().cloned().collect::<Vec<_>>().join(", ")),
        ("Other claims", system.other_claims.join(", ")),
        ("Storage classes", system.storage_classes.join(", ")),
        ("Recurring jobs", system.recurring_jobs.join(", ")),
        ("Backing images", system.backing_images.join(", ")),
    ]));
    if system.volumes.is_empty() {
        setting.terminal.note("it holds no volumes");
        return Ok(0);
    }
    let rows = system.volumes.iter().map(|held| {
        vec![
            text(&held.claim),
            held.volume.clone(),
            bytes(held.size),
            text(&held.class),
            text(&held.backup),
            held.state.to_owned(),
            text(&held.latest),
            age(held.latest_at.as_deref()),
        ]
    });
    let headings = ["claim", "volume", "size", "class", "its backup", "state", "latest backup", "age"];
    setting.terminal.out_styled(format_args!("\n{}", table::plain(&headings, &rows.collect::<Vec<_>>())));
    Ok(0)
}

async fn read_system(store: &Store, name: &str) -> Result<System> {
    let catalog = Catalog::new(store.clone());
    let bundle = Bundle::read(store, name).await?;
    let inventory = bundle.inventory();
    let volumes: BTreeMap<String, VolumeView> =
        catalog.overview().await?.into_iter().map(|view| (view.volume.clone(), view)).collect();
    let mut held = Vec::new();
    for volume in expected(None, Some(&inventory), bundle.moment(), &[], None).volumes {
        let view = volumes.get(&volume.volume);
        let latest = view.and_then(|view| view.latest.clone());
        let state = match &volume.recorded_backup {
            None => "none",
            Some(_) if view.is_none() => "gone",
            recorded if *recorded == latest => "there",
            Some(recorded) if catalog.backup_names(&volume.volume).await?.contains(recorded) => "there",
            Some(_) => "gone",
        };
        held.push(Held {
            claim: volume.claim,
            volume: volume.volume,
            size: volume.size,
            class: volume.class,
            backup: volume.recorded_backup,
            state,
            latest,
            latest_at: view.and_then(|view| view.latest_at.clone()),
        });
    }
    let on_volumes: BTreeSet<&str> = held.iter().filter_map(|held| held.claim.as_deref()).collect();
    let claims = inventory.claims.keys();
    let names = |objects: &[serde_json::Value]| {
        let name = |object: &serde_json::Value| Some(object.pointer("/metadata/name")?.as_str()?.to_owned());
        objects.iter().filter_map(name).collect()
    };
    Ok(System {
        namespaces: claims.clone().filter_map(|claim| Some(claim.split_once('/')?.0.to_owned())).collect(),
        other_claims: claims.filter(|claim| !on_volumes.contains(claim.as_str())).cloned().collect(),
        volumes: held,
        storage_classes: names(&bundle.storage_classes),
        recurring_jobs: names(&bundle.recurring_jobs),
        backing_images: names(&bundle.backing_images),
        name: bundle.name,
        version: bundle.version,
        created: bundle.created,
        kubernetes_version: bundle.kubernetes_version,
        manager_image: bundle.manager_image,
    })
}

#[expect(clippy::ref_option, reason = "fields are handed over as they are")]
fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

/// A thing, or a time, and how long ago that was.
#[expect(clippy::ref_option, reason = "fields are handed over as they are")]
fn at(what: &Option<String>, time: &Option<String>) -> String {
    match (what, age(time.as_deref()).as_str()) {
        (None, _) => String::new(),
        (Some(what), "") => what.clone(),
        (Some(what), age) => format!("{what} ({age} ago)"),
    }
}

fn labels(labels: &crate::backupstore::config::Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// Who used the volume when it was backed up.
fn used_by(status: Option<&KubernetesStatus>) -> Vec<(&'static str, String)> {
    let Some(status) = status else { return Vec::new() };
    let pods = status
        .workloads_status
        .iter()
        .map(|used| format!("{} ({} {}, {})", used.pod_name, used.workload_type, used.workload_name, used.pod_status));
    vec![
        ("Namespace", status.namespace.clone()),
        ("PersistentVolumeClaim", status.pvc_name.clone()),
        ("PersistentVolume", status.pv_name.clone()),
        ("Its phase", status.pv_status.clone()),
        ("Claim last seen", status.last_pvc_ref_at.clone()),
        ("Pods", pods.collect::<Vec<_>>().join(", ")),
        ("Pods last seen", status.last_pod_ref_at.clone()),
    ]
}
