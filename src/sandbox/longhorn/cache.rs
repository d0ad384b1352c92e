//! What the API server holds, kept current by one watch per kind and by the answers to our own writes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Client,
    core::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::resource::{Meta, Resource, Scope};
use crate::sandbox::api::admission::Objects;

type Name = (String, String);

/// An object as it is now, shared.
pub(super) type Object = Arc<DynamicObject>;

#[derive(Default)]
struct Kept {
    objects: BTreeMap<Name, Object>,
    /// The newest version at which an object of the kind went away. An answer to a write that is older may be about
    /// an object that no longer exists; the watch knows.
    gone_at: u64,
    listed: bool,
}

/// The cache. Reading never waits; a write's own result is visible as soon as the write returns.
pub(super) struct Cache {
    kinds: RwLock<HashMap<Resource, Kept>>,
    changes: watch::Sender<u64>,
}

/// One change, for whoever decides what to look at again.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) resource: Resource,
    pub(super) object: Object,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { kinds: RwLock::default(), changes: watch::Sender::new(0) }
    }

    pub(super) fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Object> {
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        kinds.get(&resource)?.objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn list(&self, resource: Resource) -> Vec<Object> {
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        kinds.get(&resource).map(|kept| kept.objects.values().cloned().collect()).unwrap_or_default()
    }

    /// True once every kind has been listed.
    pub(super) fn is_ready(&self) -> bool {
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        Resource::ALL.iter().all(|resource| kinds.get(resource).is_some_and(|kept| kept.listed))
    }

    /// Told of every change; a waiter checks its condition after each.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes an object over unless something newer is known. False: nothing changed.
    pub(super) fn apply(&self, resource: Resource, object: &Object) -> bool {
        let name = key(object);
        let changed = {
            let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
            let kept = kinds.entry(resource).or_default();
            let newer = match kept.objects.get(&name) {
                Some(old) => old.version() < object.version(),
                None => kept.gone_at < object.version(),
            };
            if newer {
                kept.objects.insert(name, object.clone());
            }
            newer
        };
        if changed {
            self.changed();
        }
        changed
    }

    fn remove(&self, resource: Resource, object: &DynamicObject) {
        {
            let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
            let kept = kinds.entry(resource).or_default();
            kept.gone_at = kept.gone_at.max(object.version());
            let name = key(object);
            if kept.objects.get(&name).is_some_and(|old| old.version() <= object.version()) {
                kept.objects.remove(&name);
            }
        }
        self.changed();
    }

    /// Everything of a kind as just listed; gives back what is no longer there.
    fn replace(&self, resource: Resource, listed: &HashSet<Name>) -> Vec<Object> {
        let mut gone = Vec::new();
        {
            let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
            let kept = kinds.entry(resource).or_default();
            kept.objects.retain(|name, object| {
                let stays = listed.contains(name);
                if !stays {
                    gone.push(object.clone());
                }
                stays
            });
            kept.listed = true;
        }
        self.changed();
        gone
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Follows one kind until cancelled, telling `notify` of each object that came, changed or went.
    pub(super) async fn follow(
        self: Arc<Self>,
        client: Client,
        namespace: String,
        resource: Resource,
        cancel: CancellationToken,
        notify: impl Fn(Change) + Send,
    ) {
        let api_resource = resource.api_resource();
        let api: Api<DynamicObject> = match resource.scope() {
            Scope::Longhorn => Api::namespaced_with(client, &namespace, &api_resource),
            Scope::Everywhere | Scope::Cluster => Api::all_with(client, &api_resource),
        };
        let mut events = watcher(api, watcher::Config::default()).default_backoff().into_stream().boxed();
        let mut listed = HashSet::new();
        loop {
            let event = tokio::select! {
                () = cancel.cancelled() => return,
                event = events.try_next() => event,
            };
            match event {
                Ok(None) => return,
                Err(error) => tracing::debug!(%error, kind = resource.kind(), "watch was cut off, listing again"),
                Ok(Some(watcher::Event::Init)) => listed.clear(),
                Ok(Some(watcher::Event::InitApply(object))) => {
                    listed.insert(key(&object));
                    self.take(resource, object, &notify);
                }
                Ok(Some(watcher::Event::Apply(object))) => self.take(resource, object, &notify),
                Ok(Some(watcher::Event::InitDone)) => {
                    for object in self.replace(resource, &listed) {
                        notify(Change { resource, object });
                    }
                }
                Ok(Some(watcher::Event::Delete(object))) => {
                    self.remove(resource, &object);
                    notify(Change { resource, object: Arc::new(object) });
                }
            }
        }
    }

    fn take(&self, resource: Resource, mut object: DynamicObject, notify: &impl Fn(Change)) {
        // Most of an object, and nothing to a controller.
        object.metadata.managed_fields = None;
        let object = Arc::new(object);
        self.apply(resource, &object);
        // Told even when our own write made it known: others than the writer may wait for it.
        notify(Change { resource, object });
    }
}

impl Objects for Cache {
    fn get(&self, group: &str, plural: &str, namespace: Option<&str>, name: &str) -> Option<Value> {
        let resource = Resource::named(group, plural)?;
        let found = Self::get(self, resource, namespace.unwrap_or_default(), name)?;
        serde_json::to_value(&*found).ok()
    }

    fn list(&self, group: &str, plural: &str) -> Vec<Value> {
        let Some(resource) = Resource::named(group, plural) else { return Vec::new() };
        Self::list(self, resource).iter().filter_map(|object| serde_json::to_value(&**object).ok()).collect()
    }
}

fn key(object: &DynamicObject) -> Name {
    let meta = &object.metadata;
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, version: u64) -> Object {
        let value = json!({"metadata": {"name": name, "namespace": "ns", "resourceVersion": version.to_string()}});
        Arc::new(serde_json::from_value::<DynamicObject>(with_types(value)).expect("an object"))
    }

    fn with_types(mut value: Value) -> Value {
        value["apiVersion"] = "longhorn.io/v1beta2".into();
        value["kind"] = "Volume".into();
        value
    }

    #[test]
    fn an_older_answer_does_not_replace_a_newer_object() {
        let cache = Cache::new();
        assert!(cache.apply(Resource::Volume, &object("a", 5)));
        assert!(!cache.apply(Resource::Volume, &object("a", 4)));
        assert_eq!(cache.get(Resource::Volume, "ns", "a").map(|o| o.version()), Some(5));
    }

    #[test]
    fn a_late_answer_does_not_bring_a_deleted_object_back() {
        let cache = Cache::new();
        cache.apply(Resource::Volume, &object("a", 5));
        cache.remove(Resource::Volume, &object("a", 9));
        assert!(!cache.apply(Resource::Volume, &object("a", 8)));
        assert!(cache.list(Resource::Volume).is_empty());
        assert!(cache.apply(Resource::Volume, &object("a", 10)), "created again");
    }

    #[test]
    fn a_new_list_drops_what_it_lacks() {
        let cache = Cache::new();
        cache.apply(Resource::Volume, &object("a", 1));
        cache.apply(Resource::Volume, &object("b", 2));
        let gone = cache.replace(Resource::Volume, &HashSet::from([("ns".to_owned(), "b".to_owned())]));
        assert_eq!(gone.len(), 1);
        assert_eq!(cache.list(Resource::Volume).len(), 1);
        assert!(!cache.is_ready(), "the other kinds are not listed yet");
    }
}
