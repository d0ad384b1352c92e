//! One request: sent, repeated while the failure is one that passes, and discovery on top of it.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use kube::core::discovery::v2::{ACCEPT_AGGREGATED_DISCOVERY_V2, APIGroupDiscoveryList};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    ApiKind, Cluster, KindIndex,
    fault::{self, Transient},
};
use crate::{Error, Kind, Result};

/// Longest time for one answer; a server that accepts the connection and stays silent must not hang a run.
const ANSWER: Duration = Duration::from_mins(1);
/// How long a busy server or a webhook that restarts is waited for.
const BUSY: Duration = Duration::from_secs(45);
/// How long a server that cannot be connected to is waited for.
const NO_CONNECTION: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) type Request = http::Request<Vec<u8>>;

impl Cluster {
    /// Sends a request that may be repeated without harm; `doing` names the action and its object for errors.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        request: Result<Request, kube::core::request::Error>,
        doing: &str,
    ) -> Result<T> {
        let request = request.map_err(|error| Error::new(Kind::Usage, doing.to_string()).source(error))?;
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = tokio::time::timeout(ANSWER, self.inner.client.request::<T>(request.clone())).await;
            let Ok(answer) = answer else {
                let message = format!("{doing}: the API server did not answer within {} s", ANSWER.as_secs());
                return Err(Error::new(Kind::Timeout, message));
            };
            let error = match answer {
                Ok(object) => return Ok(object),
                Err(error) => error,
            };
            let patience = match fault::transient(&error) {
                Some(Transient::Busy) => BUSY,
                Some(Transient::NoConnection) => NO_CONNECTION,
                None => return Err(fault::describe(error, doing)),
            };
            if start.elapsed() + pause > patience {
                return Err(fault::describe(error, doing));
            }
            tracing::debug!(%error, doing, "repeating");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The kind a typed word means; see [`KindIndex::resolve`]. A word that is not known is looked up once more in a
    /// fresh discovery, because its CRD may have been installed since.
    pub async fn kind(&self, word: &str) -> Result<Arc<ApiKind>> {
        let (index, fresh) = self.kinds(false).await?;
        match index.resolve(word) {
            Err(error) if error.kind() == Kind::NotFound && !fresh => self.kinds(true).await?.0.resolve(word),
            other => other,
        }
    }

    /// The kind of an object by its own `apiVersion` and `kind`.
    pub(super) async fn kind_of(&self, object: &Value) -> Result<Arc<ApiKind>> {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version.is_empty() || kind.is_empty() {
            return Err(Error::new(Kind::Invalid, "an object without apiVersion or kind"));
        }
        let (index, fresh) = self.kinds(false).await?;
        if let Some(known) = index.of_manifest(api_version, kind) {
            return Ok(known);
        }
        let index = if fresh { index } else { self.kinds(true).await?.0 };
        index.of_manifest(api_version, kind).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("the cluster serves no kind {kind:?} in {api_version}"))
                .hint("is its CRD installed, and in this version?")
        })
    }

    /// All kinds, and whether they were fetched just now.
    pub(super) async fn kinds(&self, refresh: bool) -> Result<(Arc<KindIndex>, bool)> {
        if !refresh && let Some(index) = self.inner.kinds.read().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok((index, false));
        }
        let document = |path: &str| {
            http::Request::get(path)
                .header(http::header::ACCEPT, ACCEPT_AGGREGATED_DISCOVERY_V2)
                .body(Vec::new())
                .map_err(kube::core::request::Error::BuildRequest)
        };
        let doing = "asking the API server for its kinds";
        // One after the other: together they would open a second connection, which takes longer.
        let core = self.send::<APIGroupDiscoveryList>(document("/api"), doing).await?;
        let groups = self.send::<APIGroupDiscoveryList>(document("/apis"), doing).await?;
        let index = Arc::new(KindIndex::new([core, groups]));
        if index.is_empty() {
            return Err(Error::new(Kind::Invalid, format!("{doing}: it has no aggregated discovery"))
                .hint("Kubernetes 1.27 or newer is needed"));
        }
        *self.inner.kinds.write().unwrap_or_else(PoisonError::into_inner) = Some(index.clone());
        Ok((index, true))
    }
}
