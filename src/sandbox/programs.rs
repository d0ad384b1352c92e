//! The system programs the sandbox runs, and the user it runs pods as.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid, User, geteuid};

use crate::{Error, Kind, Result};

/// Debian keeps PostgreSQL's server programs out of `$PATH`, one folder per version.
const DEBIAN_POSTGRES: &str = "/usr/lib/postgresql";

/// What was found on this machine.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Folder of `postgres`, `initdb`, `psql` and their like.
    pub postgres: PathBuf,
    /// Whom pods run as; `None`: as ourselves, because only root may change that.
    pub user: Option<PodUser>,
}

/// The user of every pod's processes when lhrun runs as root. All pods share one, so that any of them can read what
/// another one wrote to a volume; PostgreSQL refuses to run as root anyway.
#[derive(Clone, Copy, Debug)]
pub struct PodUser {
    /// User id.
    pub uid: Uid,
    /// Primary group.
    pub gid: Gid,
}

impl Programs {
    /// Looks for everything needed. Error: `not-found`, naming the Debian packages that are missing.
    pub fn find() -> Result<Self> {
        let mut missing = Vec::new();
        let postgres = find_postgres();
        if postgres.is_none() {
            missing.push(("initdb and postgres", "postgresql"));
        }
        for program in ["mke2fs", "debugfs"] {
            if find(program).is_none() {
                missing.push((program, "e2fsprogs"));
            }
        }
        let user = if geteuid().is_root() {
            let user = User::from_name("postgres").ok().flatten();
            if user.is_none() && postgres.is_some() {
                missing.push(("the user postgres", "postgresql"));
            }
            user.map(|user| PodUser { uid: user.uid, gid: user.gid })
        } else {
            None
        };
        match postgres {
            Some(postgres) if missing.is_empty() => Ok(Self { postgres, user }),
            _ => Err(refusal(&missing)),
        }
    }
}

fn refusal(missing: &[(&str, &str)]) -> Error {
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    Error::new(Kind::NotFound, format!("the sandbox needs {}, not found on this machine", names.join(", ")))
        .hint(format!("on Debian or Ubuntu: apt-get install {}", packages.join(" ")))
}

/// The folder of the server programs: from `$PATH`, else Debian's newest.
fn find_postgres() -> Option<PathBuf> {
    let complete =
        |folder: &PathBuf| ["initdb", "postgres", "psql", "pg_isready"].iter().all(|p| runs(&folder.join(p)));
    if let Some(folder) = search_path().into_iter().find(complete) {
        return Some(folder);
    }
    let versions = fs::read_dir(DEBIAN_POSTGRES).ok()?.flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder)| complete(folder))
        .collect();
    versions.sort();
    versions.pop().map(|(_, folder)| folder)
}

/// Where a program is that pods can run.
pub fn find(program: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|folder| folder.join(program)).find(|path| runs(path))
}

/// `$PATH`, and the folders of system programs that a plain user's path may lack.
fn search_path() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
}

fn runs(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let error = refusal(&[("mke2fs", "e2fsprogs"), ("debugfs", "e2fsprogs")]);
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.message().contains("mke2fs, debugfs"));
        assert_eq!(error.hint_text(), Some("on Debian or Ubuntu: apt-get install e2fsprogs"));
    }
}
