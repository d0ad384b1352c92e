//! ext4 images for tests, made and changed with e2fsprogs, whose own answers are what ours are compared with.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::ext4::Disk;
use crate::{Error, Kind, Result};

/// A disk in memory.
pub struct Memory(pub Vec<u8>);

impl Disk for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).unwrap();
        let found = start.checked_add(out.len()).and_then(|end| self.0.get(start..end));
        out.copy_from_slice(found.ok_or_else(|| Error::new(Kind::Invalid, "beyond the end"))?);
        Ok(())
    }
}

/// A program that a user's PATH often lacks.
fn program(name: &str) -> Command {
    let place = ["/usr/sbin", "/sbin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    Command::new(place.unwrap_or_else(|| name.into()))
}

/// A new file system with the content of a folder.
pub fn mke2fs(folder: &Path, image: &Path, size: &str, options: &[&str]) {
    let mut command = program("mke2fs");
    command.args(["-q", "-F", "-m", "0"]).args(options).arg("-d").arg(folder).arg(image).arg(size);
    let done = command.stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Changes an image with commands of debugfs, or asks it something.
pub fn debugfs(image: &Path, commands: &[&str]) -> Vec<u8> {
    let mut command = program("debugfs");
    command.arg("-w").args(["-f", "-"]).arg(image).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = command.spawn().unwrap();
    let mut input = running.stdin.take().unwrap();
    input.write_all((commands.join("\n") + "\n").as_bytes()).unwrap();
    drop(input);
    running.wait_with_output().unwrap().stdout
}

/// Applies the journal of an image.
pub fn replay(image: &Path) {
    let done = program("e2fsck").args(["-fy", "-E", "journal_only"]).arg(image).output().unwrap();
    assert!(matches!(done.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&done.stdout));
}

/// A folder to fill and the image made of it.
pub struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tree")).unwrap();
        Self { folder }
    }

    /// A path in the folder that becomes the file system.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("tree").join(name)
    }

    /// A path beside it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        if let Some(parent) = self.path(name).parent() {
            fs::create_dir_all(parent).unwrap();
        }
        fs::write(self.path(name), content).unwrap();
        self
    }

    /// A file with content only at those offsets.
    pub fn sparse(&self, name: &str, size: u64, content: &[(u64, &[u8])]) -> &Self {
        use std::os::unix::fs::FileExt;
        let file = File::create(self.path(name)).unwrap();
        file.set_len(size).unwrap();
        for (offset, data) in content {
            file.write_all_at(data, *offset).unwrap();
        }
        self
    }

    pub fn link(&self, name: &str, target: &str) -> &Self {
        std::os::unix::fs::symlink(target, self.path(name)).unwrap();
        self
    }

    /// The image, made with those options.
    pub fn image(&self, size: &str, options: &[&str]) -> PathBuf {
        let image = self.beside("image");
        mke2fs(&self.path(""), &image, size, options);
        image
    }
}

/// Data no compressor makes smaller, different for each seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut data: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    data.truncate(length);
    data
}
