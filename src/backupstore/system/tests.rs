use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::backupstore::testing;

const VERSION: &str = "v1.10.2";

fn config(name: &str) -> SystemBackupConfig {
    SystemBackupConfig { name: name.into(), longhorn_version: VERSION.into(), ..SystemBackupConfig::default() }
}

/// Puts an archive into a store with a configuration that fits it, and reads it.
async fn read_archive(archive: Vec<u8>) -> Result<SystemBundle> {
    let scratch = testing::scratch();
    let store = scratch.store();
    let folder = layout::system_backup(VERSION, "sb1").unwrap();
    let config = SystemBackupConfig { checksum: hex(digest(&SHA256, &archive).as_ref()), ..config("sb1") };
    store.put(&(folder.clone() + ARCHIVE), archive.into()).await.unwrap();
    store.put(&(folder + CONFIG), config.to_bytes().unwrap().into()).await.unwrap();
    read(&store, VERSION, "sb1").await
}

fn real() -> Vec<u8> {
    std::fs::read(testing::fixture_folder().join("system-backup-v1.10.2.zip")).unwrap()
}

fn names(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_bundle_longhorn_wrote_is_read_by_kind() {
    let bundle = read_archive(real()).await.unwrap();
    assert_eq!(bundle.metadata.kubernetes_version, "v1.36.2");
    assert_eq!(bundle.files.len(), 20);
    assert_eq!(names(&bundle.objects("Volume").unwrap()), ["va", "vb", "vc"]);
    let counts = ["Setting", "PersistentVolume", "PersistentVolumeClaim", "RecurringJob", "CustomResourceDefinition"]
        .map(|kind| bundle.objects(kind).unwrap().len());
    assert_eq!(counts, [97, 3, 3, 0, 22]);
    // Longhorn has these two in each other's files.
    for (kind, file) in [("ClusterRole", "clusterrolebindings"), ("ClusterRoleBinding", "clusterroles")] {
        let objects = bundle.objects(kind).unwrap();
        assert!(!objects.is_empty() && objects.iter().all(|object| object["kind"] == kind), "{kind}");
        assert!(bundle.files[&format!("yamls/kubernetes/{file}.yaml")].contains(&format!("kind: {kind}List")));
    }
    assert!(bundle.objects("Secret").unwrap().is_empty());
}

#[tokio::test]
async fn the_bundle_of_the_store_longhorn_wrote_is_whole() {
    let bundle = read(&testing::fixtures(), "v1.10.1", "weekly-1").await.unwrap();
    assert_eq!(bundle.config.longhorn_git_commit, "deadbeef");
    assert!(bundle.files.contains_key("yamls/longhorn/volumes.yaml"));
}

#[tokio::test]
async fn what_is_written_is_read_again_in_longhorns_layout() {
    let scratch = testing::scratch();
    let store = scratch.store();
    let volume = json!({"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "metadata": {"name": "pvc-1"},
        "spec": {"size": "67108864", "fromBackup": "", "on": "true", "text": "two\nlines: # no comment", "n": "0123"}});
    let role = json!({"metadata": {"name": "longhorn-role"}});
    let objects = BTreeMap::from([("Volume".to_owned(), vec![volume.clone()]), ("ClusterRole".to_owned(), vec![role])]);
    let metadata = Metadata { longhorn_version: VERSION.into(), ..Metadata::default() };
    let written = write(&store, config("sb1"), metadata.clone(), objects.clone()).await.unwrap();
    let bundle = read(&store, VERSION, "sb1").await.unwrap();
    assert_eq!((&bundle.config, &bundle.metadata), (&written, &metadata));
    assert_eq!(bundle.objects("Volume").unwrap(), [volume]);
    assert_eq!(names(&bundle.objects("ClusterRole").unwrap()), ["longhorn-role"]);
    let real = read_archive(real()).await.unwrap();
    assert!(bundle.files.keys().eq(real.files.keys()), "the same files as in Longhorn's");

    let again = write(&store, config("sb1"), metadata.clone(), objects).await.unwrap_err();
    assert_eq!(again.kind(), Kind::Conflict);
    let secrets = BTreeMap::from([("Secret".to_owned(), vec![])]);
    assert_eq!(write(&store, config("sb2"), metadata, secrets).await.unwrap_err().kind(), Kind::Invalid);
    delete(&store, VERSION, "sb1").await.unwrap();
    assert!(store.list("").await.unwrap().is_empty());
    assert_eq!(delete(&store, VERSION, "sb1").await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn another_archive_than_the_one_written_is_damaged() {
    let scratch = testing::copy_of_fixtures();
    let key = layout::system_backup("v1.10.1", "weekly-1").unwrap() + ARCHIVE;
    let mut body = std::fs::read(scratch.object(&key)).unwrap();
    body[100] ^= 1;
    std::fs::write(scratch.object(&key), &body).unwrap();
    let error = read(&scratch.store(), "v1.10.1", "weekly-1").await.unwrap_err();
    assert_eq!((error.kind(), error.object_name()), (Kind::Damaged, Some(key.as_str())));
    std::fs::remove_file(scratch.object(&key)).unwrap();
    assert_eq!(read(&scratch.store(), "v1.10.1", "weekly-1").await.unwrap_err().kind(), Kind::NotFound);
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, body) in files {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(body).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[tokio::test]
async fn hostile_archives_are_refused() {
    let many: Vec<String> = (0..=MAX_FILES).map(|i| format!("sb/{i}.yaml")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let cases = [
        ("outside", archive(&[("sb/../../etc/passwd", b"x")])),
        ("absolute", archive(&[("/etc/passwd", b"x")])),
        ("hidden", archive(&[("sb/.ssh/authorized_keys", b"x")])),
        ("control characters", archive(&[("sb/\u{1b}[2J", b"x")])),
        ("backslashes", archive(&[("sb\\..\\x", b"x")])),
        ("many files", archive(&many)),
        ("no text", archive(&[("sb/a.yaml", b"\xff\xfe")])),
        ("no archive", b"PK\x05\x06".to_vec()),
        ("twice", archive(&[("sb/a.yaml", b"x"), ("sc/a.yaml", b"x")])),
    ];
    for (what, body) in cases {
        let error = read_archive(body).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{what}: {error}");
        assert!(!error.to_string().contains('\u{1b}'));
    }
}

#[tokio::test]
async fn a_bomb_is_not_unpacked() {
    let zeros = vec![b' '; 16 << 20];
    let files: Vec<String> = (0..17).map(|i| format!("sb/{i}.yaml")).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|name| (name.as_str(), zeros.as_slice())).collect();
    let body = archive(&files);
    assert!(body.len() < 1 << 20, "272 MiB in {} bytes", body.len());
    let error = read_archive(body).await.unwrap_err();
    assert!(error.to_string().contains("unpacks to more than"), "{error}");
}

#[tokio::test]
async fn yaml_that_explodes_or_is_none_is_damaged() {
    let laughs = "kind: VolumeList\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
        d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
        g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]\nitems: [{x: *h}]\n";
    for text in [laughs, "kind: VolumeList\nitems: [\n", "kind: VolumeList\nitems: 7\n"] {
        let bundle = read_archive(archive(&[("sb/yamls/longhorn/volumes.yaml", text.as_bytes())])).await.unwrap();
        let error = bundle.objects("Volume").unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        assert!(error.to_string().contains("volumes.yaml"), "{error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_unpacked_without_panic(body in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..40_000) {
        let _ = unpack("archive", &body);
        let mut real = real();
        let end = real.len().min(at + body.len());
        if at < end {
            real[at..end].copy_from_slice(&body[..end - at]);
        }
        let _ = unpack("archive", &real);
    }
}
