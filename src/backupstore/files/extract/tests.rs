use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::backupstore::{
    files::{
        testing::{Lab, debugfs, noise},
        tests::{MIB, backup, lose, with},
    },
    testing::Scratch,
};

async fn get(scratch: &Scratch, from: &str, to: &Path, options: ExtractOptions) -> Result<Extracted> {
    let (from, to) = (from.to_owned(), to.to_owned());
    with(scratch, move |files| {
        let place = files.find(from.as_bytes())?;
        extract(files, &place.node, &to, options)
    })
    .await
}

const TREE: ExtractOptions = ExtractOptions { recursive: true, overwrite: false, owner: false };
const OVER: ExtractOptions = ExtractOptions { overwrite: true, ..TREE };

/// What is in a folder, all the way down.
fn found(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            found.push(entry.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned());
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_tree_comes_back_with_modes_times_links_and_holes() {
    let lab = Lab::new();
    lab.file("t/sub/tool", "#!/bin/sh\n").file("t/large", noise(1, 5 << 20)).link("t/sub/link", "../large");
    lab.sparse("t/holes", 50 << 20, &[(30 << 20, b"x")]);
    fs::hard_link(lab.path("t/large"), lab.path("t/again")).unwrap();
    fs::set_permissions(lab.path("t/sub/tool"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(lab.path("t/sub"), fs::Permissions::from_mode(0o2550)).unwrap();
    let image = lab.image("32M", &["-t", "ext4"]);
    debugfs(&image, &["sif t/sub/tool mtime 20261122183857"]);
    let scratch = backup(&image, 32 * MIB).await;
    let to = lab.beside("out");
    let done = get(&scratch, "/t", &to, TREE).await.unwrap();
    assert_eq!((done.files, done.folders, done.links, done.failed.len()), (4, 2, 1, 0));
    assert_eq!(done.bytes, 10 + 2 * (5 << 20) + (50 << 20));
    for name in ["sub/tool", "large", "again", "holes"] {
        assert!(fs::read(to.join(name)).unwrap() == fs::read(lab.path("t").join(name)).unwrap(), "{name}");
    }
    let meta = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
    assert_eq!(meta("sub/tool").mode() & 0o7777, 0o755, "without setuid and setgid");
    assert_eq!(meta("sub").mode() & 0o7777, 0o550);
    assert_eq!(meta("sub/tool").mtime(), 1_795_372_737);
    assert_eq!(fs::read_link(to.join("sub/link")).unwrap(), Path::new("../large"));
    assert!(meta("holes").blocks() * 512 < MIB, "holes stay holes");
    assert_eq!(found(&to), ["again", "holes", "large", "sub", "sub/link", "sub/tool"]);
}

#[tokio::test]
async fn what_exists_is_kept_unless_told_otherwise() {
    let lab = Lab::new();
    lab.file("t/a", "new").file("t/b", "new");
    let scratch = backup(&lab.image("8M", &["-t", "ext4"]), 8 * MIB).await;
    let to = lab.beside("out");
    fs::create_dir(&to).unwrap();
    fs::set_permissions(&to, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(to.join("a"), "precious").unwrap();
    let error = get(&scratch, "/t/a", &to.join("a"), ExtractOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    let done = get(&scratch, "/t", &to, TREE).await.unwrap();
    assert_eq!(done.failed.len(), 1);
    assert!(done.failed[0].path == "a" && done.failed[0].reason.contains("exists already"), "{:?}", done.failed);
    assert_eq!(fs::read(to.join("a")).unwrap(), b"precious");
    assert_eq!(fs::read(to.join("b")).unwrap(), b"new");
    assert_eq!(fs::metadata(&to).unwrap().mode() & 0o777, 0o700, "the operator's folder stays as it is");
    get(&scratch, "/t", &to, OVER).await.unwrap();
    assert_eq!(fs::read(to.join("a")).unwrap(), b"new");
    let error = get(&scratch, "/t", &lab.beside("other"), ExtractOptions::default()).await.unwrap_err();
    assert!(error.kind() == Kind::Usage && error.hint_text().unwrap().contains("--recursive"), "{error}");
}

#[tokio::test]
async fn nothing_leads_out_of_the_folder() {
    let lab = Lab::new();
    lab.file("t/sub/file", "content").file("t/a/b/c", "");
    for (name, target) in [
        ("t/absolute", "/etc/passwd"),
        ("t/up", "../outside"),
        ("t/sub/far", "../../outside"),
        ("t/inside", "sub/file"),
        ("t/sub/top", "../inside"),
        ("t/a/b/root", "../.."),
        // Each looks harmless alone.
        ("t/trick", "a/b/root/.."),
    ] {
        lab.link(name, target);
    }
    nix::unistd::mkfifo(&lab.path("t/pipe"), Mode::S_IRWXU).unwrap();
    let image = lab.image("8M", &["-t", "ext4"]);
    debugfs(&image, &["cd t", "mknod device b 8 0"]);
    let scratch = backup(&image, 8 * MIB).await;
    let to = lab.beside("out");
    let done = get(&scratch, "/t", &to, TREE).await.unwrap();
    let failed: Vec<_> = done.failed.iter().map(|left| left.path.as_str()).collect();
    assert_eq!(failed, ["absolute", "sub/far", "trick", "up"]);
    assert!(done.failed.iter().all(|left| left.reason.contains("out of the tree")), "{:?}", done.failed);
    let special: Vec<_> = done.special.iter().map(|left| format!("{} {}", left.path, left.reason)).collect();
    assert_eq!(special, ["device a device", "pipe a pipe"]);
    assert_eq!(
        found(&to),
        ["a", "a/b", "a/b/c", "a/b/root", "inside", "sub", "sub/file", "sub/top"].map(str::to_owned)
    );
}

#[tokio::test]
async fn a_link_in_the_way_is_not_followed() {
    let lab = Lab::new();
    lab.file("t/sub/file", "evil").file("t/single", "evil");
    let scratch = backup(&lab.image("8M", &["-t", "ext4"]), 8 * MIB).await;
    let (to, outside) = (lab.beside("out"), lab.beside("outside"));
    fs::create_dir(&to).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    symlink(&outside, to.join("sub")).unwrap();
    symlink(outside.join("kept"), to.join("single")).unwrap();
    // Also when writing over is allowed: the link itself is replaced, not what it points to.
    let done = get(&scratch, "/t", &to, OVER).await.unwrap();
    let failed: Vec<_> = done.failed.iter().map(|left| left.path.as_str()).collect();
    assert_eq!(failed, ["sub"]);
    assert_eq!(found(&outside), ["kept"]);
    assert_eq!(fs::read(outside.join("kept")).unwrap(), b"kept");
    assert!(fs::symlink_metadata(to.join("single")).unwrap().is_file());
}

/// A tree in which a folder was a link before: the image has two entries of one name.
#[tokio::test]
async fn a_link_that_was_extracted_is_not_written_through() {
    let lab = Lab::new();
    lab.link("sub1", "other").file("sub2/file", "evil").file("other/kept", "kept");
    let image = lab.image("8M", &["-t", "ext4", "-O", "^metadata_csum,^dir_index"]);
    let mut bytes = fs::read(&image).unwrap();
    let at = bytes.windows(4).position(|window| window == b"sub2").unwrap();
    bytes[at + 3] = b'1';
    fs::write(&image, bytes).unwrap();
    let scratch = backup(&image, 8 * MIB).await;
    let to = lab.beside("out");
    let done = get(&scratch, "/", &to, TREE).await.unwrap();
    assert_eq!(done.failed.len(), 1, "{:?}", done.failed);
    assert_eq!(found(&to.join("other")), ["kept"]);
}

#[tokio::test]
async fn a_damaged_file_leaves_no_trace_and_the_others_come_back() {
    let lab = Lab::new();
    let large = noise(5, 12 << 20);
    lab.file("t/a", "hello").file("t/large", &large).file("t/z", "last");
    let image = lab.image("32M", &["-t", "ext4"]);
    let scratch = backup(&image, 32 * MIB).await;
    lose(&scratch, &image, &large[8 << 20..][..64]).await;
    let to = lab.beside("out");
    let done = get(&scratch, "/t", &to, TREE).await.unwrap();
    assert_eq!((done.files, done.failed.len()), (2, 1));
    assert!(done.failed[0].path == "large" && done.failed[0].reason.contains("is missing"), "{:?}", done.failed);
    assert_eq!(found(&to), ["a", "z"]);
    let error = get(&scratch, "/t/large", &to.join("large"), OVER).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert_eq!(found(&to), ["a", "z"]);
}

#[tokio::test]
async fn root_may_keep_owners_and_what_goes_with_them() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("NOT CHECKED: only root can give files to others");
        return;
    }
    let lab = Lab::new();
    lab.file("t/tool", "").link("t/link", "tool");
    fs::set_permissions(lab.path("t/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    let image = lab.image("8M", &["-t", "ext4"]);
    debugfs(&image, &["sif t/tool uid 1234", "sif t/tool gid 5678", "sif t/link uid 1234"]);
    let scratch = backup(&image, 8 * MIB).await;
    let to = lab.beside("out");
    get(&scratch, "/t", &to, ExtractOptions { owner: true, ..TREE }).await.unwrap();
    let meta = fs::symlink_metadata(to.join("tool")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (1234, 5678, 0o4755));
    assert_eq!(fs::symlink_metadata(to.join("link")).unwrap().uid(), 1234);
}

#[test]
fn only_links_into_the_tree_are_inside() {
    let inside = |target: &str, path: &str| points_inside(target.as_bytes(), path.as_bytes());
    assert!(inside("b", "a") && inside("./b//c", "a") && inside("..", "x/a") && inside("../../b", "x/y/a"));
    assert!(!inside("..", "a") && !inside("/b", "x/a") && !inside("../../b", "x/a"));
    assert!(!inside("b/..", "a") && !inside("b/../../c", "x/y/a"));
}
