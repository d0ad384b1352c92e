//! Events, so that `kubectl describe` explains what happens to an object.

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, Resource, ResourceExt};
use ring::digest;
use serde_json::json;

use super::objects::{create, merge, now};
use crate::sandbox::{NODE, hex};

/// Writes core/v1 events in the name of one component.
#[derive(Clone)]
pub struct Recorder {
    client: Client,
    component: &'static str,
}

impl Recorder {
    /// Events of `component`, for example `kubelet`.
    pub fn new(client: Client, component: &'static str) -> Self {
        Self { client, component }
    }

    /// Something expected.
    pub async fn normal<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, message: &str) {
        self.record(object.object_ref(&()), "Normal", reason, message).await;
    }

    /// Something that stands in the way.
    pub async fn warning<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, message: &str) {
        self.record(object.object_ref(&()), "Warning", reason, message).await;
    }

    /// Repeats of one event raise its count. A failure to write one is only logged: events explain, nothing hangs on them.
    async fn record(&self, about: ObjectReference, kind: &str, reason: &str, message: &str) {
        // Cluster-scoped objects have their events in `default`.
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let name = event_name(&about, reason, message);
        let time = now();
        let event = Event {
            metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
            type_: Some(kind.into()),
            reason: Some(reason.into()),
            message: Some(message.into()),
            involved_object: about,
            count: Some(1),
            first_timestamp: Some(time.clone()),
            last_timestamp: Some(time.clone()),
            reporting_component: Some(self.component.into()),
            source: Some(EventSource { component: Some(self.component.into()), host: Some(NODE.into()) }),
            ..Event::default()
        };
        let written = match create(&api, &event).await {
            Ok(false) => self.repeat(&api, &name, &json!(time)).await,
            other => other.map(drop),
        };
        if let Err(error) = written {
            tracing::debug!(%error, reason, message, "an event was not written");
        }
    }

    async fn repeat(&self, api: &Api<Event>, name: &str, time: &serde_json::Value) -> crate::Result<()> {
        let count = super::objects::if_found(api.get(name).await)?.and_then(|event| event.count).unwrap_or(0) + 1;
        merge(api, name, json!({"count": count, "lastTimestamp": time})).await.map(drop)
    }
}

/// One name for each object, reason and message: that is what makes a repeat a repeat.
fn event_name(about: &ObjectReference, reason: &str, message: &str) -> String {
    let uid = about.uid.as_deref().unwrap_or_default();
    let hash = digest::digest(&digest::SHA256, format!("{uid}/{reason}/{message}").as_bytes());
    format!("{}.{}", about.name.as_deref().unwrap_or("object"), hex(&hash.as_ref()[..8]))
}

/// `namespace/name`, or the name alone.
pub fn full_name<K: Resource>(object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}
