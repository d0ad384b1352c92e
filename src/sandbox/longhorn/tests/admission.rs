//! What the webhooks refuse, and with which words.

use serde_json::{Value, json};

use super::*;

async fn refused(lab: &Lab, resource: Resource, object: Value, code: u16, words: &str) {
    let status = lab.create(resource, object).await.expect_err(words);
    assert!(status.message.contains(words), "{} instead of {words}", status.message);
    assert_eq!(status.code, code, "{}", status.message);
}

fn volume(spec: &Value) -> Value {
    let mut whole = json!({"size": "16777216", "frontend": "blockdev"});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"metadata": {"name": "v1"}, "spec": whole})
}

#[tokio::test]
async fn volumes_are_refused_for_what_longhorn_refuses() {
    let lab = Lab::start(LonghornOptions::default()).await;
    for (spec, words) in [
        (json!({"frontend": ""}), "invalid volume frontend specified"),
        (json!({"size": "0"}), "size"),
        (json!({"numberOfReplicas": 21}), "number of replicas"),
        (json!({"backupBlockSize": "-1"}), "Unsupported value: \"-1\""),
        (json!({"backupBlockSize": "16777216", "size": "18874368"}), "must be an integer multiple"),
        (json!({"fromBackup": "s3://b@r/?backup=backup-1&volume=pvc-1"}), "cannot get backup backup-1"),
        (json!({"fromBackup": "nonsense"}), "cannot get backup and volume name"),
        (json!({"backingImage": "absent"}), "failed to get backing image"),
        (json!({"backupTargetName": "absent"}), "backuptarget.longhorn.io \"absent\" not found"),
        (json!({"migratable": true}), "migratable volumes"),
        (json!({"dataLocality": "strict-local", "numberOfReplicas": 2}), "number of replica should be 1"),
    ] {
        refused(&lab, Resource::Volume, volume(&spec), 422, words).await;
    }
    refused(&lab, Resource::Volume, json!({"metadata": {"name": "v1"}}), 500, "replace operation does not apply").await;
    let long = lab.create(Resource::Volume, {
        let mut object = volume(&json!({}));
        object["metadata"]["name"] = "a-name-that-is-longer-than-forty-characters-by-far".into();
        object
    });
    let name = long.await.unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!(name.len(), 40, "{name}: another name than the one sent");
    let shrunk = lab.patch(Resource::Volume, &name, json!({"spec": {"size": "2097152"}})).await.unwrap_err();
    assert!(shrunk.message.contains("shrinking"), "{}", shrunk.message);
    lab.stop().await;
}

#[tokio::test]
async fn backups_are_refused_for_their_labels_and_their_target() {
    let lab = Lab::start(LonghornOptions::default()).await;
    lab.volume("v1", json!({})).await;
    let bare = json!({"metadata": {"name": "b1"}, "spec": {}});
    refused(&lab, Resource::Backup, bare, 500, "failed calling webhook").await;
    let labelled = json!({"metadata": {"name": "b1", "labels": {"backup-volume": "v1"}}, "spec": {}});
    refused(&lab, Resource::Backup, labelled, 422, "backup target default is not available").await;
    let system = json!({"metadata": {"name": "sb"}, "spec": {}});
    refused(&lab, Resource::SystemBackup, system, 422, "backup target default is not available").await;
    let system = json!({"metadata": {"name": "sb"}});
    refused(&lab, Resource::SystemBackup, system, 500, "replace operation does not apply").await;
    let absent = json!({"metadata": {"name": "s1"}, "spec": {"volume": "absent", "createSnapshot": true}});
    refused(&lab, Resource::Snapshot, absent, 422, "failed to get volume absent").await;

    let restore = json!({"metadata": {"name": "r1"}, "spec": {"systemBackup": "absent"}});
    refused(&lab, Resource::SystemRestore, restore.clone(), 422, "systembackup.longhorn.io \"absent\" not found").await;
    lab.attach("v1").await;
    let words = "all volumes need to be detached before creating SystemRestore";
    refused(&lab, Resource::SystemRestore, restore, 422, words).await;
    lab.stop().await;
}

#[tokio::test]
async fn targets_settings_and_jobs_are_checked() {
    let lab = Lab::start(LonghornOptions::default()).await;
    let url = |url: &str| json!({"spec": {"backupTargetURL": url}});
    let refused = lab.patch(Resource::BackupTarget, "default", url("s3://b@r/a$b/")).await.unwrap_err();
    assert!(refused.message.contains("contains $"), "{}", refused.message);
    lab.patch(Resource::BackupTarget, "default", url("s3://b@r/x/")).await.unwrap();
    let second = json!({"metadata": {"name": "second"}, "spec": {"backupTargetURL": "s3://B@r/x"}});
    let refused = lab.create(Resource::BackupTarget, second).await.unwrap_err();
    assert!(refused.message.contains("is the same to backup target default"), "{}", refused.message);
    let refused = lab.delete(Resource::BackupTarget, "default").await.unwrap_err();
    assert!(refused.message.contains("deleting default backup target is not allowed"), "{}", refused.message);

    let secret = json!({"metadata": {"name": "keys"}, "stringData": {"AWS_CERT": "PEM\n", "AWS_ACCESS_KEY_ID": " k"}});
    lab.create(Resource::Secret, secret).await.unwrap();
    let change = json!({"spec": {"credentialSecret": "keys"}});
    let refused = lab.patch(Resource::BackupTarget, "default", change).await.unwrap_err();
    assert!(refused.message.contains("invalid trailing newline in AWS_CERT"), "{}", refused.message);
    assert!(refused.message.contains("invalid leading whitespace in AWS_ACCESS_KEY_ID"), "{}", refused.message);
    let missing = json!({"spec": {"credentialSecret": "not-there"}});
    lab.patch(Resource::BackupTarget, "default", missing).await.expect("a missing secret is accepted");

    let limit = "concurrent-volume-backup-restore-per-node-limit";
    lab.patch(Resource::Setting, limit, json!({"value": "0"})).await.unwrap();
    lab.patch(Resource::Setting, limit, json!({"value": "many"})).await.unwrap_err();
    lab.patch(Resource::Setting, "current-longhorn-version", json!({"value": "v9"})).await.unwrap_err();
    lab.delete(Resource::Setting, limit).await.unwrap_err();

    let job = |cron: &str, labels: Value| json!({"metadata": {"name": "nightly"}, "spec": {"task": "backup", "cron": cron, "retain": 7, "labels": labels}});
    lab.create(Resource::RecurringJob, job("no cron", json!({}))).await.unwrap_err();
    lab.create(Resource::RecurringJob, job("0 2 * * *", json!({"RecurringJob": "x"}))).await.unwrap_err();
    let made = lab.create(Resource::RecurringJob, job("0 2 * * *", json!({}))).await.unwrap();
    assert_eq!(made["spec"]["name"], "nightly");
    assert_eq!(made["spec"]["concurrency"], Value::Null, "not defaulted, as in 1.10");
    lab.stop().await;
}
