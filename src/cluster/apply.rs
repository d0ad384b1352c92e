//! Server-side apply, and telling what it changed.

use kube::{
    api::{GetParams, Patch, PatchParams, PostParams},
    core::Request as Call,
};
use serde_json::Value;

use super::{Cluster, ObjectRef};
use crate::{Error, Kind, Result};

/// The field manager all changes are made as.
pub(super) const MANAGER: &str = "lhrun";

/// Metadata the server keeps itself; an applied object may have been read from a cluster and still carry it.
const SERVER_METADATA: [&str; 6] =
    ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"];

/// How to apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Take over fields that another manager owns.
    pub force: bool,
    /// Have the server do everything except storing it.
    pub dry_run: bool,
}

/// What an apply did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object is new.
    Created,
    /// It existed and is now another.
    Configured,
    /// It was as wanted already.
    Unchanged,
}

impl Change {
    /// What was done to an object that was there before or not, and had to be changed or not.
    pub fn of(was_there: bool, changed: bool) -> Self {
        match (was_there, changed) {
            (false, _) => Self::Created,
            (true, true) => Self::Configured,
            (true, false) => Self::Unchanged,
        }
    }

    /// The word kubectl prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// The outcome of an apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Which object.
    pub reference: ObjectRef,
    /// What happened to it.
    pub change: Change,
    /// The object as the server has it now.
    pub object: Value,
}

impl Cluster {
    /// Applies one object. An object of a namespaced kind without a namespace goes to the default one.
    ///
    /// Errors: `conflict` when another manager owns a field and `force` is off, `invalid` when the server or a webhook
    /// refuses it.
    pub async fn apply(&self, object: &Value, options: ApplyOptions) -> Result<Applied> {
        let mut reference = ObjectRef::of(object)?;
        let kind = self.kind_of(object).await?;
        let namespace = self.object_namespace(&kind, &reference)?.map(str::to_string);
        reference.namespace.clone_from(&namespace);
        let mut wanted = object.clone();
        if let Some(metadata) = wanted.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| !SERVER_METADATA.contains(&key.as_str()));
            if let Some(namespace) = &namespace {
                metadata.insert("namespace".to_string(), namespace.clone().into());
            }
        }
        let call = Call::new(kind.path(namespace.as_deref()));
        let what = super::objects::doing("apply", &kind, &reference);
        let before = match self.send::<Value>(call.get(&reference.name, &GetParams::default()), &what).await {
            Ok(object) => Some(object),
            Err(error) if error.kind() == Kind::NotFound => None,
            Err(error) => return Err(error.object(reference.to_string())),
        };
        if kind.kind == "PersistentVolumeClaim"
            && let Some(before) = &before
        {
            keep_claim(&mut wanted, before);
        }
        let params = PatchParams {
            field_manager: Some(MANAGER.to_string()),
            force: options.force,
            dry_run: options.dry_run,
            ..PatchParams::default()
        };
        let applied = self.send(call.patch(&reference.name, &params, &Patch::Apply(&wanted)), &what).await;
        let object: Value = applied.map_err(|error: Error| error.object(reference.to_string()))?;
        let change = match before.map(content) {
            None => Change::Created,
            Some(before) if before == content(object.clone()) => Change::Unchanged,
            Some(_) => Change::Configured,
        };
        Ok(Applied { reference, change, object })
    }

    /// Creates the object, or gives the one of that name which is there; tells whether it was created.
    pub async fn create_or_find(&self, object: &Value) -> Result<(Value, bool)> {
        let reference = ObjectRef::of(object)?;
        let kind = self.kind_of(object).await?;
        let call = Call::new(kind.path(self.object_namespace(&kind, &reference)?));
        let body = serde_json::to_vec(object)
            .map_err(|error| Error::new(Kind::Invalid, format!("{reference} is no JSON")).source(error))?;
        let params = PostParams { field_manager: Some(MANAGER.to_string()), ..PostParams::default() };
        match self.send(call.create(&params, body), &super::objects::doing("create", &kind, &reference)).await {
            Ok(object) => Ok((object, true)),
            // It was there, or a repeated request made it.
            Err(error) if error.kind() == Kind::Conflict => match self.find(&reference).await? {
                Some(object) => Ok((object, false)),
                None => Err(error.object(reference.to_string())),
            },
            Err(error) => Err(error.object(reference.to_string())),
        }
    }

    /// Creates the object unless one of that name is there; tells whether it was created.
    ///
    /// Unlike [`Cluster::apply`], an existing object is left as it is.
    pub async fn create_missing(&self, object: &Value) -> Result<bool> {
        if self.exists(&ObjectRef::of(object)?).await? {
            return Ok(false);
        }
        self.apply(object, ApplyOptions::default()).await.map(|applied| applied.change == Change::Created)
    }
}

/// What a claim's manifest leaves out stays: the server would take it for our wish to drop what a restore of ours has set, such
/// as the name of the volume, and refuse, because of a claim's spec only the size may change.
fn keep_claim(wanted: &mut Value, before: &Value) {
    let Some(spec) = wanted.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for (key, value) in before.get("spec").and_then(Value::as_object).into_iter().flatten() {
        spec.entry(key).or_insert_with(|| value.clone());
    }
}

/// What of an object an apply can change: neither its status nor the server's bookkeeping.
fn content(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in SERVER_METADATA {
            metadata.remove(key);
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_keeps_the_volume_its_manifest_does_not_name() {
        let before = json!({"spec": {"volumeName": "pvc-1", "storageClassName": "longhorn", "resources": {"requests": {"storage": "1Gi"}}}});
        let mut wanted = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}});
        keep_claim(&mut wanted, &before);
        let kept = json!({"spec": {"volumeName": "pvc-1", "storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}});
        assert_eq!(wanted, kept, "what it names is its own affair");
    }

    #[test]
    fn only_what_an_apply_can_change_counts() {
        let before = json!({"metadata": {"name": "a", "resourceVersion": "1", "labels": {"x": "1"}}, "spec": {"n": 1},
            "status": {"phase": "Pending"}});
        let mut after = before.clone();
        after["metadata"]["resourceVersion"] = "2".into();
        after["status"]["phase"] = "Bound".into();
        assert_eq!(content(before.clone()), content(after.clone()));
        after["metadata"]["labels"]["x"] = "2".into();
        assert_ne!(content(before), content(after));
    }
}
