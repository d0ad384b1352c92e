//! `kube::`: the objects of the cluster, as kubectl knows them.
//!
//! Kinds are named as in kubectl (`pod`, `pvc`, `deployments.apps`), objects `"namespace/name"`, or `"name"` for kinds
//! without namespace and in the default one.

mod changes;
mod objects;
mod pods;
mod waiting;

use std::future::Future;

use rhai::{Dynamic, Module, NativeCallContext, exported_module};
use serde_json::Value;

use crate::{
    Result,
    cluster::Cluster,
    script::{RhaiResultOf, block, convert},
};

/// The namespace's functions.
pub fn module() -> Module {
    let mut module = exported_module!(objects::api);
    module.combine(exported_module!(changes::api));
    module.combine(exported_module!(pods::api));
    module.combine(exported_module!(waiting::api));
    module
}

/// Runs work on the run's cluster.
fn on_cluster<T, F>(ctx: &NativeCallContext, work: impl FnOnce(Cluster) -> F) -> RhaiResultOf<T>
where
    F: Future<Output = Result<T>>,
{
    block(ctx, |host| async move { work(host.cluster().await?).await })
}

fn objects(found: &[Value]) -> rhai::Array {
    found.iter().map(convert::to_dynamic).collect()
}

fn object(found: &Value) -> Dynamic {
    convert::to_dynamic(found)
}

#[cfg(test)]
mod tests;
