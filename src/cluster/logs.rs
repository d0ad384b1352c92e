//! The log of a container.

use kube::core::{Request as Call, subresource::LogParams};

use super::{Cluster, ObjectRef, fault};
use crate::{Error, Kind, Result};

/// Longest log that is read; the beginning of a longer one is given.
const MOST_BYTES: i64 = 16 << 20;

/// Which part of which log.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Container; the pod's only one when not named.
    pub container: Option<String>,
    /// Only the last lines.
    pub tail: Option<u32>,
    /// The instance before the last restart.
    pub previous: bool,
}

impl Cluster {
    /// The log of a pod's container, at most 16 MiB of it.
    pub async fn logs(&self, pod: &ObjectRef, options: &LogOptions) -> Result<String> {
        let kind = self.kind(&pod.kind).await?;
        if kind.full_name() != "pods" {
            return Err(Error::new(Kind::Usage, format!("logs are read from pods, not from {}", kind.full_name())));
        }
        let call = Call::new(kind.path(self.object_namespace(&kind, pod)?));
        let params = LogParams {
            container: options.container.clone(),
            tail_lines: options.tail.map(i64::from),
            previous: options.previous,
            limit_bytes: Some(MOST_BYTES),
            ..LogParams::default()
        };
        let doing = super::objects::doing("read the log of", &kind, pod);
        let request =
            call.logs(&pod.name, &params).map_err(|error| Error::new(Kind::Usage, doing.clone()).source(error))?;
        let log = self.inner.client.request_text(request).await;
        log.map_err(|error| fault::describe(error, &doing).object(pod.to_string()))
    }
}
