use std::fs;

use super::*;

fn folder() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::folder(root.path()).unwrap();
    (root, store)
}

#[tokio::test]
async fn what_was_put_is_read_copied_and_deleted() {
    let (root, store) = folder();
    store.put("a/b/one.cfg", Bytes::from_static(b"hello")).await.unwrap();
    store.copy("a/b/one.cfg", "c/two.cfg").await.unwrap();
    assert_eq!(fs::read(root.path().join("a/b/one.cfg")).unwrap(), b"hello");
    assert_eq!(store.get("c/two.cfg").await.unwrap(), "hello");
    assert_eq!(store.get_range("c/two.cfg", 1..3).await.unwrap(), "el");
    assert_eq!(store.get_range("c/two.cfg", 3..99).await.unwrap(), "lo");
    assert_eq!(store.head("c/two.cfg").await.unwrap().unwrap().size, 5);
    store.delete("a/b/one.cfg").await.unwrap();
    store.delete("a/b/one.cfg").await.unwrap();
    assert_eq!(store.head("a/b/one.cfg").await.unwrap(), None);
    assert!(!root.path().join("a").exists(), "empty folders stay behind");
}

#[tokio::test]
async fn absent_and_too_large_objects_are_told_apart() {
    let (_root, store) = folder();
    store.put("x", Bytes::from_static(b"12345")).await.unwrap();
    let absent = store.get("y").await.unwrap_err();
    assert_eq!((absent.kind(), absent.object_name()), (Kind::NotFound, Some("y")));
    assert_eq!(store.get("x/below").await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(store.get_limited("x", 4).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(store.get_limited("x", 5).await.unwrap(), "12345");
    assert_eq!(store.get_range("x", 5..6).await.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn a_buffer_is_used_again_and_grows_only_as_needed() {
    let (_root, store) = folder();
    store.put("long", Bytes::from(vec![1; 5000])).await.unwrap();
    store.put("short", Bytes::from_static(b"12345")).await.unwrap();
    let mut buffer = b"what it held".to_vec();
    store.get_into("long", 5000, &mut buffer).await.unwrap();
    assert_eq!((buffer.as_slice(), buffer.capacity()), (&[1; 5000][..], 5000));
    store.get_into("short", 5000, &mut buffer).await.unwrap();
    assert_eq!((buffer.as_slice(), buffer.capacity()), (&b"12345"[..], 5000));
}

#[tokio::test]
async fn keys_cannot_leave_the_folder() {
    let (root, store) = folder();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), root.path().join("file")).unwrap();
    for key in ["../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "a\0b", "", "link/secret", "file"] {
        assert!(store.get(key).await.is_err(), "{key}");
    }
    for key in ["../x", "a/../../x", "/tmp/x", "a//b", "link/new", "link/deep/new"] {
        assert!(store.put(key, Bytes::new()).await.is_err(), "{key}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert!(store.list("").await.unwrap().is_empty(), "links are listed");
    assert!(store.list("link/").await.unwrap().is_empty(), "links are followed");
}

#[tokio::test]
async fn listings_follow_s3_key_order_and_levels() {
    let (root, store) = folder();
    // '-' and '.' sort before '/', '0' after it.
    for key in ["a/x", "a-b", "a.b", "a0", "ab/c/d", "z"] {
        store.put(key, Bytes::from_static(b"1")).await.unwrap();
    }
    fs::write(root.path().join("z.tmp.123"), "half").unwrap();
    let keys = |objects: Vec<ObjectMeta>| objects.into_iter().map(|object| object.key).collect::<Vec<_>>();
    assert_eq!(keys(store.list("").await.unwrap()), ["a-b", "a.b", "a/x", "a0", "ab/c/d", "z"]);
    assert_eq!(keys(store.list("ab").await.unwrap()), ["ab/c/d"]);
    assert_eq!(keys(store.list("ab/c/").await.unwrap()), ["ab/c/d"]);
    assert!(store.list("nothing/here").await.unwrap().is_empty());
    let (names, prefixes) = store.list_names("a").await.unwrap();
    assert_eq!((names, prefixes), (vec!["a-b".into(), "a.b".into(), "a0".into()], vec!["a/".into(), "ab/".into()]));
    assert_eq!(store.get("z.tmp.123").await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_long_listing_comes_in_pages() {
    let (root, store) = folder();
    for n in 0..2500 {
        let folder = root.path().join(format!("{}", n % 7));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{n:04}")), "").unwrap();
    }
    let pages: Vec<Page> = store.list_pages("", Depth::All).try_collect().await.unwrap();
    assert_eq!(pages.iter().map(|page| page.objects.len()).collect::<Vec<_>>(), [1000, 1000, 500]);
    let keys: Vec<_> = pages.into_iter().flat_map(|page| page.objects).map(|object| object.key).collect();
    assert!(keys.is_sorted());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    // A port that was free a moment ago refuses connections.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = bucket(&format!("http://127.0.0.1:{port}")).get("key").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(!error.to_string().contains("hush"), "{error}");
}

#[tokio::test]
async fn a_console_instead_of_the_api_is_recognised() {
    let endpoint = answering("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>");
    let error = bucket(&endpoint).list("").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    assert!(error.hint_text().unwrap().contains("console"), "{error}");
}

#[tokio::test]
async fn a_body_longer_than_announced_or_allowed_is_cut() {
    let endpoint = answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n");
    let error = bucket(&endpoint).get_limited("key", 10).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
}

#[tokio::test]
async fn a_body_that_broke_off_is_read_from_its_start_again() {
    let endpoint = answering_in_turn(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n1234",
        "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nabcdefgh",
    ]);
    assert_eq!(bucket(&endpoint).get("key").await.unwrap(), "abcdefgh");
}

#[cfg(feature = "sandbox")]
#[tokio::test]
async fn a_server_is_trusted_by_the_ca_given() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(std::sync::Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            drop(stream.read(&mut [0; 8192]).await);
            let answer = b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });

    let config = |ca_pem| StoreConfig { ca_pem, ..config(&endpoint) };
    let trusting = Store::connect(&config(Some(own.cert.pem()))).unwrap();
    assert_eq!(trusting.head("key").await.unwrap(), None);
    let error = Store::connect(&config(None)).unwrap().head("key").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    server.abort();
}

#[test]
fn a_store_without_keys_or_bucket_is_refused() {
    let config = StoreConfig { bucket: "b".into(), ..StoreConfig::default() };
    assert_eq!(Store::connect(&config).unwrap_err().kind(), Kind::Denied);
    assert_eq!(Store::connect(&StoreConfig::default()).unwrap_err().kind(), Kind::Usage);
}

fn bucket(endpoint: &str) -> Store {
    Store::connect(&config(endpoint)).unwrap()
}

fn config(endpoint: &str) -> StoreConfig {
    StoreConfig {
        endpoint: Some(endpoint.to_owned()),
        bucket: "bucket".into(),
        access_key: Some("id".into()),
        secret_key: Some("hush".to_owned().into()),
        ..StoreConfig::default()
    }
}

/// A server that answers every connection with the same words.
fn answering(words: &'static str) -> String {
    answering_in_turn(&[words])
}

/// A server that has an answer for each connection, the last one for all further ones.
fn answering_in_turn(words: &[&'static str]) -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let words = words.to_vec();
    std::thread::spawn(move || {
        for (turn, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 8192];
            drop(stream.read(&mut request));
            drop(stream.write_all(words[turn.min(words.len() - 1)].as_bytes()));
        }
    });
    format!("http://{address}")
}
