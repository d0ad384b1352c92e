//! The bucket: listings, ranges, copies, uploads in parts, and what is refused.

use std::future::Future;

use aws_sdk_s3::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier},
};
use tokio::runtime::Runtime;

use super::Scenario;
use crate::{
    lab::{Place, S3},
    s3client,
};

pub const SCENARIOS: &[Scenario] = &[
    ("objects come back as they were put", put_and_get),
    ("ranges are parts of objects", ranges),
    ("listings have levels", levels),
    (IN_ORDER, order),
    ("long listings come in pages", pages),
    ("objects are copied on the server", copy),
    ("objects are uploaded in parts", multipart),
    ("an upload that is given up leaves nothing", abort),
    ("deletions are done when they are done", deletions),
    ("keys are any text", keys),
    ("a write can be made conditional", conditional),
    ("who has no keys is refused", refused),
];

/// What `SeaweedFS`, which lists folder by folder, does not do.
pub const IN_ORDER: &str = "listings are in the order of their keys";
const MIB: usize = 1 << 20;

pub(super) struct Bucket {
    pub client: Client,
    access: S3,
    pub runtime: Runtime,
}

/// Status code and S3's own code of a failure.
pub(super) type Failure = (u16, String);

impl Bucket {
    fn of(place: &Place) -> Self {
        let access = place.access.s3.clone();
        Self { client: s3client::client(&access), access, runtime: Runtime::new().expect("a runtime") }
    }

    /// Another bucket of the same server; bodies are sent with checksums.
    pub fn named(place: &Place, name: &str) -> Self {
        let access = S3 { bucket: name.to_owned(), ..place.access.s3.clone() };
        Self { client: s3client::with_checksums(&access), access, runtime: Runtime::new().expect("a runtime") }
    }

    pub fn name(&self) -> &str {
        &self.access.bucket
    }

    pub fn wait<T, E: ProvideErrorMetadata + std::fmt::Debug>(
        &self,
        request: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, Failure> {
        self.runtime.block_on(request).map_err(|error| match &error {
            SdkError::ServiceError(answer) => {
                (answer.raw().status().as_u16(), answer.err().code().unwrap_or_default().to_owned())
            }
            other => (0, format!("{other:?}")),
        })
    }

    pub fn put(&self, key: &str, body: &[u8]) -> String {
        let body = ByteStream::from(body.to_vec());
        let put = self.client.put_object().bucket(&self.access.bucket).key(key).body(body).send();
        self.wait(put).unwrap_or_else(|e| panic!("{key}: {e:?}")).e_tag.expect("an entity tag")
    }

    pub fn get(&self, key: &str) -> Result<Vec<u8>, Failure> {
        let object = self.wait(self.client.get_object().bucket(&self.access.bucket).key(key).send())?;
        Ok(self.runtime.block_on(object.body.collect()).expect("the body").to_vec())
    }

    pub fn delete(&self, key: &str) {
        self.wait(self.client.delete_object().bucket(&self.access.bucket).key(key).send()).expect("a deletion");
    }

    /// Keys and common prefixes below a prefix.
    pub fn list(&self, prefix: &str, delimiter: Option<&str>) -> (Vec<String>, Vec<String>) {
        let list = self.client.list_objects_v2().bucket(&self.access.bucket).prefix(prefix);
        let list = self.wait(list.set_delimiter(delimiter.map(str::to_owned)).send()).expect("a listing");
        let keys = list.contents().iter().map(|object| object.key().unwrap_or_default().to_owned()).collect();
        let prefixes = list.common_prefixes().iter().map(|part| part.prefix().unwrap_or_default().to_owned()).collect();
        (keys, prefixes)
    }
}

/// Bytes that repeat nowhere near.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

fn put_and_get(place: &Place) {
    let bucket = Bucket::of(place);
    for (key, body) in [("t/empty", Vec::new()), ("t/small", b"hello".to_vec()), ("t/large", noise(3 * MIB + 1))] {
        let tag = bucket.put(key, &body);
        assert_eq!(bucket.get(key).unwrap(), body, "{key}");
        let head = bucket.wait(bucket.client.head_object().bucket(&bucket.access.bucket).key(key).send()).unwrap();
        assert_eq!((head.content_length(), head.e_tag()), (i64::try_from(body.len()).ok(), Some(tag.as_str())));
        assert!(head.last_modified().is_some());
    }
    assert_eq!(bucket.put("t/small", b"hello"), "\"5d41402abc4b2a76b9719d911017c592\"", "the MD5 of the body");
    bucket.put("t/small", b"other");
    assert_eq!(bucket.get("t/small").unwrap(), b"other");
    assert_eq!(bucket.get("t/missing").unwrap_err(), (404, "NoSuchKey".to_owned()));
    let missing = bucket.client.head_object().bucket(&bucket.access.bucket).key("t/missing").send();
    assert_eq!(bucket.wait(missing).unwrap_err().0, 404);
}

fn ranges(place: &Place) {
    let bucket = Bucket::of(place);
    bucket.put("r/ten", b"0123456789");
    let part = |range: &str| {
        let get = bucket.client.get_object().bucket(&bucket.access.bucket).key("r/ten").range(range).send();
        let object = bucket.wait(get)?;
        let of = object.content_range().unwrap_or_default().to_owned();
        let body = bucket.runtime.block_on(object.body.collect()).expect("the body").to_vec();
        Ok::<_, Failure>((String::from_utf8(body).expect("text"), of))
    };
    for (range, body, of) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
    ] {
        assert_eq!(part(range).unwrap(), (body.to_owned(), of.to_owned()), "{range}");
    }
    assert_eq!(part("bytes=10-11").unwrap_err(), (416, "InvalidRange".to_owned()));
}

fn levels(place: &Place) {
    let bucket = Bucket::of(place);
    for key in ["v/B", "v/a-b", "v/a/x", "v/a/y/z", "v/b"] {
        bucket.put(key, b"x");
    }
    let (plain, levels) = bucket.list("v/", Some("/"));
    assert_eq!(
        (plain, levels),
        (vec!["v/B".to_owned(), "v/a-b".to_owned(), "v/b".to_owned()], vec!["v/a/".to_owned()])
    );
    assert_eq!(bucket.list("v/a/", Some("/")), (vec!["v/a/x".to_owned()], vec!["v/a/y/".to_owned()]));
    assert_eq!(bucket.list("v/a", None).0.len(), 3, "a prefix is no folder");
    assert_eq!(bucket.list("v/nothing/", Some("/")), (vec![], vec![]));
    let none = bucket.client.list_objects_v2().bucket("no-such-bucket").send();
    assert_eq!(bucket.wait(none).unwrap_err(), (404, "NoSuchBucket".to_owned()));
}

fn order(place: &Place) {
    let bucket = Bucket::of(place);
    // '-' and '.' sort before '/', '0' after it, and capital letters before small ones.
    let keys = ["l/B", "l/a-b", "l/a.b", "l/a/x", "l/a/y/z", "l/a0", "l/b"];
    for key in keys.iter().rev() {
        bucket.put(key, b"x");
    }
    assert_eq!(bucket.list("l/", None), (keys.map(str::to_owned).to_vec(), vec![]));
    let after = bucket.client.list_objects_v2().bucket(&bucket.access.bucket).prefix("l/").start_after("l/a/x").send();
    let after = bucket.wait(after).unwrap();
    let after: Vec<&str> = after.contents().iter().filter_map(|object| object.key()).collect();
    assert_eq!(after, ["l/a/y/z", "l/a0", "l/b"]);
}

fn pages(place: &Place) {
    let bucket = Bucket::of(place);
    for number in 0..7 {
        bucket.put(&format!("p/{number}"), b"x");
    }
    bucket.put("p/deep/1", b"x");
    let (mut keys, mut token, mut requests) = (Vec::new(), None, 0);
    loop {
        let list =
            bucket.client.list_objects_v2().bucket(&bucket.access.bucket).prefix("p/").delimiter("/").max_keys(3);
        let page = bucket.wait(list.set_continuation_token(token).send()).unwrap();
        assert!(page.key_count().unwrap_or_default() <= 3);
        keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        keys.extend(page.common_prefixes().iter().filter_map(|part| part.prefix().map(str::to_owned)));
        requests += 1;
        token = page.next_continuation_token().map(str::to_owned);
        assert_eq!(page.is_truncated().unwrap_or_default(), token.is_some());
        if token.is_none() {
            break;
        }
    }
    assert_eq!(keys, ["p/0", "p/1", "p/2", "p/3", "p/4", "p/5", "p/6", "p/deep/"]);
    assert_eq!(requests, 3);
}

fn copy(place: &Place) {
    let bucket = Bucket::of(place);
    let body = noise(MIB + 7);
    let tag = bucket.put("c/from a+b ü", &body);
    let copy = |from: &str, to: &str| {
        let from = format!("{}/{from}", bucket.access.bucket);
        bucket.wait(bucket.client.copy_object().bucket(&bucket.access.bucket).copy_source(from).key(to).send())
    };
    let copied = copy("c/from%20a%2Bb%20%C3%BC", "c/to").unwrap();
    let copied = copied.copy_object_result().and_then(|result| result.e_tag()).map(|tag| tag.trim_matches('"'));
    // Some servers leave the quotes out here.
    assert_eq!(copied, Some(tag.trim_matches('"')));
    assert_eq!(bucket.get("c/to").unwrap(), body);
    bucket.delete("c/from a+b ü");
    assert_eq!(bucket.get("c/to").unwrap(), body, "a copy does not lean on its source");
    assert_eq!(copy("c/missing", "c/never").unwrap_err(), (404, "NoSuchKey".to_owned()));
    assert_eq!(bucket.get("c/never").unwrap_err().0, 404);
}

fn multipart(place: &Place) {
    let bucket = Bucket::of(place);
    let (name, key) = (bucket.access.bucket.as_str(), "m/large");
    let upload = bucket.wait(bucket.client.create_multipart_upload().bucket(name).key(key).send()).unwrap();
    let id = upload.upload_id().expect("an upload's name").to_owned();
    let parts = [noise(5 * MIB), noise(5 * MIB + 3), b"the end".to_vec()];
    let mut completed = Vec::new();
    // In any order.
    for number in [3, 1, 2] {
        let body = ByteStream::from(parts[number - 1].clone());
        let number = i32::try_from(number).unwrap();
        let part =
            bucket.client.upload_part().bucket(name).key(key).upload_id(&id).part_number(number).body(body).send();
        let tag = bucket.wait(part).unwrap().e_tag.expect("an entity tag");
        completed.push(CompletedPart::builder().part_number(number).e_tag(tag).build());
    }
    assert_eq!(bucket.get(key).unwrap_err().0, 404, "it is not there before it is complete");
    completed.sort_by_key(CompletedPart::part_number);
    let all = CompletedMultipartUpload::builder().set_parts(Some(completed)).build();
    let complete = bucket.client.complete_multipart_upload().bucket(name).key(key).upload_id(&id).multipart_upload(all);
    let done = bucket.wait(complete.send()).unwrap();
    assert!(done.e_tag().is_some_and(|tag| tag.ends_with("-3\"")), "{:?}", done.e_tag());
    assert!(bucket.get(key).unwrap() == parts.concat(), "the parts are in order");
    let unknown = bucket.client.upload_part().bucket(name).key(key).upload_id("unknown").part_number(1);
    let (code, reason) = bucket.wait(unknown.body(ByteStream::from_static(b"x")).send()).unwrap_err();
    assert_eq!((code, reason.as_str()), (404, "NoSuchUpload"));
}

fn abort(place: &Place) {
    let bucket = Bucket::of(place);
    let (name, key) = (bucket.access.bucket.as_str(), "m/given-up");
    let upload = bucket.wait(bucket.client.create_multipart_upload().bucket(name).key(key).send()).unwrap();
    let id = upload.upload_id().expect("an upload's name");
    let part = bucket.client.upload_part().bucket(name).key(key).upload_id(id).part_number(1);
    bucket.wait(part.body(ByteStream::from_static(b"x")).send()).unwrap();
    bucket.wait(bucket.client.abort_multipart_upload().bucket(name).key(key).upload_id(id).send()).unwrap();
    assert_eq!(bucket.get(key).unwrap_err().0, 404);
    let list = bucket.wait(bucket.client.list_multipart_uploads().bucket(name).prefix(key).send()).unwrap();
    assert!(list.uploads().is_empty(), "{list:?}");
    assert_eq!(bucket.list("m/given-up", None).0.len(), 0);
}

fn deletions(place: &Place) {
    let bucket = Bucket::of(place);
    for key in ["d/1", "d/2", "d/3"] {
        bucket.put(key, b"x");
    }
    bucket.delete("d/1");
    bucket.delete("d/1");
    assert_eq!(bucket.get("d/1").unwrap_err().0, 404);
    let objects = ["d/2", "d/3", "d/missing"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder().set_objects(Some(objects.to_vec())).build().unwrap();
    let done = bucket.wait(bucket.client.delete_objects().bucket(&bucket.access.bucket).delete(delete).send()).unwrap();
    assert_eq!((done.deleted().len(), done.errors().len()), (3, 0), "{done:?}");
    assert_eq!(bucket.list("d/", None), (vec![], vec![]));
}

fn keys(place: &Place) {
    let bucket = Bucket::of(place);
    for key in ["k/with space", "k/plus+and%percent", "k/ümläut-日本", "k/a&b=c?d#e", "k/quote'\"<>", "k/tilde~!*()"]
    {
        bucket.put(key, key.as_bytes());
        assert_eq!(bucket.get(key).unwrap(), key.as_bytes(), "{key}");
        assert!(bucket.list("k/", None).0.contains(&key.to_owned()), "{key} in {:?}", bucket.list("k/", None));
        bucket.delete(key);
    }
}

fn conditional(place: &Place) {
    let bucket = Bucket::of(place);
    bucket.delete("i/once");
    let once = || {
        let put = bucket.client.put_object().bucket(&bucket.access.bucket).key("i/once").if_none_match("*");
        bucket.wait(put.body(ByteStream::from_static(b"first")).send())
    };
    once().unwrap();
    assert_eq!(once().unwrap_err(), (412, "PreconditionFailed".to_owned()));
    let tag = bucket.put("i/read", b"1");
    let get = bucket.client.get_object().bucket(&bucket.access.bucket).key("i/read").if_none_match(&tag).send();
    assert_eq!(bucket.wait(get).unwrap_err().0, 304);
    let get = bucket.client.get_object().bucket(&bucket.access.bucket).key("i/read").if_match("\"other\"").send();
    assert_eq!(bucket.wait(get).unwrap_err(), (412, "PreconditionFailed".to_owned()));
}

fn refused(place: &Place) {
    let bucket = Bucket::of(place);
    let access = &bucket.access;
    for (key, secret, code) in [
        (access.access_key.as_str(), "wrong", "SignatureDoesNotMatch"),
        ("nobody", access.secret_key.as_str(), "InvalidAccessKeyId"),
    ] {
        let other = s3client::with_keys(access, key, secret);
        let refused = bucket.wait(other.list_objects_v2().bucket(&access.bucket).send()).unwrap_err();
        assert_eq!(refused, (403, code.to_owned()));
    }
}
