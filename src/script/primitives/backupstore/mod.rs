//! `backupstore::`: what a store of Longhorn backups holds, read from the store itself; no cluster is needed.
//!
//! Volumes are named as in the store (`pvc-…`).

mod copying;
mod looking;
mod proving;

use std::future::Future;

use rhai::{Array, Module, NativeCallContext, exported_module};
use serde::Serialize;

use super::{longhorn::data, s3::configured};
use crate::{
    Result,
    objectstore::Store,
    script::{RhaiResultOf, block},
};

/// A store opened with `backupstore::open`.
#[derive(Clone, Debug)]
pub struct Opened(Store);

/// The namespace's functions.
pub fn module() -> Module {
    let mut module = exported_module!(looking::api);
    module.combine(exported_module!(copying::api));
    module.combine(exported_module!(proving::api));
    module
}

/// Works on the store, or on the configured one, else on the one the cluster's Longhorn keeps its backups in.
fn on<T, F>(ctx: &NativeCallContext, store: Option<&Opened>, work: impl FnOnce(Store) -> F) -> RhaiResultOf<T>
where
    F: Future<Output = Result<T>>,
{
    let opened = store.map(|store| store.0.clone());
    block(ctx, |host| async move {
        match opened {
            Some(store) => work(store).await,
            None => work(configured(&host).await?).await,
        }
    })
}

/// A list of what the layer below tells.
fn list<T: Serialize>(views: impl IntoIterator<Item = T>) -> Result<Array> {
    views.into_iter().map(|view| data(&view)).collect()
}

#[cfg(test)]
mod tests;
