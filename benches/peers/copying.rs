//! Copying a store of backups from one bucket to another, through the client.

use std::{fs::File, io::Write, path::Path, process::Command};

use lhrun::{
    backupstore::{
        BackupRef,
        write::{self, BackupRequest},
    },
    objectstore::{Store, StoreConfig},
};
use tempfile::TempDir;

use crate::{
    Setup, cost, lhrun, not_measured, on_path,
    real::{buckets::Bucket, server::Binaries},
    s3client::{self, S3},
    table::Table,
};

/// Objects on their way at the same time, for both.
const AT_ONCE: &str = "8";
const BLOCK: usize = 2 << 20;

/// Measures it, if a bucket is wanted.
pub fn measure(setup: &Setup, folder: &TempDir, binaries: &Binaries) -> Result<Vec<Table>, String> {
    if setup.blocks == 0 {
        return Ok(Vec::new());
    }
    let bucket = Bucket::minio(binaries, folder.path());
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("a runtime: {error}"))?;
    let server = u32::try_from(bucket.server.pid()).unwrap_or_default();
    let failed = |error| format!("the bucket to copy: {error}");
    let (objects, bytes) = runtime.block_on(fill(&bucket.access, folder.path(), setup.blocks)).map_err(failed)?;
    let mut table = Table::new(format!("copying {objects} objects, {} MiB", bytes >> 20), None);
    for round in 1..=setup.rounds {
        for row in ["lhrun", "rclone"].into_iter().filter(|row| setup.wants(row)) {
            let target = S3 { bucket: format!("copy-{row}-{round}"), ..bucket.access.clone() };
            let measured = copy(row, &bucket.access, &target, folder.path(), server).and_then(|cost| {
                let there = runtime.block_on(size(&target)).map_err(failed)?;
                let whole = there == (objects, bytes);
                if whole { Ok(cost) } else { Err(format!("{} objects, {} bytes are in the copy", there.0, there.1)) }
            });
            match measured {
                Ok(cost) => table.add(row, cost),
                Err(why) => not_measured(&format!("copying by {row}"), &why),
            }
        }
    }
    Ok(vec![table])
}

/// Backs up a volume of which every other block does not compress and the rest nearly vanishes: objects of 2 MiB, and small
/// ones. Gives their number and bytes.
async fn fill(access: &S3, folder: &Path, blocks: usize) -> lhrun::Result<(usize, u64)> {
    let image = folder.join("volume.img");
    let mut file = File::create(&image).map_err(|error| lhrun::Error::new(lhrun::Kind::Failed, error.to_string()))?;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for index in 0..blocks {
        let mut block = vec![0; BLOCK];
        // The first part of a block is noise, of a small one only a little.
        let noisy = if index % 2 == 0 { BLOCK / 4 * 3 } else { 8192 };
        for word in block[..noisy].chunks_exact_mut(8) {
            // Marsaglia's xorshift.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block).map_err(|error| lhrun::Error::new(lhrun::Kind::Failed, error.to_string()))?;
    }
    let backup = BackupRef::new("pvc-bench", "backup-0000000000000001")?;
    let request = BackupRequest::new(backup, "snap-1", (blocks * BLOCK) as u64);
    write::backup_file(&store(access)?, &image, request).await?;
    size(access).await
}

fn store(access: &S3) -> lhrun::Result<Store> {
    let mut config = StoreConfig::from_env(access.bucket.as_str(), "")?;
    config.endpoint = Some(access.endpoint.clone());
    config.region.clone_from(&access.region);
    config.access_key = Some(access.access_key.clone());
    config.secret_key = Some(access.secret_key.clone().into());
    Store::connect(&config)
}

async fn size(access: &S3) -> lhrun::Result<(usize, u64)> {
    let objects = store(access)?.list("").await?;
    Ok((objects.len(), objects.iter().map(|object| object.size).sum()))
}

fn copy(row: &str, from: &S3, to: &S3, folder: &Path, server: u32) -> Result<cost::Cost, String> {
    if !s3client::create_bucket(to) {
        return Err(format!("the bucket {} cannot be made", to.bucket));
    }
    let mut command = if row == "lhrun" { ours(from, to, folder)? } else { rclone(from, to)? };
    command.env("HOME", folder).current_dir(folder);
    cost::of(command, folder, &[server])
}

fn ours(from: &S3, to: &S3, folder: &Path) -> Result<Command, String> {
    let config = folder.join("lhrun.toml");
    let text =
        format!("[store]\nendpoint = {:?}\nregion = {:?}\nbucket = {:?}\n", from.endpoint, from.region, from.bucket);
    std::fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
    let mut command = lhrun(folder);
    command.arg("--config").arg(config).arg("run");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/runbooks/offsite-copy.rhai"));
    command.args(["--set", &format!("url=s3://{}@{}/", to.bucket, to.region)]);
    command.args(["--set", &format!("endpoint={}", to.endpoint), "--set", &format!("at-once={AT_ONCE}")]);
    command.envs([("AWS_ACCESS_KEY_ID", &from.access_key), ("AWS_SECRET_ACCESS_KEY", &from.secret_key)]);
    Ok(command)
}

/// Two remotes, as for two places; of one, it would have the server copy.
fn rclone(from: &S3, to: &S3) -> Result<Command, String> {
    let mut command = Command::new(on_path("rclone")?);
    command.args(["sync", "--transfers", AT_ONCE, "--checkers", AT_ONCE]);
    // rclone's own transport refuses it.
    command.env_remove("AWS_CA_BUNDLE");
    command.args([format!("from:{}", from.bucket), format!("to:{}", to.bucket)]);
    for (remote, access) in [("FROM", from), ("TO", to)] {
        for (key, value) in [
            ("TYPE", "s3"),
            ("PROVIDER", "Minio"),
            ("ENDPOINT", &access.endpoint),
            ("REGION", &access.region),
            ("ACCESS_KEY_ID", &access.access_key),
            ("SECRET_ACCESS_KEY", &access.secret_key),
        ] {
            command.env(format!("RCLONE_CONFIG_{remote}_{key}"), value);
        }
    }
    Ok(command)
}
