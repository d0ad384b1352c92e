//! The workload controllers: what makes and replaces pods.

pub mod daemon_set;
pub mod deployment;
pub mod job;
pub mod replica_set;
pub mod stateful_set;

use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, Preconditions},
};

/// Deletes this object and not another one that took its name meanwhile.
fn only_this<K: Resource>(object: &K) -> DeleteParams {
    let preconditions = Preconditions { uid: object.uid(), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}
