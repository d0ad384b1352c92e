use super::*;
use crate::backupstore::testing;

#[test]
fn a_wanted_time_is_a_time_a_day_or_a_length() {
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    assert_eq!("2027-01-31T12:00:00Z".parse::<Until>().unwrap(), Until::At(time("2027-01-31T12:00:00Z")));
    assert_eq!("2027-01-31".parse::<Until>().unwrap(), Until::At(time("2027-02-01T00:00:00Z")));
    assert_eq!("30d".parse::<Until>().unwrap(), Until::For(SignedDuration::from_hours(720)));
    for wrong in ["", "tomorrow", "-3d", "30", "2027-13-01"] {
        assert_eq!(wrong.parse::<Until>().unwrap_err().kind(), Kind::Usage, "{wrong}");
    }
}

#[tokio::test]
async fn a_folder_has_neither_versions_nor_locks() {
    let report = report(&testing::fixtures(), None, |_, _, _| ()).await.unwrap();
    assert_eq!((report.versioning, report.object_lock, report.backups.len()), (Versioning::Never, None, 0));
    assert_eq!(report.noncurrent, Some(Noncurrent::default()));
}

#[test]
fn blocks_are_counted_once_by_when_they_can_be_destroyed() {
    let at = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
    let lock = |until: Option<Timestamp>, is_held| Some(Protection { until, is_held, ..Protection::default() });
    let named = |name: &str| Checksum::of(name.as_bytes());
    let locks = HashMap::from([
        (named("long"), lock(Some(at(50)), false)),
        (named("short"), lock(Some(at(20)), false)),
        (named("over"), lock(Some(at(5)), false)),
        (named("never"), lock(None, false)),
        (named("held"), lock(None, true)),
        (named("gone"), None),
    ]);
    let sums = |names: &[&str], wanted| {
        let sums = Sums::of(names.iter().map(|name| named(name)), &locks, wanted, at(10));
        (sums.blocks, sums.short, sums.unlocked, sums.missing, sums.earliest)
    };
    assert_eq!(sums(&["long", "held", "long"], Some(at(50))), (2, 0, 0, 0, Some(at(50))));
    assert_eq!(sums(&["long", "short", "over"], Some(at(50))), (3, 2, 1, 0, Some(at(5))));
    assert_eq!(sums(&["long", "short"], Some(at(20))), (2, 0, 0, 0, Some(at(20))));
    assert_eq!(sums(&["never", "gone", "unheard of"], Some(at(50))), (3, 1, 1, 2, None));
    assert_eq!(sums(&["held"], Some(Timestamp::MAX)), (1, 0, 0, 0, Some(Timestamp::MAX)));
    assert_eq!(sums(&["never", "short"], None), (2, 1, 1, 0, Some(at(20))));
}

/// Through the embedded S3: its own head says the lock, and a head without one is asked again.
#[cfg(feature = "sandbox")]
#[tokio::test]
async fn the_state_of_a_bucket_and_of_its_objects_is_read() {
    use crate::objectstore::{DefaultRetention, LockMode};
    let place = testing::scratch();
    let (server, store) = testing::bucket(&place).await;
    assert_eq!(store.versioning().await.unwrap(), Versioning::Never);
    assert_eq!(store.object_lock().await.unwrap(), None);
    store.put("before", "x".into()).await.unwrap();
    assert_eq!(store.protection("before").await.unwrap(), Some(Protection::default()), "a bucket without object lock");
    server.protect_bucket("backups", None).await.unwrap();
    assert_eq!(store.versioning().await.unwrap(), Versioning::Enabled);
    server.protect_bucket("backups", Some(2)).await.unwrap();
    let default = DefaultRetention { mode: LockMode::Governance, days: 2 };
    assert_eq!(store.object_lock().await.unwrap(), Some(ObjectLock { retention: Some(default) }));
    assert_eq!(store.protection("before").await.unwrap(), Some(Protection::default()));
    assert_eq!(store.protection("nothing").await.unwrap(), None);
    store.put("locked", "x".into()).await.unwrap();
    let locked = store.protection("locked").await.unwrap().unwrap();
    let hours = locked.until.unwrap().duration_since(Timestamp::now()).as_hours();
    assert_eq!((locked.mode, locked.is_held, hours), (Some(LockMode::Governance), false, 47));
    server.faults().deny("GetObjectRetention", Some(""));
    assert_eq!(store.protection("locked").await.unwrap_err().kind(), Kind::Denied);
    server.faults().deny("GetObjectLockConfiguration", Some(""));
    assert_eq!(store.object_lock().await.unwrap_err().kind(), Kind::Denied);
}
