//! How lhrun binds claims and copies a bucket, beside what people use today: Ansible, kubectl, a script in Python, rclone.
//!
//! ```sh
//! cargo bench --bench peers     # everything; the loop in Ansible alone takes a quarter of an hour
//! cargo bench --bench peers -- --pairs 50,200 --limits default --rounds 3 --skip ansible-loop --stalls 0 --blocks 0
//! ```
//!
//! All on one real control plane (etcd, kube-apiserver, kube-controller-manager; `tests/real/build` makes them) and one real
//! `MinIO`, on loopback, one after the other:
//!
//! * making and binding pairs of a PersistentVolume and a claim, with the default limits of the controllers and without:
//!   `lhrun` by `scripts/bind.rhai`, which does for each what a full restore does; `ansible-loop`, a playbook with a task
//!   for each object; `ansible-file`, one task with one file; `kubectl`, apply and wait; `kubectl-tuned`, without
//!   validation and by asking; `python`, a serial script;
//! * three pairs, twenty times, by lhrun alone: one that the binder leaves for its resync stands out;
//! * copying a store of backups from one bucket to another, through the client: by `runbooks/offsite-copy.rhai`, which
//!   verifies every block, and by `rclone`.
//!
//! The floor is what the binder may do by its own limits: 2 requests for each pair, its two statuses, 20 a second, 30 at
//! once. CPU seconds and memory are those of the client with all processes it starts; memory is the greatest sum of their
//! proportional sets, seen every 50 ms. Wall times drift with the machine's load, which stands beside them.
//!
//! Ansible and Python's client are installed from PyPI into the user's cache (`install`). What is missing is named as
//! `NOT MEASURED`. Nothing is asserted but that each client did what it was to do. Figures seen: see `docs/benchmarks.md`.

// The second tier's harness fails by panicking, and has more than is needed here.
#[path = "../../tests/it/client.rs"]
#[allow(clippy::unwrap_used, dead_code)]
mod client;
#[path = "../common/mod.rs"]
mod common;
mod copying;
mod cost;
mod pairs;
#[allow(clippy::unwrap_used, dead_code)]
mod real;
#[path = "../../tests/it/s3client.rs"]
#[allow(dead_code)]
mod s3client;
mod table;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// What to measure.
pub struct Setup {
    /// Numbers of pairs.
    pub pairs: Vec<usize>,
    /// With the controllers' own limits, without, or both.
    pub limits: Vec<String>,
    /// How often each row is measured.
    pub rounds: usize,
    /// How often three pairs are bound.
    pub stalls: usize,
    /// Blocks in the bucket that is copied.
    pub blocks: usize,
    skip: Vec<String>,
}

impl Setup {
    fn from(arguments: &[String]) -> Result<Self, String> {
        let words = |text: &str| text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let mut setup = Self {
            pairs: vec![50, 200],
            limits: words("default,none"),
            rounds: 1,
            stalls: 20,
            blocks: 400,
            skip: Vec::new(),
        };
        let mut rest = arguments.iter().filter(|word| *word != "--bench");
        while let Some(word) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("{word} needs a value"))?;
            let number = |text: &str| text.parse::<usize>().map_err(|_| format!("{word} {text}: not a number"));
            match word.as_str() {
                "--pairs" => setup.pairs = words(value).iter().map(|text| number(text)).collect::<Result<_, _>>()?,
                "--limits" => setup.limits = words(value),
                "--rounds" => setup.rounds = number(value)?.max(1),
                "--stalls" => setup.stalls = number(value)?,
                "--blocks" => setup.blocks = number(value)?,
                "--skip" => setup.skip = words(value),
                _ => {
                    return Err(format!(
                        "{word} is not known: --pairs, --limits, --rounds, --stalls, --blocks, --skip"
                    ));
                }
            }
        }
        if let Some(other) = setup.limits.iter().find(|limits| !["default", "none"].contains(&limits.as_str())) {
            return Err(format!("--limits {other} is not known: default, none"));
        }
        Ok(setup)
    }

    /// Whether a row is wanted.
    pub fn wants(&self, row: &str) -> bool {
        !self.skip.iter().any(|skipped| skipped == row)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let measured = Setup::from(&arguments).and_then(|setup| {
        let (folder, binaries) = prepare()?;
        let mut tables = pairs::measure(&setup, &folder, &binaries);
        match copying::measure(&setup, &folder, &binaries) {
            Ok(copied) => tables.extend(copied),
            Err(why) => not_measured("copying", &why),
        }
        tables.iter().for_each(table::Table::print);
        Ok(())
    });
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            not_measured("the rest", &why);
            ExitCode::FAILURE
        }
    }
}

fn prepare() -> Result<(tempfile::TempDir, real::server::Binaries), String> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|e| format!("a temporary folder: {e}"))?;
    let servers = script("tests/real/build")?;
    Ok((folder, real::server::Binaries::of(servers)))
}

/// Says what is not in the tables, and why.
pub fn not_measured(row: &str, why: &str) {
    println!("NOT MEASURED: {row}: {why}");
}

/// Runs a script of the repository that makes a folder once and prints its path.
pub fn script(path: &str) -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let said = Command::new(&script).stderr(std::process::Stdio::inherit()).output();
    let said = said.map_err(|error| format!("{path} cannot be run: {error}"))?;
    if !said.status.success() {
        return Err(format!("{path} ended with {}", said.status));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&said.stdout).trim()))
}

/// A program of the machine, if there is one of that name.
pub fn on_path(name: &str) -> Result<PathBuf, String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| format!("{name} is not on this machine"))
}

/// Our own program.
pub fn lhrun(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lhrun"));
    // Where runs are remembered.
    command.env("XDG_STATE_HOME", folder.join("state"));
    command
}

/// A file beside this one.
pub fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/scripts").join(name)
}
