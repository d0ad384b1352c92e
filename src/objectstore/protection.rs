//! What keeps objects from being destroyed: versioning and object lock, in S3's own terms.

use jiff::Timestamp;
use serde::Serialize;

/// Whether a bucket keeps former versions of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versioning {
    /// It never did; a folder never does.
    Never,
    /// It does.
    Enabled,
    /// It keeps those it has, and makes no more.
    Suspended,
}

/// Object lock of a bucket, which is on for good once it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectLock {
    /// What new objects get whose writer asks for nothing.
    pub retention: Option<DefaultRetention>,
}

/// How new objects are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DefaultRetention {
    /// Who can end it early.
    pub mode: LockMode,
    /// For how long; a year is 365 days.
    pub days: u32,
}

/// Who can end a lock early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LockMode {
    /// Whoever has the permission `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody.
    Compliance,
}

/// What keeps the current version of one object from being destroyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Until when it cannot be destroyed; also a time that is past.
    pub until: Option<Timestamp>,
    /// How that can be ended.
    pub mode: Option<LockMode>,
    /// Whether it is held until somebody lifts that.
    pub is_held: bool,
}

impl Protection {
    /// When it can be destroyed, [`Timestamp::MAX`] for one that is held; nothing when it is not locked at all.
    pub fn end(&self) -> Option<Timestamp> {
        if self.is_held { Some(Timestamp::MAX) } else { self.until }
    }

    /// Whether it cannot be destroyed at that time.
    pub fn is_locked(&self, at: Timestamp) -> bool {
        self.end().is_some_and(|end| end > at)
    }
}
