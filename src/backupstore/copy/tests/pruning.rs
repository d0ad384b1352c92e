//! What pruning takes out of a copy, and what it leaves.

use super::*;

#[tokio::test]
async fn only_what_the_store_no_longer_has_is_pruned_and_only_on_request() {
    let (source, place) = (testing::copy_of_fixtures(), testing::scratch());
    let (from, to) = (source.store(), place.store());
    let older = SystemBackupConfig {
        name: "older".into(),
        longhorn_version: "v1.10.1".into(),
        created_at: "2020-01-01T00:00:00Z".into(),
        ..SystemBackupConfig::default()
    };
    system::write(&from, older, system::Metadata::default(), std::collections::BTreeMap::new()).await.unwrap();
    copy(&from, &to, quick()).await.unwrap();
    let before = content(&to).await;

    // One block goes with this backup. The other volume has two objects.
    let of = BackupRef::new(VOLUME, BACKUPS[0]).unwrap();
    assert_eq!(delete::backup(&from, &of, Duration::ZERO).await.unwrap().blocks, 1);
    delete::volume(&from, "pvc-empty", Duration::ZERO).await.unwrap();
    system::delete(&from, "v1.10.1", "older").await.unwrap();
    // Of nobody in either place; nobody's block is pruned while it is in the store.
    let foreign = keys().blocks().key(&Checksum::of(b"unreferenced"));
    for store in [&from, &to] {
        store.put(&foreign, "unreferenced".into()).await.unwrap();
    }

    let kept = copy(&from, &to, quick()).await.unwrap();
    assert_eq!(kept.pruned, 0);
    assert_eq!(content(&to).await.len(), before.len() + 1);
    let pruned = copy(&from, &to, pruning()).await.unwrap();
    assert_eq!((pruned.pruned, pruned.copied, pruned.failed), (4, 0, 0), "{pruned:?}");
    assert_eq!(pruned.removed, [format!("volume {VOLUME}, backup {}", BACKUPS[0]), "system backup older".into()]);
    assert_eq!(pruned.kept.len(), 1, "{:?}", pruned.kept);
    assert!(
        pruned.kept[0].starts_with("volume pvc-empty") && pruned.kept[0].contains("1 backups"),
        "{:?}",
        pruned.kept
    );
    let pruned = copy(&from, &to, all_of_it()).await.unwrap();
    assert_eq!((pruned.pruned, pruned.kept), (2, vec![]));
    assert!(pruned.removed[1].starts_with("volume pvc-empty"), "{:?}", pruned.removed);
    assert_eq!(content(&to).await, content(&from).await);
    assert_eq!(copy(&from, &to, all_of_it()).await.unwrap().pruned, 0);
}

#[tokio::test]
async fn a_volume_that_was_begun_anew_takes_nothing_of_its_former_history_out_of_the_copy() {
    let (source, place) = (testing::copy_of_fixtures(), testing::scratch());
    let (from, to) = (source.store(), place.store());
    copy(&from, &to, quick()).await.unwrap();
    // As after a lost bucket: the same volume, backed up to a new one.
    let config = String::from_utf8(from.get(&keys().config()).await.unwrap().to_vec()).unwrap();
    assert!(config.contains("\"CreatedTime\":\"2026-11-22T18:38:45Z\""), "{config}");
    from.put(&keys().config(), config.replace("2026-11-22T18:38:45Z", "2026-11-22T18:38:51Z").into()).await.unwrap();
    for name in &BACKUPS[..2] {
        delete::backup(&from, &BackupRef::new(VOLUME, *name).unwrap(), Duration::ZERO).await.unwrap();
    }
    let copied = copy(&from, &to, pruning()).await.unwrap();
    assert_eq!((copied.pruned, copied.kept.len()), (0, 2), "{copied:?}");
    for (kept, name) in copied.kept.iter().zip(&BACKUPS) {
        assert!(kept.contains(name) && kept.contains("since 2026-11-22T18:38:51Z only"), "{kept}");
    }
    assert_eq!(Catalog::new(to.clone()).backup_names(VOLUME).await.unwrap(), BACKUPS);
    lacks_nothing(&to).await;
    let copied = copy(&from, &to, all_of_it()).await.unwrap();
    assert_eq!(copied.removed.len(), 2, "{copied:?}");
    assert_eq!(Catalog::new(to).backup_names(VOLUME).await.unwrap(), BACKUPS[2..]);
}

#[tokio::test]
async fn a_store_that_was_begun_anew_takes_no_volume_out_of_the_copy() {
    let (source, place) = (testing::copy_of_fixtures(), testing::copy_of_fixtures());
    let (from, to) = (source.store(), place.store());
    let before = content(&to).await;
    add(&from, "b-new", "2099-01-01T00:00:00Z").await;
    for volume in ["pvc-backed", "pvc-empty"] {
        delete::volume(&from, volume, Duration::ZERO).await.unwrap();
    }
    for image in Catalog::new(from.clone()).backing_image_names().await.unwrap() {
        let key = layout::backing_image_config(&image).unwrap();
        let text = String::from_utf8(from.get(&key).await.unwrap().to_vec()).unwrap();
        from.put(&layout::backing_image_config("other").unwrap(), text.replace(&image, "other").into()).await.unwrap();
        from.delete(&key).await.unwrap();
    }
    let copied = copy(&from, &to, pruning()).await.unwrap();
    assert_eq!((copied.pruned, copied.removed.len()), (0, 0), "{copied:?}");
    for said in ["volume pvc-backed", "volume pvc-empty", "backing image base8"] {
        assert!(copied.kept.iter().any(|kept| kept.starts_with(said)), "{said}: {:?}", copied.kept);
    }
    let after = content(&to).await;
    let config = keys().config();
    assert!(before.iter().all(|object| object.0 == config || after.contains(object)), "all that was there is there");
    lacks_nothing(&to).await;
    let copied = copy(&from, &to, all_of_it()).await.unwrap();
    assert_eq!(copied.kept, Vec::<String>::new());
    assert_eq!(Catalog::new(to.clone()).volume_names().await.unwrap(), [VOLUME]);
}

#[tokio::test]
async fn the_last_backup_of_a_volume_is_kept_until_that_is_asked_for() {
    let (source, place) = (testing::copy_of_fixtures(), testing::scratch());
    let (from, to) = (source.store(), place.store());
    copy(&from, &to, quick()).await.unwrap();
    let catalog = Catalog::new(from.clone());
    // So that the store has something younger than what goes.
    let young = catalog.backup_names("pvc-empty").await.unwrap().remove(0);
    let key = VolumeKeys::new("pvc-empty").unwrap().backup(&young).unwrap();
    let config = catalog.backup("pvc-empty", &young).await.unwrap();
    let text = String::from_utf8(from.get(&key).await.unwrap().to_vec()).unwrap();
    from.put(&key, text.replace(&config.snapshot_created_at, "2099-01-01T00:00:00Z").into()).await.unwrap();
    for name in BACKUPS {
        from.delete(&keys().backup(name).unwrap()).await.unwrap();
    }
    let copied = copy(&from, &to, pruning()).await.unwrap();
    assert_eq!(copied.removed.len(), 2, "{copied:?}");
    assert_eq!(copied.kept.len(), 1, "{copied:?}");
    assert!(
        copied.kept[0].contains(BACKUPS[2]) && copied.kept[0].contains("2026-11-22T18:38:57Z"),
        "{:?}",
        copied.kept
    );
    assert_eq!(Catalog::new(to.clone()).backup_names(VOLUME).await.unwrap(), BACKUPS[2..]);
    lacks_nothing(&to).await;
    let copied = copy(&from, &to, all_of_it()).await.unwrap();
    assert_eq!((copied.removed.len(), copied.kept.len()), (1, 0), "{copied:?}");
    assert!(Catalog::new(to).backup_names(VOLUME).await.unwrap().is_empty());
}
