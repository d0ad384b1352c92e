//! qcow2 images, made by `qemu-img` from the raw one.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use tokio::process::Command;

use crate::{Error, Kind, Result, backupstore::blocking};

const PROGRAM: &str = "qemu-img";

/// A file that is removed with the value, unless it was renamed.
pub struct Made(PathBuf);

impl Made {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether the program is there.
///
/// # Errors
/// `failed` when it is not, or does not run.
pub async fn check() -> Result<()> {
    run(Command::new(PROGRAM).arg("--version")).await.map(drop)
}

/// Makes a qcow2 image of the raw one, beside it, forced to the disk. Dropping the future stops the program.
pub async fn convert(raw: &Path) -> Result<Made> {
    let mut name = raw.as_os_str().to_owned();
    name.push(".qcow2");
    // Before a colon the program would look for a protocol; an absolute path has none.
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|error| Error::new(Kind::Failed, "finding the folder").source(error))
    };
    let (raw, made) = (absolute(raw)?, Made(absolute(Path::new(&name))?));
    let mut command = Command::new(PROGRAM);
    command.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(raw).arg(made.path());
    run(&mut command).await?;
    let path = made.path().to_owned();
    let synced = blocking(move || {
        fs::File::open(&path)
            .and_then(|file| file.sync_data())
            .map_err(|error| Error::new(Kind::Failed, format!("writing {}", path.display())).source(error))
    });
    synced.await.map(|()| made)
}

async fn run(command: &mut Command) -> Result<Output> {
    let output =
        command.stdin(Stdio::null()).kill_on_drop(true).output().await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::new(Kind::Failed, format!("a qcow2 image needs {PROGRAM}, which is not installed"))
                    .hint("install the package qemu-utils (qemu-img on Fedora), or restore the raw image")
            }
            _ => Error::new(Kind::Failed, format!("{PROGRAM} could not be started")).source(error),
        })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default();
    Err(Error::new(Kind::Failed, format!("{PROGRAM} ended with {}: {said}", output.status)))
}
