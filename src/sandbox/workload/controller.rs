//! How every controller here runs: kube's `Controller` with one error policy, until the cluster stops.

use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Client, Resource,
    runtime::{Controller, controller::Action},
};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::events::{Recorder, full_name};
use crate::{Error, Kind, Result};

/// What a reconciler works with.
pub struct Context {
    /// The cluster.
    pub client: Client,
    /// Events in the controller's name.
    pub events: Recorder,
}

impl Context {
    /// A context whose events are `component`'s.
    pub fn new(client: &Client, component: &'static str) -> Arc<Self> {
        Arc::new(Self { client: client.clone(), events: Recorder::new(client.clone(), component) })
    }
}

/// Runs the controller until `stop`. A failed reconciliation is tried again soon: the usual cause is a write that
/// met a newer object.
pub async fn run<K, F>(
    controller: Controller<K>,
    context: Arc<Context>,
    stop: CancellationToken,
    reconcile: impl FnMut(Arc<K>, Arc<Context>) -> F,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action>> + Send + 'static,
{
    let stream = controller.run(reconcile, |object, error, _| retry(&*object, error), context);
    // Dropping the stream stops the watches and the reconciliations under way.
    tokio::select! {
        () = stream.for_each(|_| std::future::ready(())) => {}
        () = stop.cancelled() => {}
    }
}

fn retry<K: Resource<DynamicType = ()>>(object: &K, error: &Error) -> Action {
    tracing::debug!(kind = %K::kind(&()), object = full_name(object), %error, "reconciling");
    Action::requeue(Duration::from_millis(if error.kind() == Kind::Conflict { 50 } else { 500 }))
}
