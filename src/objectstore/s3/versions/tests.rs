//! Against a server that gives one canned answer after the other, as S3 documents them.

use futures::TryStreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::objectstore::{Store, StoreConfig, Versioning};

/// A store at a server that answers with these (status and body) in turn, and the request lines it got.
async fn store(answers: Vec<(u16, String)>) -> (Store, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (asked, told) = (Arc::new(Mutex::new(Vec::new())), answers.into_iter());
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        for (status, body) in told {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let mut part = [0; 4096];
                let read = connection.read(&mut part).await.unwrap();
                request.extend_from_slice(&part[..read]);
            }
            let line = String::from_utf8_lossy(&request).lines().next().unwrap().to_owned();
            log.lock().unwrap().push(line);
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} x\r\nDate: Sun, 22 Nov 2026 17:52:45 GMT\r\nContent-Type: application/xml\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    });
    let config = StoreConfig {
        endpoint: Some(endpoint),
        bucket: "b".into(),
        prefix: "p".into(),
        access_key: Some("id".into()),
        secret_key: Some(String::from("hush").into()),
        ..StoreConfig::default()
    };
    (Store::connect(&config).unwrap(), asked)
}

const FIRST: &str = r#"<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>p/x/</Prefix>
    <KeyMarker/><VersionIdMarker/><MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated>
    <NextKeyMarker>p/x/a</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>
    <Version><Key>p/x/a</Key><VersionId>v2</VersionId><IsLatest>true</IsLatest><Size>5</Size></Version>
    <Version><Key>p/x/a</Key><VersionId>v1</VersionId><IsLatest>false</IsLatest><Size>7</Size></Version>
    </ListVersionsResult>"#;
const SECOND: &str = r#"<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
    <IsTruncated>false</IsTruncated>
    <DeleteMarker><Key>p/x/b</Key><VersionId>v4</VersionId><IsLatest>true</IsLatest></DeleteMarker>
    <Version><Key>p/x/b</Key><VersionId>v3</VersionId><IsLatest>false</IsLatest><Size>9</Size></Version>
    </ListVersionsResult>"#;

fn failure(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>no</Message></Error>")
}

#[tokio::test]
async fn versions_are_listed_page_by_page() {
    let (store, asked) = store(vec![(200, FIRST.into()), (200, SECOND.into())]).await;
    let pages: Vec<Vec<ObjectVersion>> = store.list_versions("x/").try_collect().await.unwrap();
    let seen: Vec<_> = pages.concat().into_iter().map(|v| (v.key, v.version, v.size, v.is_current)).collect();
    assert_eq!(
        seen,
        [
            ("x/a".into(), "v2".into(), Some(5), true),
            ("x/a".into(), "v1".into(), Some(7), false),
            ("x/b".into(), "v3".into(), Some(9), false),
            ("x/b".to_owned(), "v4".to_owned(), None, true),
        ]
    );
    let asked = asked.lock().unwrap();
    assert!(asked[0].contains("versions") && asked[0].contains("prefix=p%2Fx%2F"), "{asked:?}");
    assert!(asked[1].contains("key-marker=p%2Fx%2Fa") && asked[1].contains("version-id-marker=v1"), "{asked:?}");
}

#[tokio::test]
async fn a_server_that_goes_in_circles_or_lists_what_lies_outside_is_not_followed() {
    let (store, _) = self::store(vec![(200, FIRST.into()), (200, FIRST.into())]).await;
    let error = store.list_versions("x/").try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.message().contains("does not say how to go on"), "{error}");
    let (store, _) = self::store(vec![(200, SECOND.replace("p/x/b", "other/b"))]).await;
    let error = store.list_versions("x/").try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.message().contains("outside"), "{error}");
}

#[tokio::test]
async fn a_server_without_versions_is_told_from_one_that_forbids_to_ask() {
    let (store, _) = self::store(vec![(501, failure("NotImplemented"))]).await;
    let error = store.list_versions("x/").try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let (store, _) = self::store(vec![(403, failure("AccessDenied"))]).await;
    assert_eq!(store.versioning().await.unwrap_err().kind(), Kind::Denied);
    let versioning = |status: &str| {
        let status = if status.is_empty() { String::new() } else { format!("<Status>{status}</Status>") };
        (
            200,
            format!(
                "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{status}</VersioningConfiguration>"
            ),
        )
    };
    for (status, expected) in
        [("", Versioning::Never), ("Enabled", Versioning::Enabled), ("Suspended", Versioning::Suspended)]
    {
        let (store, _) = self::store(vec![versioning(status)]).await;
        assert_eq!(store.versioning().await.unwrap(), expected, "{status}");
    }
}

#[tokio::test]
async fn the_servers_time_is_that_of_its_answer() {
    let body = "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>false</IsTruncated></ListBucketResult>";
    let (store, _) = store(vec![(200, body.into())]).await;
    assert_eq!(store.now().await.unwrap().to_string(), "2026-11-22T17:52:45Z");
}
