//! The volume: an ext4 image of programs and documents of this machine, filled to four fifths.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use ring::digest::{Context, SHA256};

/// Where the content comes from, in this order.
const SOURCES: [&str; 4] = ["/usr/share", "/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib"];

/// Makes the image.
pub fn make(image: &Path, mib: u64) -> Result<(), String> {
    let content = image.with_extension("content");
    let mut room = (mib << 20) / 5 * 4;
    for source in SOURCES {
        // A folder that is not there is passed over.
        let _ = link(Path::new(source), &content.join(&source[1..]), &mut room);
    }
    if room > (mib << 20) / 5 {
        return Err(format!("this machine has not enough programs for an image of {mib} MiB; try a smaller --mib"));
    }
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-i", "8192", "-d"]).arg(&content).arg(image).arg(format!("{mib}M"));
    let status = mke2fs.stderr(Stdio::null()).status().map_err(|error| format!("mke2fs cannot be run: {error}"))?;
    fs::remove_dir_all(&content).map_err(|error| format!("removing {}: {error}", content.display()))?;
    if status.success() { Ok(()) } else { Err(format!("mke2fs ended with {status}")) }
}

/// Hard links, or copies across file systems, of the files below a folder as long as there is room.
fn link(from: &Path, to: &Path, room: &mut u64) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    let mut entries: Vec<PathBuf> = fs::read_dir(from)?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        let (Ok(meta), Some(name)) = (entry.symlink_metadata(), entry.file_name()) else { continue };
        let place = to.join(name);
        if meta.is_dir() {
            // What cannot be read is left out.
            let _ = link(&entry, &place, room);
        } else if meta.is_file() {
            // In the image: whole blocks, and an inode, of which there is one for each 8 KiB.
            let takes = meta.len().next_multiple_of(4096).max(8192) + 256;
            let fits = takes <= *room && !place.exists();
            if fits && fs::hard_link(&entry, &place).or_else(|_| fs::copy(&entry, &place).map(drop)).is_ok() {
                *room -= takes;
            }
        }
    }
    Ok(())
}

/// The SHA-256 of a file.
pub fn sha256(path: &Path) -> Result<String, String> {
    let failed = |error| format!("{}: {error}", path.display());
    let mut file = File::open(path).map_err(failed)?;
    let mut sum = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(format!("{:?}", sum.finish())),
            read => sum.update(&buffer[..read]),
        }
    }
}
