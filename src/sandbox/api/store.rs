//! Stored objects and their recent history.
//!
//! Readers never wait for a write under review: a [`Transaction`] holds the writers' lock while it reads, judges and
//! changes; the objects themselves are locked only for the moment of a lookup or a change.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    admission::Objects,
    kinds::{self, ResourceKind},
    object,
};

/// Events kept per kind; a watch that is further behind has to list again.
const HISTORY_EVENTS: usize = 1024;
/// Bytes of objects kept per kind's history, estimated.
const HISTORY_BYTES: usize = 8 << 20;

/// A stored object.
pub(super) type Object = Arc<Value>;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    Added,
    Modified,
    Deleted,
}

/// One change.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub version: u64,
    pub happening: Happening,
    pub object: Object,
    /// The object before, so that a selector sees it enter and leave.
    pub previous: Option<Object>,
}

/// Identifies an object across kinds.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub kind: &'static ResourceKind,
    pub namespace: String,
    pub name: String,
}

impl Key {
    fn of(kind: &'static ResourceKind, object: &Value) -> Self {
        Self { kind, namespace: object::namespace(object).to_owned(), name: object::name(object).to_owned() }
    }

    fn order(&self) -> (&str, &str, &str, &str) {
        (self.kind.group, self.kind.plural, &self.namespace, &self.name)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

#[derive(Default)]
struct Bucket {
    objects: BTreeMap<(String, String), Object>,
    history: VecDeque<Event>,
    history_bytes: usize,
    /// Version of the newest event no longer in the history.
    forgotten: u64,
}

struct Data {
    version: u64,
    first: u64,
    buckets: HashMap<(&'static str, &'static str), Bucket>,
    uids: HashSet<String>,
    /// Objects that the collector of garbage looks at: owned by others, or being deleted.
    attended: BTreeSet<Key>,
}

/// All objects of one cluster.
pub(super) struct Store {
    writers: Mutex<()>,
    data: RwLock<Data>,
    changed: watch::Sender<u64>,
}

impl Store {
    /// An empty store whose first resource version comes after `version`.
    pub fn new(version: u64) -> Self {
        Self {
            writers: Mutex::new(()),
            data: RwLock::new(Data {
                version,
                first: version,
                buckets: HashMap::new(),
                uids: HashSet::new(),
                attended: BTreeSet::new(),
            }),
            changed: watch::Sender::new(version),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Data> {
        self.data.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Data> {
        self.data.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resource version of the last change.
    pub fn version(&self) -> u64 {
        self.read().version
    }

    /// Tells of every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// One object; the namespace of a cluster-scoped one is `""`.
    pub fn get(&self, kind: &ResourceKind, namespace: &str, name: &str) -> Option<Object> {
        let data = self.read();
        let bucket = data.buckets.get(&(kind.group, kind.plural))?;
        bucket.objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Objects in order of namespace and name, of one namespace or all, and the version they are the state of.
    pub fn list(&self, kind: &ResourceKind, namespace: Option<&str>) -> (Vec<Object>, u64) {
        let data = self.read();
        let Some(bucket) = data.buckets.get(&(kind.group, kind.plural)) else { return (Vec::new(), data.version) };
        let found = match namespace {
            None => bucket.objects.values().cloned().collect(),
            Some(namespace) => bucket
                .objects
                .range((namespace.to_owned(), String::new())..)
                .take_while(|((in_namespace, _), _)| in_namespace == namespace)
                .map(|(_, object)| object.clone())
                .collect(),
        };
        (found, data.version)
    }

    /// Changes after `version`, oldest first, at most `limit`, and how far the answer reaches. `None` when the history
    /// no longer has them, or when the version is of another life of the cluster.
    pub fn since(&self, kind: &ResourceKind, version: u64, limit: usize) -> Option<(Vec<Event>, u64)> {
        let data = self.read();
        if version < data.first || version > data.version {
            return None;
        }
        let Some(bucket) = data.buckets.get(&(kind.group, kind.plural)) else {
            return Some((Vec::new(), data.version));
        };
        if version < bucket.forgotten {
            return None;
        }
        let start = bucket.history.partition_point(|event| event.version <= version);
        let events: Vec<Event> = bucket.history.range(start..).take(limit).cloned().collect();
        let complete = start + events.len() == bucket.history.len();
        let reached = if complete { data.version } else { events.last().map_or(version, |event| event.version) };
        Some((events, reached))
    }

    /// Objects with owners or under deletion.
    pub fn attended(&self) -> Vec<(Key, Object)> {
        let data = self.read();
        let object = |key: &Key| {
            let bucket = data.buckets.get(&(key.kind.group, key.kind.plural))?;
            bucket.objects.get(&(key.namespace.clone(), key.name.clone())).cloned()
        };
        data.attended.iter().filter_map(|key| Some((key.clone(), object(key)?))).collect()
    }

    /// Whether an object of that uid exists.
    pub fn alive(&self, uid: &str) -> bool {
        self.read().uids.contains(uid)
    }

    /// Waits for its turn to write. Never hold it across an `await`.
    pub fn transaction(&self) -> Transaction<'_> {
        Transaction { store: self, _turn: self.writers.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Objects for Store {
    fn get(&self, group: &str, plural: &str, namespace: Option<&str>, name: &str) -> Option<Value> {
        let kind = kinds::find(group, plural)?;
        Store::get(self, kind, namespace.unwrap_or_default(), name).map(|object| (*object).clone())
    }

    fn list(&self, group: &str, plural: &str) -> Vec<Value> {
        let Some(kind) = kinds::find(group, plural) else { return Vec::new() };
        Store::list(self, kind, None).0.iter().map(|object| (**object).clone()).collect()
    }
}

/// One writer's turn.
pub(super) struct Transaction<'a> {
    store: &'a Store,
    _turn: MutexGuard<'a, ()>,
}

impl Transaction<'_> {
    /// Stores an object under a new resource version, in place of what has its name.
    pub fn put(&self, kind: &'static ResourceKind, mut object: Value) -> Object {
        let key = Key::of(kind, &object);
        let mut data = self.store.write();
        data.version += 1;
        let version = data.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let object = Arc::new(object);
        data.uids.insert(object::uid(&object).to_owned());
        if object::terminating(&object) || !object::owners(&object).is_empty() {
            data.attended.insert(key.clone());
        } else {
            data.attended.remove(&key);
        }
        let bucket = data.buckets.entry((kind.group, kind.plural)).or_default();
        let previous = bucket.objects.insert((key.namespace, key.name), object.clone());
        let happening = if previous.is_some() { Happening::Modified } else { Happening::Added };
        bucket.record(Event { version, happening, object: object.clone(), previous });
        drop(data);
        self.store.changed.send_replace(version);
        object
    }

    /// Forgets an object. Its last form carries the version of the removal, as watchers expect.
    pub fn remove(&self, kind: &'static ResourceKind, namespace: &str, name: &str) -> Option<Object> {
        let mut data = self.store.write();
        let version = data.version + 1;
        let bucket = data.buckets.get_mut(&(kind.group, kind.plural))?;
        let previous = bucket.objects.remove(&(namespace.to_owned(), name.to_owned()))?;
        let mut last = (*previous).clone();
        last["metadata"]["resourceVersion"] = json!(version.to_string());
        let object = Arc::new(last);
        bucket.record(Event {
            version,
            happening: Happening::Deleted,
            object: object.clone(),
            previous: Some(previous),
        });
        data.version = version;
        data.uids.remove(object::uid(&object));
        data.attended.remove(&Key::of(kind, &object));
        drop(data);
        self.store.changed.send_replace(version);
        Some(object)
    }
}

impl Bucket {
    fn record(&mut self, event: Event) {
        self.history_bytes += weight(&event.object);
        self.history.push_back(event);
        while self.history.len() > HISTORY_EVENTS || (self.history_bytes > HISTORY_BYTES && self.history.len() > 1) {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes = self.history_bytes.saturating_sub(weight(&oldest.object));
            self.forgotten = oldest.version;
        }
    }
}

/// Memory an object takes, roughly.
pub(super) fn weight(value: &Value) -> usize {
    32 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| 32 + name.len() + weight(value)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, note: &str) -> Value {
        json!({"metadata": {"namespace": "default", "name": name}, "note": note})
    }

    fn pods() -> &'static ResourceKind {
        kinds::find("", "pods").unwrap()
    }

    #[test]
    fn changes_come_in_order_and_end_at_the_present() {
        let store = Store::new(100);
        let turn = store.transaction();
        turn.put(pods(), pod("a", "1"));
        turn.put(pods(), pod("a", "2"));
        turn.put(kinds::find("", "secrets").unwrap(), pod("s", ""));
        turn.remove(pods(), "default", "a").unwrap();
        drop(turn);
        let (events, reached) = store.since(pods(), 100, 10).unwrap();
        let seen: Vec<_> = events.iter().map(|event| (event.version, event.happening)).collect();
        assert_eq!(seen, [(101, Happening::Added), (102, Happening::Modified), (104, Happening::Deleted)]);
        assert_eq!(reached, 104);
        assert_eq!(events[2].object["metadata"]["resourceVersion"], "104");
        assert_eq!(store.since(pods(), 100, 2).unwrap().1, 102);
        assert!(Store::list(&store, pods(), None).0.is_empty());
    }

    #[test]
    fn versions_of_another_life_and_of_long_ago_are_refused() {
        let store = Store::new(100);
        assert!(store.since(pods(), 99, 1).is_none());
        assert!(store.since(pods(), 101, 1).is_none());
        for n in 0..=HISTORY_EVENTS {
            store.transaction().put(pods(), pod("a", &n.to_string()));
        }
        assert!(store.since(pods(), 100, 1).is_none());
        assert!(store.since(pods(), 101, 1).is_some());
    }

    #[test]
    fn large_objects_do_not_pile_up() {
        let store = Store::new(0);
        let large = "x".repeat(3 << 20);
        for _ in 0..8 {
            store.transaction().put(pods(), pod("a", &large));
        }
        assert!(store.read().buckets[&("", "pods")].history.len() <= 3);
    }

    #[test]
    fn a_namespace_lists_its_own() {
        let store = Store::new(0);
        for namespace in ["a", "ab", "b"] {
            store.transaction().put(pods(), json!({"metadata": {"namespace": namespace, "name": "p"}}));
        }
        assert_eq!(Store::list(&store, pods(), Some("a")).0.len(), 1);
        assert_eq!(Store::list(&store, pods(), None).0.len(), 3);
    }
}
