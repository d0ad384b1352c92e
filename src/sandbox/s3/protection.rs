//! Versioning and object lock: what a bucket is set to, and what keeps a version from being destroyed.

use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use s3s::{
    S3Result,
    dto::{self, TimestampFormat},
    s3_error,
};
use serde::{Deserialize, Serialize};

/// What a bucket was set to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Nothing: it never kept versions.
    pub versioning: Option<Versioning>,
    pub lock: Option<Lock>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Versioning {
    Enabled,
    Suspended,
}

/// Object lock is on, which is for good.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Lock {
    pub default: Option<DefaultRetention>,
}

/// How long new versions are locked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct DefaultRetention {
    pub mode: Mode,
    pub length: Length,
}

/// As it was said, so that it is given back like that.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Length {
    Days(i32),
    Years(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Mode {
    /// Who has the permission to bypass it may.
    Governance,
    /// Nobody may.
    Compliance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Retention {
    pub mode: Mode,
    pub until: Timestamp,
}

/// What keeps one version from being destroyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Protection {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Nothing: none was ever set or lifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legal_hold: Option<bool>,
}

impl Settings {
    /// The protection of a version that is written now.
    pub(super) fn protect(&self, wished: Protection) -> S3Result<Protection> {
        let Some(lock) = self.lock else {
            return if wished == Protection::default() { Ok(wished) } else { Err(no_lock()) };
        };
        let default = lock.default.filter(|_| wished.retention.is_none());
        let retention = default.map(|default| {
            let days = match default.length {
                Length::Days(days) => i64::from(days),
                Length::Years(years) => i64::from(years) * 365,
            };
            let until = Timestamp::now().checked_add(SignedDuration::from_hours(days * 24));
            Retention { mode: default.mode, until: until.unwrap_or(Timestamp::MAX) }
        });
        Ok(Protection { retention: retention.or(wished.retention), ..wished })
    }

    /// Fails unless object lock is on.
    pub(super) fn check_lock(&self) -> S3Result<()> {
        self.lock.map(|_| ()).ok_or_else(no_lock)
    }
}

fn no_lock() -> s3s::S3Error {
    s3_error!(InvalidRequest, "the bucket has no object lock")
}

impl Protection {
    /// Fails while the version must not be destroyed.
    pub(super) fn check(&self, bypass: bool) -> S3Result<()> {
        let is_retained = self.active().is_some_and(|retention| retention.mode == Mode::Compliance || !bypass);
        if is_retained || self.legal_hold == Some(true) {
            return Err(s3_error!(AccessDenied, "the object is locked"));
        }
        Ok(())
    }

    /// Sets another retention, unless that would weaken the one there is.
    pub(super) fn retain(&mut self, wished: Option<Retention>, bypass: bool) -> S3Result<()> {
        if wished.is_some_and(|wished| wished.until <= Timestamp::now()) {
            return Err(s3_error!(InvalidRequest, "the time to retain the object until must lie in the future"));
        }
        let is_weaker = self.active().is_some_and(|now| {
            let is_less = wished.is_none_or(|wished| wished.mode != now.mode || wished.until < now.until);
            is_less && (now.mode == Mode::Compliance || !bypass)
        });
        if is_weaker {
            return Err(s3_error!(AccessDenied, "the object is locked"));
        }
        self.retention = wished;
        Ok(())
    }

    /// Whether it is of an object that anything keeps.
    pub(super) fn is_locked(&self) -> bool {
        self.retention.is_some() || self.legal_hold == Some(true)
    }

    fn active(&self) -> Option<Retention> {
        self.retention.filter(|retention| retention.until > Timestamp::now())
    }
}

impl Mode {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Governance => dto::ObjectLockRetentionMode::GOVERNANCE,
            Self::Compliance => dto::ObjectLockRetentionMode::COMPLIANCE,
        }
    }

    pub(super) fn parse(text: &str) -> S3Result<Self> {
        match text {
            dto::ObjectLockRetentionMode::GOVERNANCE => Ok(Self::Governance),
            dto::ObjectLockRetentionMode::COMPLIANCE => Ok(Self::Compliance),
            _ => Err(s3_error!(MalformedXML, "the mode is GOVERNANCE or COMPLIANCE")),
        }
    }
}

impl Retention {
    /// As requests say it, with both parts or none.
    pub(super) fn parse(mode: Option<&str>, until: Option<&dto::Timestamp>) -> S3Result<Option<Self>> {
        match (mode, until) {
            (None, None) => Ok(None),
            (Some(mode), Some(until)) => Ok(Some(Self { mode: Mode::parse(mode)?, until: moment(until)? })),
            _ => Err(s3_error!(MalformedXML, "a retention has a mode and a time")),
        }
    }

    pub(super) fn until(&self) -> dto::Timestamp {
        SystemTime::from(self.until).into()
    }
}

/// What the head of a request for an object to be written says.
pub(super) fn wished(
    mode: Option<&dto::ObjectLockMode>,
    until: Option<&dto::Timestamp>,
    hold: Option<&dto::ObjectLockLegalHoldStatus>,
) -> S3Result<Protection> {
    let retention = Retention::parse(mode.map(dto::ObjectLockMode::as_str), until)?;
    if retention.is_some_and(|retention| retention.until <= Timestamp::now()) {
        return Err(s3_error!(InvalidRequest, "the time to retain the object until must lie in the future"));
    }
    Ok(Protection { retention, legal_hold: hold.map(|hold| hold.as_str() == dto::ObjectLockLegalHoldStatus::ON) })
}

fn moment(time: &dto::Timestamp) -> S3Result<Timestamp> {
    let mut text = Vec::new();
    let wrong = || s3_error!(InvalidArgument, "the time is none");
    time.format(TimestampFormat::DateTime, &mut text).map_err(|_| wrong())?;
    std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(mode: Mode, hours: i64) -> Retention {
        Retention { mode, until: Timestamp::now() + SignedDuration::from_hours(hours) }
    }

    #[test]
    fn a_retention_is_not_weakened_unless_it_may_be_bypassed() {
        use Mode::{Compliance, Governance};
        for (now, wished, plainly, bypassing) in [
            (retention(Governance, 9), Some(retention(Governance, 10)), true, true),
            (retention(Governance, 9), Some(retention(Governance, 1)), false, true),
            (retention(Governance, 9), Some(retention(Compliance, 10)), false, true),
            (retention(Governance, 9), None, false, true),
            (retention(Compliance, 9), Some(retention(Compliance, 10)), true, true),
            (retention(Compliance, 9), Some(retention(Compliance, 1)), false, false),
            (retention(Compliance, 9), Some(retention(Governance, 10)), false, false),
            (retention(Compliance, 9), None, false, false),
            (retention(Compliance, -9), None, true, true),
            (retention(Governance, 9), Some(retention(Governance, -1)), false, false),
        ] {
            for (bypass, allowed) in [(false, plainly), (true, bypassing)] {
                let mut protection = Protection { retention: Some(now), legal_hold: None };
                assert_eq!(protection.retain(wished, bypass).is_ok(), allowed, "{now:?} {wished:?} {bypass}");
                assert_eq!(protection.retention, if allowed { wished } else { Some(now) });
            }
        }
    }

    #[test]
    fn what_is_retained_or_held_is_not_destroyed() {
        for (hours, mode, hold, plainly, bypassing) in [
            (9, Mode::Governance, None, false, true),
            (9, Mode::Compliance, None, false, false),
            (-9, Mode::Compliance, None, true, true),
            (-9, Mode::Compliance, Some(false), true, true),
            (-9, Mode::Governance, Some(true), false, false),
        ] {
            let protection = Protection { retention: Some(retention(mode, hours)), legal_hold: hold };
            assert_eq!((protection.check(false).is_ok(), protection.check(true).is_ok()), (plainly, bypassing));
        }
    }

    #[test]
    fn only_a_bucket_with_object_lock_protects() {
        let wished = Protection { retention: Some(retention(Mode::Compliance, 9)), legal_hold: None };
        assert!(Settings::default().protect(wished).is_err());
        assert_eq!(Settings::default().protect(Protection::default()).unwrap(), Protection::default());
        let default = DefaultRetention { mode: Mode::Governance, length: Length::Years(1) };
        let settings = Settings { lock: Some(Lock { default: Some(default) }), ..Settings::default() };
        let given = settings.protect(Protection::default()).unwrap().retention.unwrap();
        let hours = given.until.duration_since(Timestamp::now()).as_hours();
        assert_eq!((given.mode, hours), (Mode::Governance, 365 * 24 - 1));
        assert_eq!(settings.protect(wished).unwrap(), wished);
    }
}
