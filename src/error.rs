//! The one error type that crosses rooms: what kind of failure, what happened, what to do next.

use std::{fmt, sync::Arc};

/// Result with the project's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is. Scripts see it as `e.kind`; the process ends with its [exit code](Kind::exit_code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Wrong command line, parameter or configuration.
    Usage,
    /// The runbook itself is wrong: syntax, unknown function, wrong argument type.
    Script,
    /// The named object, key, file or volume does not exist.
    NotFound,
    /// Somebody else holds or changed it.
    Conflict,
    /// Credentials were refused or lack a permission.
    Denied,
    /// A server could not be reached, or no server is configured.
    Unreachable,
    /// It did not happen within the time given.
    Timeout,
    /// Input that is not what it must be: a manifest, an object of the bucket, an answer of a server.
    Invalid,
    /// Stored data is damaged: a missing or altered block, a cut-off configuration object.
    Damaged,
    /// A verification found other data than expected.
    Differs,
    /// A gate or the operator refused to go on.
    Refused,
    /// Some of it was done, some was not.
    Partial,
    /// A check could not be made, so nothing is known.
    Unchecked,
    /// Interrupted by the operator.
    Cancelled,
    /// Anything else that went wrong.
    Failed,
}

impl Kind {
    /// The name scripts compare with, in kebab case where it has two words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Script => "script",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Invalid => "invalid",
            Self::Damaged => "damaged",
            Self::Differs => "differs",
            Self::Refused => "refused",
            Self::Partial => "partial",
            Self::Unchecked => "unchecked",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// The kind of that name (see [`Kind::as_str`]).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The process's exit code when this failure ends it: 1 failed, 2 usage or script, 3 data differ, 4 refused,
    /// 5 partial, 6 could not check, 130 interrupted.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage | Self::Script => 2,
            Self::Damaged | Self::Differs => 3,
            Self::Refused => 4,
            Self::Partial => 5,
            Self::Denied | Self::Unreachable | Self::Unchecked => 6,
            Self::Cancelled => 130,
            Self::NotFound | Self::Conflict | Self::Timeout | Self::Invalid | Self::Failed => 1,
        }
    }

    const ALL: [Self; 15] = [
        Self::Usage,
        Self::Script,
        Self::NotFound,
        Self::Conflict,
        Self::Denied,
        Self::Unreachable,
        Self::Timeout,
        Self::Invalid,
        Self::Damaged,
        Self::Differs,
        Self::Refused,
        Self::Partial,
        Self::Unchecked,
        Self::Cancelled,
        Self::Failed,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure with its kind, a message (what, where), a hint (what to do next) and its cause.
///
/// Cheap to clone, so that one failure can be thrown into a script, caught, and reported at the end.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    object: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of that kind; the message says what happened and to what, without a trailing full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, object: None, source: None }
    }

    /// Adds what the operator can do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the object it is about, as `kind/namespace/name`, an S3 key, or a path.
    #[must_use]
    pub fn object(mut self, object: impl Into<String>) -> Self {
        self.object = Some(object.into());
        self
    }

    /// Adds the cause; its text is part of the [`Display`](fmt::Display) form.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Puts what was being done in front of the message: `restoring pvc-1: …`.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What happened, without hint and cause.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next, if known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The object it is about, if known.
    pub fn object_name(&self) -> Option<&str> {
        self.object.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source.as_deref().map(|e| e as &dyn std::error::Error);
        let mut said = self.message.clone();
        while let Some(error) = cause {
            let text = error.to_string();
            // Libraries often repeat their cause in their own text; say each thing once.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::from_name("no-such-kind"), None);
    }

    #[test]
    fn the_cause_is_said_once() {
        let cause = std::io::Error::other("disk full");
        let error = Error::new(Kind::Failed, "writing image.raw").source(cause);
        assert_eq!(error.to_string(), "writing image.raw: disk full");
        let repeated = Error::new(Kind::Failed, "writing: disk full").source(std::io::Error::other("disk full"));
        assert_eq!(repeated.to_string(), "writing: disk full");
    }
}
