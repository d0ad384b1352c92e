//! One execution of a runbook: its steps, checks, measured values and outcome.
//!
//! [`Run`] collects what happens and tells an [`Observer`] at once; [`Record`] is what remains and what `report` shows.

mod current;
mod model;
mod record;
mod verdict;

pub use current::{Place, inherit};
pub use model::{Change, Check, Judgement, LogLine, Measured, Outcome, Record, Step, StepId, Table};
pub use record::{Event, Observer, Run, Silent, StepEnd};
pub use verdict::{Verdict, exit_code};
