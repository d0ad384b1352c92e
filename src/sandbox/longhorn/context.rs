//! What every controller works with: the API, the cache, the queue, the data.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    cache::{Cache, Object},
    disk::{Disk, Freezer},
    names,
    options::LonghornOptions,
    queue::Queue,
    resource::{Fields, Resource, Scope},
};
use crate::{Error, Kind, Result};

/// How many snapshots, backups and restores read or write data at once.
const DATA_JOBS: usize = 2;

pub(super) struct Context {
    client: Client,
    pub(super) options: LonghornOptions,
    pub(super) cache: Arc<Cache>,
    pub(super) queue: Queue,
    pub(super) disk: Disk,
    pub(super) freezer: Arc<dyn Freezer>,
    pub(super) cancel: CancellationToken,
    pub(super) data_jobs: Semaphore,
    /// When each target's poll interval began.
    pub(super) polls: Mutex<HashMap<String, (Duration, Instant)>>,
    /// Schedule and next time of each recurring job.
    pub(super) crons: Mutex<HashMap<String, (String, jiff::Timestamp)>>,
}

impl Context {
    pub(super) fn new(
        client: Client,
        options: LonghornOptions,
        queue: Queue,
        disk: Disk,
        freezer: Arc<dyn Freezer>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            client,
            options,
            cache: Arc::new(Cache::new()),
            queue,
            disk,
            freezer,
            cancel,
            data_jobs: Semaphore::new(DATA_JOBS),
            polls: Mutex::default(),
            crons: Mutex::default(),
        }
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// An object in Longhorn's namespace, or of a kind without namespaces.
    pub(super) fn get(&self, resource: Resource, name: &str) -> Option<Object> {
        let namespace = match resource.scope() {
            Scope::Longhorn => self.options.namespace.as_str(),
            Scope::Cluster | Scope::Everywhere => "",
        };
        self.cache.get(resource, namespace, name)
    }

    pub(super) fn list(&self, resource: Resource) -> Vec<Object> {
        self.cache.list(resource)
    }

    /// Value of a setting, empty when it does not exist.
    pub(super) fn setting(&self, name: &str) -> String {
        self.get(Resource::Setting, name).map(|setting| setting.text("/value").to_owned()).unwrap_or_default()
    }

    fn api(&self, resource: Resource, namespace: Option<&str>) -> Api<DynamicObject> {
        let api_resource = resource.api_resource();
        match (resource.scope(), namespace) {
            (Scope::Cluster, _) => Api::all_with(self.client(), &api_resource),
            (_, Some(namespace)) => Api::namespaced_with(self.client(), namespace, &api_resource),
            (_, None) => Api::namespaced_with(self.client(), &self.options.namespace, &api_resource),
        }
    }

    /// Creates an object; `value` has everything but kind and namespace. A `conflict` error: it exists.
    pub(super) async fn create(&self, resource: Resource, mut value: Value) -> Result<Object> {
        value["apiVersion"] = resource.api_version().into();
        value["kind"] = resource.kind().into();
        if resource.scope() != Scope::Cluster && value["metadata"]["namespace"].is_null() {
            value["metadata"]["namespace"] = self.options.namespace.clone().into();
        }
        let named = format!("{} {}", resource.kind(), value.text("/metadata/name"));
        let object: DynamicObject = serde_json::from_value(value)
            .map_err(|error| Error::new(Kind::Invalid, format!("{named} cannot be written")).source(error))?;
        let namespace = object.namespace();
        let api = self.api(resource, namespace.as_deref());
        let created = api.create(&PostParams::default(), &object).await.map_err(|error| api_error(&error, &named))?;
        Ok(self.known(resource, created))
    }

    /// [`Context::create`], and an object that exists is as good as a new one.
    pub(super) async fn ensure(&self, resource: Resource, value: Value) -> Result<()> {
        match self.create(resource, value).await {
            Err(error) if error.kind() == Kind::Conflict => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Merges a change into an object (not its status), unless it is already so.
    pub(super) async fn merge(&self, resource: Resource, object: &DynamicObject, change: Value) -> Result<Object> {
        let whole = serde_json::to_value(object).unwrap_or_default();
        if contains(&whole, &change) {
            return Ok(Arc::new(object.clone()));
        }
        let name = object.name_any();
        let api = self.api(resource, object.metadata.namespace.as_deref());
        let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(change)).await;
        Ok(self.known(resource, patched.map_err(|error| api_error(&error, &format!("{} {name}", resource.kind())))?))
    }

    /// Merges `status` into an object's status, unless it is already so.
    pub(super) async fn set_status(&self, resource: Resource, object: &DynamicObject, status: Value) -> Result<Object> {
        if contains(object.field("/status"), &status) {
            return Ok(Arc::new(object.clone()));
        }
        let name = object.name_any();
        let api = self.api(resource, object.metadata.namespace.as_deref());
        let change = Patch::Merge(json!({"status": status}));
        let patched = api.patch_status(&name, &PatchParams::default(), &change).await;
        Ok(self.known(resource, patched.map_err(|error| api_error(&error, &format!("{} {name}", resource.kind())))?))
    }

    /// Asks for an object's deletion; one that is gone already is fine.
    pub(super) async fn delete(&self, resource: Resource, object: &DynamicObject) -> Result<()> {
        let name = object.name_any();
        let api = self.api(resource, object.metadata.namespace.as_deref());
        match api.delete(&name, &DeleteParams::background()).await {
            Ok(_) => Ok(()),
            Err(error) => gone_is_fine(api_error(&error, &format!("{} {name}", resource.kind()))),
        }
    }

    /// Deletes an object whose clean-up is done already.
    pub(super) async fn destroy(&self, resource: Resource, object: &DynamicObject) -> Result<()> {
        // In this order: on an object that is not being deleted the finalizer would be put back.
        self.delete(resource, object).await?;
        self.release(resource, object).await
    }

    /// Deletes the object alone: what it stands for in the bucket stays.
    pub(super) async fn forget(&self, resource: Resource, object: &DynamicObject) -> Result<()> {
        let only = json!({"metadata": {"labels": {names::LABEL_ONLY_OBJECT: "true"}}});
        match self.merge(resource, object, only).await {
            Ok(_) => self.delete(resource, object).await,
            Err(error) => gone_is_fine(error),
        }
    }

    /// Takes our finalizer off: the clean-up is done.
    pub(super) async fn release(&self, resource: Resource, object: &DynamicObject) -> Result<()> {
        if !object.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER) {
            return Ok(());
        }
        let others: Vec<_> = object.finalizers().iter().filter(|f| *f != names::FINALIZER).collect();
        let name = object.name_any();
        let api = self.api(resource, object.metadata.namespace.as_deref());
        let change = Patch::Merge(json!({"metadata": {"finalizers": others}}));
        // The answer may show an object that is gone by now: left to the watch.
        match api.patch(&name, &PatchParams::default(), &change).await {
            Ok(_) => Ok(()),
            Err(error) => gone_is_fine(api_error(&error, &format!("{} {name}", resource.kind()))),
        }
    }

    /// Waits until `found` gives something, looking again after each change. Errors: `timeout`, `cancelled`.
    pub(super) async fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let mut changes = self.cache.subscribe();
        let deadline = Instant::now() + limit;
        loop {
            changes.mark_unchanged();
            if let Some(value) = found(self) {
                return Ok(value);
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Err(Error::new(Kind::Cancelled, format!("stopped while waiting for {what}"))),
                () = tokio::time::sleep_until(deadline) => {
                    return Err(Error::new(Kind::Timeout, format!("timed out waiting for {what}")));
                }
                _ = changes.changed() => {}
            }
        }
    }

    /// Records an event about an object; a failure to do so changes nothing.
    pub(super) async fn event(&self, about: (Resource, &DynamicObject), warning: bool, reason: &str, message: &str) {
        use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::Time};
        let (resource, object) = about;
        let time = Some(Time(jiff::Timestamp::now()));
        let namespace = object.namespace().unwrap_or_else(|| self.options.namespace.clone());
        let event = v1::Event {
            metadata: kube::core::ObjectMeta {
                name: Some(format!("{}.{}", object.name_any(), names::random_hex(16))),
                namespace: Some(namespace.clone()),
                ..Default::default()
            },
            involved_object: v1::ObjectReference {
                api_version: Some(resource.api_version()),
                kind: Some(resource.kind().to_owned()),
                name: Some(object.name_any()),
                namespace: object.namespace(),
                uid: object.uid(),
                ..Default::default()
            },
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
            first_timestamp: time.clone(),
            last_timestamp: time,
            count: Some(1),
            source: Some(v1::EventSource { component: Some("longhorn".to_owned()), ..Default::default() }),
            ..Default::default()
        };
        let api: Api<v1::Event> = Api::namespaced(self.client(), &namespace);
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::debug!(%error, reason, "event was not recorded");
        }
    }

    fn known(&self, resource: Resource, mut object: DynamicObject) -> Object {
        object.metadata.managed_fields = None;
        let object = Arc::new(object);
        self.cache.apply(resource, &object);
        object
    }
}

fn gone_is_fine(error: Error) -> Result<()> {
    if error.kind() == Kind::NotFound { Ok(()) } else { Err(error) }
}

/// The API's answer as one of our errors; its message is kept word for word.
pub(super) fn api_error(error: &kube::Error, what: &str) -> Error {
    let (kind, text) = match error {
        kube::Error::Api(status) => {
            let kind = match status.code {
                404 => Kind::NotFound,
                409 => Kind::Conflict,
                401 | 403 => Kind::Denied,
                400 | 422 => Kind::Invalid,
                _ => Kind::Failed,
            };
            (kind, status.message.clone())
        }
        other => (Kind::Unreachable, other.to_string()),
    };
    Error::new(kind, format!("{what}: {text}"))
}

/// Whether a merge patch would change nothing.
fn contains(value: &Value, patch: &Value) -> bool {
    match (value, patch) {
        (_, Value::Object(fields)) => {
            fields.iter().all(|(name, patch)| contains(value.get(name).unwrap_or(&Value::Null), patch))
                && (value.is_object() || fields.values().all(Value::is_null) && value.is_null() && !fields.is_empty())
        }
        _ => value == patch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_that_changes_nothing_is_recognised() {
        let object = json!({"a": 1, "b": {"c": "x"}, "l": [1, 2]});
        for same in [json!({}), json!({"a": 1}), json!({"b": {"c": "x", "d": null}}), json!({"l": [1, 2], "z": null})] {
            assert!(contains(&object, &same), "{same}");
        }
        for other in [json!({"a": 2}), json!({"b": {"d": 1}}), json!({"l": [1]}), json!({"z": {}}), json!({"a": null})]
        {
            assert!(!contains(&object, &other), "{other}");
        }
    }
}
