//! What a bucket keeps besides its current objects, and what time it is there.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::{
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeDeserializationInterceptorContextRef},
    error::BoxError,
};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use jiff::{Timestamp, fmt::rfc2822};

use super::Bucket;
use crate::{Error, Kind, Result, objectstore::ObjectVersion};

/// Where a page of versions begins: after that version of that key.
type Marker = (String, Option<String>);

impl Bucket {
    pub(in crate::objectstore) fn list_versions(&self, prefix: &str) -> BoxStream<'static, Result<Vec<ObjectVersion>>> {
        let (bucket, prefix) = (self.clone(), prefix.to_owned());
        stream::try_unfold(Some(None), move |next: Option<Option<Marker>>| {
            let (bucket, prefix) = (bucket.clone(), prefix.clone());
            async move {
                let Some(marker) = next else { return Ok(None) };
                let (page, next) = bucket.versions_page(&prefix, marker).await?;
                Ok(Some((page, next.map(Some))))
            }
        })
        .boxed()
    }

    async fn versions_page(
        &self,
        prefix: &str,
        marker: Option<Marker>,
    ) -> Result<(Vec<ObjectVersion>, Option<Marker>)> {
        let (key, version) = marker.clone().unzip();
        let answer = self
            .inner
            .client
            .list_object_versions()
            .bucket(&self.inner.name)
            .prefix(self.full(prefix))
            .set_key_marker(key)
            .set_version_id_marker(version.flatten())
            .send()
            .await
            .map_err(|error| self.fault("listing the versions of", prefix, error))?;
        let mut page = Vec::new();
        for version in answer.versions() {
            let key = self.relative(version.key().unwrap_or_default())?;
            let size = version.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
            let is_current = version.is_latest() == Some(true);
            let version = version.version_id().unwrap_or_default().to_owned();
            page.push(ObjectVersion { key, version, size: Some(size), is_current });
        }
        for deleted in answer.delete_markers() {
            let key = self.relative(deleted.key().unwrap_or_default())?;
            let is_current = deleted.is_latest() == Some(true);
            let version = deleted.version_id().unwrap_or_default().to_owned();
            page.push(ObjectVersion { key, version, size: None, is_current });
        }
        if answer.is_truncated() != Some(true) {
            return Ok((page, None));
        }
        let next =
            answer.next_key_marker().map(|key| (key.to_owned(), answer.next_version_id_marker().map(Into::into)));
        if next.is_none() || next == marker {
            let place = self.describe();
            let text = format!("listing the versions of {prefix} in {place}: the server does not say how to go on");
            return Err(Error::new(Kind::Invalid, text).object(prefix));
        }
        Ok((page, next))
    }

    /// The server's time, to the second, which every answer states; this machine's where it does not.
    pub(in crate::objectstore) async fn now(&self) -> Result<Timestamp> {
        let date = Date::default();
        let request = self.inner.client.list_objects_v2().bucket(&self.inner.name).prefix(self.full("")).max_keys(1);
        let answer = request.customize().interceptor(date.clone()).send().await;
        answer.map_err(|error| self.fault("listing", "", error))?;
        let seen = date.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(seen.unwrap_or_else(|| {
            tracing::warn!("{} does not say what time it is there: ages are by this machine's clock", self.endpoint());
            Timestamp::now()
        }))
    }
}

/// Takes the `Date` of an answer.
#[derive(Clone, Debug, Default)]
struct Date(Arc<Mutex<Option<Timestamp>>>);

impl Intercept for Date {
    fn name(&self) -> &'static str {
        "Date"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(|date| rfc2822::parse(date).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date.map(|date| date.timestamp());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
