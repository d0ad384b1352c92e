//! Versioning and object lock of a bucket.

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    primitives::DateTime,
    types::{BucketVersioningStatus, ObjectLockLegalHoldStatus},
};
use jiff::Timestamp;

use super::Bucket;
use crate::{
    Error, Kind, Result,
    objectstore::{DefaultRetention, LockMode, ObjectLock, Protection, Versioning},
};

impl Bucket {
    pub(in crate::objectstore) async fn versioning(&self) -> Result<Versioning> {
        let answer = self.inner.client.get_bucket_versioning().bucket(&self.inner.name).send().await;
        let answer = answer.map_err(|error| self.fault("asking for the versioning of", "", error))?;
        Ok(match answer.status() {
            None => Versioning::Never,
            Some(BucketVersioningStatus::Enabled) => Versioning::Enabled,
            Some(_) => Versioning::Suspended,
        })
    }

    pub(in crate::objectstore) async fn object_lock(&self) -> Result<Option<ObjectLock>> {
        let answer = self.inner.client.get_object_lock_configuration().bucket(&self.inner.name).send().await;
        let answer = match answer {
            // That is how S3 says that there is none.
            Err(SdkError::ServiceError(refusal))
                if refusal.err().code() == Some("ObjectLockConfigurationNotFoundError") =>
            {
                return Ok(None);
            }
            answer => answer.map_err(|error| self.fault("asking for the object lock of", "", error))?,
        };
        let Some(configuration) = answer.object_lock_configuration() else { return Ok(None) };
        if configuration.object_lock_enabled().is_none() {
            return Ok(None);
        }
        let Some(default) = configuration.rule().and_then(|rule| rule.default_retention()) else {
            return Ok(Some(ObjectLock { retention: None }));
        };
        let days = match (default.days(), default.years()) {
            (Some(days), _) if days > 0 => u32::try_from(days).ok(),
            (_, Some(years)) if years > 0 => u32::try_from(years).ok().and_then(|years| years.checked_mul(365)),
            _ => None,
        };
        let mode = default.mode().and_then(|mode| read_mode(mode.as_str()));
        let (Some(mode), Some(days)) = (mode, days) else {
            let place = self.describe();
            return Err(Error::new(Kind::Invalid, format!("the server told no valid default retention of {place}")));
        };
        Ok(Some(ObjectLock { retention: Some(DefaultRetention { mode, days }) }))
    }

    pub(in crate::objectstore) async fn protection(&self, key: &str) -> Result<Option<Protection>> {
        let head = self.inner.client.head_object().bucket(&self.inner.name).key(self.full(key)).send().await;
        let head = match head {
            Err(SdkError::ServiceError(answer)) if answer.raw().status().as_u16() == 404 => return Ok(None),
            head => head.map_err(|error| self.fault("looking at the lock of", key, error))?,
        };
        let is_held = head.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On);
        if let (Some(mode), Some(until)) = (head.object_lock_mode(), head.object_lock_retain_until_date()) {
            return self.told(key, mode.as_str(), until, is_held).map(Some);
        }
        // A head without a lock is also what S3 gives to keys that may not ask for it.
        let answer = self.inner.client.get_object_retention().bucket(&self.inner.name).key(self.full(key)).send().await;
        let answer = match answer {
            Err(SdkError::ServiceError(refusal)) => match refusal.err().code() {
                // The second is SeaweedFS's name for it, the third what a bucket without object lock says.
                Some("NoSuchObjectLockConfiguration" | "ObjectLockConfigurationNotFoundError" | "InvalidRequest") => {
                    return Ok(Some(Protection { is_held, ..Protection::default() }));
                }
                // Deleted since.
                Some("NoSuchKey") => return Ok(None),
                _ => Err(SdkError::ServiceError(refusal)),
            },
            answer => answer,
        };
        let answer = answer.map_err(|error| self.fault("asking for the retention of", key, error))?;
        let retention = answer.retention();
        match (retention.and_then(|r| r.mode()), retention.and_then(|r| r.retain_until_date())) {
            (Some(mode), Some(until)) => self.told(key, mode.as_str(), until, is_held).map(Some),
            _ => Ok(Some(Protection { is_held, ..Protection::default() })),
        }
    }

    fn told(&self, key: &str, mode: &str, until: &DateTime, is_held: bool) -> Result<Protection> {
        let until = Timestamp::from_nanosecond(until.as_nanos()).ok();
        let (Some(mode), Some(until)) = (read_mode(mode), until) else {
            let text = format!("{key} in {}: the server told no valid retention", self.describe());
            return Err(Error::new(Kind::Invalid, text).object(key));
        };
        Ok(Protection { until: Some(until), mode: Some(mode), is_held })
    }
}

fn read_mode(text: &str) -> Option<LockMode> {
    match text {
        "GOVERNANCE" => Some(LockMode::Governance),
        "COMPLIANCE" => Some(LockMode::Compliance),
        _ => None,
    }
}
