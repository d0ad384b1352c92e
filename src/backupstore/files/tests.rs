use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use super::{
    testing::{Lab, debugfs, noise},
    *,
};
use crate::backupstore::{
    Catalog,
    layout::VolumeKeys,
    testing::{self as stores, Scratch},
    write::{self, BackupRequest},
};

const VOLUME: &str = "pvc-1";
pub(super) const MIB: u64 = 1 << 20;

pub(super) fn of() -> BackupRef {
    BackupRef::new(VOLUME, "b-1").unwrap()
}

/// A store with a backup of that image.
pub(super) async fn backup(image: &Path, size: u64) -> Scratch {
    let scratch = stores::scratch();
    let request = BackupRequest { settle: Duration::ZERO, ..BackupRequest::new(of(), "snap-1", size) };
    write::backup_file(&scratch.store(), image, request).await.unwrap();
    scratch
}

/// Does something with the files of that backup.
pub(super) async fn with<T: Send + 'static>(
    scratch: &Scratch,
    work: impl FnOnce(&mut Files) -> Result<T> + Send + 'static,
) -> Result<T> {
    browse(&scratch.store(), &of(), ImageOptions::default(), work).await
}

fn content(files: &mut Files, path: &str) -> Result<Vec<u8>> {
    let place = files.find(path.as_bytes())?;
    let mut content = Vec::new();
    files.read(&place.node, |piece| {
        match piece {
            Piece::Data(data) => content.extend_from_slice(data),
            Piece::Hole(length) => content.resize(content.len() + usize::try_from(length).unwrap(), 0),
        }
        Ok(())
    })?;
    Ok(content)
}

#[tokio::test]
async fn files_are_read_without_getting_the_image() {
    let lab = Lab::new();
    let large = noise(1, 20 << 20);
    lab.file("etc/app.conf", "port = 80\n").file("large", &large).file("other", noise(2, 30 << 20));
    lab.sparse("holes", 40 << 20, &[(0, b"start"), (21 << 20, b"middle")]);
    let scratch = backup(&lab.image("64M", &["-t", "ext4"]), 64 * MIB).await;
    let holes = fs::read(lab.path("holes")).unwrap();
    let (small, after_small, all) = with(&scratch, move |files| {
        let small = content(files, "/etc/app.conf")?;
        let after_small = files.fetched();
        assert!(content(files, "/large")? == large);
        assert!(content(files, "/holes")? == holes);
        Ok((small, after_small, files.fetched()))
    })
    .await
    .unwrap();
    assert_eq!(small, b"port = 80\n");
    assert!(after_small.blocks <= 3, "{after_small:?}");
    assert!(after_small.bytes < 7 * MIB, "{after_small:?}");
    assert!((20 * MIB..34 * MIB).contains(&all.bytes), "{all:?}");
}

#[tokio::test]
async fn folders_are_listed_with_what_is_in_them() {
    let lab = Lab::new();
    lab.file("folder/b", "hello").file("folder/a\n\u{1b}[2J", "").link("folder/link", "../else where");
    fs::create_dir(lab.path("folder/sub")).unwrap();
    fs::set_permissions(lab.path("folder/b"), fs::Permissions::from_mode(0o4750)).unwrap();
    nix::unistd::mkfifo(&lab.path("folder/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let image = lab.image("8M", &["-t", "ext4"]);
    debugfs(
        &image,
        &[
            "cd folder",
            "mknod device c 1 3",
            "cd /",
            "sif folder/b uid 100000",
            "sif folder/b gid 26",
            "sif folder/b mtime 20261122183857",
        ],
    );
    let scratch = backup(&image, 8 * MIB).await;
    let entries = with(&scratch, |files| {
        let place = files.find(b"/folder/")?;
        assert_eq!(place.path, b"/folder");
        files.list(&place.node)
    })
    .await
    .unwrap();
    let found: Vec<_> = entries.iter().map(|entry| (shown(&entry.name), entry.node.as_ref().unwrap().kind())).collect();
    let expected = [
        ("a\\n\\u{1b}[2J", FileKind::File),
        ("b", FileKind::File),
        ("device", FileKind::CharacterDevice),
        ("link", FileKind::Link),
        ("pipe", FileKind::Pipe),
        ("sub", FileKind::Folder),
    ];
    assert_eq!(found, expected.map(|(name, kind)| (name.to_owned(), kind)));
    let b = entries[1].node.as_ref().unwrap();
    assert_eq!((b.mode(), b.owner(), b.size(), b.links()), (0o4750, (100_000, 26), 5, 1));
    assert_eq!(b.modified().to_string(), "2026-11-22T18:38:57Z");
    assert_eq!(entries[3].node.as_ref().unwrap().target.as_deref(), Some(&b"../else where"[..]));
}

#[tokio::test]
async fn links_lead_only_to_files_of_the_image() {
    let lab = Lab::new();
    lab.file("etc/hostname", "inside\n").file("a/b/file", "deep");
    let long = format!("{}etc/hostname", "./".repeat(100));
    for (name, target) in [
        ("absolute", "/etc/hostname"),
        ("up", "../../../../etc/hostname"),
        ("chain", "absolute"),
        ("folder", "a/b"),
        ("long", long.as_str()),
        ("loop", "loop2"),
        ("loop2", "loop"),
        ("grows", "grows/x"),
        ("broken", "/proc/self/environ"),
    ] {
        lab.link(name, target);
    }
    let scratch = backup(&lab.image("8M", &["-t", "ext4"]), 8 * MIB).await;
    with(&scratch, |files| {
        for path in [
            "/absolute",
            "/up",
            "/chain",
            "/long",
            "/../../etc/hostname",
            "/a/../etc/./hostname",
            "/folder/../../etc/hostname",
        ] {
            assert_eq!(content(files, path)?, b"inside\n", "{path}");
        }
        assert_eq!(content(files, "/folder/file")?, b"deep");
        assert_eq!(files.find(b"/folder")?.path, b"/a/b");
        for (path, kind) in [
            ("/loop", Kind::Invalid),
            ("/grows", Kind::Invalid),
            ("/broken", Kind::NotFound),
            ("/etc/hostname/x", Kind::Invalid),
            (&"x/".repeat(3000), Kind::Invalid),
        ] {
            assert_eq!(files.find(path.as_bytes()).unwrap_err().kind(), kind, "{path}");
        }
        assert_eq!(content(files, "/a").unwrap_err().kind(), Kind::Invalid);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_missing_path_is_named_with_the_nearest() {
    let lab = Lab::new();
    lab.file("etc/app.conf", "");
    let scratch = backup(&lab.image("8M", &["-t", "ext4"]), 8 * MIB).await;
    let error = with(&scratch, |files| files.find(b"/etc/ap.conf").map(drop)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("in /etc: there is no ap.conf"), "{error}");
    assert_eq!(error.hint_text(), Some("did you mean `app.conf`?"));
    let error = with(&scratch, |files| files.find(b"/other\x1b[2J/x").map(drop)).await.unwrap_err();
    assert!(!error.to_string().contains('\x1b') && error.hint_text().unwrap().contains("files ls"), "{error:?}");
}

/// Removes the block that holds that content from a store.
pub(super) async fn lose(scratch: &Scratch, image: &Path, content: &[u8]) -> String {
    let bytes = fs::read(image).unwrap();
    let offset = bytes.windows(content.len()).position(|window| window == content).unwrap() as u64;
    let config = Catalog::new(scratch.store()).backup(VOLUME, "b-1").await.unwrap();
    let block = config.blocks.at(offset / (2 * MIB) * (2 * MIB)).unwrap();
    let key = VolumeKeys::new(VOLUME).unwrap().blocks().key(&block.checksum);
    fs::remove_file(scratch.object(&key)).unwrap();
    key
}

#[tokio::test]
async fn a_lost_block_spoils_only_the_files_in_it() {
    let lab = Lab::new();
    let large = noise(5, 12 << 20);
    lab.file("a", "hello").file("large", &large);
    let image = lab.image("32M", &["-t", "ext4"]);
    let scratch = backup(&image, 32 * MIB).await;
    let key = lose(&scratch, &image, &large[8 << 20..][..64]).await;
    let error = with(&scratch, |files| {
        assert_eq!(content(files, "/a")?, b"hello");
        content(files, "/large").map(drop)
    })
    .await
    .unwrap_err();
    assert_eq!((error.kind(), error.object_name()), (Kind::Damaged, Some(key.as_str())));
    let text = error.to_string();
    assert!(text.contains("volume pvc-1, backup b-1") && text.contains("is missing") && text.contains(&key), "{text}");
}

#[tokio::test]
async fn a_walk_sees_everything_once_also_in_a_circle() {
    let lab = Lab::new();
    let deep = "d/".repeat(40);
    lab.file("a/b/c", "1").file(&format!("{deep}file"), "2");
    let image = lab.image("8M", &["-t", "ext4"]);
    debugfs(&image, &["link a a/b/again"]);
    let scratch = backup(&image, 8 * MIB).await;
    let (seen, wrong) = with(&scratch, |files| {
        let root = files.find(b"/")?;
        let (mut seen, mut wrong) = (Vec::new(), Vec::new());
        files.walk(&root.node, |path, node| {
            match node {
                Ok(_) => seen.push(shown(path)),
                Err(error) => wrong.push(format!("{}: {error}", shown(path))),
            }
            Ok(())
        })?;
        Ok((seen, wrong))
    })
    .await
    .unwrap();
    for path in ["a", "a/b", "a/b/c", "a/b/again", "lost+found", &format!("{deep}file")] {
        assert!(seen.iter().any(|found| found == path), "{path} not in {seen:?}");
    }
    assert_eq!(wrong, ["a/b/again: the folder is in more than one place"]);
    assert_eq!(seen.len(), 4 + 1 + 40 + 1);
}

#[tokio::test]
async fn a_name_that_would_be_a_path_is_no_name() {
    let lab = Lab::new();
    lab.file("xxxxxxxx", "1").file("good", "2");
    let image = lab.image("8M", &["-t", "ext4", "-O", "^metadata_csum"]);
    let mut bytes = fs::read(&image).unwrap();
    let at = bytes.windows(8).position(|window| window == b"xxxxxxxx").unwrap();
    bytes[at..at + 8].copy_from_slice(b"../../up");
    fs::write(&image, bytes).unwrap();
    let scratch = backup(&image, 8 * MIB).await;
    let entries = with(&scratch, |files| {
        let root = files.find(b"/")?.node;
        files.list(&root)
    })
    .await
    .unwrap();
    let wrong: Vec<_> = entries.iter().filter(|entry| entry.node.is_err()).map(|entry| shown(&entry.name)).collect();
    assert_eq!((entries.len(), wrong), (3, vec!["../../up".to_owned()]));
}

#[tokio::test]
async fn what_is_no_file_system_is_said_with_volume_and_backup() {
    let scratch = stores::scratch();
    let image = scratch.path("image");
    fs::write(&image, [&b"LUKS\xba\xbe\0\x02"[..], &[1; 5000]].concat()).unwrap();
    let request = BackupRequest { settle: Duration::ZERO, ..BackupRequest::new(of(), "snap-1", 4 * MIB) };
    write::backup_file(&scratch.store(), &image, request).await.unwrap();
    let error = with(&scratch, |_| Ok(())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("volume pvc-1") && error.to_string().contains("encrypted"), "{error}");
    assert!(error.hint_text().unwrap().contains("secret"));
    let missing = BackupRef::new(VOLUME, "b-2").unwrap();
    let error = browse(&scratch.store(), &missing, ImageOptions::default(), |_| Ok(())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}
