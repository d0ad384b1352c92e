//! `lhrun backups verify` as people and programs meet it: what it says, its exit codes, locks, samples, and buckets.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::Command,
    thread,
    time::Duration,
};

use crate::{
    damage::{Copy, LEGACY, SHARED, backup, block, not_whole, parse},
    folders::copy,
    lab::{Lab, Said, lhrun},
};

#[test]
fn people_are_told_what_is_bad_and_what_it_spoils() {
    let store = Copy::new();
    store.remove(&block(SHARED));
    let said = store.verify(&["--no-lock"]).code(3);
    let out = said.stdout();
    for part in [
        "VOLUME",
        "pvc-legacy",
        "damaged   1 bad block",
        "BACKING IMAGE",
        "SYSTEM BACKUP",
        "bad objects:",
        &block(SHARED),
        "it is missing",
        "spoils pvc-legacy@backup-0000000000001402 at 4194304",
        "spoils pvc-legacy@backup-0000000000001403 at 4194304",
        "5 whole, 2 damaged; 9 blocks needed (18.0 MiB)",
        "a changed bit would not show",
    ] {
        assert!(out.contains(part), "no {part:?} in {said}");
    }
    assert!(!out.contains("1401 at"), "{said}");
    store.verify(&["--no-lock", "--volume", "pvc-backed", "-o", "yaml"]).success().says("verdict: whole");
    store
        .verify(&["--backup", "backup-0000000000001401", "--level", "deep"])
        .success()
        .says("1 whole; 3 blocks needed");
}

#[test]
fn a_block_is_locked_against_deletion_while_it_is_read() {
    let store = Copy::new();
    let before = fs::read_dir(store.path(LEGACY)).expect("the volume").count();
    store.verify(&["--level", "deep", "--volume", "pvc-legacy"]).success().never_says("note:");
    assert_eq!(fs::read_dir(store.path(LEGACY)).expect("the volume").count(), before, "a lock was left");
}

#[test]
fn samples_remember_each_store_apart() {
    let store = Copy::new();
    let share = |arguments: &[&str]| {
        let arguments = [&["--level", "sample=50%", "--no-lock", "-o", "json"][..], arguments].concat();
        let report = parse(&store.verify(&arguments).success());
        (report["covered"]["percent"].as_u64(), report["totals"]["blocks_read"].as_u64().expect("a count"))
    };
    let (first, second) = (share(&[]), share(&[]));
    assert_eq!((first.0, second.0, first.1 + second.1), (Some(50), Some(0), 9));
    let file = store.path("other.json");
    assert_eq!(share(&["--coverage", &file.to_string_lossy()]), first, "another memory begins anew");
    let state = store.folder.path().join("state/lhrun");
    assert_eq!(fs::read_dir(state).expect("the state folder").count(), 1);
    fs::write(&file, "{").expect("the file");
    let file = file.to_string_lossy();
    store.verify(&["--level", "sample=50%", "--coverage", &file]).code(6).says("other.json is not the memory");
}

#[test]
fn what_cannot_be_asked_is_not_called_whole() {
    let store = Copy::new();
    store.verify(&["--volume", "pvc-none"]).code(6).says("there is no volume pvc-none");
    store.verify(&["--volume", "prod/data-postgres-1"]).code(6).says("did you mean `prod/data-postgres-0`?");
    store.verify(&["--backup", "pvc-empty@backup-none"]).code(6).says("volume pvc-empty has no backup backup-none");
    store.verify(&["--level", "sample=0%"]).code(2).says("sample=N%");
    fs::remove_dir_all(store.path("backupstore")).expect("the backups are removed");
    store.verify(&[]).code(6).says("nothing was found");
    fs::remove_dir_all(store.path("")).expect("the store is removed");
    store.verify(&[]).code(6).says("No such file");

    let mut command = lhrun();
    command.args(["backups", "verify", "--store", "s3://b@us-east-1/", "--endpoint", "http://127.0.0.1:1"]);
    command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "not-to-be-shown");
    Said::of(command).code(6).says("cannot reach http://127.0.0.1:1").never_says("not-to-be-shown");
}

#[test]
fn a_store_without_permission_is_not_called_whole() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("NOT CHECKED: root may read everything");
        return;
    }
    let store = Copy::new();
    let shut = |key: &str| fs::set_permissions(store.path(key), fs::Permissions::from_mode(0o000)).expect("it is shut");
    shut(&backup("1402"));
    let said = store.verify(&["--no-lock", "-o", "json"]).code(6);
    assert_eq!(not_whole(&parse(&said)), "1402 unchecked");
    shut("backupstore/volumes");
    store.verify(&[]).code(6);
    fs::set_permissions(store.path("backupstore/volumes"), fs::Permissions::from_mode(0o755)).expect("it is opened");
}

/// `lhrun backups verify` against the bucket of an embedded cluster.
fn verify_bucket(lab: &Lab, endpoint: &str, secret: &str, arguments: &[&str]) -> Said {
    let s3 = &lab.access.s3;
    let mut command = lhrun();
    command.args(["backups", "verify", "--store", &format!("s3://{}@{}/", s3.bucket, s3.region)]);
    command.args(["--endpoint", endpoint]).args(arguments);
    command.env("AWS_ACCESS_KEY_ID", &s3.access_key).env("AWS_SECRET_ACCESS_KEY", secret);
    Said::of(command)
}

#[test]
fn a_bucket_is_verified_with_and_without_permission_to_write() {
    let lab = Lab::up();
    let store = Copy::new();
    copy(&store.path("backupstore"), &lab.bucket().join("backupstore"));
    let (endpoint, secret) = (lab.access.s3.endpoint.clone(), lab.access.s3.secret_key.clone());

    let deep = ["--level", "deep", "-o", "json"];
    let report = parse(&verify_bucket(&lab, &endpoint, &secret, &deep).success());
    assert_eq!((report["verdict"].as_str(), report["notes"].as_array().map(Vec::len)), (Some("whole"), Some(0)));
    let left = Said::of({
        let mut find = Command::new("find");
        find.arg(lab.bucket()).args(["-name", "*.lck"]);
        find
    });
    assert_eq!(left.stdout(), "", "a lock was left");

    let report = parse(&verify_bucket(&lab, &read_only(&endpoint), &secret, &deep).success());
    assert_eq!(report["verdict"], "whole");
    let notes = report["notes"].as_array().expect("notes");
    assert!(notes.len() == 1 && notes[0].as_str().is_some_and(|note| note.contains("not locked")), "{notes:?}");

    fs::remove_file(lab.bucket().join(block(SHARED))).expect("the block");
    verify_bucket(&lab, &endpoint, &secret, &["--no-lock"]).code(3).says("it is missing").says("1402 at 4194304");
    let denied = verify_bucket(&lab, &endpoint, "not-the-secret", &[]).code(6);
    denied.says("SignatureDoesNotMatch").never_says("not-the-secret");
}

/// A server in front of another that lets nobody write; it ends with the test's process.
fn read_only(endpoint: &str) -> String {
    let behind = endpoint.strip_prefix("http://").expect("an address without TLS").trim_end_matches('/').to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let behind = behind.clone();
            thread::spawn(move || forward(client, &behind));
        }
    });
    address
}

/// Hands one request on, and its answer back.
fn forward(mut client: TcpStream, behind: &str) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    if !head.starts_with("GET ") && !head.starts_with("HEAD ") {
        let body = "<Error><Code>AccessDenied</Code><Message>read only</Message></Error>";
        let answer =
            format!("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        client.write_all(answer.as_bytes()).ok()?;
        // What the client still sends would reset the connection before it has read this.
        client.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
        let _ = std::io::copy(&mut client, &mut std::io::sink());
        return None;
    }
    let mut server = TcpStream::connect(behind).ok()?;
    server.write_all(head.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes()).ok()?;
    std::io::copy(&mut server, &mut client).ok()?;
    None
}
