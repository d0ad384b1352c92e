//! What a run consists of. All times are UTC, all durations in seconds when written as JSON.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// Index of a step in [`Record::steps`].
pub type StepId = usize;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Done; nothing had to be changed.
    Ok,
    /// Done; something was changed.
    Changed,
    /// Not needed, as the runbook said.
    Skipped,
    /// Something could not be checked.
    Unverifiable,
    /// An error ended it, or a check in it failed.
    Failed,
    /// The operator interrupted it.
    Interrupted,
}

impl Outcome {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Changed => "changed",
            Self::Skipped => "skipped",
            Self::Unverifiable => "unverifiable",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A unit of progress.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What it does, as the runbook named it.
    pub name: String,
    /// The step it is part of.
    pub parent: Option<StepId>,
    /// 0 for a step of the runbook itself, 1 for a step in a step, ….
    pub depth: usize,
    /// When it began.
    pub started: Timestamp,
    /// How long it took; unknown while it is under way.
    #[serde(rename = "seconds", serialize_with = "optional_seconds")]
    pub duration: Option<Duration>,
    /// How it ended; unknown while it is under way.
    pub outcome: Option<Outcome>,
    /// Why it was skipped or failed.
    pub reason: Option<String>,
    /// What it changed itself, without what its inner steps changed.
    pub changes: usize,
    /// An error ended it (it may have been caught by the runbook).
    #[serde(skip)]
    pub threw: bool,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// As expected.
    Passed,
    /// Not as expected.
    Failed,
    /// Nothing is known.
    Unverifiable,
}

impl Judgement {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unverifiable => "unverifiable",
        }
    }
}

/// One thing that was checked.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was checked.
    pub what: String,
    /// What was found.
    pub judgement: Judgement,
    /// What differs, or why nothing is known.
    pub detail: Option<String>,
    /// The step it belongs to.
    pub step: Option<StepId>,
}

/// One object the run changed.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// What was done to what: `created Secret longhorn-system/s3`.
    pub what: String,
    /// The step that did it.
    pub step: Option<StepId>,
}

/// A value the runbook measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: serde_json::Value,
}

/// A table the runbook wants shown.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Its heading.
    pub title: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// One value per column; null where the runbook gave none.
    pub rows: Vec<Vec<serde_json::Value>>,
}

/// A line the runbook wrote.
#[derive(Clone, Debug, Serialize)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// It is a warning.
    pub warning: bool,
    /// What it says.
    pub text: String,
}

/// Everything known about a run.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// The runbook as the operator named it.
    pub runbook: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it has taken.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub duration: Duration,
    /// The parameters it was run with.
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// Its steps in the order they began.
    pub steps: Vec<Step>,
    /// Its checks.
    pub checks: Vec<Check>,
    /// What it measured.
    pub values: Vec<Measured>,
    /// Its tables.
    pub tables: Vec<Table>,
    /// What it changed.
    pub changes: Vec<Change>,
    /// What was to change something and did not come to its end: nobody knows how far it came.
    pub unfinished: Vec<Change>,
    /// What it said.
    pub log: Vec<LogLine>,
}

fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    // Whole milliseconds: finer digits of a clock that also schedules threads mean nothing.
    to.serialize_f64(duration.as_millis() as f64 / 1000.0)
}

// The signature is serde's.
#[allow(clippy::ref_option)]
fn optional_seconds<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, to),
        None => to.serialize_none(),
    }
}
