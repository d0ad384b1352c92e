//! Small things every controller does with objects: errors, owners, conditions, status patches, names.

use k8s_openapi::{
    api::core::v1::{Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
    core::Selector,
};
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{Error, Kind, Result};

/// A kube client's failure in the project's terms.
pub fn api_error(error: kube::Error) -> Error {
    let kind = match &error {
        kube::Error::Api(status) => match status.code {
            404 => Kind::NotFound,
            409 => Kind::Conflict,
            401 | 403 => Kind::Denied,
            400 | 422 => Kind::Invalid,
            _ => Kind::Failed,
        },
        _ => Kind::Unreachable,
    };
    Error::new(kind, "asking the sandbox's API server").source(error)
}

/// `Ok(None)` when the object is not there (any more).
pub fn if_found<T>(result: Result<T, kube::Error>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(api_error(error)),
    }
}

/// `Ok(None)` when an object of that name is there already.
pub fn if_new<T>(result: Result<T, kube::Error>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(api_error(error)),
    }
}

/// Now, in seconds' precision as Kubernetes writes it.
pub fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// The owner reference of a controller to what it makes.
pub fn owner<K: Resource<DynamicType = ()>>(object: &K) -> Vec<OwnerReference> {
    object.controller_owner_ref(&()).into_iter().collect()
}

/// Whether `child` belongs to the owner with that uid.
pub fn owned_by<K: Resource>(child: &K, uid: &str) -> bool {
    child.meta().owner_references.iter().flatten().any(|owner| owner.uid == uid && owner.controller == Some(true))
}

/// Whether deletion has begun.
pub fn deleting<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// The pods a controller owns.
pub async fn owned_pods(api: &Api<Pod>, selector: &LabelSelector, uid: &str) -> Result<Vec<Pod>> {
    let selector = Selector::try_from(selector.clone())
        .map_err(|error| Error::new(Kind::Invalid, "selector of the workload").source(error))?;
    let pods = api.list(&ListParams::default().labels_from(&selector)).await.map_err(api_error)?;
    Ok(pods.items.into_iter().filter(|pod| owned_by(pod, uid)).collect())
}

/// Whether the pod's condition `Ready` is true and it is not being deleted.
pub fn pod_ready(pod: &Pod) -> bool {
    !deleting(pod)
        && pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// `Pending`, `Running`, `Succeeded` or `Failed`.
pub fn pod_phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether the pod has ended for good.
pub fn pod_ended(pod: &Pod) -> bool {
    matches!(pod_phase(pod), "Succeeded" | "Failed")
}

/// A pod of a template, without name and owner.
pub fn pod_of(template: &PodTemplateSpec) -> Pod {
    let mut pod = Pod { spec: template.spec.clone(), ..Pod::default() };
    if let Some(metadata) = &template.metadata {
        pod.metadata.labels.clone_from(&metadata.labels);
        pod.metadata.annotations.clone_from(&metadata.annotations);
        pod.metadata.finalizers.clone_from(&metadata.finalizers);
    }
    pod
}

/// Creates the object unless one of that name exists; tells whether it did.
pub async fn create<K>(api: &Api<K>, object: &K) -> Result<bool>
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    Ok(if_new(api.create(&PostParams::default(), object).await)?.is_some())
}

/// Merges `wanted` into the object's status when that changes something.
///
/// A status written again unchanged would wake every watcher, this controller first.
pub async fn write_status<K>(api: &Api<K>, object: &K, wanted: Value) -> Result<()>
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let current = serde_json::to_value(object).unwrap_or_default();
    if merges_to_itself(&current["status"], &wanted) {
        return Ok(());
    }
    let patch = json!({ "status": wanted });
    if_found(api.patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await)?;
    Ok(())
}

/// Whether a merge patch would leave `current` as it is.
fn merges_to_itself(current: &Value, patch: &Value) -> bool {
    match patch {
        Value::Object(fields) => fields.iter().all(|(key, value)| merges_to_itself(&current[key], value)),
        other => current == other,
    }
}

/// Merges `patch` into the object; `Ok(None)` when it is gone.
pub async fn merge<K>(api: &Api<K>, name: &str, patch: Value) -> Result<Option<K>>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    if_found(api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await)
}

/// A short stable hash of a template, as it appears in names of revisions.
pub fn revision<T: Serialize>(template: &T) -> String {
    let text = serde_json::to_vec(template).unwrap_or_default();
    digest::digest(&digest::SHA256, &text).as_ref()[..10].iter().map(|byte| letter(*byte)).collect()
}

/// Five random characters for names of pods.
pub fn suffix() -> String {
    let mut bytes = [0; 5];
    // A failing generator gives a fixed suffix: the create then conflicts and is tried again.
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes.into_iter().map(letter).collect()
}

// No vowels and no digits that look like them, as in Kubernetes' own suffixes: no words by accident.
fn letter(byte: u8) -> char {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    char::from(LETTERS[usize::from(byte) % LETTERS.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_status_is_not_written() {
        let current = json!({"replicas": 1, "conditions": [{"type": "Ready"}]});
        assert!(merges_to_itself(&current, &json!({"replicas": 1, "gone": null})));
        assert!(!merges_to_itself(&current, &json!({"replicas": 2})));
        assert!(!merges_to_itself(&current, &json!({"conditions": []})));
        assert!(!merges_to_itself(&Value::Null, &json!({"replicas": 0})));
    }

    #[test]
    fn a_revision_depends_on_the_content_only() {
        assert_eq!(revision(&json!({"a": 1})), revision(&json!({"a": 1})));
        assert_ne!(revision(&json!({"a": 1})), revision(&json!({"a": 2})));
        assert_eq!(revision(&json!({})).len(), 10);
    }
}
