//! How a run ended, as one word and an exit code.

use serde::Serialize;

use super::{Judgement, Record, record::worst};
use crate::{Error, Kind};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything was done and nothing had to be changed.
    Unchanged,
    /// Everything was done.
    Done,
    /// An error ended it.
    Failed,
    /// A check found other data than expected.
    Differs,
    /// A gate or the operator refused to go on.
    Refused,
    /// Some of it was done, some was not.
    Partial,
    /// Something could not be checked.
    Unverifiable,
    /// The operator interrupted it.
    Interrupted,
}

impl Verdict {
    /// The verdict on a run that ended with that error, or without one.
    pub fn of(record: &Record, error: Option<&Error>) -> Self {
        let checks = worst(record.checks.iter());
        match error.map(Error::kind) {
            Some(Kind::Cancelled) => Self::Interrupted,
            Some(Kind::Refused) => Self::Refused,
            Some(Kind::Damaged | Kind::Differs) => Self::Differs,
            Some(Kind::Partial) => Self::Partial,
            Some(Kind::Denied | Kind::Unreachable | Kind::Unchecked) => Self::Unverifiable,
            Some(_) => Self::Failed,
            None if checks == Some(Judgement::Failed) => Self::Differs,
            None if record.has_lost_step() => Self::Partial,
            None if checks == Some(Judgement::Unverifiable) => Self::Unverifiable,
            None if record.changes.is_empty() && record.unfinished.is_empty() => Self::Unchanged,
            None => Self::Done,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Differs => "differs",
            Self::Refused => "refused",
            Self::Partial => "partial",
            Self::Unverifiable => "unverifiable",
            Self::Interrupted => "interrupted",
        }
    }
}

/// The process's exit code for a run that ended with that error, or without one: 0 done, 1 failed, 2 usage or script,
/// 3 data differ, 4 refused, 5 partial, 6 could not check, 130 interrupted.
///
/// A failed check outweighs an ordinary failure: what is known to be wrong must not look like a mere hiccup.
pub fn exit_code(record: &Record, error: Option<&Error>) -> u8 {
    let differs = Kind::Differs.exit_code();
    match error {
        Some(error) => match error.kind().exit_code() {
            1 if worst(record.checks.iter()) == Some(Judgement::Failed) => differs,
            code => code,
        },
        None => match Verdict::of(record, None) {
            Verdict::Differs => differs,
            Verdict::Partial => Kind::Partial.exit_code(),
            Verdict::Unverifiable => Kind::Unchecked.exit_code(),
            _ => 0,
        },
    }
}

impl Record {
    /// Whether a step ended with an error the runbook caught, and no later attempt of the same step came through.
    fn has_lost_step(&self) -> bool {
        self.steps.iter().enumerate().any(|(id, step)| {
            let redone = |later: &super::Step| {
                later.name == step.name && later.parent == step.parent && later.outcome.is_some() && !later.threw
            };
            // An error that went on to end the step around it is judged there.
            let caught = step.parent.is_none_or(|parent| !self.steps[parent].threw);
            step.threw && caught && !self.steps[id + 1..].iter().any(redone)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Outcome, Run, Silent, StepEnd};

    fn run() -> Run {
        Run::new("test.rhai", Silent)
    }

    fn step(run: &Run, name: &str, result: Result<(), Error>) {
        let id = run.begin_step(name);
        match result {
            Ok(()) => run.end_step(id, StepEnd::Returned),
            Err(error) => run.end_step(id, StepEnd::Threw(&error)),
        }
    }

    #[test]
    fn a_run_without_error_is_judged_by_its_checks_and_steps() {
        let run = run();
        assert_eq!((Verdict::of(&run.record(), None), exit_code(&run.record(), None)), (Verdict::Unchanged, 0));
        run.change("created Secret a/b");
        run.check("rows", Judgement::Passed, None);
        assert_eq!((Verdict::of(&run.record(), None), exit_code(&run.record(), None)), (Verdict::Done, 0));
        run.check("owner", Judgement::Unverifiable, Some("no answer".into()));
        assert_eq!(exit_code(&run.record(), None), 6);
        step(&run, "restore b", Err(Error::new(Kind::Timeout, "too slow")));
        assert_eq!((Verdict::of(&run.record(), None), exit_code(&run.record(), None)), (Verdict::Partial, 5));
        run.check("rows", Judgement::Failed, None);
        assert_eq!((Verdict::of(&run.record(), None), exit_code(&run.record(), None)), (Verdict::Differs, 3));
    }

    #[test]
    fn a_step_that_comes_through_later_is_not_lost() {
        let run = run();
        step(&run, "restore", Err(Error::new(Kind::Timeout, "too slow")));
        step(&run, "restore", Ok(()));
        assert_eq!(exit_code(&run.record(), None), 0);
    }

    #[test]
    fn an_error_decides_unless_the_data_are_known_to_differ() {
        let run = run();
        let failed = Error::new(Kind::Failed, "x");
        for (kind, code) in [(Kind::Script, 2), (Kind::Refused, 4), (Kind::Unreachable, 6), (Kind::Cancelled, 130)] {
            assert_eq!(exit_code(&run.record(), Some(&Error::new(kind, "x"))), code);
        }
        assert_eq!(exit_code(&run.record(), Some(&failed)), 1);
        run.check("rows", Judgement::Failed, None);
        assert_eq!(exit_code(&run.record(), Some(&failed)), 3);
        assert_eq!(exit_code(&run.record(), Some(&Error::new(Kind::Cancelled, "x"))), 130);
    }

    #[test]
    fn a_step_ends_as_the_worst_of_what_happened_in_it() {
        let run = run();
        let outer = run.begin_step("outer");
        let quiet = run.begin_step("quiet");
        run.end_step(quiet, StepEnd::Returned);
        let skipped = run.begin_step("skipped");
        assert!(run.skip("nothing to do"));
        run.end_step(skipped, StepEnd::Returned);
        let changed = run.begin_step("changed");
        run.change("created x");
        run.end_step(changed, StepEnd::Returned);
        let unknown = run.begin_step("unknown");
        run.check("x", Judgement::Unverifiable, None);
        run.end_step(unknown, StepEnd::Returned);
        run.end_step(outer, StepEnd::Returned);
        step(&run, "cut off", Err(Error::new(Kind::Cancelled, "interrupted")));
        let record = run.record();
        let outcomes: Vec<_> = record.steps.iter().map(|step| (step.depth, step.outcome)).collect();
        let expected = [
            (0, Outcome::Unverifiable),
            (1, Outcome::Ok),
            (1, Outcome::Skipped),
            (1, Outcome::Changed),
            (1, Outcome::Unverifiable),
            (0, Outcome::Interrupted),
        ];
        assert_eq!(outcomes, expected.map(|(depth, outcome)| (depth, Some(outcome))));
        assert!(!run.skip("outside of a step"));
    }
}
