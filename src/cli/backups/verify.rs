//! `lhrun backups verify`.

use std::{path::PathBuf, sync::Arc};

use super::store::{self, StoreArgs};
use crate::{
    Error, Kind,
    backupstore::{
        Catalog, Progress,
        block::Checksum,
        select,
        verify::{self, BackupChoice, Coverage, Level, Locking, Report, Selection, VerifyOptions},
    },
    cli::{Failure, Setting},
    objectstore::Store,
    state,
    terminal::Unit,
};

mod text;

/// Tell which backups are whole, from the store alone
///
/// Names every bad object, what is wrong with it, every backup and offset it spoils, and which backups are still whole.
/// Backups that are being made, or were left by a crash, are no damage. A damaged block is read a second time before it
/// is reported.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Levels, each with what it cannot see:
  meta       reads every configuration, compares them with each other, and reads the archives of system backups.
             No block is looked at: all of them may be gone.
  exists     also lists the blocks: each is there and has a possible size. A few requests and no download, so it can
             follow every backup. Content is not looked at: a flipped bit does not show.
  sample=N%  also reads, unpacks and hashes N percent of the blocks, the next N percent in each run: 100/N runs, rounded
             up, read everything that was there at the first. What this run did not read is not known to be right.
  deep       reads, unpacks and hashes every block once, however many backups share it. It sees everything but what was
             wrong already when the backup was made: that needs a restore and a look at the data.
`exists` is the default because it is cheap enough to be run every time; run a sample every day, or deep every week, too.

While blocks are read, the volume is locked as for a restore: backups go on, deletions wait. Where the store cannot be
written, it is read without a lock; what is deleted meanwhile is told from a loss either way.

Exit codes: 0 whole, 3 damaged, 6 something could not be checked and nothing was found damaged, 130 interrupted.

Examples:
  lhrun backups verify
  lhrun backups verify --level deep --volume pvc-0b3a
  lhrun backups verify --level sample=10% --no-lock --store s3://longhorn@us-east-1/ --endpoint http://minio.home:9000
  lhrun backups verify --backup pvc-0b3a@backup-0123456789abcdef -o json")]
pub struct Args {
    /// How closely to look: meta, exists, sample=N% or deep
    #[arg(long, value_name = "LEVEL", default_value_t = Level::Exists)]
    level: Level,
    /// Only this volume, by its name or as namespace/claim; may be repeated
    #[arg(long = "volume", value_name = "VOLUME")]
    volumes: Vec<String>,
    /// Only this backup, of one volume or of any; may be repeated
    #[arg(long = "backup", value_name = "[VOLUME@]BACKUP")]
    backups: Vec<BackupChoice>,
    /// Blocks requested at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Take no locks: the store is only read
    #[arg(long)]
    no_lock: bool,
    /// File that remembers what samples have read; without it one for each store in ~/.local/state/lhrun
    #[arg(long, value_name = "FILE")]
    coverage: Option<PathBuf>,
}

pub fn run(setting: &Setting, place: &StoreArgs, args: &Args) -> Result<u8, Failure> {
    let report = report(setting, place, args).map_err(unchecked)?;
    if setting.is_for_programs() {
        setting.result(&report)?;
    } else {
        text::show(&setting.terminal, args.level, &report);
    }
    Ok(match report.verdict {
        _ if report.interrupted => Kind::Cancelled.exit_code(),
        verify::Verdict::Whole => 0,
        verify::Verdict::Damaged => Kind::Damaged.exit_code(),
        _ => Kind::Unchecked.exit_code(),
    })
}

fn report(setting: &Setting, place: &StoreArgs, args: &Args) -> Result<Report, Error> {
    let store = store::open(setting, place)?;
    let options = VerifyOptions {
        concurrency: args.concurrency.into(),
        lock: (!args.no_lock).then(Locking::default),
        coverage: coverage(setting, place, args, &store)?,
        cancel: setting.interrupts.token(),
        ..VerifyOptions::new(args.level)
    };
    let catalog = Catalog::new(store.clone());
    let mut selection = Selection { volumes: Vec::new(), backups: args.backups.clone() };
    for given in &args.volumes {
        // All volumes of a claim: a proof leaves none of them out.
        let volumes = store::wait(setting, select::volumes(&catalog, given))?;
        selection.volumes.extend(volumes.into_iter().map(|found| found.volume));
    }
    let reads_blocks = matches!(args.level, Level::Sample(_) | Level::Deep);
    let unit = if reads_blocks { Unit::Bytes } else { Unit::Items };
    let progress = Arc::new(setting.terminal.progress(&format!("verifying {}", store.describe()), unit));
    let (volumes, bytes) = (progress.clone(), progress);
    let options = VerifyOptions {
        volumes: Some(Progress::new(move |done, total| {
            if reads_blocks {
                volumes.note(&format!("{done} of {total} volumes"));
            } else {
                volumes.total(total);
                volumes.set(done);
            }
        })),
        bytes: Some(Progress::new(move |done, total| {
            bytes.total(total);
            bytes.set(done);
        })),
        ..options
    };
    setting.runtime.block_on(verify::store(&store, &selection, options))
}

/// What the samples before this one have read.
fn coverage(setting: &Setting, place: &StoreArgs, args: &Args, store: &Store) -> Result<Coverage, Error> {
    if !matches!(args.level, Level::Sample(_)) {
        return Ok(Coverage::forgetful());
    }
    let address = match store::endpoint(setting, place)? {
        Some(endpoint) => format!("{} at {endpoint}", store.describe()),
        None => store.describe(),
    };
    let file = args.coverage.clone().or_else(|| {
        let name = Checksum::of(address.as_bytes()).to_string();
        state::folder().map(|folder| folder.join(format!("coverage-{}.json", &name[..16])))
    });
    let Some(file) = file else {
        setting.terminal.warn("without a home folder nothing is remembered: every sample reads the same blocks");
        return Ok(Coverage::forgetful());
    };
    Coverage::open(&file, &address)
}

/// Whatever keeps a check from being made leaves the question open.
fn unchecked(error: Error) -> Error {
    if matches!(error.kind(), Kind::Usage | Kind::Cancelled | Kind::Denied | Kind::Unreachable | Kind::Unchecked) {
        return error;
    }
    let mut open = Error::new(Kind::Unchecked, error.to_string());
    if let Some(hint) = error.hint_text() {
        open = open.hint(hint);
    }
    open
}
