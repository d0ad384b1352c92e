//! Versions and object lock, each scenario in a bucket of its own: lock must be asked for when a bucket is made.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::{
    operation::put_object::builders::PutObjectFluentBuilder,
    primitives::{ByteStream, DateTime},
    types::{
        BucketVersioningStatus, CompletedMultipartUpload, CompletedPart, DefaultRetention, Delete, ObjectIdentifier,
        ObjectLockConfiguration, ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode,
        ObjectLockRetention, ObjectLockRetentionMode, ObjectLockRule, VersioningConfiguration,
    },
};

use super::{
    Scenario,
    bucket::{Bucket, Failure},
};
use crate::lab::Place;

pub const SCENARIOS: &[Scenario] = &[
    ("a bucket keeps versions from when it is told to", enabled),
    ("a deletion leaves a mark that can be taken away", undelete),
    (NO_CONTENT, no_content),
    ("a suspended bucket keeps the versions it has", suspended),
    (BACK, back),
    ("versions are listed in pages", listed),
    ("a former version is copied", copied),
    ("many versions are deleted at once", many),
    ("a locked version is not destroyed", locked),
    ("a compliance lock is only made longer", compliance),
    ("new objects get the bucket's default retention", default_retention),
    ("a legal hold keeps a version until it is lifted", hold),
    ("what has no object lock says so", without),
    (NO_LOCK, unlocked),
];

/// What `SeaweedFS` does not do: it answers 404.
pub const NO_CONTENT: &str = "a mark of deletion cannot be read";
/// What `SeaweedFS` does not do: the version that was there before is not read by its key any more.
pub const BACK: &str = "in a suspended bucket, too, a mark can be taken away";
/// What `SeaweedFS` does not do: it takes the retention and does not keep it.
pub const NO_LOCK: &str = "a retention needs a bucket with object lock";

const DAY: u64 = 86_400;

/// A version as a listing tells it: key, version, whether it is the latest, and its size unless it marks a deletion.
type Listed = (String, String, bool, Option<i64>);

impl Bucket {
    fn versioned(place: &Place, name: &str) -> Self {
        let bucket = Self::made(place, name, false);
        bucket.set_versioning(&BucketVersioningStatus::Enabled).expect("versioning is switched on");
        bucket
    }

    fn made(place: &Place, name: &str, has_lock: bool) -> Self {
        let bucket = Self::named(place, name);
        let create = bucket.client.create_bucket().bucket(name).object_lock_enabled_for_bucket(has_lock);
        bucket.wait(create.send()).expect("the bucket is made");
        bucket
    }

    fn set_versioning(&self, status: &BucketVersioningStatus) -> Result<(), Failure> {
        let configuration = VersioningConfiguration::builder().status(status.clone()).build();
        let put = self.client.put_bucket_versioning().bucket(self.name()).versioning_configuration(configuration);
        self.wait(put.send()).map(|_| ())
    }

    fn versioning(&self) -> Option<BucketVersioningStatus> {
        let answer = self.wait(self.client.get_bucket_versioning().bucket(self.name()).send());
        answer.expect("the versioning").status().cloned()
    }

    fn putting(&self, key: &str) -> PutObjectFluentBuilder {
        self.client.put_object().bucket(self.name()).key(key)
    }

    /// The new version's name.
    fn write(&self, key: &str, body: &str) -> Option<String> {
        let body = ByteStream::from(body.as_bytes().to_vec());
        let put = self.wait(self.putting(key).body(body).send());
        put.unwrap_or_else(|error| panic!("{key}: {error:?}")).version_id
    }

    fn read(&self, key: &str, version: Option<&str>) -> Result<String, Failure> {
        let get = self.client.get_object().bucket(self.name()).key(key).set_version_id(version.map(str::to_owned));
        let body = self.wait(get.send())?.body;
        let body = self.runtime.block_on(body.collect()).expect("the body").to_vec();
        Ok(String::from_utf8(body).expect("text"))
    }

    /// Marks the object as deleted; gives the mark's name.
    fn mark(&self, key: &str) -> String {
        let done = self.wait(self.client.delete_object().bucket(self.name()).key(key).send()).expect("a deletion");
        assert_eq!(done.delete_marker(), Some(true), "{done:?}");
        done.version_id.expect("the mark's name")
    }

    fn destroy(&self, key: &str, version: &str, bypass: bool) -> Result<(), Failure> {
        let delete = self.client.delete_object().bucket(self.name()).key(key).version_id(version);
        self.wait(delete.set_bypass_governance_retention(bypass.then_some(true)).send()).map(|_| ())
    }

    /// All versions, in the order of keys, the latest of each first.
    fn versions(&self) -> Vec<Listed> {
        self.pages("", None, None).concat().into_iter().filter(|(_, version, ..)| !version.is_empty()).collect()
    }

    /// The pages of a listing of versions; common prefixes have no version.
    fn pages(&self, prefix: &str, delimiter: Option<&str>, max: Option<i32>) -> Vec<Vec<Listed>> {
        let (mut pages, mut key, mut version) = (Vec::new(), None, None);
        loop {
            let list = self.client.list_object_versions().bucket(self.name()).prefix(prefix).set_max_keys(max);
            let list = list.set_delimiter(delimiter.map(str::to_owned)).set_key_marker(key);
            let page = self.wait(list.set_version_id_marker(version).send()).expect("a listing of versions");
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            let mut found: Vec<Listed> = Vec::new();
            found.extend(
                page.versions()
                    .iter()
                    .map(|v| (text(v.key()), text(v.version_id()), v.is_latest() == Some(true), v.size())),
            );
            found.extend(
                page.delete_markers()
                    .iter()
                    .map(|v| (text(v.key()), text(v.version_id()), v.is_latest() == Some(true), None)),
            );
            found.extend(page.common_prefixes().iter().map(|p| (text(p.prefix()), String::new(), false, None)));
            // One list for each kind: the order between them is not told, so the latest goes first.
            found.sort_by(|a, b| (&a.0, !a.2).cmp(&(&b.0, !b.2)));
            pages.push(found);
            if page.is_truncated() != Some(true) {
                return pages;
            }
            assert!(pages.len() < 100, "the listing does not end");
            key = page.next_key_marker().map(str::to_owned);
            version = page.next_version_id_marker().map(str::to_owned);
            assert!(key.is_some(), "how to go on is told: {page:?}");
        }
    }

    fn retain(&self, key: &str, mode: ObjectLockRetentionMode, seconds: u64, bypass: bool) -> Result<(), Failure> {
        let retention = ObjectLockRetention::builder().mode(mode).retain_until_date(later(seconds)).build();
        let put = self.client.put_object_retention().bucket(self.name()).key(key).retention(retention);
        self.wait(put.set_bypass_governance_retention(bypass.then_some(true)).send()).map(|_| ())
    }

    /// Mode and time of an object's retention, and whether it is held, as its head says.
    fn lock(&self, key: &str) -> (Option<ObjectLockMode>, Option<i64>, bool) {
        let head = self.wait(self.client.head_object().bucket(self.name()).key(key).send()).expect("the head");
        let hold = head.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On);
        (head.object_lock_mode().cloned(), head.object_lock_retain_until_date().map(DateTime::secs), hold)
    }

    fn retention(&self, key: &str) -> Result<(Option<ObjectLockRetentionMode>, Option<i64>), Failure> {
        let answer = self.wait(self.client.get_object_retention().bucket(self.name()).key(key).send())?;
        let retention = answer.retention().expect("a retention");
        Ok((retention.mode().cloned(), retention.retain_until_date().map(DateTime::secs)))
    }

    fn set_hold(&self, key: &str, status: ObjectLockLegalHoldStatus) -> Result<(), Failure> {
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let put = self.client.put_object_legal_hold().bucket(self.name()).key(key).legal_hold(hold);
        self.wait(put.send()).map(|_| ())
    }

    fn set_default(&self, mode: ObjectLockRetentionMode, days: i32) -> Result<(), Failure> {
        let default = DefaultRetention::builder().mode(mode).days(days).build();
        let lock = ObjectLockConfiguration::builder()
            .object_lock_enabled(ObjectLockEnabled::Enabled)
            .rule(ObjectLockRule::builder().default_retention(default).build())
            .build();
        let put = self.client.put_object_lock_configuration().bucket(self.name()).object_lock_configuration(lock);
        self.wait(put.send()).map(|_| ())
    }
}

fn later(seconds: u64) -> DateTime {
    DateTime::from(SystemTime::now() + Duration::from_secs(seconds))
}

/// AWS says `AccessDenied`, `MinIO` says `InvalidRequest`.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Failure>) {
    let (status, code) = answer.unwrap_err();
    assert!(matches!((status, code.as_str()), (403, "AccessDenied") | (400, "InvalidRequest")), "{status} {code}");
}

fn enabled(place: &Place) {
    let bucket = Bucket::made(place, "v-enabled", false);
    assert_eq!(bucket.versioning(), None, "nobody told it yet");
    assert_eq!(bucket.write("a/key", "before"), None, "there are no versions");
    assert_eq!(bucket.versions(), [("a/key".into(), "null".into(), true, Some(6))]);
    bucket.set_versioning(&BucketVersioningStatus::Enabled).unwrap();
    assert_eq!(bucket.versioning(), Some(BucketVersioningStatus::Enabled));
    let second = bucket.write("a/key", "second").expect("a version");
    let third = bucket.write("a/key", "the third").expect("a version");
    assert_ne!(second, third);
    let expected = [
        ("a/key".to_owned(), third.clone(), true, Some(9)),
        ("a/key".to_owned(), second.clone(), false, Some(6)),
        ("a/key".to_owned(), "null".to_owned(), false, Some(6)),
    ];
    assert_eq!(bucket.versions(), expected);
    for (version, body) in
        [(None, "the third"), (Some(&*third), "the third"), (Some(&*second), "second"), (Some("null"), "before")]
    {
        assert_eq!(bucket.read("a/key", version).unwrap(), body, "{version:?}");
    }
    let head = bucket.wait(bucket.client.head_object().bucket(bucket.name()).key("a/key").send()).unwrap();
    assert_eq!(head.version_id(), Some(third.as_str()));
    assert_eq!(bucket.list("", None).0, ["a/key"], "an ordinary listing has each key once");
    // What is destroyed is gone; the one before it takes its place.
    bucket.destroy("a/key", &third, false).unwrap();
    assert_eq!(bucket.read("a/key", None).unwrap(), "second");
    assert_eq!(bucket.read("a/key", Some(&third)).unwrap_err(), (404, "NoSuchVersion".to_owned()));
    bucket.destroy("a/key", "null", false).unwrap();
    assert_eq!(bucket.versions(), [("a/key".into(), second, true, Some(6))]);
}

fn undelete(place: &Place) {
    let bucket = Bucket::versioned(place, "v-undelete");
    let version = bucket.write("key", "body").unwrap();
    let mark = bucket.mark("key");
    assert_eq!(bucket.read("key", None).unwrap_err(), (404, "NoSuchKey".to_owned()));
    assert_eq!(bucket.list("", None).0, [""; 0]);
    assert_eq!(bucket.read("key", Some(&version)).unwrap(), "body");
    let expected = [("key".to_owned(), mark.clone(), true, None), ("key".into(), version, false, Some(4))];
    assert_eq!(bucket.versions(), expected);
    bucket.destroy("key", &mark, false).unwrap();
    assert_eq!(bucket.read("key", None).unwrap(), "body");
    assert_eq!(bucket.list("", None).0, ["key"]);
    // A new version over a mark.
    bucket.mark("key");
    bucket.write("key", "again").unwrap();
    assert_eq!(bucket.read("key", None).unwrap(), "again");
    assert_eq!(bucket.versions().len(), 3);
}

fn suspended(place: &Place) {
    let bucket = Bucket::versioned(place, "v-suspended");
    let first = bucket.write("key", "first").unwrap();
    bucket.set_versioning(&BucketVersioningStatus::Suspended).unwrap();
    assert_eq!(bucket.versioning(), Some(BucketVersioningStatus::Suspended));
    bucket.write("key", "not kept");
    bucket.write("key", "now");
    let kept = ("key".to_owned(), first.clone(), false, Some(5));
    assert_eq!(bucket.versions(), [("key".into(), "null".into(), true, Some(3)), kept.clone()]);
    assert_eq!(bucket.read("key", None).unwrap(), "now");
    assert_eq!(bucket.read("key", Some(&first)).unwrap(), "first");
    // MinIO does not say that it made a mark.
    bucket.delete("key");
    assert_eq!(bucket.versions(), [("key".into(), "null".into(), true, None), kept]);
}

fn back(place: &Place) {
    let bucket = Bucket::versioned(place, "v-back");
    bucket.write("key", "first").unwrap();
    bucket.set_versioning(&BucketVersioningStatus::Suspended).unwrap();
    bucket.delete("key");
    bucket.destroy("key", "null", false).unwrap();
    assert_eq!(bucket.read("key", None).unwrap(), "first");
}

fn no_content(place: &Place) {
    let bucket = Bucket::versioned(place, "v-no-content");
    bucket.write("key", "body").unwrap();
    let mark = bucket.mark("key");
    assert_eq!(bucket.read("key", Some(&mark)).unwrap_err().0, 405);
}

fn listed(place: &Place) {
    let bucket = Bucket::versioned(place, "v-listed");
    let mut expected = Vec::new();
    for (key, count) in [("a/1", 3), ("a/b/2", 2), ("c", 1)] {
        let mut versions: Vec<_> =
            (0..count).map(|size| (bucket.write(key, &"x".repeat(size)).unwrap(), size)).collect();
        versions.reverse();
        for (place, (version, size)) in versions.into_iter().enumerate() {
            expected.push((key.to_owned(), version, place == 0, i64::try_from(size).ok()));
        }
    }
    for (max, pages) in [(None, 1), (Some(2), 3), (Some(1), 6), (Some(4), 2)] {
        let found = bucket.pages("", None, max);
        // MinIO notices only with an empty page that there is no more.
        let full = found.iter().filter(|page| !page.is_empty()).count();
        assert_eq!(full, pages, "{max:?}: {found:?}");
        assert_eq!(found.concat(), expected, "{max:?}");
    }
    assert_eq!(bucket.pages("a/", None, Some(2)).concat(), expected[..5]);
    let level = bucket.pages("", Some("/"), None).concat();
    let names: Vec<&str> = level.iter().map(|(key, ..)| key.as_str()).collect();
    assert_eq!(names, ["a/", "c"]);
}

fn copied(place: &Place) {
    let bucket = Bucket::versioned(place, "v-copied");
    let first = bucket.write("key", "first").unwrap();
    bucket.write("key", "second").unwrap();
    let source = format!("{}/key?versionId={first}", bucket.name());
    let copy = bucket.client.copy_object().bucket(bucket.name()).copy_source(source).key("key").send();
    let copied = bucket.wait(copy).unwrap();
    assert_eq!(bucket.read("key", None).unwrap(), "first");
    assert_eq!(bucket.read("key", copied.version_id()).unwrap(), "first");
    assert_eq!(bucket.versions().len(), 3);
}

fn many(place: &Place) {
    let bucket = Bucket::made(place, "v-many", true);
    let (loose, kept) = (bucket.write("loose", "x").unwrap(), bucket.write("kept", "x").unwrap());
    bucket.retain("kept", ObjectLockRetentionMode::Governance, DAY, false).unwrap();
    let object = |key: &str, version: Option<&str>| {
        ObjectIdentifier::builder().key(key).set_version_id(version.map(str::to_owned)).build().unwrap()
    };
    let objects = vec![object("loose", Some(&loose)), object("kept", Some(&kept)), object("kept", None)];
    let delete = Delete::builder().set_objects(Some(objects)).build().unwrap();
    let done = bucket.wait(bucket.client.delete_objects().bucket(bucket.name()).delete(delete).send()).unwrap();
    let errors: Vec<_> = done.errors().iter().map(|error| (error.key(), error.version_id())).collect();
    assert_eq!(errors, [(Some("kept"), Some(kept.as_str()))], "{done:?}");
    let mark = done.deleted().iter().find(|done| done.key() == Some("kept")).expect("the mark of deletion");
    assert_eq!(mark.delete_marker(), Some(true));
    let expected = [
        ("kept".to_owned(), mark.delete_marker_version_id().expect("the mark's name").to_owned(), true, None),
        ("kept".to_owned(), kept, false, Some(1)),
    ];
    assert_eq!(bucket.versions(), expected);
}

fn locked(place: &Place) {
    let bucket = Bucket::made(place, "v-locked", true);
    assert_eq!(bucket.versioning(), Some(BucketVersioningStatus::Enabled), "object lock needs versions");
    let error = bucket.set_versioning(&BucketVersioningStatus::Suspended).unwrap_err();
    assert_eq!(error.1, "InvalidBucketState", "{error:?}");
    let version = bucket.write("key", "body").unwrap();
    assert_eq!(bucket.lock("key"), (None, None, false));
    let (_, code) = bucket.retention("key").unwrap_err();
    // The second is what SeaweedFS says.
    assert!(
        ["NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"].contains(&code.as_str()),
        "{code}"
    );
    bucket.retain("key", ObjectLockRetentionMode::Governance, DAY, false).unwrap();
    let (mode, until) = bucket.retention("key").unwrap();
    assert_eq!(mode, Some(ObjectLockRetentionMode::Governance));
    assert_eq!(bucket.lock("key"), (Some(ObjectLockMode::Governance), until, false));
    assert!((until.unwrap() - later(DAY).secs()).abs() < 60, "{until:?}");
    refused(bucket.destroy("key", &version, false));
    // A new version, and a mark of deletion, hide the locked one; they do not destroy it.
    bucket.write("key", "over it").unwrap();
    let mark = bucket.mark("key");
    assert_eq!(bucket.read("key", Some(&version)).unwrap(), "body");
    refused(bucket.destroy("key", &version, false));
    bucket.destroy("key", &mark, false).unwrap();
    // Who may bypass it does.
    assert_eq!(bucket.read("key", None).unwrap(), "over it");
    bucket.destroy("key", &version, true).unwrap();
    assert_eq!(bucket.read("key", Some(&version)).unwrap_err().0, 404);
    assert_eq!(bucket.versions().len(), 1);
}

fn compliance(place: &Place) {
    use ObjectLockRetentionMode::{Compliance, Governance};
    let bucket = Bucket::made(place, "v-compliance", true);
    let put = bucket.putting("key").body(ByteStream::from_static(b"body"));
    let put = put.object_lock_mode(ObjectLockMode::Compliance).object_lock_retain_until_date(later(DAY));
    let version = bucket.wait(put.send()).unwrap().version_id.unwrap();
    refused(bucket.destroy("key", &version, true));
    refused(bucket.retain("key", Compliance, DAY / 2, true));
    refused(bucket.retain("key", Governance, 2 * DAY, true));
    bucket.retain("key", Compliance, 2 * DAY, false).unwrap();
    assert!(bucket.retention("key").unwrap().1.unwrap() > later(DAY + 60).secs());
    refused(bucket.retain("key", Compliance, DAY, true));
    let past = ObjectLockRetention::builder().mode(Governance).retain_until_date(DateTime::from_secs(1)).build();
    bucket.write("other", "x");
    let put = bucket.client.put_object_retention().bucket(bucket.name()).key("other").retention(past);
    assert_eq!(bucket.wait(put.send()).unwrap_err().0, 400, "a time that is past");
}

fn default_retention(place: &Place) {
    let bucket = Bucket::made(place, "v-default", true);
    let lock = || {
        let get = bucket.client.get_object_lock_configuration().bucket(bucket.name()).send();
        bucket.wait(get).unwrap().object_lock_configuration.expect("a configuration")
    };
    assert_eq!(lock().object_lock_enabled(), Some(&ObjectLockEnabled::Enabled));
    assert!(lock().rule().is_none(), "there is no default yet");
    bucket.set_default(ObjectLockRetentionMode::Governance, 3).unwrap();
    let default = lock().rule().and_then(|rule| rule.default_retention().cloned()).expect("a default");
    assert_eq!((default.mode(), default.days()), (Some(&ObjectLockRetentionMode::Governance), Some(3)));

    let days = |key: &str| {
        let (mode, until, _) = bucket.lock(key);
        (mode, (until.unwrap_or_default() - later(0).secs() + 60) / 86_400)
    };
    let version = bucket.write("plain", "x").unwrap();
    assert_eq!(days("plain"), (Some(ObjectLockMode::Governance), 3));
    refused(bucket.destroy("plain", &version, false));
    let source = format!("{}/plain", bucket.name());
    bucket.wait(bucket.client.copy_object().bucket(bucket.name()).copy_source(source).key("copy").send()).unwrap();
    assert_eq!(days("copy"), (Some(ObjectLockMode::Governance), 3));
    let put = bucket.putting("own").body(ByteStream::from_static(b"x"));
    let put = put.object_lock_mode(ObjectLockMode::Compliance).object_lock_retain_until_date(later(DAY));
    bucket.wait(put.send()).unwrap();
    assert_eq!(days("own"), (Some(ObjectLockMode::Compliance), 1));

    let upload =
        bucket.wait(bucket.client.create_multipart_upload().bucket(bucket.name()).key("parts").send()).unwrap();
    let id = upload.upload_id().expect("an upload's name");
    let part = bucket.client.upload_part().bucket(bucket.name()).key("parts").upload_id(id).part_number(1);
    let tag = bucket.wait(part.body(ByteStream::from_static(b"x")).send()).unwrap().e_tag;
    let part = CompletedPart::builder().part_number(1).set_e_tag(tag).build();
    let all = CompletedMultipartUpload::builder().parts(part).build();
    let complete = bucket.client.complete_multipart_upload().bucket(bucket.name()).key("parts").upload_id(id);
    assert!(bucket.wait(complete.multipart_upload(all).send()).unwrap().version_id().is_some());
    assert_eq!(days("parts"), (Some(ObjectLockMode::Governance), 3));
}

fn hold(place: &Place) {
    let bucket = Bucket::made(place, "v-hold", true);
    let version = bucket.write("key", "body").unwrap();
    bucket.set_hold("key", ObjectLockLegalHoldStatus::On).unwrap();
    assert_eq!(bucket.lock("key"), (None, None, true));
    let get = bucket.client.get_object_legal_hold().bucket(bucket.name()).key("key").send();
    let status = bucket.wait(get).unwrap().legal_hold.and_then(|hold| hold.status);
    assert_eq!(status, Some(ObjectLockLegalHoldStatus::On));
    refused(bucket.destroy("key", &version, true));
    bucket.set_hold("key", ObjectLockLegalHoldStatus::Off).unwrap();
    bucket.destroy("key", &version, false).unwrap();
    assert_eq!(bucket.versions(), []);
}

fn without(place: &Place) {
    let bucket = Bucket::versioned(place, "v-without");
    bucket.write("key", "body");
    let get = bucket.client.get_object_lock_configuration().bucket(bucket.name()).send();
    let absent = (404, "ObjectLockConfigurationNotFoundError".to_owned());
    assert_eq!(bucket.wait(get).map(|_| ()).unwrap_err(), absent);
    bucket.destroy("key", "00000000-0000-4000-8000-000000000000", false).expect("what is not there is gone");
    assert_eq!(bucket.read("key", None).unwrap(), "body");
}

fn unlocked(place: &Place) {
    let bucket = Bucket::versioned(place, "v-unlocked");
    bucket.write("key", "body");
    let error = bucket.retain("key", ObjectLockRetentionMode::Governance, DAY, false).unwrap_err();
    assert_eq!(error, (400, "InvalidRequest".to_owned()));
    assert_eq!(bucket.retention("key").unwrap_err().0, 400);
    let put = bucket.putting("key").body(ByteStream::from_static(b"x"));
    let put = put.object_lock_mode(ObjectLockMode::Governance).object_lock_retain_until_date(later(DAY));
    assert_eq!(bucket.wait(put.send()).map(|_| ()).unwrap_err(), (400, "InvalidRequest".to_owned()));
}
