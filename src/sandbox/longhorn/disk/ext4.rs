//! Folders to ext4 images and back, with the programs of e2fsprogs.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    process::{Output, Stdio},
};

use ring::digest;
use tokio::process::Command;

use crate::{Error, Kind, Result, sandbox::longhorn::names};

/// Every time in an image that does not come from a file: the same content must give the same bytes.
const EPOCH: &str = "1700000000";

/// Writes the content of `folder` as an ext4 file system of `size` bytes to the new file `image`. The same content,
/// size and `name` give the same bytes.
///
/// Errors: `not-found` when e2fsprogs is missing, `failed` when the data does not fit.
pub(super) async fn pack(folder: &Path, image: &Path, size: u64, name: &str) -> Result<()> {
    let root = fs::metadata(folder).map_err(|error| io_error("reading", folder, error))?;
    settle_access_times(folder).map_err(|error| io_error("reading", folder, error))?;
    let id = identity(name);
    // Inode tables and the journal stay holes: they read as zeros, which is what they are.
    let extended = format!(
        "hash_seed={id},lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner={}:{}",
        root.uid(),
        root.gid()
    );
    let mut command = program("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-m", "0", "-U", &id, "-E", &extended, "-d"]);
    let done = output(command.arg(folder).arg(image).arg(format!("{}k", size / 1024)), "mke2fs").await?;
    if !done.status.success() {
        let _ = fs::remove_file(image);
        let said = complaints(&done);
        return Err(Error::new(Kind::Failed, format!("the data does not fit a file system of {size} bytes: {said}"))
            .hint("a larger volume is needed: expand the claim"));
    }
    // mke2fs sets the root folder's owner, not its mode.
    let mode = root.mode() & 0o7777;
    if mode != 0o755 {
        let request = format!("set_inode_field / mode 0{:o}", 0o40_000 | mode);
        debugfs(program("debugfs").args(["-w", "-R", &request]).arg(image)).await?;
    }
    Ok(())
}

/// Packing reads every file, and the first read after a change moves a file's access time, which is part of the image.
/// Reading a byte of each beforehand makes the image of unchanged content the same from the first time on.
fn settle_access_times(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            settle_access_times(&entry.path())?;
        } else if kind.is_file() {
            let _ = fs::File::open(entry.path())?.read(&mut [0])?;
        } else if kind.is_symlink() {
            fs::read_link(entry.path())?;
        }
    }
    Ok(())
}

/// Writes the content of the ext4 file system in `image` into the empty folder `folder`; the image stays as it is.
///
/// Errors: `invalid` when it is no ext4 file system, `damaged` when it is inconsistent.
pub(super) async fn unpack(image: &Path, folder: &Path) -> Result<()> {
    let superblock = Superblock::read(image)?;
    if superblock.needs_recovery {
        // A snapshot of a running system: what is only in the journal is replayed on a copy.
        let copy = image.with_extension("recovered");
        let replayed = recover(image, &copy).await;
        let read = match replayed {
            Ok(()) => read_out(&copy, folder).await,
            Err(error) => Err(error),
        };
        let _ = fs::remove_file(&copy);
        return read;
    }
    read_out(image, folder).await
}

async fn recover(image: &Path, copy: &Path) -> Result<()> {
    fs::copy(image, copy).map_err(|error| io_error("copying", image, error))?;
    let done = output(program("e2fsck").args(["-f", "-y", "-E", "journal_only"]).arg(copy), "e2fsck").await?;
    // 1: something was corrected, here the journal replayed.
    if matches!(done.status.code(), Some(0 | 1)) { Ok(()) } else { Err(damaged(&done)) }
}

async fn read_out(image: &Path, folder: &Path) -> Result<()> {
    let checked = output(program("e2fsck").args(["-f", "-n"]).arg(image), "e2fsck").await?;
    if !checked.status.success() {
        return Err(damaged(&checked));
    }
    // Relative to the folder: the program would read blanks and quotes of a path as its own syntax.
    let image = fs::canonicalize(image).map_err(|error| io_error("reading", image, error))?;
    debugfs(program("debugfs").current_dir(folder).args(["-R", "rdump / ."]).arg(image)).await?;
    let lost = folder.join("lost+found");
    match fs::remove_dir(&lost) {
        // Something was recovered into it, or it never was: both as they are.
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(io_error("removing", &lost, error))
        }
        _ => Ok(()),
    }
}

/// Runs debugfs, which reports failures on standard error only.
async fn debugfs(command: &mut Command) -> Result<()> {
    let done = output(command, "debugfs").await?;
    let text = String::from_utf8_lossy(&done.stderr);
    let complaint = text.lines().find(|line| {
        // Without root all files belong to whoever runs this; their content and modes are right.
        !line.trim().is_empty() && !line.starts_with("debugfs 1.") && !line.contains("while changing ownership")
    });
    match complaint {
        None if done.status.success() => Ok(()),
        complaint => Err(Error::new(Kind::Damaged, format!("debugfs: {}", complaint.unwrap_or("ended with an error")))),
    }
}

/// The little of a superblock that decides what to do.
struct Superblock {
    needs_recovery: bool,
}

impl Superblock {
    /// Offsets from the ext4 disk layout: the superblock is at 1024, magic 0xEF53 at 0x38, incompatible features at
    /// 0x60, of which 0x4 says that the journal has to be replayed.
    fn read(image: &Path) -> Result<Self> {
        let file = fs::File::open(image).map_err(|error| io_error("reading", image, error))?;
        let mut block = [0; 1024];
        let read = file.read_exact_at(&mut block, 1024);
        if read.is_err() || block[0x38..0x3a] != [0x53, 0xef] {
            return Err(Error::new(
                Kind::Invalid,
                format!("the volume does not hold an ext4 file system{}", what(&file)),
            )
            .hint("the sandbox mounts ext4 only; the restored image itself is complete"));
        }
        Ok(Self { needs_recovery: block[0x60] & 0x4 != 0 })
    }
}

/// What an image holds instead, as far as its first bytes tell.
fn what(mut file: &fs::File) -> &'static str {
    let mut start = [0; 8];
    if file.read_exact(&mut start).is_err() {
        return "";
    }
    match &start {
        b"XFSB\0\0\x10\0" => ": it holds XFS",
        [b'L', b'U', b'K', b'S', 0xba, 0xbe, ..] => ": it is encrypted with LUKS",
        _ => "",
    }
}

fn program(name: &str) -> Command {
    // They are in the system folders that an ordinary user's PATH often lacks.
    let place = ["/usr/sbin", "/sbin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    let mut command = Command::new(place.unwrap_or_else(|| name.into()));
    command.env("LC_ALL", "C").env("E2FSPROGS_FAKE_TIME", EPOCH).env("SOURCE_DATE_EPOCH", EPOCH);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn output(command: &mut Command, name: &str) -> Result<Output> {
    command.output().await.map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return Error::new(Kind::NotFound, format!("the program {name} is not installed"))
                .hint("install the package e2fsprogs: apt-get install e2fsprogs");
        }
        Error::new(Kind::Failed, format!("running {name}")).source(error)
    })
}

fn complaints(done: &Output) -> String {
    let text = String::from_utf8_lossy(&done.stderr);
    text.lines().filter(|line| !line.is_empty() && !line.starts_with("mke2fs 1.")).collect::<Vec<_>>().join("; ")
}

fn damaged(done: &Output) -> Error {
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    let first =
        text.lines().find(|line| !line.is_empty() && !line.starts_with("Pass ") && !line.starts_with("e2fsck 1."));
    Error::new(
        Kind::Damaged,
        format!("its ext4 file system is inconsistent: {}", first.unwrap_or("e2fsck found errors")),
    )
    .hint("restore another backup of this volume")
}

/// A UUID made from the volume's name.
fn identity(name: &str) -> String {
    let hash = digest::digest(&digest::SHA256, name.as_bytes());
    let mut bytes: Vec<u8> = hash.as_ref()[..16].to_vec();
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = names::hex(&bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

fn io_error(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Failed, format!("{doing} {}", path.display())).source(error)
}
