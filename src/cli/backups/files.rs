//! `lhrun backups files`.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use nix::unistd::geteuid;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::store;
use crate::{
    Error, Kind, Result,
    backupstore::{
        Fetched, ImageOptions, Progress,
        files::{self, ExtractOptions, Extracted, FileKind, Files, LeftOut, Node, Piece},
        select,
    },
    cli::{Failure, Setting},
    objectstore::Store,
    terminal::{Unit, human, table},
};

/// Look into backups, and take single files out of them, without a restore
///
/// Only the blocks that are needed are got from the bucket.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Which files: VOLUME:/path in the volume's newest complete backup, VOLUME@BACKUP:/path in another one, which is named
as for `lhrun backups restore`.

Examples:
  lhrun backups files ls pvc-0b3a:/
  lhrun backups files ls -R pvc-0b3a@backup-0123456789abcdef:/etc
  lhrun backups files cat pvc-0b3a:/etc/app.conf
  lhrun backups files get pvc-0b3a:/db/dump.sql ./dump.sql
  lhrun backups files get -r pvc-0b3a@latest:/photos ./photos

Volumes with ext4 are read, ext3 and ext2 too, in whatever state they were when the backup was made. Encrypted
volumes and other file systems have to be restored.")]
pub enum Command {
    Ls(ListArgs),
    Cat(CatArgs),
    Get(GetArgs),
}

/// List a folder of a backup
#[derive(clap::Args, Debug)]
pub struct ListArgs {
    /// Also what is in the folders below
    #[arg(short = 'R', long)]
    recursive: bool,
    /// The folder, as VOLUME[@BACKUP|@latest|@TIME]:/path
    #[arg(value_name = "VOLUME:PATH")]
    from: Source,
}

/// Write a file of a backup to standard output
#[derive(clap::Args, Debug)]
pub struct CatArgs {
    /// The file, as VOLUME[@BACKUP|@latest|@TIME]:/path
    #[arg(value_name = "VOLUME:PATH")]
    from: Source,
}

/// Extract a file, or with -r a folder, from a backup
///
/// Nothing is written outside of DEST: links that point out of the tree are left out and named at the end, and so are
/// devices, pipes and sockets. A file appears under its name when it is whole.
#[derive(clap::Args, Debug)]
pub struct GetArgs {
    /// Extract a folder with all that is in it
    #[arg(short, long)]
    recursive: bool,
    /// Write over files that exist
    #[arg(long)]
    force: bool,
    /// Keep owners, and setuid, setgid and sticky bits; only as root
    #[arg(long)]
    owner: bool,
    /// The file or folder, as VOLUME[@BACKUP|@latest|@TIME]:/path
    #[arg(value_name = "VOLUME:PATH")]
    from: Source,
    /// A folder to extract into, or the new name
    #[arg(default_value = ".")]
    dest: PathBuf,
}

/// `VOLUME[@BACKUP|@latest|@TIME]:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    /// As [`select::backup`] reads it.
    backup: String,
    path: String,
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Neither names nor times have ":/" in them.
        let Some(colon) = text.find(":/") else {
            return Err("it must be VOLUME:/path or VOLUME@BACKUP:/path".to_owned());
        };
        Ok(Self { backup: text[..colon].to_owned(), path: text[colon + 1..].to_owned() })
    }
}

pub fn run(setting: &Setting, store: &Store, command: &Command) -> Result<u8, Failure> {
    match command {
        Command::Ls(args) => ls(setting, store, args),
        Command::Cat(args) => cat(setting, store, args),
        Command::Get(args) => get(setting, store, args),
    }
}

/// Does `work` with the files of the backup that is meant, and says what it took.
fn browse<T, F>(setting: &Setting, store: &Store, from: &Source, shows_progress: bool, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Files) -> Result<T> + Send + 'static,
{
    let bar =
        shows_progress.then(|| Arc::new(setting.terminal.progress(&format!("reading {}", from.backup), Unit::Bytes)));
    let shown = bar.clone();
    let progress = Progress::new(move |done, _| {
        if let Some(bar) = &shown {
            bar.set(done);
        }
    });
    let browsed = store::wait(setting, async {
        let found = select::backup(store, &from.backup, Timestamp::now()).await?;
        store::tell(setting, found.note.as_deref());
        for passed in &found.passed_over {
            let (name, state) = (&passed.backup.backup, passed.state.as_str());
            setting.terminal.warn(&format!("backup {name} is {state} and was passed over"));
        }
        let options = ImageOptions { progress: Some(progress), ..ImageOptions::default() };
        files::browse(store, &found.backup, options, move |files| {
            Ok((work(files)?, files.fetched(), files.image_size()))
        })
        .await
    });
    drop(bar);
    let (done, fetched, size) = browsed?;
    let Fetched { blocks, bytes } = fetched;
    setting.terminal.note(&format!("fetched {} of {}, in {blocks} blocks", human::bytes(bytes), human::bytes(size)));
    Ok(done)
}

/// A file as programs read it.
#[derive(Serialize)]
struct Row {
    path: String,
    /// `file`, `folder`, `link`, `pipe`, `character-device`, `block-device`, `socket`.
    kind: Option<&'static str>,
    /// Octal digits.
    mode: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    /// Bytes.
    size: Option<u64>,
    /// RFC 3339.
    modified: Option<String>,
    /// Where a link points.
    target: Option<String>,
    /// Why it cannot be read.
    error: Option<String>,
    /// As `ls -l` shows it.
    #[serde(skip)]
    letters: String,
}

fn ls(setting: &Setting, store: &Store, args: &ListArgs) -> Result<u8, Failure> {
    let (path, recursive) = (args.from.path.clone(), args.recursive);
    let rows = browse(setting, store, &args.from, true, move |files| {
        let place = files.find(path.as_bytes())?;
        let mut rows = Vec::new();
        if place.node.kind() != FileKind::Folder {
            rows.push(row(&place.path, Ok(&place.node)));
        } else if recursive {
            files.walk(&place.node, |path, node| {
                rows.push(row(path, node));
                Ok(())
            })?;
        } else {
            for entry in files.list(&place.node)? {
                rows.push(row(&entry.name, entry.node.as_ref().map_err(Clone::clone)));
            }
        }
        Ok(rows)
    })?;
    let is_whole = rows.iter().all(|row| row.error.is_none());
    if setting.is_for_programs() {
        setting.result(&rows)?;
    } else {
        let headings = ["mode", "owner", "size", "modified", "name"];
        let cells: Vec<_> = rows.iter().map(cells).collect();
        setting.terminal.out_styled(table::plain(&headings, &cells));
    }
    Ok(if is_whole { 0 } else { Kind::Damaged.exit_code() })
}

fn row(path: &[u8], node: Result<&Node>) -> Row {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let error = node.as_ref().err().map(ToString::to_string);
    let node = node.ok();
    let kind = node.map(|node| kind(node.kind()));
    Row {
        path: text(path),
        kind: kind.map(|(name, _)| name),
        mode: node.map(|node| format!("{:04o}", node.mode())),
        uid: node.map(|node| node.owner().0),
        gid: node.map(|node| node.owner().1),
        size: node.map(Node::size),
        modified: node.map(|node| crate::backupstore::rfc3339(node.modified())),
        target: node.and_then(|node| node.target.as_deref()).map(text),
        error,
        letters: node.zip(kind).map(|(node, (_, letter))| letters(letter, node.mode())).unwrap_or_default(),
    }
}

fn cells(row: &Row) -> Vec<String> {
    let owner = row.uid.zip(row.gid).map(|(uid, gid)| format!("{uid}:{gid}"));
    let name = match (&row.target, &row.error) {
        (Some(target), _) => format!("{} -> {target}", row.path),
        (None, Some(error)) => format!("{}: {error}", row.path),
        (None, None) => row.path.clone(),
    };
    vec![
        row.letters.clone(),
        owner.unwrap_or_default(),
        row.size.map(|size| size.to_string()).unwrap_or_default(),
        row.modified.clone().unwrap_or_default(),
        name,
    ]
}

/// The name of a kind for programs, and its letter in `ls -l`.
fn kind(kind: FileKind) -> (&'static str, char) {
    match kind {
        FileKind::File => ("file", '-'),
        FileKind::Folder => ("folder", 'd'),
        FileKind::Link => ("link", 'l'),
        FileKind::Pipe => ("pipe", 'p'),
        FileKind::CharacterDevice => ("character-device", 'c'),
        FileKind::BlockDevice => ("block-device", 'b'),
        FileKind::Socket => ("socket", 's'),
    }
}

fn letters(kind: char, mode: u16) -> String {
    let mut letters = String::from(kind);
    for (shift, special, with, without) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = mode >> shift;
        letters.push(if bits & 4 == 0 { '-' } else { 'r' });
        letters.push(if bits & 2 == 0 { '-' } else { 'w' });
        letters.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => with,
            (true, false) => without,
        });
    }
    letters
}

fn cat(setting: &Setting, store: &Store, args: &CatArgs) -> Result<u8, Failure> {
    if setting.is_for_programs() {
        let text = "a file's content has only one form, so --output has no meaning for it";
        return Err(Error::new(Kind::Usage, text).hint("leave --output away").into());
    }
    let path = args.from.path.clone();
    let on_screen = io::stdout().is_terminal();
    let stop = setting.interrupts.token();
    browse(setting, store, &args.from, !on_screen, move |files| {
        let place = files.find(path.as_bytes())?;
        let mut output = Output { out: io::stdout().lock(), on_screen, stop, is_closed: false };
        let read = files.read(&place.node, |piece| output.write(&piece));
        // Whoever reads, as `head` does, has enough.
        if output.is_closed { Ok(()) } else { read.map_err(|error| error.context(&path)) }
    })?;
    Ok(0)
}

/// Standard output for the bytes of a file.
struct Output {
    out: io::StdoutLock<'static>,
    on_screen: bool,
    stop: CancellationToken,
    is_closed: bool,
}

impl Output {
    fn write(&mut self, piece: &Piece<'_>) -> Result<()> {
        let (zeros, mut left) = match piece {
            Piece::Data(data) => return self.bytes(data),
            Piece::Hole(length) => (vec![0; 64 << 10], *length),
        };
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
            self.bytes(&zeros[..count])?;
            left -= count as u64;
        }
        Ok(())
    }

    fn bytes(&mut self, data: &[u8]) -> Result<()> {
        if self.stop.is_cancelled() {
            return Err(Error::new(Kind::Cancelled, "interrupted"));
        }
        if self.on_screen && data.contains(&0) {
            return Err(Error::new(Kind::Refused, "it is binary, which would garble the terminal")
                .hint("redirect it to a file, or extract it with `lhrun backups files get`"));
        }
        let written = self.out.write_all(data).and_then(|()| self.out.flush());
        written.map_err(|error| {
            self.is_closed = error.kind() == io::ErrorKind::BrokenPipe;
            Error::new(Kind::Failed, "writing to standard output").source(error)
        })
    }
}

fn get(setting: &Setting, store: &Store, args: &GetArgs) -> Result<u8, Failure> {
    if args.owner && !geteuid().is_root() {
        let text = "only root can give files to other owners";
        return Err(Error::new(Kind::Denied, text).hint("leave --owner away: the files are yours then").into());
    }
    let folder = args.dest.parent().filter(|_| !args.dest.is_dir()).filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let text = format!("there is no folder {} to extract to", folder.display());
        return Err(Error::new(Kind::Usage, text).hint("make it first, with mkdir -p").into());
    }
    let options = ExtractOptions { recursive: args.recursive, overwrite: args.force, owner: args.owner };
    let (path, dest) = (args.from.path.clone(), args.dest.clone());
    let done = browse(setting, store, &args.from, true, move |files| {
        let place = files.find(path.as_bytes())?;
        let to = destination(&dest, &path, &place.path);
        files::extract(files, &place.node, &to, options).map_err(|error| error.context(&path))
    })?;
    report(setting, &done)?;
    Ok(if done.failed.is_empty() { 0 } else { Kind::Partial.exit_code() })
}

/// As `cp` does: into a folder that exists, under its own name, or to a new name. The root has no name of its own.
fn destination(dest: &Path, path: &str, found: &[u8]) -> PathBuf {
    let own = Path::new(path).file_name().map(ToOwned::to_owned).or_else(|| {
        let found = String::from_utf8_lossy(found).into_owned();
        Path::new(&found).file_name().map(ToOwned::to_owned)
    });
    match own {
        Some(name) if dest.is_dir() => dest.join(name),
        // `.` is no name, but where it leads has one.
        None => dest.canonicalize().unwrap_or_else(|_| dest.to_owned()),
        Some(_) => dest.to_owned(),
    }
}

/// Files that exist already and are named one by one.
const TOLD: usize = 3;

fn report(setting: &Setting, done: &Extracted) -> Result<()> {
    let terminal = &setting.terminal;
    for LeftOut { path, reason, .. } in &done.special {
        terminal.note(&format!("{path} is {reason} and was left out"));
    }
    let (there, failed): (Vec<_>, Vec<_>) = done.failed.iter().partition(|left| left.exists);
    for LeftOut { path, reason, .. } in failed.into_iter().chain(there.iter().take(TOLD).copied()) {
        terminal.warn(&format!("{path} was left out: {reason}"));
    }
    if !there.is_empty() {
        let more = if there.len() > TOLD { ", the first of which are named" } else { "" };
        terminal.warn(&format!("{} files and links exist already{more}: --force writes over them", there.len()));
    }
    if setting.is_for_programs() {
        return setting.result(done);
    }
    let Extracted { files, folders, links, bytes, .. } = done;
    terminal.note(&format!("extracted {files} files with {}, {folders} folders, {links} links", human::bytes(*bytes)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_names_volume_backup_and_path() {
        let source = |backup: &str, path: &str| Ok(Source { backup: backup.into(), path: path.into() });
        assert_eq!("pvc-1:/etc/a:/b".parse(), source("pvc-1", "/etc/a:/b"));
        assert_eq!("pvc-1@b-1:/".parse(), source("pvc-1@b-1", "/"));
        assert_eq!("pvc-1@2026-11-22T18:38:57Z:/x@y".parse(), source("pvc-1@2026-11-22T18:38:57Z", "/x@y"));
        assert!("pvc-1".parse::<Source>().is_err());
        assert!("pvc-1:etc".parse::<Source>().is_err());
    }

    #[test]
    fn modes_read_as_in_ls() {
        assert_eq!(letters('-', 0o644), "-rw-r--r--");
        assert_eq!(letters('-', 0o6755), "-rwsr-sr-x");
        assert_eq!(letters('d', 0o1777), "drwxrwxrwt");
        assert_eq!(letters('-', 0o7000), "---S--S--T");
    }

    #[test]
    fn a_place_is_found_as_cp_does() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("new");
        assert_eq!(destination(folder.path(), "/etc/conf", b"/etc/conf"), folder.path().join("conf"));
        assert_eq!(destination(&new, "/etc/conf", b"/etc/conf"), new);
        assert_eq!(destination(folder.path(), "/etc/..", b"/"), folder.path().canonicalize().unwrap());
        assert_eq!(destination(folder.path(), "/etc/x/..", b"/etc"), folder.path().join("etc"));
        assert_eq!(destination(&new, "/", b"/"), new);
    }
}
