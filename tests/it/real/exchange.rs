//! What `lhrun` writes, Longhorn's own library restores, and the other way round: every method and block size; full,
//! incremental and of a grown volume; each by one alone and by both in turn.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use lhrun::backupstore::{
    BackupRef, Compression, delete,
    restore::{self, RestoreOptions},
    write::{self, BackupRequest},
};
use tokio::runtime::Runtime;

use super::{buckets::Bucket, server::Binaries};
use crate::{
    lab::Said,
    written_by_longhorn::{Archive, Place},
};

/// Who writes or reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Lhrun,
    Longhorn,
}

use Side::{Lhrun, Longhorn};

/// One volume's way through both.
struct Exchange<'a> {
    tool: &'a Path,
    bucket: &'a Bucket,
    folder: PathBuf,
    volume: String,
    compression: Compression,
    block: u64,
}

#[test]
#[ignore = "needs the real servers: make test-real"]
fn what_one_writes_the_other_restores() {
    let (binaries, folder) = (Binaries::find(), tempfile::tempdir().unwrap());
    let bucket = Bucket::minio(&binaries, folder.path());
    let tool = binaries.longhorn_backup();
    let methods = [Compression::Lz4, Compression::Gzip, Compression::None];
    // Most of the time both wait for their locks to settle.
    thread::scope(|scope| {
        for compression in methods {
            for mib in [2, 16] {
                for writers in [[Lhrun; 3], [Longhorn; 3], [Lhrun, Longhorn, Lhrun], [Longhorn, Lhrun, Longhorn]] {
                    let names: Vec<String> = writers.iter().map(|w| format!("{w:?}").to_lowercase()).collect();
                    let volume = format!("pvc-{compression}-{mib}-{}", names.join("-"));
                    let folder = folder.path().join(&volume);
                    fs::create_dir(&folder).unwrap();
                    let (tool, bucket) = (tool.as_path(), &bucket);
                    let exchange = Exchange { tool, bucket, folder, volume, compression, block: mib << 20 };
                    scope.spawn(move || exchange.run(writers));
                }
            }
        }
    });
}

impl Exchange<'_> {
    fn run(&self, writers: [Side; 3]) {
        let images = [self.first(), self.second(), self.grown()];
        for (n, writer) in writers.into_iter().enumerate() {
            let since = n.checked_sub(1).map(|before| images[before].as_path());
            self.backup(writer, n, &images[n], since);
        }
        // An older backup comes back as large as the volume is now, with zeros at its end.
        for (n, image) in images.iter().enumerate() {
            for reader in [Lhrun, Longhorn] {
                let restored = self.restore(reader, n);
                assert_eq!(size(&restored), size(&images[2]));
                assert_eq!(differ(&restored, image), None, "{reader:?} restores backup {n} of {}", self.volume);
                fs::remove_file(restored).unwrap();
            }
        }
        println!("{}: full, incremental and grown are restored alike by both", self.volume);
    }

    /// Content at the beginning and at the end, written zeros, and holes.
    fn first(&self) -> PathBuf {
        let image = self.image("first", 6);
        self.fill(&image, 0, 1);
        self.fill(&image, 1, 2);
        image.write_all_at(&vec![0; self.length()], 2 * self.block).unwrap();
        self.fill(&image, 5, 3);
        self.folder.join("first")
    }

    /// One block changed in one byte, one new, one the same as another.
    fn second(&self) -> PathBuf {
        fs::copy(self.folder.join("first"), self.folder.join("second")).unwrap();
        let image = self.image("second", 6);
        image.write_all_at(b"!", self.block + 4711).unwrap();
        self.fill(&image, 3, 4);
        self.fill(&image, 4, 1);
        self.folder.join("second")
    }

    fn grown(&self) -> PathBuf {
        fs::copy(self.folder.join("second"), self.folder.join("grown")).unwrap();
        let image = self.image("grown", 9);
        self.fill(&image, 0, 5);
        self.fill(&image, 8, 6);
        self.folder.join("grown")
    }

    fn image(&self, name: &str, blocks: u64) -> File {
        let path = self.folder.join(name);
        let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len(blocks * self.block).unwrap();
        file
    }

    fn length(&self) -> usize {
        usize::try_from(self.block).unwrap()
    }

    /// Fills a block with data that differs with the seed; half of it can be compressed.
    fn fill(&self, image: &File, block: u64, seed: u64) {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut data = vec![u8::try_from(seed).unwrap(); self.length()];
        for page in data.chunks_exact_mut(4096).step_by(2) {
            for word in page.chunks_exact_mut(8) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                word.copy_from_slice(&(state ^ state >> 32).to_le_bytes());
            }
        }
        image.write_all_at(&data, block * self.block).unwrap();
    }

    fn backup(&self, writer: Side, n: usize, image: &Path, since: Option<&Path>) {
        match writer {
            Lhrun => {
                let request = BackupRequest {
                    compression: self.compression,
                    block_size: self.block,
                    ..BackupRequest::new(self.named(n), format!("snap-{n}"), size(image))
                };
                let written = block_on(write::backup_file(&self.bucket.store(), image, request)).unwrap();
                assert_eq!(written.incremental, n > 0, "{} {n}", self.volume);
            }
            Longhorn => {
                let (compression, block) = (self.compression.to_string(), (self.block >> 20).to_string());
                let mut command = self.longhorn("backup", n);
                command.args([
                    "--snapshot",
                    &format!("snap-{n}"),
                    "--compression",
                    &compression,
                    "--block-size",
                    &block,
                ]);
                if let Some(since) = since {
                    command.arg("--since").arg(since);
                }
                command.arg(image);
                Said::of(command).success().says(&format!("\"incremental\":{}", n > 0));
            }
        }
    }

    fn restore(&self, reader: Side, n: usize) -> PathBuf {
        let target = self.folder.join(format!("{reader:?}-{n}"));
        match reader {
            Lhrun => {
                let options = RestoreOptions::default();
                block_on(restore::to_file(&self.bucket.store(), &self.named(n), &target, options)).unwrap();
            }
            Longhorn => {
                let mut command = self.longhorn("restore", n);
                command.arg(&target);
                Said::of(command).success();
            }
        }
        target
    }

    fn named(&self, n: usize) -> BackupRef {
        BackupRef::new(&self.volume, format!("backup-{n}")).unwrap()
    }

    fn longhorn(&self, operation: &str, n: usize) -> Command {
        let s3 = &self.bucket.access;
        let mut command = Command::new(self.tool);
        command.args([operation, "--target", &format!("s3://{}@{}/", s3.bucket, s3.region)]);
        command.args(["--volume", &self.volume, "--backup", &format!("backup-{n}")]);
        command.env("AWS_ENDPOINTS", &s3.endpoint);
        command.env("AWS_ACCESS_KEY_ID", &s3.access_key).env("AWS_SECRET_ACCESS_KEY", &s3.secret_key);
        command
    }
}

#[test]
#[ignore = "needs the real servers: make test-real"]
fn what_is_left_after_a_deletion_is_whole_and_what_is_damaged_is_refused_by_both() {
    let (binaries, folder) = (Binaries::find(), tempfile::tempdir().unwrap());
    let bucket = Bucket::minio(&binaries, folder.path());
    let tool = binaries.longhorn_backup();
    let exchange = Exchange {
        tool: &tool,
        bucket: &bucket,
        folder: folder.path().to_owned(),
        volume: "pvc-left".to_owned(),
        compression: Compression::Lz4,
        block: 2 << 20,
    };
    let images = [exchange.first(), exchange.second(), exchange.grown()];
    exchange.backup(Longhorn, 0, &images[0], None);
    exchange.backup(Lhrun, 1, &images[1], Some(&images[0]));
    let store = bucket.store();
    let deleted = block_on(delete::backup(&store, &exchange.named(0), lhrun::backupstore::lock::SETTLE)).unwrap();
    // The second byte of block 1 was changed, so what it was before belongs to the first backup alone.
    assert_eq!((deleted.blocks, deleted.kept), (1, None));
    let restored = exchange.restore(Longhorn, 1);
    assert_eq!(differ(&restored, &images[1]), None);
    // Longhorn goes on from what was left.
    exchange.backup(Longhorn, 2, &images[2], Some(&images[1]));
    assert_eq!(differ(&exchange.restore(Lhrun, 2), &images[2]), None);

    let blocks = block_on(store.list("backupstore/volumes/")).unwrap();
    let block = blocks.iter().find(|object| object.key.contains("/blocks/")).expect("a block");
    let mut body = block_on(store.get(&block.key)).unwrap().to_vec();
    let middle = body.len() / 2;
    body[middle] ^= 1;
    block_on(store.put(&block.key, body.into())).unwrap();
    let target = folder.path().join("damaged");
    let refused = block_on(restore::to_file(&store, &exchange.named(2), &target, RestoreOptions::default()));
    assert_eq!(refused.unwrap_err().kind(), lhrun::Kind::Damaged);
    let mut command = exchange.longhorn("restore", 2);
    command.arg(&target);
    Said::of(command).failure();
}

#[test]
#[ignore = "needs the real servers: make test-real"]
fn what_longhorn_wrote_is_restored_and_whole_from_other_servers() {
    let binaries = Binaries::find();
    for server in [Bucket::minio, Bucket::seaweedfs] {
        for archive in Archive::all() {
            let folder = tempfile::tempdir().unwrap();
            let bucket = server(&binaries, folder.path());
            block_on(bucket.fill(archive.folder()));
            archive.is_whole_in(&Place::bucket(&bucket.access));
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    Runtime::new().expect("a runtime").block_on(work)
}

fn size(image: &Path) -> u64 {
    fs::metadata(image).unwrap().len()
}

/// The first MiB in which two files differ, taking what the second lacks at its end for zeros.
fn differ(one: &Path, other: &Path) -> Option<u64> {
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let (one, longer) = (File::open(one).unwrap(), size(one));
    let (other, shorter) = (File::open(other).unwrap(), size(other));
    (0..longer >> 20).find(|mib| {
        one.read_exact_at(&mut a, mib << 20).unwrap();
        if mib << 20 < shorter {
            other.read_exact_at(&mut b, mib << 20).unwrap();
        } else {
            b.fill(0);
        }
        a != b
    })
}
