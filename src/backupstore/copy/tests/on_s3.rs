use super::*;
use crate::{backupstore::testing::bucket, objectstore::StoreConfig};

#[tokio::test]
async fn a_bucket_is_copied_to_a_bucket() {
    let (here, there) = (testing::scratch(), testing::scratch());
    let ((_one, from), (_two, to)) = (bucket(&here).await, bucket(&there).await);
    copy(&testing::fixtures(), &from, quick()).await.unwrap();
    let copied = copy(&from, &to, quick()).await.unwrap();
    assert_eq!(content(&to).await, content(&testing::fixtures()).await);
    let again = copy(&from, &to, pruning()).await.unwrap();
    assert_eq!((again.copied, again.skipped, again.pruned), (0, copied.copied, 0));
}

#[tokio::test]
async fn a_bucket_is_known_by_its_server_name_and_path() {
    let place = testing::scratch();
    let (server, to) = bucket(&place).await;
    let again = |bucket: &str, prefix: &str, endpoint: &str| {
        let (id, hush) = (Some("id".into()), Some(String::from("hush").into()));
        let (bucket, prefix) = (bucket.into(), prefix.into());
        let (endpoint, region) = (Some(endpoint.into()), "eu-central-1".into());
        let config = StoreConfig {
            endpoint,
            region,
            bucket,
            prefix,
            access_key: id,
            secret_key: hush,
            ..StoreConfig::default()
        };
        Store::connect(&config).unwrap()
    };
    let (here, elsewhere) = (format!("{}/", server.endpoint()), "http://127.0.0.1:1");
    assert!(to.is_same_place(&again("backups", "/offsite/", &here)));
    for other in [again("other", "offsite", &here), again("backups", "", &here), again("backups", "offsite", elsewhere)]
    {
        assert!(!to.is_same_place(&other), "{}", other.describe());
    }
    assert!(!to.is_same_place(&place.store()));
}

#[tokio::test]
async fn a_refused_deletion_is_told_and_leaves_the_backup_whole() {
    let (source, place) = (testing::copy_of_fixtures(), testing::scratch());
    let from = source.store();
    let (server, to) = bucket(&place).await;
    copy(&from, &to, quick()).await.unwrap();
    delete::backup(&from, &BackupRef::new(VOLUME, BACKUPS[0]).unwrap(), Duration::ZERO).await.unwrap();
    let key = keys().backup(BACKUPS[0]).unwrap();
    server.faults().deny("DeleteObject", Some(&format!("offsite/{key}")));
    let copied = copy(&from, &to, pruning()).await.unwrap();
    assert_eq!((copied.pruned, copied.failed), (0, 0));
    let told = |note: &String| note.contains(&key) && note.contains("AccessDenied");
    assert!(copied.notes.iter().any(told), "{:?}", copied.notes);
    assert_eq!(verdict(&to).await, Verdict::Whole);
    server.faults().deny("DeleteObject", Some("offsite/backupstore/volumes/7e/d3/pvc-legacy/blocks/"));
    let copied = copy(&from, &to, pruning()).await.unwrap();
    assert_eq!(copied.pruned, 1, "the configuration goes, its block stays: {copied:?}");
    server.faults().deny("DeleteObject", None);
    assert_eq!(verdict(&to).await, Verdict::Whole);
}

/// Current objects, former versions, and marks of deletion below the volume but for its locks.
async fn versions(store: &Store) -> (usize, usize, usize) {
    let pages: Vec<_> = store.list_versions(keys().root()).try_collect().await.unwrap();
    let all = pages.concat().into_iter().filter(|version| !version.key.contains("/locks/"));
    all.fold((0, 0, 0), |(now, former, marks), version| match (version.size, version.is_current) {
        (None, _) => (now, former, marks + 1),
        (_, true) => (now + 1, former, marks),
        (_, false) => (now, former + 1, marks),
    })
}

#[tokio::test]
async fn nothing_locked_is_pruned_and_a_copy_again_makes_no_version() {
    let (source, place) = (testing::copy_of_fixtures(), testing::scratch());
    let from = source.store();
    let (server, to) = bucket(&place).await;
    server.protect_bucket("backups", Some(7)).await.unwrap();
    copy(&from, &to, quick()).await.unwrap();
    let before = versions(&to).await;
    assert_eq!((before.1, before.2), (0, 0));
    assert_eq!(copy(&from, &to, pruning()).await.unwrap().copied, 0);
    assert_eq!(versions(&to).await, before);

    delete::backup(&from, &BackupRef::new(VOLUME, BACKUPS[0]).unwrap(), Duration::ZERO).await.unwrap();
    let copied = copy(&from, &to, pruning()).await.unwrap();
    assert_eq!((copied.pruned, copied.failed), (0, 0));
    let key = keys().backup(BACKUPS[0]).unwrap();
    let told = |note: &String| note.contains(&key) && note.contains("it is locked");
    assert!(copied.notes.iter().any(told), "{:?}", copied.notes);
    assert_eq!(versions(&to).await.2, 0, "nothing is hidden behind a mark of deletion");
    assert_eq!(verdict(&to).await, Verdict::Whole);
    // Keys that may not ask leave it alone as well.
    server.faults().deny("GetObjectRetention", Some(""));
    let copied = copy(&from, &to, pruning()).await.unwrap();
    assert_eq!(copied.pruned, 0);
    assert!(copied.notes.iter().any(|note| note.contains("AccessDenied")), "{:?}", copied.notes);
}

#[tokio::test]
async fn a_copy_that_keeps_versions_is_pruned_by_marks_of_deletion() {
    let (source, place) = (testing::copy_of_fixtures(), testing::scratch());
    let from = source.store();
    let (server, to) = bucket(&place).await;
    server.protect_bucket("backups", None).await.unwrap();
    copy(&from, &to, quick()).await.unwrap();
    let before = versions(&to).await;
    delete::backup(&from, &BackupRef::new(VOLUME, BACKUPS[0]).unwrap(), Duration::ZERO).await.unwrap();
    let copied = copy(&from, &to, pruning()).await.unwrap();
    let after = versions(&to).await;
    assert!(copied.pruned > 0);
    // volume.cfg was written anew.
    assert_eq!(after.2 as u64, copied.pruned, "{before:?} {after:?}");
    assert_eq!(content(&to).await, content(&from).await);
    assert_eq!(verdict(&to).await, Verdict::Whole);
    assert_eq!(copy(&from, &to, pruning()).await.unwrap().copied, 0);
    assert_eq!(versions(&to).await, after);
}

#[tokio::test]
async fn a_store_that_cannot_be_listed_has_nothing_pruned() {
    let (place, copied) = (testing::scratch(), testing::copy_of_fixtures());
    let (server, from) = bucket(&place).await;
    copy(&testing::fixtures(), &from, quick()).await.unwrap();
    add(&copied.store(), "b-older", "2020-01-01T00:00:00Z").await;
    let before = content(&copied.store()).await;
    server.faults().refuse_next(u32::MAX);
    let error = copy(&from, &copied.store(), pruning()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    assert_eq!(content(&copied.store()).await, before);
}
