//! Against an API server whose binder is the test itself, as attentive and as inattentive as Kubernetes' own.

#![cfg(feature = "sandbox")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{
    following::{replaced, settled},
    making::TOUCH,
    *,
};
use crate::{
    cluster::{ApplyOptions, Cluster, PatchKind, fake},
    longhorn::{USUAL_NAMESPACE, fields, persistent::BIND_COMPLETED},
};

/// An API server with Longhorn's volumes `v-1`, `v-2`, …
struct Lab {
    cluster: Cluster,
    longhorn: Longhorn,
    _server: fake::Lab,
}

impl Lab {
    async fn start(volumes: usize) -> Self {
        let server = fake::Lab::start().await;
        let cluster = server.cluster().await;
        let longhorn = Longhorn::find(&cluster).await.unwrap();
        let lab = Self { cluster, longhorn, _server: server };
        for namespace in ["app", USUAL_NAMESPACE] {
            lab.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
        }
        for index in 1..=volumes {
            let metadata = json!({"name": format!("v-{index}"), "namespace": USUAL_NAMESPACE});
            let spec = json!({"size": "33554432", "numberOfReplicas": 1});
            let volume =
                json!({"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "metadata": metadata, "spec": spec});
            lab.apply(&volume).await;
        }
        lab
    }

    async fn apply(&self, object: &Value) {
        self.cluster.apply(object, ApplyOptions::default()).await.unwrap();
    }

    async fn bind(&self, requests: &[BindRequest]) -> Vec<Result<Bound>> {
        self.longhorn.bind_all(requests, &mut |_| {}).await.unwrap()
    }

    async fn claim(&self, index: usize) -> Value {
        self.cluster.get(&claim(index)).await.unwrap()
    }

    /// Binds as Kubernetes does: a volume is taken up in its turn, and a claim is looked at when it changes and
    /// at no other time. `deaf` says how many of its changes are missed of which claim.
    fn binder(&self, deaf: &[(&str, usize)]) -> JoinHandle<()> {
        let cluster = self.cluster.clone();
        let mut deaf: BTreeMap<String, usize> = deaf.iter().map(|(name, times)| ((*name).to_owned(), *times)).collect();
        tokio::spawn(async move {
            let queries = [Query::list(CLAIM, ListOptions::everywhere()), Query::list(PV, ListOptions::everywhere())];
            let mut observer = cluster.observe(&queries).await.unwrap();
            let (mut seen, mut taken) = (BTreeMap::new(), BTreeSet::new());
            loop {
                observer.changed().await.unwrap();
                let claims: Vec<Value> = observer.objects(0).cloned().collect();
                for claim in claims {
                    let (name, version) =
                        (fields::name(&claim).to_owned(), claim["metadata"]["resourceVersion"].clone());
                    let changed = seen.insert(name.clone(), version.clone()) != Some(version);
                    let pv = fields::text(&claim, "/spec/volumeName").to_owned();
                    if !changed || fields::text(&claim, "/status/phase") == "Bound" || !taken.contains(&pv) {
                        continue;
                    }
                    match deaf.get_mut(&name).filter(|times| **times > 0) {
                        Some(times) => *times -= 1,
                        None => phase(&cluster, CLAIM, &format!("app/{name}"), "Bound").await,
                    }
                }
                let uids: Vec<_> =
                    observer.objects(0).filter_map(|claim| fields::owned(claim, "/metadata/uid")).collect();
                let pvs: Vec<Value> = observer.objects(1).cloned().collect();
                for pv in &pvs {
                    let reserved = fields::owned(pv, "/spec/claimRef/uid").is_some_and(|uid| uids.contains(&uid));
                    if reserved && taken.insert(fields::name(pv).to_owned()) {
                        phase(&cluster, PV, fields::name(pv), "Bound").await;
                    }
                }
            }
        })
    }
}

async fn phase(cluster: &Cluster, kind: &str, name: &str, phase: &str) {
    let reference = ObjectRef::new(kind, name).unwrap();
    let status = json!({"status": {"phase": phase}});
    cluster.patch(&reference, &status, PatchKind::Merge, Some("status")).await.unwrap();
}

fn claim(index: usize) -> ObjectRef {
    ObjectRef::namespaced(CLAIM, "app", &format!("data-{index}")).unwrap()
}

fn requests(count: usize, limit: Duration) -> Vec<BindRequest> {
    let request = |index| BindRequest {
        volume: format!("v-{index}"),
        claim: claim(index),
        wishes: Wishes { class: Some("longhorn".to_owned()), ..Wishes::default() },
        limit,
    };
    (1..=count).map(request).collect()
}

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn many_claims_are_bound_without_waiting_for_a_resync() {
    let lab = Lab::start(20).await;
    let binder = lab.binder(&[]);
    let requests = requests(20, LIMIT);
    let mut told = Vec::new();
    let results = lab.longhorn.bind_all(&requests, &mut |progress| told.push(progress.note)).await.unwrap();
    for (index, result) in (1..).zip(results) {
        let bound = result.unwrap();
        assert_eq!(
            (bound.claim, bound.volume, bound.changed),
            (format!("app/data-{index}"), format!("v-{index}"), true)
        );
        let (claim, pv) = (lab.claim(index).await, ObjectRef::new(PV, &bound.pv).unwrap());
        let pv = lab.cluster.get(&pv).await.unwrap();
        assert_eq!(pv["spec"]["claimRef"]["uid"], claim["metadata"]["uid"], "of this very claim");
        assert_eq!(fields::text(&claim, "/spec/volumeName"), fields::name(&pv));
        let annotations = fields::map(&claim, "/metadata/annotations");
        assert!(!annotations.contains_key(TOUCH), "no trace is left");
        assert_eq!(annotations.get(BIND_COMPLETED).map(String::as_str), Some("yes"), "as the binder leaves it");
        let made = |object: &Value| object["metadata"]["creationTimestamp"].as_str().map(str::to_owned);
        assert!(made(&claim) <= made(&pv), "the claim first");
    }
    assert_eq!(told.last().map(String::as_str), Some("20 of 20"));

    let again = lab.bind(&requests).await;
    assert!(again.iter().all(|result| result.as_ref().is_ok_and(|bound| !bound.changed)), "{again:?}");
    binder.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_the_binder_passed_over_is_touched_again() {
    let lab = Lab::start(3).await;
    let binder = lab.binder(&[("data-2", 1)]);
    let begun = Instant::now();
    let results = lab.bind(&requests(3, LIMIT)).await;
    let took = begun.elapsed();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(8), "{took:?}");
    assert!(!fields::map(&lab.claim(2).await, "/metadata/annotations").contains_key(TOUCH), "no trace is left");
    binder.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_bound_is_named_and_the_others_are_bound() {
    let lab = Lab::start(4).await;
    let pv = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v-2"}, "spec": {
        "capacity": {"storage": "32Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn",
        "csi": {"driver": "driver.longhorn.io", "volumeHandle": "v-2"},
        "claimRef": {"namespace": "app", "name": "other"}}});
    lab.apply(&pv).await;
    let binder = lab.binder(&[("data-3", usize::MAX)]);
    let results = lab.bind(&requests(5, Duration::from_secs(3))).await;
    let error = |index: usize| results[index - 1].as_ref().unwrap_err();
    assert!(results[0].is_ok() && results[3].is_ok(), "{results:?}");
    assert_eq!(error(2).kind(), Kind::Conflict);
    assert!(error(2).message().contains("v-2 exists and belongs to the claim app/other"), "{}", error(2));
    assert!(!lab.cluster.exists(&claim(2)).await.unwrap(), "nothing is made for it");
    assert_eq!(error(3).kind(), Kind::Timeout);
    assert!(error(3).message().contains("the claim app/data-3 is Pending after 3 s, not bound to v-3"), "{}", error(3));
    assert_eq!(error(5).kind(), Kind::NotFound);
    assert!(error(5).message().contains("longhorn-system/v-5"), "{}", error(5));
    binder.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_volume_that_is_there_tells_the_class() {
    let lab = Lab::start(1).await;
    let pv = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v-1"}, "spec": {
        "capacity": {"storage": "32Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
        "csi": {"driver": "driver.longhorn.io", "volumeHandle": "v-1"},
        "claimRef": {"namespace": "app", "name": "data-1", "uid": "former"}}});
    lab.apply(&pv).await;
    phase(&lab.cluster, PV, "v-1", "Released").await;
    let binder = lab.binder(&[]);
    let mut request = requests(1, LIMIT).remove(0);
    request.wishes.class = None;
    let results = lab.bind(&[request]).await;
    assert!(results[0].as_ref().is_ok_and(|bound| bound.changed), "{results:?}");
    let claim = lab.claim(1).await;
    assert_eq!(claim["spec"]["storageClassName"], "fast", "with another it would never be bound");
    binder.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_made_meanwhile_is_looked_at_before_it_is_taken() {
    let lab = Lab::start(2).await;
    let binder = lab.binder(&[]);
    let spec =
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, "volumeName": "x"});
    let object = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": spec,
        "metadata": {"name": "data-1", "namespace": "app"}});
    lab.apply(&object).await;
    let volume = lab.longhorn.volume("v-1").await.unwrap();
    let request = requests(1, LIMIT).remove(0);
    // As if it had not been there when this began.
    let error = lab.longhorn.make(&request, Some(volume), None, None).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.message().contains("the claim app/data-1 exists and is bound to x"), "{error}");
    binder.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_goes_away_is_said_to_be_away() {
    let lab = Lab::start(2).await;
    let (cluster, longhorn) = (lab.cluster.clone(), lab.longhorn.clone());
    drop(lab);
    let observer = cluster.observe(&queries(&requests(2, LIMIT)).unwrap()).await.unwrap();
    let requests = requests(2, Duration::from_secs(1));
    let results = Binding::new(&longhorn, observer, BTreeMap::new(), &requests).run(&mut |_| {}).await.unwrap();
    for (index, result) in (1..).zip(results) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Kind::Unreachable);
        assert!(error.message().contains(&format!("app/data-{index}: the API server was away")), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_claim_of_the_name_is_told_from_the_one_that_was_made() {
    let lab = Lab::start(0).await;
    let object = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data-1", "namespace": "app"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
    lab.apply(&object).await;
    let patch = json!({"metadata": {"uid": "of-the-former", "annotations": {"a": "b"}}});
    let error = replaced(lab.cluster.merge(&claim(1), &patch).await.unwrap_err(), &claim(1));
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.message().contains("app/data-1 was deleted and made anew"), "{error}");
    assert!(!fields::map(&lab.claim(1).await, "/metadata/annotations").contains_key("a"));
}

#[test]
fn only_what_the_binder_would_bind_is_decided() {
    let claim = json!({"metadata": {"uid": "u"}, "spec": {"volumeName": "v", "storageClassName": "fast",
        "volumeMode": "Filesystem", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let pv = json!({"metadata": {"name": "v"}, "status": {"phase": "Bound"}, "spec": {"storageClassName": "fast",
        "volumeMode": "Filesystem", "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
        "capacity": {"storage": "1Gi"}, "claimRef": {"namespace": "app", "name": "c", "uid": "u"}}});
    assert!(settled(&claim, &pv));
    for (pointer, value) in [
        ("/status/phase", json!("Released")),
        ("/spec/claimRef/uid", json!("former")),
        ("/metadata/name", json!("other")),
        ("/spec/storageClassName", json!("slow")),
        ("/spec/volumeMode", json!("Block")),
        ("/spec/accessModes", json!(["ReadWriteMany"])),
        ("/spec/capacity/storage", json!("1023Mi")),
        ("/spec/capacity", json!({})),
    ] {
        let mut other = pv.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        assert!(!settled(&claim, &other), "{pointer}");
    }
    let mut other = claim.clone();
    other["spec"]["volumeAttributesClassName"] = json!("gold");
    assert!(!settled(&other, &pv));
}
