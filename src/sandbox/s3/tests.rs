use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt;

use super::{
    listing::{Entry, Wanted},
    objects::{Conditions, Described, Written},
    *,
};
use crate::objectstore::{Depth, Store, StoreConfig};

/// MD5 of "hello" and of the empty string, as `md5sum` prints them.
const HELLO: &str = "5d41402abc4b2a76b9719d911017c592";

async fn server(root: &Path) -> S3Server {
    let server = S3Server::start(S3Config {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        root: root.to_owned(),
        access_key: "sandbox".into(),
        secret_key: "hush".to_owned().into(),
    })
    .await
    .unwrap();
    server.create_bucket("backups").await.unwrap();
    server
}

fn config(server: &S3Server) -> StoreConfig {
    StoreConfig {
        endpoint: Some(server.endpoint()),
        bucket: "backups".into(),
        prefix: "/path//to/".into(),
        access_key: Some("sandbox".into()),
        secret_key: Some("hush".to_owned().into()),
        ..StoreConfig::default()
    }
}

fn store(server: &S3Server) -> Store {
    Store::connect(&config(server)).unwrap()
}

fn objects() -> (tempfile::TempDir, Objects) {
    let root = tempfile::tempdir().unwrap();
    let objects = Objects::open(root.path()).unwrap();
    objects.create_bucket("bucket").unwrap();
    (root, objects)
}

fn put(objects: &Objects, key: &str, body: &str) -> S3Result<()> {
    put_if(objects, key, body, &Conditions::default())
}

fn put_if(objects: &Objects, key: &str, body: &str, conditions: &Conditions) -> S3Result<()> {
    let file = objects.temporary()?;
    fs::write(file.path(), body).unwrap();
    let written = Written { etag: "tag".into(), ..Written::default() };
    objects.commit("bucket", key, file, written, conditions).map(|_| ())
}

fn names(objects: &Objects, prefix: &str, delimiter: Option<&str>, after: &str, max: usize) -> (Vec<String>, bool) {
    let (entries, more) = objects.list("bucket", &Wanted { prefix, delimiter, after, max }).unwrap();
    (entries.iter().map(|entry| entry.name().to_owned()).collect(), more)
}

#[tokio::test]
async fn our_client_reads_back_what_it_wrote() {
    let root = tempfile::tempdir().unwrap();
    let server = server(root.path()).await;
    let store = store(&server);
    assert_eq!(store.describe(), "s3://backups@us-east-1/path/to/");
    store.put("a/one.cfg", Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(fs::read(root.path().join("backups/path/to/a/one.cfg")).unwrap(), b"hello");
    store.copy("a/one.cfg", "b/ü +%.cfg").await.unwrap();
    let meta = store.head("b/ü +%.cfg").await.unwrap().unwrap();
    assert_eq!((meta.size, meta.etag.as_deref()), (5, Some(HELLO)));
    assert_eq!(store.get("b/ü +%.cfg").await.unwrap(), "hello");
    assert_eq!(store.get_range("a/one.cfg", 1..3).await.unwrap(), "el");
    assert_eq!(store.get_range("a/one.cfg", 3..99).await.unwrap(), "lo");
    assert_eq!(store.get_range("a/one.cfg", 5..6).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(store.get_limited("a/one.cfg", 4).await.unwrap_err().kind(), Kind::Invalid);
    let keys: Vec<_> = store.list("").await.unwrap().into_iter().map(|object| object.key).collect();
    assert_eq!(keys, ["a/one.cfg", "b/ü +%.cfg"]);
    assert_eq!(store.list_names("").await.unwrap(), (vec![], vec!["a/".into(), "b/".into()]));
    store.delete("a/one.cfg").await.unwrap();
    store.delete("a/one.cfg").await.unwrap();
    assert_eq!(store.head("a/one.cfg").await.unwrap(), None);
    let absent = store.get("a/one.cfg").await.unwrap_err();
    assert_eq!((absent.kind(), absent.object_name()), (Kind::NotFound, Some("a/one.cfg")));
    assert!(absent.to_string().contains("no such object"), "{absent}");
    server.stop().await;
    assert_eq!(store.get("x").await.unwrap_err().kind(), Kind::Unreachable);
}

#[tokio::test]
async fn wrong_keys_and_buckets_are_refused_and_say_so() {
    let root = tempfile::tempdir().unwrap();
    let server = server(root.path()).await;
    let wrong_secret = StoreConfig { secret_key: Some("whisper".to_owned().into()), ..config(&server) };
    let error = Store::connect(&wrong_secret).unwrap().list("").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    let hint = error.hint_text().unwrap();
    assert!(hint.contains("sandbox") && hint.contains("clock"), "{hint}");
    assert!(!format!("{error} {error:?}").contains("whisper"));

    let unknown = StoreConfig { access_key: Some("nobody".into()), ..config(&server) };
    let error = Store::connect(&unknown).unwrap().put("x", Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert!(error.hint_text().unwrap().contains("nobody"));
    assert_eq!(Store::connect(&unknown).unwrap().head("x").await.unwrap_err().kind(), Kind::Denied);

    let elsewhere = StoreConfig { bucket: "other".into(), ..config(&server) };
    let error = Store::connect(&elsewhere).unwrap().get("x").await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("the bucket does not exist"), "{error}");
    assert!(fs::read_dir(root.path().join("backups")).unwrap().next().is_none(), "something was written");
}

#[tokio::test]
async fn unsigned_requests_are_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let root = tempfile::tempdir().unwrap();
    let server = server(root.path()).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /backups HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("AccessDenied"), "{answer}");
}

#[tokio::test]
async fn a_long_listing_comes_in_pages_also_over_http() {
    let root = tempfile::tempdir().unwrap();
    let server = server(root.path()).await;
    for n in 0..2100 {
        let folder = root.path().join(format!("backups/path/to/{}", n % 3));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{n:04}")), "").unwrap();
    }
    let pages: Vec<_> = store(&server).list_pages("", Depth::All).try_collect().await.unwrap();
    assert_eq!(pages.iter().map(|page| page.objects.len()).collect::<Vec<_>>(), [1000, 1000, 100]);
    let keys: Vec<_> = pages.into_iter().flat_map(|page| page.objects).map(|object| object.key).collect();
    assert!(keys.is_sorted());
    // `md5sum /dev/null`
    let first = store(&server).head(&keys[0]).await.unwrap().unwrap();
    assert_eq!(first.etag.as_deref(), Some("d41d8cd98f00b204e9800998ecf8427e"));
}

#[tokio::test]
async fn a_failing_server_is_asked_again_but_not_for_ever() {
    let root = tempfile::tempdir().unwrap();
    let server = server(root.path()).await;
    let (store, faults) = (store(&server), server.faults());
    store.put("key", Bytes::from(vec![7; 100_000])).await.unwrap();

    faults.refuse_next(2);
    assert_eq!(store.get("key").await.unwrap().len(), 100_000);
    faults.refuse_next(1000);
    let error = store.get("key").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    assert!(error.to_string().contains("503 SlowDown"), "{error}");
    faults.refuse_next(0);

    faults.cut_off(Some("path/to/k"));
    let error = store.get("key").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    assert!(error.to_string().contains("broke off after 50000 bytes"), "{error}");
    faults.cut_off(None);

    faults.flip_bit(Some("path"));
    assert_eq!(store.get("key").await.unwrap()[..2], [6, 7]);
    faults.flip_bit(None);

    faults.delay(Duration::from_millis(200));
    let started = std::time::Instant::now();
    assert_eq!(store.get("key").await.unwrap()[0], 7);
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_port_or_folder_in_use_is_named() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = server(first.path()).await;
    let start = |root: &Path, listen| {
        S3Server::start(S3Config {
            listen,
            root: root.to_owned(),
            access_key: "a".into(),
            secret_key: String::from("b").into(),
        })
    };
    let error = start(second.path(), server.address).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
    let error = start(first.path(), (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains(first.path().to_str().unwrap()), "{error}");
    assert_eq!(server.create_bucket("../x").await.unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn keys_that_are_no_paths_work_and_stay_inside() {
    let (root, objects) = objects();
    let odd = ["../../escape", "/abs", "a//b", "a/", "./x", "nul\0", &"x".repeat(300), "é/".repeat(300).as_str()]
        .map(str::to_owned);
    for (n, key) in odd.iter().enumerate() {
        put(&objects, key, &n.to_string()).unwrap();
    }
    put(&objects, "plain", "p").unwrap();
    for (n, key) in odd.iter().enumerate() {
        let (mut file, meta) = objects.find("bucket", key).unwrap();
        let mut body = String::new();
        std::io::Read::read_to_string(&mut file, &mut body).unwrap();
        assert_eq!((body, meta.size), (n.to_string(), 1), "{key:?}");
    }
    assert!(!root.path().parent().unwrap().join("escape").exists() && !root.path().join("escape").exists());
    let mut all: Vec<_> = odd.iter().cloned().chain(["plain".to_owned()]).collect();
    all.sort();
    assert_eq!(names(&objects, "", None, "", 1000).0, all);
    assert_eq!(names(&objects, "a/", Some("/"), "", 1000).0, ["a/", "a//"]);
    for key in &all {
        objects.remove("bucket", key, None, false).unwrap();
    }
    objects.delete_bucket("bucket").unwrap();
    assert!(objects.find("bucket", "plain").is_err());
}

#[test]
fn an_object_may_have_the_name_of_a_folder_of_others() {
    let (_root, objects) = objects();
    put(&objects, "a", "file").unwrap();
    put(&objects, "a/b", "below").unwrap();
    put(&objects, "c/d/e", "below").unwrap();
    put(&objects, "c/d", "file").unwrap();
    assert_eq!(names(&objects, "", None, "", 1000).0, ["a", "a/b", "c/d", "c/d/e"]);
    assert_eq!(names(&objects, "", Some("/"), "", 1000).0, ["a", "a/", "c/"]);
    for (key, size) in [("a", 4), ("a/b", 5), ("c/d", 4), ("c/d/e", 5)] {
        assert_eq!(objects.find("bucket", key).unwrap().1.size, size, "{key}");
    }
    objects.remove("bucket", "a", None, false).unwrap();
    assert_eq!(objects.find("bucket", "a/b").unwrap().1.size, 5);
    put(&objects, "a/b", "again!").unwrap();
    assert_eq!(objects.find("bucket", "a/b").unwrap().1.size, 6);
    objects.remove("bucket", "a/b", None, false).unwrap();
    assert_eq!(names(&objects, "", None, "", 1000).0, ["c/d", "c/d/e"]);
}

#[test]
fn listings_page_through_keys_and_common_prefixes() {
    let (root, objects) = objects();
    for key in ["a-b", "a.b", "a/1", "a/2", "a0", "b/c/d", "b/e", "f"] {
        put(&objects, key, "").unwrap();
    }
    fs::create_dir_all(root.path().join("bucket/empty/folder")).unwrap();
    for delimiter in [None, Some("/"), Some("b")] {
        let (whole, more) = names(&objects, "", delimiter, "", 1000);
        assert!(!more);
        let (mut paged, mut after) = (Vec::new(), String::new());
        loop {
            let (page, more) = names(&objects, "", delimiter, &after, 1);
            paged.extend(page);
            if !more {
                break;
            }
            after = paged.last().unwrap().clone();
        }
        assert_eq!(paged, whole, "{delimiter:?}");
    }
    assert_eq!(names(&objects, "", Some("/"), "", 1000).0, ["a-b", "a.b", "a/", "a0", "b/", "f"]);
    assert_eq!(names(&objects, "", Some("b"), "", 1000).0, ["a-b", "a.b", "a/1", "a/2", "a0", "b", "f"]);
    assert_eq!(names(&objects, "a", Some("/"), "a-b", 1000).0, ["a.b", "a/", "a0"]);
    assert_eq!(names(&objects, "a/", Some("/"), "a/1", 1000).0, ["a/2"]);
    assert_eq!(names(&objects, "b/", Some("/"), "", 1000).0, ["b/c/", "b/e"]);
    assert_eq!(names(&objects, "nothing/", None, "", 1000), (vec![], false));
    assert_eq!(names(&objects, "", None, "", 0), (vec![], false));
}

#[test]
fn a_file_changed_by_hand_gets_a_new_etag() {
    let (root, objects) = objects();
    put(&objects, "key", "first").unwrap();
    assert_eq!(objects.find("bucket", "key").unwrap().1.etag, "tag");
    fs::write(root.path().join("bucket/key"), "hello").unwrap();
    fs::File::options()
        .append(true)
        .open(root.path().join("bucket/key"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
        .unwrap();
    assert_eq!(objects.find("bucket", "key").unwrap().1.etag, HELLO);
    assert_eq!(objects.find("bucket", "key").unwrap().1.etag, HELLO);
}

#[test]
fn conditional_writes_let_one_writer_win() {
    use s3s::dto::{ETag, ETagCondition};
    let (_root, objects) = objects();
    let unless_there = Conditions { if_none_match: Some(ETagCondition::Any), ..Conditions::default() };
    let if_tag = |tag: &str| Conditions {
        if_match: Some(ETagCondition::ETag(ETag::Strong(tag.into()))),
        ..Conditions::default()
    };
    assert!(put_if(&objects, "lock", "", &if_tag("tag")).is_err());
    put_if(&objects, "lock", "1", &unless_there).unwrap();
    let error = put_if(&objects, "lock", "2", &unless_there).unwrap_err();
    assert_eq!(*error.code(), s3s::S3ErrorCode::PreconditionFailed);
    assert!(put_if(&objects, "lock", "2", &if_tag("other")).is_err());
    put_if(&objects, "lock", "22", &if_tag("tag")).unwrap();
    assert_eq!(objects.find("bucket", "lock").unwrap().1.size, 2);
}

#[test]
fn multipart_uploads_become_one_object() {
    let (root, objects) = objects();
    let described = Described { content_type: Some("image/raw".into()), ..Described::default() };
    let id = objects.start_upload("bucket", "big", described.clone(), protection::Protection::default()).unwrap();
    let upload = ("bucket", "big", id.as_str());
    let part = |number, body: &[u8], etag: &str| {
        let file = objects.temporary().unwrap();
        fs::write(file.path(), body).unwrap();
        objects.keep_part(upload, number, file, etag)
    };
    // head -c 5242880 /dev/zero | md5sum
    let zeros = "5f363e0e58a95f06cbe9bbc662c5dfb6";
    part(2, b"wrong", "00").unwrap();
    part(2, b"hello", HELLO).unwrap();
    part(1, &vec![0; 5 << 20], zeros).unwrap();
    assert!(part(0, b"", "00").is_err() && part(10_001, b"", "00").is_err());
    let parts: Vec<_> = objects.parts("bucket", "big", &id).unwrap();
    assert_eq!(parts.iter().map(|part| (part.number, part.size)).collect::<Vec<_>>(), [(1, 5 << 20), (2, 5)]);
    assert!(names(&objects, "", None, "", 1000).0.is_empty(), "an unfinished upload is visible");
    let under_way = objects.uploads("bucket", "b").unwrap();
    assert_eq!(
        under_way.iter().map(|upload| (upload.key.as_str(), upload.id.as_str())).collect::<Vec<_>>(),
        [("big", id.as_str())]
    );
    assert!(objects.uploads("bucket", "c").unwrap().is_empty());
    let complete = |named: &[(i32, Option<String>)]| objects.complete_upload(upload, named, &Conditions::default());
    let code = |named: &[(i32, Option<String>)]| complete(named).unwrap_err().code().as_str().to_owned();
    assert_eq!(code(&[]), "MalformedXML");
    assert_eq!(code(&[(2, None), (1, None)]), "InvalidPartOrder");
    assert_eq!(code(&[(1, None), (3, None)]), "InvalidPart");
    assert_eq!(code(&[(1, Some("other".into()))]), "InvalidPart");
    let meta = complete(&[(1, Some(zeros.into())), (2, Some(HELLO.into()))]).unwrap();
    // python: md5(bytes.fromhex(zeros) + bytes.fromhex(HELLO)).hexdigest() + "-2"
    assert_eq!(meta.etag, "1a1761a0c87a46829d8a65122ae36c1a-2");
    let (_, found) = objects.find("bucket", "big").unwrap();
    assert_eq!((found.size, found.etag, found.described), ((5 << 20) + 5, meta.etag, described));
    assert_eq!(code(&[(1, None)]), "NoSuchUpload");
    assert!(!root.path().join(".uploads/bucket").exists());
    assert!(objects.abort_upload("bucket", "big", "../bucket").is_err());
}

#[test]
fn what_was_half_written_is_gone_after_a_restart() {
    let (root, objects) = objects();
    let (_, path) = objects.temporary().unwrap().keep().unwrap();
    drop(objects);
    let objects = Objects::open(root.path()).unwrap();
    assert!(!path.exists());
    assert!(
        matches!(objects.list("bucket", &Wanted { prefix: "", delimiter: None, after: "", max: 9 }), Ok((entries, false)) if !entries.iter().any(|entry| matches!(entry, Entry::Object(..))))
    );
}
