//! What Longhorn's webhooks change and refuse: `longhorn-webhook-mutator`, then `longhorn-webhook-validator`.
//!
//! The texts are those of 1.10, because operators search for them. Status writes are not reviewed, as in Longhorn.

mod backup;
mod recurring_job;
mod setting;
mod snapshot;
mod system;
mod target;
mod volume;

use serde_json::{Value, json};

use super::{
    names,
    resource::{Fields, Resource, Scope},
};
use crate::sandbox::api::admission::{Admission, Objects, Operation, Refusal, Review};

/// Longhorn's webhooks.
#[derive(Clone, Debug)]
pub struct LonghornAdmission {
    namespace: String,
    /// Whether the API server asks without calling, so that whether it could call is judged here.
    is_inside: bool,
}

impl LonghornAdmission {
    /// For an installation in that namespace, inside the embedded API server.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), is_inside: true }
    }

    /// For an API server that calls the webhooks over the network and finds out itself whether it can.
    pub fn called(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), is_inside: false }
    }
}

impl Admission for LonghornAdmission {
    fn review(&self, review: &Review<'_>, object: &mut Value, objects: &dyn Objects) -> Result<(), Refusal> {
        if review.kind.group != names::GROUP {
            return Ok(());
        }
        let cluster = Cluster { namespace: &self.namespace, objects };
        if self.is_inside && review.operation != Operation::Delete {
            cluster.reach_webhook()?;
        }
        match review.operation {
            Operation::Delete => delete(review, object, &cluster),
            operation => {
                let old = review.old.filter(|_| operation == Operation::Update);
                write(review.kind.plural, old, object, &cluster)
            }
        }
    }
}

/// Kinds whose mutators replace fields of the spec, which fails when there is none.
const NEED_SPEC: [&str; 4] = ["backups", "recurringjobs", "systembackups", "volumes"];
/// Kinds that Longhorn cleans up after. Jobs, settings, system restores and nodes have none.
const WITH_FINALIZER: [&str; 11] = [
    "backingimages",
    "backupbackingimages",
    "backups",
    "backuptargets",
    "backupvolumes",
    "engines",
    "replicas",
    "snapshots",
    "systembackups",
    "volumeattachments",
    "volumes",
];

fn write(plural: &str, old: Option<&Value>, object: &mut Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    if NEED_SPEC.contains(&plural) && !object["spec"].is_object() {
        return Err(Refusal {
            code: 500,
            message: "Internal error occurred: jsonpatch replace operation does not apply: doc is missing path: \
                      /spec/labels: missing value"
                .to_owned(),
        });
    }
    // What is being deleted may lose its finalizer whatever its content is by now.
    if object["metadata"]["deletionTimestamp"].is_string() {
        return Ok(());
    }
    if WITH_FINALIZER.contains(&plural) {
        add_finalizer(object);
    }
    match (plural, old) {
        ("backups", None) => backup::create(object, cluster),
        ("backups", Some(old)) => backup::update(old, object, cluster),
        ("backuptargets", None) => target::create(object, cluster),
        ("backuptargets", Some(old)) => target::update(old, object, cluster),
        ("backupvolumes", None) => target::create_volume(object),
        ("recurringjobs", _) => recurring_job::write(object, cluster),
        ("settings", Some(old)) => setting::update(old, object),
        ("snapshots", None) => snapshot::create(object, cluster),
        ("snapshots", Some(old)) => snapshot::update(old, object),
        ("systembackups", None) => system::create_backup(object, cluster),
        ("systemrestores", None) => system::create_restore(object, cluster),
        ("volumes", None) => volume::create(object, cluster),
        ("volumes", Some(old)) => volume::update(old, object),
        _ => Ok(()),
    }
}

fn delete(review: &Review<'_>, object: &Value, cluster: &Cluster<'_>) -> Result<(), Refusal> {
    match review.kind.plural {
        "backuptargets" => target::delete(object, cluster),
        "settings" => setting::delete(object),
        _ => Ok(()),
    }
}

/// The other objects of the installation.
struct Cluster<'a> {
    namespace: &'a str,
    objects: &'a dyn Objects,
}

impl Cluster<'_> {
    /// The object, or how Longhorn says that it is not there.
    fn get(&self, resource: Resource, name: &str) -> Result<Value, String> {
        let kind = resource.api_resource();
        let namespace = (resource.scope() != Scope::Cluster).then_some(self.namespace);
        self.objects
            .get(&kind.group, &kind.plural, namespace, name)
            .ok_or_else(|| format!("{}.{} \"{name}\" not found", kind.kind.to_lowercase(), kind.group))
    }

    fn list(&self, resource: Resource) -> Vec<Value> {
        let kind = resource.api_resource();
        self.objects.list(&kind.group, &kind.plural)
    }

    /// Whether the webhooks can be called at all: by their Service, and in a manager that runs. A manager that was just
    /// changed does not, until its pod is up again. Their policy is to fail, so nothing is written meanwhile.
    fn reach_webhook(&self) -> Result<(), Refusal> {
        let service = names::WEBHOOK_SERVICE;
        let get = |group: &str, plural: &str, name: &str| self.objects.get(group, plural, Some(self.namespace), name);
        let why = if get("", "services", service).is_none() {
            format!("service \"{service}\" not found")
        } else {
            let manager = get("apps", "daemonsets", "longhorn-manager").unwrap_or_default();
            let is_down = manager["status"]["numberReady"] == 0 && manager.number("/metadata/generation") > 1;
            if !is_down {
                return Ok(());
            }
            format!("no endpoints available for service \"{service}\"")
        };
        let url = format!("https://{service}.{}.svc:9502/v1/webhook/mutation?timeout=10s", self.namespace);
        let message = format!(
            "Internal error occurred: failed calling webhook \"mutator.longhorn.io\": failed to call webhook: Post \"{url}\": {why}"
        );
        Err(Refusal { code: 500, message })
    }

    /// Value of a setting, for the v1 engine when it has one for each.
    fn setting(&self, name: &str) -> String {
        self.get(Resource::Setting, name).map(|s| super::settings::for_v1(s.text("/value"))).unwrap_or_default()
    }
}

/// A refusal by the validator: 422.
fn invalid(message: impl AsRef<str>) -> Refusal {
    denied("validator", 422, message.as_ref())
}

/// A refusal by the mutator: 422.
fn unfit(message: impl AsRef<str>) -> Refusal {
    denied("mutator", 422, message.as_ref())
}

fn denied(by: &str, code: u16, message: &str) -> Refusal {
    Refusal { code, message: format!("admission webhook \"{by}.longhorn.io\" denied the request: {message}") }
}

fn name_of(object: &Value) -> &str {
    object.text("/metadata/name")
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"].get(key)?.as_str()
}

fn set_label(object: &mut Value, key: &str, value: &str) {
    if !object["metadata"]["labels"].is_object() {
        object["metadata"]["labels"] = json!({});
    }
    object["metadata"]["labels"][key] = value.into();
}

fn add_finalizer(object: &mut Value) {
    let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if finalizers.iter().all(|finalizer| finalizer != names::FINALIZER) {
        finalizers.push(names::FINALIZER.into());
        object["metadata"]["finalizers"] = finalizers.into();
    }
}

/// Sets a field of the spec that is absent, empty or zero.
fn default_to(object: &mut Value, field: &str, value: impl Into<Value>) {
    let current = &object["spec"][field];
    if current.is_null() || current == "" || *current == json!(0) || *current == "0" {
        object["spec"][field] = value.into();
    }
}
