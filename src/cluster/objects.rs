//! Reading, patching and deleting single objects, and listing them.

use std::{sync::Arc, time::Duration};

use kube::{
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams},
    core::Request as Call,
};
use serde_json::{Value, json};

use super::{ApiKind, Cluster, ObjectRef, WaitFor};
use crate::{Error, Kind, Result};

/// Objects per answer of a list; the rest follows in further answers.
const PAGE: u32 = 500;

/// Which objects of a kind to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Namespace instead of the connection's default one.
    pub namespace: Option<String>,
    /// Every namespace.
    pub all_namespaces: bool,
    /// Label selector, for example `app=web,tier!=cache`.
    pub selector: Option<String>,
    /// Field selector, for example `metadata.name=a`.
    pub fields: Option<String>,
}

impl ListOptions {
    /// All objects of one namespace.
    pub fn namespace(namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_string()), ..Self::default() }
    }

    /// All objects of all namespaces.
    pub fn everywhere() -> Self {
        Self { all_namespaces: true, ..Self::default() }
    }

    /// Adds a label selector.
    #[must_use]
    pub fn selector(mut self, selector: impl Into<String>) -> Self {
        self.selector = Some(selector.into());
        self
    }
}

/// How a patch is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PatchKind {
    /// JSON merge patch (RFC 7396): maps are merged, lists replaced, null removes.
    #[default]
    Merge,
    /// JSON patch (RFC 6902): a list of operations.
    Json,
    /// Kubernetes' strategic merge patch; built-in kinds only.
    Strategic,
}

/// What happens to the objects an object owns when it is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    #[default]
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay.
    Orphan,
}

/// How to delete.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeleteOptions {
    /// What happens to owned objects.
    pub propagation: Propagation,
    /// Wait until it is gone, for at most this long.
    pub wait: Option<Duration>,
}

impl Cluster {
    /// The object. Errors: `not-found` when it is not there.
    pub async fn get(&self, reference: &ObjectRef) -> Result<Value> {
        let (kind, call) = self.call(reference).await?;
        let object = self.send(call.get(&reference.name, &GetParams::default()), &doing("get", &kind, reference)).await;
        object.map_err(|error: Error| error.object(reference.to_string()))
    }

    /// The object, or `None` when it is not there.
    pub async fn find(&self, reference: &ObjectRef) -> Result<Option<Value>> {
        match self.get(reference).await {
            Ok(object) => Ok(Some(object)),
            // A kind the cluster does not serve is a mistake, not an absent object.
            Err(error) if error.kind() == Kind::NotFound && error.object_name().is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the object is there.
    pub async fn exists(&self, reference: &ObjectRef) -> Result<bool> {
        Ok(self.find(reference).await?.is_some())
    }

    /// The objects of a kind, sorted by the server (namespace, then name).
    pub async fn list(&self, kind: &str, options: &ListOptions) -> Result<Vec<Value>> {
        let kind = self.kind(kind).await?;
        let call = Call::new(kind.path(self.list_namespace(&kind, options)));
        let what = format!("list {}", kind.full_name());
        let mut params = ListParams {
            label_selector: options.selector.clone(),
            field_selector: options.fields.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let mut objects = Vec::new();
        loop {
            let mut page: Value = self.send(call.list(&params), &what).await?;
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                objects.extend(items.into_iter().map(|item| with_type(item, &kind)));
            }
            match page.pointer("/metadata/continue").and_then(Value::as_str).filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token.to_string()),
                None => return Ok(objects),
            }
        }
    }

    /// Changes a part of an object and gives the result; `subresource` is for example `status`.
    pub async fn patch(
        &self,
        reference: &ObjectRef,
        patch: &Value,
        how: PatchKind,
        subresource: Option<&str>,
    ) -> Result<Value> {
        let (kind, call) = self.call(reference).await?;
        let params = PatchParams { field_manager: Some(super::apply::MANAGER.to_string()), ..PatchParams::default() };
        let patch: Patch<Value> = match how {
            PatchKind::Merge => Patch::Merge(patch.clone()),
            PatchKind::Strategic => Patch::Strategic(patch.clone()),
            PatchKind::Json => Patch::Json(serde_json::from_value(patch.clone()).map_err(|error| {
                Error::new(Kind::Usage, format!("the JSON patch of {reference} is not a list of operations"))
                    .source(error)
            })?),
        };
        let request = match subresource {
            Some(part) => call.patch_subresource(part, &reference.name, &params, &patch),
            None => call.patch(&reference.name, &params, &patch),
        };
        let patched = self.send(request, &doing("patch", &kind, reference)).await;
        patched.map_err(|error: Error| error.object(reference.to_string()))
    }

    /// Merges `patch` into the object (see [`PatchKind::Merge`]).
    pub async fn merge(&self, reference: &ObjectRef, patch: &Value) -> Result<Value> {
        self.patch(reference, patch, PatchKind::Merge, None).await
    }

    /// Sets labels; a null value removes the label.
    pub async fn label(&self, reference: &ObjectRef, labels: &Value) -> Result<Value> {
        self.merge(reference, &json!({"metadata": {"labels": labels}})).await
    }

    /// Sets annotations; a null value removes the annotation.
    pub async fn annotate(&self, reference: &ObjectRef, annotations: &Value) -> Result<Value> {
        self.merge(reference, &json!({"metadata": {"annotations": annotations}})).await
    }

    /// Sets the number of replicas through the `scale` subresource; tells whether it was another before.
    pub async fn scale(&self, reference: &ObjectRef, replicas: u32) -> Result<bool> {
        let before = self.get(reference).await?;
        if before.pointer("/spec/replicas").and_then(Value::as_u64) == Some(u64::from(replicas)) {
            return Ok(false);
        }
        let patch = json!({"spec": {"replicas": replicas}});
        self.patch(reference, &patch, PatchKind::Merge, Some("scale")).await?;
        Ok(true)
    }

    /// Deletes the object and tells whether it was there.
    ///
    /// Errors: `timeout` when it was to be waited for and is still there; the message names its finalizers.
    pub async fn delete(&self, reference: &ObjectRef, options: DeleteOptions) -> Result<bool> {
        let (kind, call) = self.call(reference).await?;
        let params = match options.propagation {
            Propagation::Background => DeleteParams::background(),
            Propagation::Foreground => DeleteParams::foreground(),
            Propagation::Orphan => DeleteParams::orphan(),
        };
        let what = doing("delete", &kind, reference);
        match self.send::<Value>(call.delete(&reference.name, &params), &what).await {
            Ok(_) => {}
            Err(error) if error.kind() == Kind::NotFound => return Ok(false),
            Err(error) => return Err(error.object(reference.to_string())),
        }
        if let Some(limit) = options.wait {
            self.wait(reference, &WaitFor::Delete, limit).await?;
        }
        Ok(true)
    }

    /// The kind of a reference and the call for its collection.
    pub(super) async fn call(&self, reference: &ObjectRef) -> Result<(Arc<ApiKind>, Call)> {
        let kind = self.kind(&reference.kind).await?;
        let call = Call::new(kind.path(self.object_namespace(&kind, reference)?));
        Ok((kind, call))
    }

    /// The namespace an object of the kind lives in, the default one when the reference names none.
    pub(super) fn object_namespace<'a>(&'a self, kind: &ApiKind, reference: &'a ObjectRef) -> Result<Option<&'a str>> {
        match &reference.namespace {
            Some(namespace) if !kind.namespaced => Err(Error::new(
                Kind::Usage,
                format!("{} are not in a namespace, but {reference} names {namespace:?}", kind.full_name()),
            )),
            Some(namespace) => Ok(Some(namespace)),
            None => Ok(kind.namespaced.then_some(self.namespace())),
        }
    }

    /// The namespace to list in; `None` for all.
    pub(super) fn list_namespace<'a>(&'a self, kind: &ApiKind, options: &'a ListOptions) -> Option<&'a str> {
        if options.all_namespaces || !kind.namespaced {
            return None;
        }
        Some(options.namespace.as_deref().unwrap_or(self.namespace()))
    }
}

/// Items of a list come without their type.
pub(super) fn with_type(mut object: Value, kind: &ApiKind) -> Value {
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.clone().into();
    object
}

/// `get Pod app/web-0`: the action and its object, for errors.
pub(super) fn doing(action: &str, kind: &ApiKind, reference: &ObjectRef) -> String {
    match &reference.namespace {
        Some(namespace) => format!("{action} {} {namespace}/{}", kind.kind, reference.name),
        None => format!("{action} {} {}", kind.kind, reference.name),
    }
}
