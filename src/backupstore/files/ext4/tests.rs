use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;
use crate::backupstore::files::testing::{Lab, Memory, debugfs, noise, replay};

fn open(image: &Path) -> Ext4 {
    Ext4::open(Box::new(Memory(fs::read(image).unwrap()))).unwrap()
}

fn names(fs: &mut Ext4, folder: u32) -> Vec<(String, u32)> {
    let folder = fs.inode(folder).unwrap();
    let text = |name: dir::Name| (String::from_utf8(name.name).unwrap(), name.inode);
    fs.names(&folder).unwrap().into_iter().map(text).collect()
}

fn inode(fs: &mut Ext4, name: &str) -> Inode {
    let (_, number) = names(fs, ROOT).into_iter().find(|(found, _)| found == name).unwrap();
    fs.inode(number).unwrap()
}

fn content(fs: &mut Ext4, name: &str) -> Vec<u8> {
    let inode = inode(fs, name);
    let mut content = Vec::new();
    fs.read(&inode, &mut |piece| {
        match piece {
            Piece::Data(data) => content.extend_from_slice(data),
            Piece::Hole(length) => content.resize(content.len() + index(length), 0),
        }
        Ok(())
    })
    .unwrap();
    content
}

#[test]
fn sums_are_those_of_crc32c() {
    // The check value of CRC-32C, which is inverted at the end.
    assert_eq!(!Sum::START.extend(b"123456789").0, 0xe306_9283);
    assert_eq!(Sum::START.extend(b"1234").extend(b"56789"), Sum::START.extend(b"123456789"));
}

#[test]
fn files_are_read_in_every_layout() {
    let lab = Lab::new();
    let large = noise(1, 5 << 20);
    lab.file("small", "hello").file("large", &large).file("empty", "");
    lab.sparse("holes", 3 << 20, &[(0, b"start"), (1 << 20, b"middle"), ((3 << 20) - 3, b"end")]);
    for name in 0..300 {
        lab.file(&format!("many/{name:0100}"), name.to_string());
    }
    for options in [
        &["-t", "ext4"][..],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-O", "^metadata_csum,^64bit"],
        &["-t", "ext4", "-O", "metadata_csum_seed", "-I", "512"],
        &["-t", "ext3", "-b", "1024"],
        &["-t", "ext2", "-I", "128"],
    ] {
        let image = lab.image("32M", options);
        let mut fs = open(&image);
        assert_eq!(content(&mut fs, "small"), b"hello", "{options:?}");
        assert!(content(&mut fs, "large") == large, "{options:?}");
        assert_eq!(content(&mut fs, "empty"), b"", "{options:?}");
        assert!(content(&mut fs, "holes") == fs::read(lab.path("holes")).unwrap(), "{options:?}");
        let many = inode(&mut fs, "many");
        let mut found = names(&mut fs, many.number);
        found.sort();
        assert_eq!(found.len(), 300, "{options:?}");
        assert!((0..300).all(|name| found[name].0 == format!("{name:0100}")), "{options:?}");
    }
}

#[test]
fn what_was_allocated_but_never_written_is_zeros() {
    let lab = Lab::new();
    lab.file("junk", noise(2, 16 << 20));
    let image = lab.image("64M", &["-t", "ext4"]);
    // The file gets blocks that still hold what another one had.
    debugfs(&image, &["rm junk", "write /dev/null pre", "fallocate pre 0 99", "sif pre size 409600"]);
    let map = String::from_utf8(debugfs(&image, &["ex pre"])).unwrap();
    assert!(map.contains("Uninit"), "{map}");
    assert!(content(&mut open(&image), "pre") == vec![0; 409_600]);
}

/// The blocks an image has after e2fsck applied its journal, and those we read from it as it is.
fn replayed(image: &Path, blocks: &[u64]) -> (Vec<u8>, Vec<u8>) {
    let copy = image.with_extension("copy");
    fs::copy(image, &copy).unwrap();
    replay(&copy);
    let theirs = fs::read(&copy).unwrap();
    let mut fs = open(image);
    let size = fs.superblock.block_size;
    let first = |block: &u64| theirs[index(block * size)];
    (blocks.iter().map(first).collect(), blocks.iter().map(|block| fs.block(*block).unwrap()[0]).collect())
}

/// An image whose journal has transactions: one block that is revoked later, one that stays, one written twice, and
/// one that starts with the journal's magic.
fn with_journal(lab: &Lab, features: &str, open: &str) -> std::path::PathBuf {
    lab.file("a", "hello");
    for letter in ["A", "B", "C"] {
        fs::write(lab.beside(letter), letter.repeat(1024)).unwrap();
    }
    fs::write(lab.beside("magic"), [&MAGIC[..], &[7; 1020]].concat()).unwrap();
    let image = lab.image("8M", &["-t", "ext4", "-b", "1024", "-J", "size=1", "-O", features]);
    let write = |blocks: &str, name: &str| format!("jw {blocks} {}", lab.beside(name).display());
    debugfs(
        &image,
        &[
            open,
            &write("-b 5000", "A"),
            &write("-b 5001", "A"),
            &write("-b 5002", "A"),
            "jw -r 5000",
            &write("-b 5002", "B"),
            &write("-b 5003", "magic"),
            &write("-b 5004", "C"),
            "jc",
        ],
    );
    image
}

const MAGIC: [u8; 4] = [0xc0, 0x3b, 0x39, 0x98];
const BLOCKS: [u64; 5] = [5000, 5001, 5002, 5003, 5004];
const AFTER: [u8; 5] = [0, b'A', b'B', 0xc0, b'C'];

#[test]
fn what_is_only_in_the_journal_is_read_from_there() {
    for (features, open) in
        [("64bit", "jo -c"), ("64bit", "jo -c -v 2"), ("64bit", "jo"), ("^64bit,^metadata_csum", "jo")]
    {
        let lab = Lab::new();
        let image = with_journal(&lab, features, open);
        let (theirs, ours) = replayed(&image, &BLOCKS);
        assert_eq!(theirs, AFTER, "{features} {open}");
        assert_eq!(ours, theirs, "{features} {open}");
        assert_eq!(content(&mut self::open(&image), "a"), b"hello");
    }
}

/// Where the blocks of the journal are in the image.
fn journal(image: &Path) -> Vec<usize> {
    let mut disk = Memory(fs::read(image).unwrap());
    let superblock = Superblock::read(&mut disk).unwrap();
    let mut fs = Ext4 { superblock, disk: Box::new(disk), replaced: BTreeMap::new() };
    let inode = fs.inode(8).unwrap();
    let runs = fs.map(&inode).unwrap();
    runs.iter().flat_map(|run| (0..run.blocks).map(|block| index((run.physical + block) * 1024))).collect()
}

#[test]
fn a_journal_goes_round() {
    let lab = Lab::new();
    let image = with_journal(&lab, "64bit", "jo -c");
    let (mut bytes, places) = (fs::read(&image).unwrap(), journal(&image));
    // The log begins in the last three blocks and goes on in the first.
    let mut log: Vec<_> = places[1..].iter().map(|place| bytes[*place..place + 1024].to_vec()).collect();
    log.rotate_left(3);
    for (place, block) in places[1..].iter().zip(log) {
        bytes[*place..place + 1024].copy_from_slice(&block);
    }
    let head = &mut bytes[places[0]..places[0] + 1024];
    head[0x1c..0x20].copy_from_slice(&u32::try_from(places.len() - 3).unwrap().to_be_bytes());
    head[0xfc..0x100].fill(0);
    let sum = Sum::START.extend(head).0;
    head[0xfc..0x100].copy_from_slice(&sum.to_be_bytes());
    fs::write(&image, bytes).unwrap();
    let (theirs, ours) = replayed(&image, &BLOCKS);
    assert_eq!((&theirs[..], &ours[..]), (&AFTER[..], &AFTER[..]));
}

#[test]
fn a_transaction_that_was_not_committed_never_was() {
    let lab = Lab::new();
    let image = with_journal(&lab, "64bit", "jo -c");
    let (mut bytes, places) = (fs::read(&image).unwrap(), journal(&image));
    let is_commit = |place: &usize| bytes[*place..].starts_with(&MAGIC) && bytes[place + 7] == 2;
    let last = places.iter().rposition(is_commit).unwrap();
    bytes[places[last] + 0x20] ^= 1;
    fs::write(&image, &bytes).unwrap();
    assert_eq!(replayed(&image, &BLOCKS).1, [0, b'A', b'B', 0xc0, 0]);
    // A torn data block of a committed one is damage, not an older state.
    bytes[places[last] + 0x20] ^= 1;
    bytes[places[last - 1]] ^= 1;
    fs::write(&image, &bytes).unwrap();
    let error = open(&image).block(5004).unwrap_err();
    assert_eq!(error.kind(), crate::Kind::Damaged, "{error}");
    assert!(error.to_string().contains("its journal"), "{error}");
}

#[test]
fn times_before_1970_and_after_2038_are_read() {
    let time = |seconds: u32, extra: u32| {
        let mut bytes = vec![0; 256];
        bytes[0..2].copy_from_slice(&0x8000u16.to_le_bytes());
        bytes[0x10..0x14].copy_from_slice(&seconds.to_le_bytes());
        bytes[0x80] = 32;
        bytes[0x88..0x8c].copy_from_slice(&extra.to_le_bytes());
        inode::parse(12, &bytes, None).unwrap().modified.as_second()
    };
    // From the table of the disk layout's documentation: sign bit, two more bits, the range they stand for.
    assert_eq!(time(0x8000_0000, 0), -0x8000_0000);
    assert_eq!(time(0x7fff_ffff, 0), 0x7fff_ffff);
    assert_eq!(time(0x8000_0000, 1), 0x8000_0000);
    assert_eq!(time(0x7fff_ffff, 1), 0x1_7fff_ffff);
    assert_eq!(time(0x7fff_ffff, 3), 0x3_7fff_ffff);
}

#[test]
fn an_altered_inode_folder_or_map_is_noticed() {
    let lab = Lab::new();
    lab.file("folder/a", "hello");
    // Every second block has content, so that the map needs a block of its own.
    let pieces: Vec<(u64, &[u8])> = (0..64).map(|n| (n * 8192, &b"x"[..])).collect();
    lab.sparse("pieces", 64 * 8192, &pieces);
    let image = lab.image("8M", &["-t", "ext4", "-b", "4096"]);
    let bytes = fs::read(&image).unwrap();
    let fresh = || Ext4::open(Box::new(Memory(bytes.clone()))).unwrap();
    let (number, root) = (inode(&mut fresh(), "pieces").number, inode(&mut fresh(), "pieces").root);
    let folder = inode(&mut fresh(), "folder");
    let table = fresh().inode_table(0).unwrap();
    let map = u64::from(le32(&root, 12 + 4)) * 4096;
    let listing = fresh().map(&folder).unwrap()[0].physical * 4096;
    let cases = [(table + u64::from(number - 1) * 256 + 5, "inode"), (map + 20, "map"), (listing + 1, "folder")];
    for (offset, said) in cases {
        let mut altered = bytes.clone();
        altered[index(offset)] ^= 1;
        let mut fs = Ext4::open(Box::new(Memory(altered))).unwrap();
        let read = |fs: &mut Ext4| {
            let inode = fs.inode(number)?;
            fs.read(&inode, &mut |_| Ok(()))?;
            fs.names(&folder).map(drop)
        };
        let error = read(&mut fs).unwrap_err();
        assert!(error.kind() == crate::Kind::Damaged && error.to_string().contains(said), "{said}: {error}");
        assert!(read(&mut fresh()).is_ok());
    }
}

#[test]
fn what_is_no_ext4_is_named() {
    let said = |start: &[u8], offset: usize| {
        let mut disk = vec![0; 1 << 20];
        disk[offset..offset + start.len()].copy_from_slice(start);
        Ext4::open(Box::new(Memory(disk))).err().unwrap().to_string()
    };
    assert!(said(b"LUKS\xba\xbe\x00\x02", 0).contains("encrypted"));
    assert!(said(b"XFSB\0\0\x10\0", 0).contains("XFS"));
    assert!(said(b"_BHRfS_M", 0x1_0040).contains("Btrfs"));
    assert!(said(b"\x55\xaa", 510).contains("partition table"));
    assert!(said(b"other", 0).contains("something else"));
    assert!(said(b"", 0).contains("no file system"));
    assert!(Ext4::open(Box::new(Memory(vec![1; 700]))).is_err());
}

/// Reads all there is, as far as it can be read; bounded by the inodes there are.
fn read_all(image: Vec<u8>) {
    let Ok(mut fs) = Ext4::open(Box::new(Memory(image))) else { return };
    for number in 1..fs.superblock.inodes.min(200) {
        let Ok(inode) = fs.inode(number) else { continue };
        let _ = fs.names(&inode);
        let _ = fs.target(&inode);
        let mut left = 64 << 20;
        let _ = fs.read(&inode, &mut |piece| {
            let Piece::Data(data) = piece else { return Ok(()) };
            left -= data.len().min(left);
            if left == 0 { Err(damaged("enough")) } else { Ok(()) }
        });
    }
}

/// A small image without checksums, with a journal to apply, and the offsets that are worth altering.
fn target(options: &str) -> (Vec<u8>, Vec<usize>) {
    let lab = Lab::new();
    lab.file("folder/deep/a", "hello").file("large", noise(3, 300 << 10)).link("link", &"x/".repeat(100));
    lab.sparse("holes", 8 << 20, &[(5 << 20, b"x"), (7 << 20, b"y")]);
    for name in 0..100 {
        lab.file(&format!("many/{name:050}"), "");
    }
    fs::write(lab.beside("A"), "A".repeat(1024)).unwrap();
    let image = lab.image("4M", &["-t", "ext4", "-b", "1024", "-N", "160", "-J", "size=1", "-O", options]);
    let write = format!("jw -b 3000 {}", lab.beside("A").display());
    debugfs(&image, &["jo", &write, "jw -r 3001", &write, "jc"]);
    let bytes = fs::read(&image).unwrap();
    let large = noise(3, 300 << 10);
    let content = bytes.windows(64).position(|window| window == &large[..64]).unwrap();
    let is_content = |at: &usize| (content..content + large.len()).contains(at);
    // Zeros beside other bytes are fields, too.
    let worth =
        (0..bytes.len()).filter(|at| bytes[at.saturating_sub(4)..bytes.len().min(at + 4)].iter().any(|b| *b != 0));
    let worth = worth.filter(|at| !is_content(at)).collect();
    (bytes, worth)
}

#[test]
fn no_alteration_leads_to_a_panic_or_an_endless_loop() {
    for options in ["^metadata_csum", "^metadata_csum,^extent,^64bit"] {
        let (bytes, worth) = target(options);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
        let change = (proptest::sample::select(worth), prop_oneof![any::<u8>(), Just(0), Just(0xff)], 1usize..5);
        let changes = proptest::collection::vec(change, 1..12);
        runner
            .run(&changes, |changes| {
                let mut image = bytes.clone();
                for (at, value, count) in changes {
                    let end = image.len().min(at + count);
                    image[at..end].fill(value);
                }
                read_all(image);
                Ok(())
            })
            .unwrap();
    }
}
