//! `lhrun backups restore`.

use std::{
    fmt::Write,
    fs::File,
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use serde::Serialize;

use super::{hold::Hold, store};
use crate::{
    Error, Kind, Result,
    backupstore::{
        Progress,
        layout::{BackupRef, VolumeKeys},
        restore::{self, Format, RestoreOptions, Restored},
        rfc3339, select,
    },
    cli::{Failure, Setting, arguments::Output},
    objectstore::Store,
    terminal::{Unit, escape, human},
};

/// Restore a volume from one of its backups to an image file, every block verified
///
/// The image is sparse and has the volume's current size. It is written beside FILE, as FILE.partial, and gets its name when
/// it is whole. After an interruption, a failure or a crash the same command goes on from what is there: each block in
/// the partial file is checked again, and only what is missing is read.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
After the @ stands the name of a backup, `latest`, or a time: the newest complete backup begun at
or before it is taken. A time is written 2026-11-22T18:38:57Z, 2026-11-22 (that whole day, UTC),
or 2h or 3d for as long ago.

Here -o names the image; the form of the result is asked for with --result.

Examples:
  lhrun backups restore pvc-1 -o volume.img
  lhrun backups restore postgres/data-postgres-0@latest -o volume.img
  lhrun backups restore pvc-1@backup-0123456789abcdef -o volume.img --sha256
  lhrun backups restore pvc-1@2026-11-22 -o volume.img --force
  lhrun backups restore pvc-1@3d -o volume.qcow2 --format qcow2
  lhrun backups restore --backing-image debian-12 -o debian.img")]
pub struct Args {
    /// The volume (or its claim, as namespace/claim), and which of its backups; without @ the newest complete one
    #[arg(value_name = "VOLUME[@BACKUP|@latest|@TIME]", required_unless_present = "backing_image")]
    backup: Option<String>,
    /// Restore a backing image instead: the file that was uploaded to Longhorn
    #[arg(long, value_name = "NAME", conflicts_with = "backup")]
    backing_image: Option<String>,
    // Takes the place of the global option, of the same id.
    /// Image file to write
    #[arg(short, long, required = true, value_name = "FILE", value_parser = Output::file())]
    output: Output,
    /// Write over an existing file
    #[arg(long)]
    force: bool,
    /// Form of the image; qcow2 needs qemu-img
    #[arg(long, value_name = "FORMAT", default_value = "raw", value_parser = ["raw", "qcow2"])]
    format: String,
    /// Blocks requested at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Take no lock on the volume: Longhorn may delete the backup meanwhile, which is noticed
    #[arg(long)]
    no_lock: bool,
    /// Also read the finished file and print its SHA-256
    #[arg(long)]
    sha256: bool,
    /// Form of the result on standard output
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    result: Output,
}

impl Args {
    /// The form of the result.
    pub fn form(&self) -> Output {
        self.result.clone()
    }

    fn path(&self) -> Result<&Path> {
        match &self.output {
            Output::File(path) if path.as_os_str() != "-" => Ok(path),
            _ => Err(Error::new(Kind::Usage, format!("an image cannot be restored to standard output: {SEEKS}"))
                .hint("name a file with -o and read it from there; ./- is the file of that name")),
        }
    }
}

const SEEKS: &str = "its blocks are written where they belong as they arrive, and it is shown whole or not at all";

/// What was restored, as programs read it.
#[derive(Serialize)]
struct Row<'a> {
    volume: Option<&'a str>,
    backup: Option<&'a str>,
    backing_image: Option<&'a str>,
    /// When the backup was begun, RFC 3339.
    begun: Option<String>,
    file: String,
    format: &'static str,
    /// Bytes of the image.
    size: u64,
    /// Bytes of it that blocks cover.
    data: u64,
    /// Packed bytes that were read from the store.
    fetched: u64,
    /// Bytes of the image that an earlier attempt had restored.
    reused: u64,
    seconds: f64,
    /// Of the file, as `sha256sum` prints it.
    sha256: Option<String>,
}

pub fn run(setting: &Setting, store: &Store, args: &Args) -> Result<u8, Failure> {
    let begun = Instant::now();
    let path = args.path()?;
    let options = RestoreOptions {
        concurrency: args.concurrency.into(),
        overwrite: args.force,
        resume: true,
        format: args.format.parse()?,
        ..RestoreOptions::default()
    };
    store::wait(setting, restore::check(path, &options)).map_err(allowed_by_force)?;
    let what = match (&args.backing_image, &args.backup) {
        (Some(name), _) => What::BackingImage(name),
        (None, reference) => What::Volume(select(setting, store, reference.as_deref().unwrap_or_default())?),
    };
    let keys = match &what {
        What::Volume(backup) => VolumeKeys::new(&backup.volume)?,
        What::BackingImage(_) => VolumeKeys::backing_image_locks(),
    };
    let take = if args.no_lock { Hold::none } else { Hold::take };
    let hold = take(setting, store, &keys)?;
    let restored = restored(setting, store, &what, path, options.clone());
    hold.release(setting);
    let restored = restored.map_err(|error| kept(error, path))?;
    let sha256 = args.sha256.then(|| sha256(setting, path)).transpose()?;
    show(setting, &what, path, options.format, &restored, begun.elapsed(), sha256)?;
    Ok(0)
}

/// What is restored.
enum What<'a> {
    Volume(BackupRef),
    BackingImage(&'a str),
}

fn select(setting: &Setting, store: &Store, reference: &str) -> Result<BackupRef> {
    let found = store::wait(setting, select::backup(store, reference, Timestamp::now()))?;
    store::tell(setting, found.note.as_deref());
    for backup in &found.passed_over {
        let (name, state) = (&backup.backup.backup, backup.state.as_str());
        setting.terminal.warn(&format!("backup {name} is {state} and was passed over"));
    }
    Ok(found.backup)
}

fn restored(
    setting: &Setting,
    store: &Store,
    what: &What<'_>,
    path: &Path,
    mut options: RestoreOptions,
) -> Result<Restored> {
    let label = match what {
        What::Volume(backup) => format!("restoring {}", backup.volume),
        What::BackingImage(name) => format!("restoring {name}"),
    };
    let shown = setting.terminal.progress(&label, Unit::Bytes);
    options.progress = Some(Progress::new(move |done, total| {
        shown.total(total);
        shown.set(done);
    }));
    match what {
        What::Volume(backup) => store::wait(setting, restore::to_file(store, backup, path, options)),
        What::BackingImage(name) => store::wait(setting, restore::backing_image_to_file(store, name, path, options)),
    }
}

fn allowed_by_force(error: Error) -> Error {
    if error.kind() == Kind::Conflict {
        error.hint("restore into another file, or write over it with --force")
    } else {
        error
    }
}

/// Says after Ctrl-C what is left.
fn kept(error: Error, path: &Path) -> Error {
    let partial = restore::partial(path);
    if error.kind() != Kind::Cancelled || !partial.exists() {
        return error;
    }
    let partial = partial.display();
    error.hint(format!("{partial} has what was restored so far: the same command goes on from it, or remove it"))
}

/// The SHA-256 of a file, with progress.
fn sha256(setting: &Setting, path: &Path) -> Result<String> {
    let failed = |error| Error::new(Kind::Failed, format!("reading {}", path.display())).source(error);
    let mut file = File::open(path).map_err(failed)?;
    let shown = setting.terminal.progress(&format!("hashing {}", path.display()), Unit::Bytes);
    shown.total(file.metadata().map_err(failed)?.len());
    let cancel = setting.interrupts.token();
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        if cancel.is_cancelled() {
            let text = format!("interrupted; {} is restored, only its SHA-256 is not known", path.display());
            return Err(Error::new(Kind::Cancelled, text));
        }
        context.update(&buffer[..read]);
        shown.add(read as u64);
    }
    let mut hex = String::new();
    for byte in context.finish().as_ref() {
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}

fn show(
    setting: &Setting,
    what: &What<'_>,
    path: &Path,
    format: Format,
    restored: &Restored,
    time: Duration,
    sha256: Option<String>,
) -> Result<()> {
    let (volume, backup, backing_image) = match what {
        What::Volume(of) => (Some(of.volume.as_str()), Some(of.backup.as_str()), None),
        What::BackingImage(name) => (None, None, Some(*name)),
    };
    let row = Row {
        volume,
        backup,
        backing_image,
        begun: restored.begun.map(rfc3339),
        file: path.to_string_lossy().into_owned(),
        format: format.as_str(),
        size: restored.size,
        data: restored.bytes,
        fetched: restored.stored_bytes,
        reused: restored.reused_bytes,
        seconds: time.as_secs_f64(),
        sha256,
    };
    if setting.is_for_programs() {
        return setting.result(&row);
    }
    let lines = [
        ("Volume", row.volume.map(str::to_owned)),
        ("Backup", row.backup.map(str::to_owned)),
        ("Backing image", row.backing_image.map(str::to_owned)),
        ("Begun", row.begun),
        ("File", Some(format!("{} ({})", row.file, row.format))),
        ("Size", Some(human::bytes(row.size))),
        ("Data", Some(human::bytes(row.data))),
        ("Fetched", Some(human::bytes(row.fetched))),
        ("Kept", (row.reused > 0).then(|| format!("{} of an earlier attempt", human::bytes(row.reused)))),
        ("Took", Some(human::duration(time))),
        ("SHA-256", row.sha256),
    ];
    for (name, value) in lines.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        setting.terminal.out_styled(format_args!("{:15}{}", format!("{name}:"), escape(value)));
    }
    if row.volume.is_some() && format == Format::Raw {
        setting.terminal.note(&format!("to look at the files in it: sudo mount -o loop '{}' /mnt", path.display()));
    }
    Ok(())
}
