//! Admission: what may change or refuse a write before it is stored, as webhooks do in a real cluster.

use serde_json::Value;

use super::kinds::ResourceKind;

/// What a request does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The object is new.
    Create,
    /// It exists and its main resource changes (status writes are not reviewed, as in Longhorn).
    Update,
    /// It is about to be deleted.
    Delete,
}

/// One write under review.
#[derive(Debug)]
pub struct Review<'a> {
    /// What the request does.
    pub operation: Operation,
    /// The resource written to.
    pub kind: &'a ResourceKind,
    /// The stored object; `None` on create.
    pub old: Option<&'a Value>,
    /// True when nothing will be stored.
    pub dry_run: bool,
}

/// A refusal, answered to the client as a Kubernetes `Status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status: 400, 403, 409, 422 or 500.
    pub code: u16,
    /// Text of the status, for example `admission webhook "validator.longhorn.io" denied the request: …`.
    pub message: String,
}

/// Read access to the stored objects during a review.
pub trait Objects: Send + Sync {
    /// The object, by plural and group (`volumes`, `longhorn.io`; core kinds have group `""`).
    fn get(&self, group: &str, plural: &str, namespace: Option<&str>, name: &str) -> Option<Value>;
    /// All objects of a kind, in every namespace.
    fn list(&self, group: &str, plural: &str) -> Vec<Value>;
}

/// Reviews writes.
pub trait Admission: Send + Sync {
    /// May change `object` (mutation) and may refuse it (validation). On delete `object` is the stored object.
    fn review(&self, review: &Review<'_>, object: &mut Value, objects: &dyn Objects) -> Result<(), Refusal>;
}

/// Admits everything as it is.
#[derive(Debug, Default)]
pub struct AdmitAll;

impl Admission for AdmitAll {
    fn review(&self, _: &Review<'_>, _: &mut Value, _: &dyn Objects) -> Result<(), Refusal> {
        Ok(())
    }
}
