//! What a system restore leaves behind when the cluster is not as it was: the rest of its traps.

use serde_json::{Value, json};

use super::*;

/// A cluster whose volume `v1`, bound to a claim, knows its backup `b1`.
async fn with_a_backup(bucket: &Bucket) -> Lab {
    let lab = Lab::start(bucket.options()).await;
    lab.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    lab.namespace("app").await;
    lab.application("v1", "v1", "app", true).await;
    lab.back_up("v1", "b1", json!({})).await;
    lab.wait(Resource::Volume, "v1", |v| v["status"]["lastBackup"] == "b1").await;
    lab
}

#[tokio::test]
async fn backups_that_are_not_known_yet_leave_their_volumes_out() {
    let bucket = Bucket::start().await;
    let lab = with_a_backup(&bucket).await;
    lab.system_backup("weekly", "disabled").await;
    lab.stop().await;

    let fresh = Lab::start(bucket.options()).await;
    fresh.wait(Resource::Backup, "b1", |b| b["status"]["state"] == "Completed").await;
    fresh.wait(Resource::SystemBackup, "weekly", |b| b["status"]["state"] == "Ready").await;
    fresh.namespace("app").await;
    // As it is before the next look into the bucket: the object is missing, what it stands for is not.
    let only = json!({"metadata": {"labels": {"longhorn.io/delete-custom-resource-only": "true"}}});
    fresh.patch(Resource::Backup, "b1", only).await.unwrap();
    fresh.delete(Resource::Backup, "b1").await.unwrap();
    fresh.wait(Resource::Backup, "b1", Value::is_null).await;
    fresh.system_restore("weekly").await;
    fresh.completed().await;
    assert!(fresh.api(Resource::Volume).get_opt("v1").await.unwrap().is_none());
    assert!(bucket.find("backup_b1.cfg").is_some(), "the backup is there");
    fresh.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_claim_without_annotations_in_a_missing_namespace_holds_the_others_back() {
    let bucket = Bucket::start().await;
    let lab = Lab::start(bucket.options()).await;
    lab.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    for (volume, namespace) in [("v1", "gone"), ("v2", "kept")] {
        lab.namespace(namespace).await;
        lab.application(volume, volume, namespace, false).await;
    }
    lab.system_backup("weekly", "disabled").await;
    lab.stop().await;

    let fresh = Lab::start(bucket.options()).await;
    fresh.namespace("kept").await;
    fresh.system_restore("weekly").await;
    fresh.wait(Resource::PersistentVolume, "v2", |pv| !pv.is_null()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fresh.get(Resource::SystemRestore, "r").await["status"]["state"], "Restoring");
    assert!(fresh.claims("kept").get_opt("data").await.unwrap().is_none(), "it waits behind the other");
    fresh.namespace("gone").await;
    fresh.completed().await;
    assert!(fresh.claims("kept").get_opt("data").await.unwrap().is_some());
    fresh.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn another_release_puts_its_manager_and_its_jobs_in_place_of_the_present_ones() {
    let bucket = Bucket::start().await;
    let old = LonghornOptions { version: "v1.9.2".to_owned(), ..bucket.options() };
    let lab = Lab::start(old).await;
    lab.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    let job =
        |cron: &str| json!({"metadata": {"name": "daily"}, "spec": {"task": "backup", "cron": cron, "concurrency": 1}});
    lab.create(Resource::RecurringJob, job("0 2 * * *")).await.unwrap();
    lab.system_backup("weekly", "disabled").await;
    lab.stop().await;

    let fresh = Lab::start(bucket.options()).await;
    fresh.create(Resource::RecurringJob, job("0 0 1 1 *")).await.unwrap();
    fresh.system_restore("weekly").await;
    fresh.completed().await;
    let resource = kube::core::ApiResource::erase::<k8s_openapi::api::apps::v1::DaemonSet>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(fresh.client.clone(), "longhorn-system", &resource);
    let manager = api.get("longhorn-manager").await.unwrap();
    let image = manager.data["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    assert_eq!(image, "longhornio/longhorn-manager:v1.9.2", "a downgrade, and nobody refused it");
    assert_eq!(fresh.get(Resource::RecurringJob, "daily").await["spec"]["cron"], "0 2 * * *", "awake again");
    fresh.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn without_the_webhook_nothing_of_longhorn_can_be_written() {
    let lab = Lab::start(LonghornOptions::default()).await;
    lab.volume("v1", json!({})).await;
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(lab.client.clone(), "longhorn-system");
    let service = services.get("longhorn-admission-webhook").await.unwrap();
    services.delete("longhorn-admission-webhook", &DeleteParams::default()).await.unwrap();
    let volume = json!({"metadata": {"name": "v2"}, "spec": {"size": "16777216", "frontend": "blockdev"}});
    let refused = lab.create(Resource::Volume, volume.clone()).await.unwrap_err();
    assert_eq!(refused.code, 500);
    assert!(refused.message.contains("failed calling webhook \"mutator.longhorn.io\""), "{}", refused.message);
    assert!(refused.message.contains("service \"longhorn-admission-webhook\" not found"), "{}", refused.message);
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(lab.patch(Resource::Volume, "v1", label).await.unwrap_err().code, 500);

    let fresh = k8s_openapi::api::core::v1::Service {
        metadata: kube::core::ObjectMeta { name: service.metadata.name, ..Default::default() },
        spec: service.spec.map(|spec| k8s_openapi::api::core::v1::ServiceSpec {
            cluster_ip: None,
            cluster_ips: None,
            ..spec
        }),
        ..Default::default()
    };
    services.create(&PostParams::default(), &fresh).await.unwrap();
    lab.create(Resource::Volume, volume).await.unwrap();

    // A manager that was changed and has no pod yet.
    let managers: Api<k8s_openapi::api::apps::v1::DaemonSet> = Api::namespaced(lab.client.clone(), "longhorn-system");
    let change = json!({"spec": {"template": {"metadata": {"annotations": {"restarted": "yes"}}}}});
    managers.patch("longhorn-manager", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    let status = |ready: u32| {
        Patch::Merge(json!({"status": {"numberReady": ready, "desiredNumberScheduled": 1,
        "currentNumberScheduled": 1, "numberMisscheduled": 0}}))
    };
    managers.patch_status("longhorn-manager", &PatchParams::default(), &status(0)).await.unwrap();
    let refused = lab.patch(Resource::Volume, "v1", json!({"metadata": {"labels": {"a": "c"}}})).await.unwrap_err();
    assert!(refused.message.contains("no endpoints available for service"), "{}", refused.message);
    managers.patch_status("longhorn-manager", &PatchParams::default(), &status(1)).await.unwrap();
    lab.patch(Resource::Volume, "v1", json!({"metadata": {"labels": {"a": "c"}}})).await.unwrap();
    lab.stop().await;
}

#[tokio::test]
async fn a_volume_that_has_grown_since_its_backup_comes_back_in_the_size_of_the_bucket() {
    let bucket = Bucket::start().await;
    let lab = with_a_backup(&bucket).await;
    lab.patch(Resource::Volume, "v1", json!({"spec": {"size": "33554432"}})).await.unwrap();
    lab.system_backup("weekly", "disabled").await;
    lab.stop().await;

    let fresh = Lab::start(bucket.options()).await;
    fresh.wait(Resource::Backup, "b1", |b| b["status"]["state"] == "Completed").await;
    fresh.namespace("app").await;
    fresh.system_restore("weekly").await;
    fresh.completed().await;
    let restored = fresh.get(Resource::Volume, "v1").await;
    assert_eq!(restored["spec"]["size"], "16777216", "half of what the bundle, and the claim, say it has");
    fresh.stop().await;
    bucket.stop().await;
}

#[tokio::test]
async fn a_backup_keeps_the_size_of_its_last_look_while_its_volume_grows() {
    let bucket = Bucket::start().await;
    let lab = Lab::start(bucket.options()).await;
    lab.wait(Resource::BackupTarget, "default", |t| t["status"]["lastSyncedAt"].is_string()).await;
    lab.volume("v1", json!({})).await;
    lab.back_up("v1", "b1", json!({})).await;
    lab.patch(Resource::Volume, "v1", json!({"spec": {"size": "33554432"}})).await.unwrap();
    lab.back_up("v1", "b2", json!({})).await;
    assert_eq!(lab.get(Resource::Backup, "b1").await["status"]["volumeSize"], "16777216");
    assert_eq!(lab.get(Resource::Backup, "b2").await["status"]["volumeSize"], "33554432");
    super::restores::restore(&lab, "r1", "b1", json!({})).await;
    lab.wait(Resource::Volume, "r1", |v| v["status"]["state"] == "detached" && v["status"]["restoreRequired"] == false)
        .await;
    assert_eq!(lab.get(Resource::Volume, "r1").await["spec"]["size"], "33554432", "grown in the middle of its restore");
    lab.stop().await;
    bucket.stop().await;
}
