//! Waiting for objects by watching them.

use std::{fmt::Debug, time::Duration};

use futures::{StreamExt, TryStreamExt};
use kube::{Api, runtime::watcher};
use serde::de::DeserializeOwned;

/// Pause before a broken watch is opened again.
const RETRY: Duration = Duration::from_millis(300);

/// Waits until the object exists and `holds`, and gives it. Broken watches are opened again: only the caller's
/// cancellation ends this.
pub async fn until<K>(api: &Api<K>, name: &str, mut holds: impl FnMut(&K) -> bool) -> K
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    loop {
        let mut changes = watcher::watch_object(api.clone(), name).boxed();
        loop {
            match changes.try_next().await {
                Ok(Some(Some(object))) if holds(&object) => return object,
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, name, "waiting for an object");
                    break;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
