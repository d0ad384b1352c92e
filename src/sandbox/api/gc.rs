//! Collects garbage: what belongs to deleted owners, and what is in deleted namespaces.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    kinds::{self, KINDS},
    managed::Manager,
    object,
    server::Cluster,
    status::Answer,
    store::{Key, Object},
    writer::{Deletion, FOREGROUND, ORPHAN, Part, Propagation, Writer},
};

/// Changes come in bursts; one round serves them all.
const SETTLE: Duration = Duration::from_millis(5);
/// Events are forgotten after an hour, as by default in a real server; looked after this often.
const EXPIRE_EVERY: Duration = Duration::from_mins(1);
const EVENT_LIFE: SignedDuration = SignedDuration::from_hours(1);
/// When something could not be deleted (refused by admission).
const RETRY: Duration = Duration::from_secs(1);

/// Works until the server stops.
pub(super) async fn run(cluster: Arc<Cluster>) {
    let mut changes = cluster.store.changes();
    let mut expire = tokio::time::interval(EXPIRE_EVERY);
    loop {
        changes.mark_unchanged();
        let complete = round(&cluster);
        tokio::select! {
            () = cluster.stopping.cancelled() => return,
            more = changes.changed() => if more.is_err() { return },
            () = tokio::time::sleep(RETRY), if !complete => {}
            _ = expire.tick() => expire_events(&cluster, Timestamp::now()),
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// Forgets events that nobody has repeated for an hour.
fn expire_events(cluster: &Cluster, now: Timestamp) {
    let Some(kind) = kinds::find("", "events") else { return };
    for event in cluster.store.list(kind, None).0 {
        let times = [&event["lastTimestamp"], &event["eventTime"], &event["metadata"]["creationTimestamp"]];
        let last = times.into_iter().find_map(|time| time.as_str()?.parse::<Timestamp>().ok());
        if last.is_none_or(|last| now.duration_since(last) > EVENT_LIFE) {
            cluster.store.transaction().remove(kind, object::namespace(&event), object::name(&event));
        }
    }
}

/// Looks at everything that may have to go; false when something resisted.
fn round(cluster: &Cluster) -> bool {
    let attended = cluster.store.attended();
    let mut complete = true;
    for (key, object) in &attended {
        complete &= attend(cluster, key, object, &attended).is_ok();
    }
    complete
}

fn attend(cluster: &Cluster, key: &Key, object: &Object, attended: &[(Key, Object)]) -> Answer<()> {
    if !object::terminating(object) {
        return match fate(cluster, object, attended) {
            Some(propagation) => delete(cluster, key, object, propagation),
            None => Ok(()),
        };
    }
    let finalizers = object::finalizers(object);
    if finalizers.contains(&ORPHAN) {
        let uid = object::uid(object);
        for (key, dependent) in dependents(attended, uid) {
            rewrite(cluster, key, dependent, |object| {
                if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                    owners.retain(|owner| owner["uid"] != uid);
                }
            })?;
        }
        remove_finalizer(cluster, key, object, ORPHAN)?;
    } else if finalizers.contains(&FOREGROUND) {
        let blocks = |dependent: &Value| {
            let uid = object::uid(object);
            object::owners(dependent).iter().any(|owner| owner["uid"] == uid && owner["blockOwnerDeletion"] == true)
        };
        let mut blocking = dependents(attended, object::uid(object)).filter(|(_, dependent)| blocks(dependent));
        if !blocking.any(|(_, dependent)| cluster.store.alive(object::uid(dependent))) {
            remove_finalizer(cluster, key, object, FOREGROUND)?;
        }
    }
    if key.kind.qualified() == "namespaces" {
        empty_namespace(cluster, key, object)?;
    }
    Ok(())
}

fn dependents<'a>(attended: &'a [(Key, Object)], uid: &'a str) -> impl Iterator<Item = &'a (Key, Object)> {
    attended.iter().filter(move |(_, object)| object::owners(object).iter().any(|owner| owner["uid"] == uid))
}

/// How an owned object has to go: all its owners are gone, or one waits for it. An owner of a kind this server does not
/// know cannot be looked up and keeps what it owns.
fn fate(cluster: &Cluster, object: &Value, attended: &[(Key, Object)]) -> Option<Propagation> {
    let owners = object::owners(object);
    let known = |owner: &Value| {
        let group =
            owner["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
        owner["kind"].as_str().is_some_and(|kind| kinds::find_kind(group, kind).is_some())
    };
    let uids = || owners.iter().filter_map(|owner| owner["uid"].as_str());
    if !owners.is_empty() && owners.iter().all(known) && uids().all(|uid| !cluster.store.alive(uid)) {
        return Some(Propagation::Background);
    }
    let awaited = attended.iter().any(|(_, owner)| {
        object::terminating(owner)
            && object::finalizers(owner).contains(&FOREGROUND)
            && uids().any(|uid| uid == object::uid(owner))
    });
    let has_dependents = dependents(attended, object::uid(object)).next().is_some();
    awaited.then_some(if has_dependents { Propagation::Foreground } else { Propagation::Background })
}

fn writer<'a>(cluster: &'a Cluster, key: &Key) -> Writer<'a> {
    let manager = Manager { name: "garbage-collector".to_owned(), applies: false, subresource: String::new() };
    Writer::new(cluster, key.kind, false, manager)
}

fn delete(cluster: &Cluster, key: &Key, object: &Value, propagation: Propagation) -> Answer<()> {
    let writer = writer(cluster, key);
    let Ok(current) = writer.current(&key.namespace, &key.name) else { return Ok(()) };
    // Another object of that name may have come meanwhile, or this one may have found a new owner.
    let same = object::uid(&current) == object::uid(object) && object::owners(&current) == object::owners(object);
    if same && !object::terminating(&current) {
        writer.delete(&current, &Deletion { propagation: Some(propagation), ..Deletion::default() })?;
    }
    Ok(())
}

fn rewrite(cluster: &Cluster, key: &Key, object: &Value, change: impl FnOnce(&mut Value)) -> Answer<()> {
    let writer = writer(cluster, key);
    let Ok(current) = writer.current(&key.namespace, &key.name) else { return Ok(()) };
    if object::uid(&current) != object::uid(object) {
        return Ok(());
    }
    let mut new = (*current).clone();
    change(&mut new);
    writer.update(&current, new, Part::Main)?;
    Ok(())
}

fn remove_finalizer(cluster: &Cluster, key: &Key, object: &Value, finalizer: &str) -> Answer<()> {
    rewrite(cluster, key, object, |object| {
        if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
            finalizers.retain(|name| name != finalizer);
        }
    })
}

/// Deletes what is in a terminating namespace; when nothing is left, the namespace itself may go.
fn empty_namespace(cluster: &Cluster, key: &Key, namespace: &Object) -> Answer<()> {
    let mut left = false;
    let mut refused = Ok(());
    for kind in KINDS.iter().filter(|kind| kind.namespaced) {
        for object in cluster.store.list(kind, Some(&key.name)).0 {
            let inner = Key { kind, namespace: key.name.clone(), name: object::name(&object).to_owned() };
            if !object::terminating(&object)
                && let Err(failure) = delete(cluster, &inner, &object, Propagation::Background)
            {
                refused = Err(failure);
            }
            left |= cluster.store.alive(object::uid(&object));
        }
    }
    refused?;
    if left {
        return Ok(());
    }
    let writer = writer(cluster, key);
    let Ok(current) = writer.current("", &key.name) else { return Ok(()) };
    if object::uid(&current) == object::uid(namespace) {
        let mut new = (*current).clone();
        new["spec"]["finalizers"] = json!([]);
        writer.update(&current, new, Part::Finalize)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::api::{admission::AdmitAll, pods::NoPods};

    #[test]
    fn old_events_are_forgotten() {
        let cluster = Cluster::new("t".into(), Arc::new(AdmitAll), Arc::new(NoPods));
        let events = kinds::find("", "events").unwrap();
        for (name, time) in [("old", "2026-01-01T00:00:00Z"), ("new", "2026-01-01T00:30:00Z")] {
            let event = json!({"metadata": {"namespace": "default", "name": name}, "lastTimestamp": time});
            cluster.store.transaction().put(events, event);
        }
        expire_events(&cluster, "2026-01-01T01:00:01Z".parse().unwrap());
        let left = cluster.store.list(events, None).0;
        assert_eq!(left.iter().map(|event| object::name(event)).collect::<Vec<_>>(), ["new"]);
    }
}
