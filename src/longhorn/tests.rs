//! Against the embedded cluster: its Longhorn, its S3, and its claim binder.

#![cfg(feature = "sandbox")]

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::*;
use crate::{
    cluster::{ApplyOptions, ConnectOptions, DeleteOptions, WaitFor},
    objectstore::Store,
    sandbox::{Sandbox, SandboxOptions},
};

const LIMIT: Duration = Duration::from_mins(1);

struct Lab {
    sandbox: Sandbox,
    cluster: Cluster,
    longhorn: Longhorn,
}

impl Lab {
    async fn start() -> Self {
        let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
        let (cluster, longhorn) = connect(&sandbox).await;
        Self { sandbox, cluster, longhorn }
    }

    /// Loses the cluster; the bucket stays.
    async fn rebuild(&mut self) {
        self.sandbox.teardown().await.unwrap();
        self.sandbox.rebuild().await.unwrap();
        (self.cluster, self.longhorn) = connect(&self.sandbox).await;
    }

    async fn store(&self) -> Store {
        let target = self.longhorn.target(DEFAULT_TARGET).await.unwrap();
        self.longhorn.store(&target).await.unwrap()
    }

    async fn sync(&self) -> Result<Synced> {
        self.longhorn.sync(DEFAULT_TARGET, &self.store().await, LIMIT, &mut |_| {}).await
    }

    /// A bound claim; gives the name of its volume.
    async fn claim(&self, name: &str) -> String {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app"}});
        self.cluster.apply(&namespace, ApplyOptions::default()).await.unwrap();
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "app", "labels": {"team": "db"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn",
                "resources": {"requests": {"storage": "32Mi"}}}});
        self.cluster.apply(&claim, ApplyOptions::default()).await.unwrap();
        let bound = WaitFor::parse("jsonpath={.status.phase}=Bound").unwrap();
        self.cluster.wait(&reference(name), &bound, LIMIT).await.unwrap();
        self.longhorn.volume_of(&reference(name)).await.unwrap()
    }

    async fn backup(&self, volume: &str, name: Option<&str>) -> Result<(Backup, bool)> {
        let labels = BTreeMap::from([("run".to_string(), "7".to_string())]);
        let request =
            BackupRequest { volume: volume.into(), name: name.map(Into::into), labels, full: false, limit: LIMIT };
        self.longhorn.backup(&request, &mut |_| {}).await
    }

    async fn restore(&self, volume: &str, backup: &str) -> Result<Restored> {
        let request = RestoreRequest {
            volume: volume.into(),
            backup: backup.into(),
            replicas: Some(1),
            spec: None,
            labels: BTreeMap::new(),
            limit: LIMIT,
        };
        self.longhorn.restore(&request, &mut |_| {}).await
    }
}

async fn connect(sandbox: &Sandbox) -> (Cluster, Longhorn) {
    let options = ConnectOptions { kubeconfig: Some(sandbox.kubeconfig().into()), ..ConnectOptions::default() };
    let cluster = Cluster::connect(&options).await.unwrap();
    let longhorn = Longhorn::find(&cluster).await.unwrap();
    (cluster, longhorn)
}

fn reference(claim: &str) -> ObjectRef {
    ObjectRef::namespaced("persistentvolumeclaims", "app", claim).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_comes_back_after_its_cluster_is_lost() {
    let mut lab = Lab::start().await;
    assert_eq!(lab.longhorn.version().await.unwrap().to_string(), "v1.10.2");
    let volume = lab.claim("data").await;

    let (backup, is_new) = lab.backup(&volume, Some("first")).await.unwrap();
    assert!(is_new && backup.complete, "{backup:?}");
    assert_eq!((backup.claim.as_deref(), backup.labels["run"].as_str()), (Some("app/data"), "7"));
    assert!(!lab.backup(&volume, Some("first")).await.unwrap().1, "a repetition finds the backup");
    let (second, _) = lab.backup(&volume, None).await.unwrap();
    assert_eq!(lab.longhorn.latest_backup(&volume, None).await.unwrap().name, second.name);

    lab.rebuild().await;
    let synced = lab.sync().await.unwrap();
    assert_eq!((synced.volumes, synced.backups, synced.unusable.len()), (1, 2, 0), "{synced:?}");
    let backups = lab.longhorn.backups(None).await.unwrap();
    let set = expected(None, None, None, &backups, None);
    assert_eq!(set.volumes.len(), 1);
    let wanted = &set.volumes[0];
    assert_eq!((wanted.claim.as_deref(), wanted.backup.as_deref()), (Some("app/data"), Some(second.name.as_str())));

    let restored = lab.restore(&wanted.volume, &second.name).await.unwrap();
    assert!(restored.changed);
    assert_eq!(
        (restored.volume.state.as_str(), restored.volume.from_backup.as_str()),
        ("detached", second.name.as_str())
    );
    assert!(!lab.restore(&wanted.volume, &second.name).await.unwrap().changed);
    let other = lab.restore(&wanted.volume, "first").await.unwrap_err();
    assert_eq!(other.kind(), Kind::Conflict, "{other}");

    let request = BindRequest {
        volume: wanted.volume.clone(),
        claim: reference("data"),
        wishes: Wishes::default(),
        limit: LIMIT,
    };
    let missing = lab.longhorn.bind(&request).await.unwrap_err();
    assert!(missing.kind() == Kind::NotFound && missing.hint_text().unwrap().contains("namespace"), "{missing:?}");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app"}});
    lab.cluster.apply(&namespace, ApplyOptions::default()).await.unwrap();
    assert!(lab.longhorn.bind(&request).await.unwrap().changed);
    assert!(!lab.longhorn.bind(&request).await.unwrap().changed);
    assert_eq!(lab.longhorn.volume_of(&reference("data")).await.unwrap(), wanted.volume);
    let claim = lab.cluster.get(&reference("data")).await.unwrap();
    assert!(!fields::map(&claim, "/metadata/annotations").contains_key("lhrun.io/binding"), "no trace is left");
    let pv = lab.cluster.get(&ObjectRef::new("pv", &wanted.volume).unwrap()).await.unwrap();
    assert_eq!(fields::text(&pv, "/spec/persistentVolumeReclaimPolicy"), "Retain");
    lab.sandbox.stop().await.unwrap();
}

/// Puts what the real Longhorn wrote into the bucket.
async fn put_fixtures(store: &Store) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/longhorn");
    let fixtures = Store::folder(&root).unwrap();
    for object in fixtures.list("backupstore/volumes/").await.unwrap() {
        store.put(&object.key, fixtures.get(&object.key).await.unwrap()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_block_is_damage_and_is_named() {
    let lab = Lab::start().await;
    let store = lab.store().await;
    put_fixtures(&store).await;
    let synced = lab.sync().await.unwrap();
    assert!(synced.volumes >= 3 && synced.unusable.is_empty(), "{synced:?}");
    let backup = lab.longhorn.latest_backup("pvc-legacy", None).await.unwrap();
    assert_eq!(backup.claim, None, "made without the label");

    let objects = store.list("backupstore/volumes/").await.unwrap();
    let mut damaged = None;
    for object in objects.iter().filter(|object| object.key.contains("/pvc-legacy/blocks/")) {
        let body = store.get(&object.key).await.unwrap();
        store.delete(&object.key).await.unwrap();
        // Not every block of the volume is one of its newest backup.
        match lab.restore("copy", &backup.name).await {
            Err(error) => {
                damaged = Some((object.key.clone(), body, error));
                break;
            }
            Ok(_) => {
                lab.cluster.delete(&lab.longhorn.object(VOLUME, "copy").unwrap(), gone()).await.unwrap();
            }
        }
    }
    let (key, body, error) = damaged.expect("the backup has blocks");
    assert_eq!((error.kind(), error.kind().exit_code()), (Kind::Damaged, 3), "{error}");
    let block = key.rsplit('/').next().unwrap();
    for part in [backup.name.as_str(), "pvc-legacy", "copy", block.trim_end_matches(".blk")] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    // With the block back, the failed volume is replaced.
    store.put(&key, body).await.unwrap();
    assert!(lab.restore("copy", &backup.name).await.unwrap().changed);
    lab.sandbox.stop().await.unwrap();
}

fn gone() -> DeleteOptions {
    DeleteOptions { wait: Some(LIMIT), ..DeleteOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_tells_what_nobody_can_restore() {
    let lab = Lab::start().await;
    let volume = lab.claim("data").await;
    lab.backup(&volume, Some("good")).await.unwrap();
    let store = lab.store().await;
    let good = store
        .list("backupstore/volumes/")
        .await
        .unwrap()
        .into_iter()
        .find(|o| o.key.ends_with("/backup_good.cfg"))
        .unwrap()
        .key;
    store.put(&good.replace("backup_good", "backup_cut"), Bytes::from_static(b"{\"Name\":\"cut\",")).await.unwrap();
    let begun = json!({"Name": "begun", "VolumeName": volume, "CreatedTime": "", "Size": "0"});
    store.put(&good.replace("backup_good", "backup_begun"), begun.to_string().into()).await.unwrap();
    let synced = lab.sync().await.unwrap();
    assert_eq!(synced.backups, 1, "{synced:?}");
    assert_eq!(synced.unusable, [format!("{volume}/begun"), format!("{volume}/cut")]);
    let error = lab.restore("copy", "begun").await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Invalid | Kind::NotFound), "{error}");
    lab.sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_longhorn_overlooked_is_asked_for_again() {
    let lab = Lab::start().await;
    let volume = lab.claim("data").await;
    lab.backup(&volume, None).await.unwrap();
    let store = lab.store().await;
    let mut objects = Vec::new();
    for object in store.list("backupstore/volumes/").await.unwrap() {
        objects.push((object.key.clone(), store.get(&object.key).await.unwrap()));
        store.delete(&object.key).await.unwrap();
    }
    assert_eq!(lab.sync().await.unwrap().backups, 0);
    let backup = objects.iter().find(|(key, _)| key.contains("/backups/")).unwrap();
    let damaged = backup.0.replace(".cfg", "0.cfg");
    // The backup arrives when Longhorn has looked and before the store is listed here, and a damaged one that goes again.
    let arrive = async || {
        let target = lab.longhorn.object(BACKUP_TARGET, DEFAULT_TARGET).unwrap();
        let time = |target: &serde_json::Value, pointer| fields::time(target, pointer);
        loop {
            let target = lab.cluster.get(&target).await.unwrap();
            if time(&target, "/status/lastSyncedAt") >= time(&target, "/spec/syncRequestedAt") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if objects.is_empty() {
            store.delete(&damaged).await.unwrap();
        } else {
            store.put(&damaged, Bytes::from_static(b"{")).await.unwrap();
        }
        for (key, body) in objects.drain(..) {
            store.put(&key, body).await.unwrap();
        }
    };
    let (runtime, mut arrive) = (tokio::runtime::Handle::current(), arrive);
    let mut asked = 0;
    let mut tell = |progress: Progress| {
        if progress.note.starts_with("asked") {
            asked += 1;
            tokio::task::block_in_place(|| runtime.block_on(arrive()));
        }
    };
    let synced = lab.longhorn.sync(DEFAULT_TARGET, &store, LIMIT, &mut tell).await.unwrap();
    assert_eq!((synced.backups, synced.unusable.len(), asked), (1, 0, 2), "{synced:?}");
    lab.sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_backup_tells_what_must_come_back_and_its_restore_takes_what_it_recorded() {
    let mut lab = Lab::start().await;
    let volume = lab.claim("data").await;
    lab.backup(&volume, Some("recorded")).await.unwrap();
    let store = lab.store().await;
    let make = async |lab: &Lab| lab.longhorn.system_backup("sb1", "disabled", &store, LIMIT, &mut |_| {}).await;
    assert_eq!(make(&lab).await.unwrap().state, "Ready");
    assert_eq!(make(&lab).await.unwrap_err().kind(), Kind::Conflict);
    // Longhorn dates backups in whole seconds: of two in the same second none is the newer one.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    lab.backup(&volume, Some("newer")).await.unwrap();

    lab.rebuild().await;
    lab.sync().await.unwrap();
    assert_eq!(make(&lab).await.unwrap_err().kind(), Kind::Conflict, "the name is taken in the store");
    let bundle = Bundle::newest(&store).await.unwrap().unwrap();
    assert_eq!((bundle.name.as_str(), bundle.volumes.len(), bundle.claims.len()), ("sb1", 1, 1));
    assert_eq!(Bundle::read(&store, "sb2").await.unwrap_err().hint_text(), Some("there are: sb1"));
    let backups = lab.longhorn.backups(None).await.unwrap();
    let set = expected(None, Some(&bundle.inventory()), bundle.moment(), &backups, None);
    let wanted = &set.volumes[0];
    assert_eq!((wanted.claim.as_deref(), wanted.source.as_deref()), (Some("app/data"), Some("bundle")));
    assert_eq!((wanted.backup.as_deref(), wanted.recorded_backup.as_deref()), (Some("newer"), Some("recorded")));
    assert!(wanted.skew_seconds.is_some() && wanted.unknown.is_empty(), "{wanted:?}");

    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app"}});
    lab.cluster.apply(&namespace, ApplyOptions::default()).await.unwrap();
    let restored = lab.longhorn.system_restore("sb1", LIMIT, &mut |_| {}).await.unwrap();
    assert_eq!(restored.state, "Completed");
    let back = lab.longhorn.volume(&volume).await.unwrap();
    assert_eq!(back.from_backup, "recorded", "not the newest: this is why volumes are restored one by one");
    lab.sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn former_objects_shape_the_new_ones() {
    let mut lab = Lab::start().await;
    let volume = lab.claim("data").await;
    let (backup, _) = lab.backup(&volume, None).await.unwrap();
    let former_claim = lab.cluster.get(&reference("data")).await.unwrap();
    let former_pv =
        lab.cluster.get(&ObjectRef::new("pv", fields::text(&former_claim, "/spec/volumeName")).unwrap()).await.unwrap();
    lab.rebuild().await;
    lab.sync().await.unwrap();
    lab.restore(&volume, &backup.name).await.unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app"}});
    lab.cluster.apply(&namespace, ApplyOptions::default()).await.unwrap();
    // A claim that something else made first, for a volume of its own.
    let squatter = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "app"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn",
            "resources": {"requests": {"storage": "32Mi"}}}});
    lab.cluster.apply(&squatter, ApplyOptions::default()).await.unwrap();
    let bound = WaitFor::parse("jsonpath={.status.phase}=Bound").unwrap();
    lab.cluster.wait(&reference("data"), &bound, LIMIT).await.unwrap();
    let wishes = Wishes { former_pv: Some(former_pv), former_claim: Some(former_claim), ..Wishes::default() };
    let request = BindRequest { volume: volume.clone(), claim: reference("data"), wishes, limit: LIMIT };
    let taken = lab.longhorn.bind(&request).await.unwrap_err();
    assert!(taken.kind() == Kind::Conflict && taken.hint_text().unwrap().contains("GitOps"), "{taken:?}");
    lab.cluster.delete(&reference("data"), gone()).await.unwrap();
    assert_eq!(
        lab.longhorn.create_pv(&volume, Some(&reference("data")), &request.wishes).await.unwrap().1.as_str(),
        "created"
    );
    assert_eq!(lab.longhorn.create_claim(&request).await.unwrap().as_str(), "created");
    assert_eq!(lab.longhorn.create_claim(&request).await.unwrap().as_str(), "unchanged");
    let claim = lab.cluster.get(&reference("data")).await.unwrap();
    assert_eq!(fields::text(&claim, "/metadata/labels/team"), "db");
    assert_eq!(fields::text(&claim, "/spec/storageClassName"), "longhorn");
    assert_eq!(lab.longhorn.volume_of(&reference("data")).await.unwrap(), volume);

    // The claim is deleted and made again: its PersistentVolume, released and kept, is taken again.
    lab.cluster.delete(&reference("data"), gone()).await.unwrap();
    assert!(lab.longhorn.bind(&request).await.unwrap().changed);
    assert_eq!(lab.longhorn.volume_of(&reference("data")).await.unwrap(), volume);
    lab.sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_targets_are_told_before_and_after_longhorn_tries() {
    let lab = Lab::start().await;
    let access = lab.sandbox.s3();
    let credentials = |secret: &str| Credentials {
        access_key: access.access_key.clone(),
        secret_key: SecretString::from(secret),
        endpoint: Some(access.endpoint.clone()),
        ca_pem: None,
        virtual_hosted: None,
    };
    let request = |url: &str, credentials: Option<Credentials>| TargetRequest {
        name: DEFAULT_TARGET.into(),
        url: url.into(),
        secret: "other-keys".into(),
        credentials,
        poll_interval: None,
        limit: LIMIT,
    };
    let wrong_key = request(&access.target_url(), Some(credentials("wrong")));
    assert_eq!(lab.longhorn.configure_target(&wrong_key).await.unwrap_err().kind(), Kind::Denied);
    let no_secret = request(&access.target_url(), None);
    assert_eq!(lab.longhorn.configure_target(&no_secret).await.unwrap_err().kind(), Kind::NotFound);
    let no_path = request("s3://backups@us-east-1", None);
    assert_eq!(lab.longhorn.configure_target(&no_path).await.unwrap_err().kind(), Kind::Invalid);

    let right = credentials(access.secret_key.expose_secret());
    let (target, changed) = lab
        .longhorn
        .configure_target(&request(&format!("{}lab/", access.target_url()), Some(right.clone())))
        .await
        .unwrap();
    assert!(changed && target.available && target.url.ends_with("/lab/"), "{target:?}");
    let again = request(&format!("{}lab/", access.target_url()), Some(right));
    assert!(!lab.longhorn.configure_target(&again).await.unwrap().1);
    lab.sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_set_suspended_and_resumed() {
    let lab = Lab::start().await;
    let job: RecurringJob =
        serde_json::from_value(json!({"name": "daily", "task": "backup", "cron": "0 2 * * *", "retain": 7})).unwrap();
    assert_eq!(lab.longhorn.set_recurring_job(&job).await.unwrap().as_str(), "created");
    assert_eq!(lab.longhorn.set_recurring_job(&job).await.unwrap().as_str(), "unchanged");
    assert_eq!(lab.longhorn.suspend_jobs(None).await.unwrap(), ["daily"]);
    assert!(lab.longhorn.suspend_jobs(None).await.unwrap().is_empty());
    // A job that is set while it is suspended stays suspended.
    let later = RecurringJob { cron: "0 3 * * *".into(), ..job };
    lab.longhorn.set_recurring_job(&later).await.unwrap();
    let listed = lab.longhorn.recurring_jobs().await.unwrap();
    assert_eq!((listed[0].suspended, listed[0].cron.as_str()), (true, "0 3 * * *"));
    let unknown = lab.longhorn.resume_jobs(Some(&["weekly".to_string()])).await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
    assert_eq!(lab.longhorn.resume_jobs(None).await.unwrap(), ["daily"]);
    let object = lab.cluster.get(&lab.longhorn.object(RECURRING_JOB, "daily").unwrap()).await.unwrap();
    assert_eq!(fields::text(&object, "/spec/cron"), "0 3 * * *");
    lab.sandbox.stop().await.unwrap();
}
