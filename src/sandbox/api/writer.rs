//! What creating, changing and deleting mean, whoever asks: a client or the collector of garbage.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{
    admission::{Operation, Review},
    defaults,
    kinds::{self, ResourceKind},
    managed::{self, Manager},
    object,
    server::Cluster,
    status::{Answer, Failure, deleted},
    store::{Object, Transaction},
    typed, validate,
};

/// Finalizer of an object that waits for its dependents to go.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an object whose dependents are to be set free first.
pub(super) const ORPHAN: &str = "orphan";
const NEVER_DELETED: [&str; 3] = ["default", "kube-public", "kube-system"];

/// Which part of an object a write is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All but the status.
    Main,
    Status,
    /// A namespace's own finalizers.
    Finalize,
    /// A pod's node.
    Binding,
}

/// What happens to what a deleted object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// How to delete.
#[derive(Clone, Debug, Default)]
pub(super) struct Deletion {
    pub propagation: Option<Propagation>,
    /// Seconds a pod gets to stop.
    pub grace: Option<u64>,
    /// Preconditions.
    pub uid: Option<String>,
    pub version: Option<String>,
}

/// One writer's turn on one kind.
pub(super) struct Writer<'a> {
    cluster: &'a Cluster,
    turn: Transaction<'a>,
    kind: &'static ResourceKind,
    dry_run: bool,
    manager: Manager,
}

impl<'a> Writer<'a> {
    pub fn new(cluster: &'a Cluster, kind: &'static ResourceKind, dry_run: bool, manager: Manager) -> Self {
        Self { cluster, turn: cluster.store.transaction(), kind, dry_run, manager }
    }

    /// Who writes.
    pub fn manager(&self) -> &Manager {
        &self.manager
    }

    /// The object as it is now.
    pub fn current(&self, namespace: &str, name: &str) -> Answer<Object> {
        let found = self.cluster.store.get(self.kind, namespace, name);
        found.ok_or_else(|| Failure::not_found(self.kind, name))
    }

    /// Stores a new object in a namespace (`""` for cluster-scoped kinds).
    pub fn create(&self, namespace: &str, mut new: Value) -> Answer<Object> {
        check_identity(self.kind, namespace, None, &new)?;
        validate::shape(self.kind, &new)?;
        if new["metadata"]["resourceVersion"].as_str().is_some_and(|version| !version.is_empty()) {
            // A real server takes this for its own mistake.
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Failure::new(500, "InternalError", message));
        }
        self.check_namespace(namespace)?;
        if !self.manager.applies {
            object::metadata(&mut new).remove("managedFields");
        }
        let metadata = object::metadata(&mut new);
        for set_by_server in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
            metadata.remove(set_by_server);
        }
        if metadata.get("name").and_then(Value::as_str).is_none_or(str::is_empty)
            && let Some(prefix) = metadata.get("generateName").and_then(Value::as_str)
        {
            let name = format!("{prefix}{}", object::name_suffix());
            metadata.insert("name".to_owned(), json!(name));
        }
        metadata.insert("uid".to_owned(), json!(object::new_uid()));
        metadata.insert("creationTimestamp".to_owned(), json!(object::now()));
        if self.kind.namespaced {
            metadata.insert("namespace".to_owned(), json!(namespace));
        } else {
            metadata.remove("namespace");
        }
        if self.kind.has_generation() {
            metadata.insert("generation".to_owned(), json!(1));
        }
        if self.kind.status {
            remove_field(&mut new, "status");
        }
        defaults::fill(self.kind, &mut new);
        // What the server and its admission add from here on is nobody's, as in a real server.
        if !self.manager.applies {
            managed::record(self.kind, &json!({}), &mut new, &self.manager);
        }
        defaults::on_create(self.kind, &mut new, &self.cluster.store);
        self.review(Operation::Create, None, &mut new)?;
        validate::object(self.kind, &new)?;
        typed::check(self.kind, &new)?;
        let name = object::name(&new).to_owned();
        if self.cluster.store.get(self.kind, namespace, &name).is_some() {
            return Err(Failure::already_exists(self.kind, &name));
        }
        Ok(self.put(new))
    }

    /// Puts `new` in place of `old`, as far as the part allows. Gives the stored object, which is `old` itself when
    /// nothing changed, and the last form when the change removed its last finalizer.
    pub fn update(&self, old: &Object, mut new: Value, part: Part) -> Answer<Object> {
        let name = object::name(old);
        check_identity(self.kind, object::namespace(old), Some(name), &new)?;
        validate::shape(self.kind, &new)?;
        let wanted = new["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if !wanted.is_empty() && Some(wanted) != old["metadata"]["resourceVersion"].as_str() {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Failure::conflict(self.kind, name, why));
        }
        let wanted = object::uid(&new);
        if !wanted.is_empty() && wanted != object::uid(old) {
            let why =
                format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {}", object::uid(old));
            return Err(Failure::conflict(self.kind, name, &why));
        }
        if !self.manager.applies {
            managed::accept(old, &mut new);
        }
        new = self.only(part, old, new);
        if part == Part::Main {
            defaults::fill(self.kind, &mut new);
        }
        if !self.manager.applies {
            managed::record(self.kind, old, &mut new, &self.manager);
        }
        if part == Part::Main {
            self.review(Operation::Update, Some(old), &mut new)?;
            restore_metadata(old, &mut new);
            validate::object(self.kind, &new)?;
            validate::change(self.kind, old, &new)?;
            if self.kind.has_generation() && asks_for_something_else(old, &new) {
                let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                new["metadata"]["generation"] = json!(generation);
            }
        }
        if new == **old {
            return Ok(old.clone());
        }
        typed::check(self.kind, &new)?;
        if object::terminating(&new) && released(self.kind, &new) {
            return Ok(self.remove(&new));
        }
        Ok(self.put(new))
    }

    /// What a write to `part` makes of the old object.
    fn only(&self, part: Part, old: &Value, mut new: Value) -> Value {
        let field = |object: &mut Value, name: &str| remove_field(object, name).unwrap_or(Value::Null);
        let managed = |new: &mut Value, changed: &mut Value| {
            let fields = object::metadata(new).remove("managedFields");
            object::metadata(changed).extend(fields.map(|fields| ("managedFields".to_owned(), fields)));
        };
        match part {
            Part::Main => {
                restore_metadata(old, &mut new);
                if self.kind.status {
                    remove_field(&mut new, "status");
                    if let Some(status) = old.get("status") {
                        new["status"] = status.clone();
                    }
                }
                match self.kind.qualified().as_str() {
                    "namespaces" => new["spec"] = old["spec"].clone(),
                    "services" => defaults::keep_address(old, &mut new),
                    _ => {}
                }
                new
            }
            Part::Status => {
                let status = field(&mut new, "status");
                let mut changed = old.clone();
                managed(&mut new, &mut changed);
                if status.is_null() {
                    remove_field(&mut changed, "status");
                } else {
                    changed["status"] = status;
                }
                changed
            }
            Part::Finalize => {
                let mut changed = old.clone();
                changed["spec"] = field(&mut new, "spec");
                changed
            }
            Part::Binding => {
                let mut changed = old.clone();
                managed(&mut new, &mut changed);
                changed["spec"]["nodeName"] = field(&mut new["spec"], "nodeName");
                changed
            }
        }
    }

    /// Deletes, or begins to. Gives what the client is told: a `Status` when the object is gone, else the object.
    pub fn delete(&self, old: &Object, options: &Deletion) -> Answer<Value> {
        let (namespace, name) = (object::namespace(old), object::name(old));
        for (what, wanted, is) in [
            ("UID", &options.uid, object::uid(old)),
            ("ResourceVersion", &options.version, old["metadata"]["resourceVersion"].as_str().unwrap_or_default()),
        ] {
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != is) {
                let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}");
                return Err(Failure::conflict(self.kind, name, &why));
            }
        }
        let is_namespace = self.kind.qualified() == "namespaces";
        if is_namespace && NEVER_DELETED.contains(&name) {
            let message = format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted");
            return Err(Failure::new(403, "Forbidden", message).about(self.kind, name));
        }
        self.review(Operation::Delete, Some(old), &mut (**old).clone())?;

        let mut new = (**old).clone();
        let mut finalizers: Vec<&str> = object::finalizers(old);
        if let Some(propagation) = options.propagation {
            finalizers.retain(|finalizer| !matches!(*finalizer, FOREGROUND | ORPHAN));
            match propagation {
                Propagation::Background => {}
                Propagation::Foreground => finalizers.push(FOREGROUND),
                Propagation::Orphan => finalizers.push(ORPHAN),
            }
        }
        if finalizers.is_empty() {
            object::metadata(&mut new).remove("finalizers");
        } else {
            new["metadata"]["finalizers"] = json!(finalizers);
        }
        let grace = grace(self.kind, old, options);
        let earlier = old["metadata"]["deletionGracePeriodSeconds"].as_u64();
        if !object::terminating(old) || earlier.is_some_and(|earlier| grace < earlier) {
            let seconds = i64::try_from(grace).unwrap_or(i64::MAX);
            let at = Timestamp::now().checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
            let metadata = object::metadata(&mut new);
            metadata.insert("deletionTimestamp".to_owned(), json!(object::timestamp(at)));
            metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
            if self.kind.has_generation() && !object::terminating(old) {
                let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                metadata.insert("generation".to_owned(), json!(generation));
            }
            if is_namespace {
                new["status"]["phase"] = json!("Terminating");
            }
        }
        if released(self.kind, &new) {
            if !self.dry_run {
                self.turn.remove(self.kind, namespace, name);
            }
            return Ok(deleted(self.kind, name, &old["metadata"]["uid"]));
        }
        if new == **old {
            return Ok(new);
        }
        Ok((*self.put(new)).clone())
    }

    fn put(&self, object: Value) -> Object {
        if self.dry_run { Arc::new(object) } else { self.turn.put(self.kind, object) }
    }

    fn remove(&self, last: &Value) -> Object {
        let removed =
            if self.dry_run { None } else { self.turn.remove(self.kind, object::namespace(last), object::name(last)) };
        removed.unwrap_or_else(|| Arc::new(last.clone()))
    }

    fn review(&self, operation: Operation, old: Option<&Value>, object: &mut Value) -> Answer<()> {
        let review = Review { operation, kind: self.kind, old, dry_run: self.dry_run };
        self.cluster.admission.review(&review, object, &*self.cluster.store)?;
        Ok(())
    }

    fn check_namespace(&self, name: &str) -> Answer<()> {
        let Some(namespaces) = kinds::find("", "namespaces").filter(|_| self.kind.namespaced) else { return Ok(()) };
        let Some(namespace) = self.cluster.store.get(namespaces, "", name) else {
            return Err(Failure::not_found(namespaces, name));
        };
        if object::terminating(&namespace) {
            let message = format!(
                "{} is forbidden: unable to create new content in namespace {name} because it is being terminated",
                self.kind.qualified()
            );
            let cause = json!({
                "reason": "NamespaceTerminating", "field": "metadata.namespace",
                "message": format!("namespace {name} is being terminated"),
            });
            return Err(Failure::new(403, "Forbidden", message).about(self.kind, "").causes(vec![cause]));
        }
        Ok(())
    }
}

/// Seconds before the object may go. Only a pod on a node gets time: whoever runs it deletes it again with 0 when its
/// processes have stopped.
fn grace(kind: &ResourceKind, old: &Value, options: &Deletion) -> u64 {
    let assigned = old["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let ended = matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if kind.qualified() != "pods" || !assigned || ended {
        return 0;
    }
    let wanted = options.grace.or_else(|| old["spec"]["terminationGracePeriodSeconds"].as_u64()).unwrap_or(30);
    // More than a day says nothing about a process, and the time has to stay a time.
    wanted.min(24 * 60 * 60)
}

/// Whether nothing holds a terminating object any more.
fn released(kind: &ResourceKind, object: &Value) -> bool {
    let own =
        kind.qualified() == "namespaces" && object["spec"]["finalizers"].as_array().is_some_and(|own| !own.is_empty());
    let stopping = object["metadata"]["deletionGracePeriodSeconds"].as_u64().is_some_and(|grace| grace > 0);
    object::finalizers(object).is_empty() && !own && !stopping
}

/// Fails unless the object is of that kind and belongs where the request says.
fn check_identity(kind: &ResourceKind, namespace: &str, name: Option<&str>, object: &Value) -> Answer<()> {
    let (api_version, kind_name) = (object["apiVersion"].as_str(), object["kind"].as_str());
    if !object["metadata"].is_null() && !object["metadata"].is_object() {
        return Err(Failure::bad_request("metadata is not an object"));
    }
    let Some(kind_name) = kind_name.filter(|name| !name.is_empty()) else {
        return Err(Failure::bad_request(format!("Object 'Kind' is missing in the body: expected {}", kind.kind)));
    };
    if kind_name != kind.kind || api_version != Some(&kind.api_version()) {
        let sent = api_version.unwrap_or_default();
        let message = format!(
            "the object provided is {sent}, Kind={kind_name}, and the request is for {}, Kind={}",
            kind.api_version(),
            kind.kind
        );
        return Err(Failure::bad_request(message));
    }
    let own = object::namespace(object);
    if kind.namespaced && !own.is_empty() && own != namespace {
        let message = format!(
            "the namespace of the provided object does not match the namespace sent on the request ({own}, {namespace})"
        );
        return Err(Failure::bad_request(message));
    }
    if let Some(name) = name
        && object::name(object) != name
    {
        let message =
            format!("the name of the object ({}) does not match the name on the URL ({name})", object::name(object));
        return Err(Failure::bad_request(message));
    }
    Ok(())
}

/// Fields of the metadata that only the server changes.
fn restore_metadata(old: &Value, new: &mut Value) {
    const SERVERS: [&str; 7] = [
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    let metadata = object::metadata(new);
    metadata.remove("selfLink");
    for field in SERVERS {
        match old["metadata"].get(field) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
    for emptied in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let empty = |value: &Value| match value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if metadata.get(emptied).is_some_and(empty) {
            metadata.remove(emptied);
        }
    }
}

fn asks_for_something_else(old: &Value, new: &Value) -> bool {
    let asked = |object: &Value| -> Map<String, Value> {
        let fields = object.as_object().into_iter().flatten();
        let fields = fields.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"));
        fields.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    asked(old) != asked(new)
}

fn remove_field(object: &mut Value, name: &str) -> Option<Value> {
    object.as_object_mut().and_then(|fields| fields.remove(name))
}
