//! A run as it happens: one line when a step begins, one when it ends with its time, and its checks in between.
//!
//! ```text
//! ▸ restore 2 volumes
//!   ▸ shop/data-db-0
//!   ✓ shop/data-db-0  41s
//!   ✓ shop/data-db-0: rows: 1000
//! ✓ restore 2 volumes  1m 12s
//! ```

use std::sync::{Mutex, PoisonError};

use crate::{
    run::{Check, Event, Judgement, LogLine, Observer, Outcome, Step},
    terminal::{Style, Terminal, escape, escape::escape_lines, human},
};

/// Shows a run on standard error.
pub struct Live {
    terminal: Terminal,
    /// Why the last step failed: the steps around it fail for the same reason.
    failure: Mutex<Option<String>>,
}

impl Live {
    /// Shows it on that terminal.
    pub fn new(terminal: Terminal) -> Self {
        Self { terminal, failure: Mutex::default() }
    }
}

impl Observer for Live {
    fn observe(&self, event: Event<'_>) {
        let style = self.terminal.style();
        let (depth, line) = match event {
            Event::StepStarted(step) => (step.depth, format!("{} {}", style.cyan("▸"), escape(&step.name))),
            Event::StepEnded(step) => (step.depth, self.ended(step, style)),
            Event::Checked(check, depth) => (depth, checked(check, style)),
            Event::Said(said, depth) => (depth, line(said, style)),
        };
        let indent = "  ".repeat(depth);
        self.terminal.line(line_by_line(&indent, &line));
    }
}

impl Live {
    fn ended(&self, step: &Step, style: Style) -> String {
        let outcome = step.outcome.unwrap_or(Outcome::Failed);
        let time = step.duration.map(human::duration).unwrap_or_default();
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let known = outcome != Outcome::Skipped && *failure == step.reason;
        let reason = step.reason.as_ref().filter(|_| !known && outcome != Outcome::Interrupted);
        if outcome == Outcome::Failed {
            failure.clone_from(&step.reason);
        }
        let reason = reason.map(|reason| format!("  {}", escape(reason))).unwrap_or_default();
        format!("{} {}  {}{reason}", mark(outcome, style), escape(&step.name), style.dim(time))
    }
}

fn line_by_line(indent: &str, text: &str) -> String {
    text.lines().map(|line| format!("{indent}{line}")).collect::<Vec<_>>().join("\n")
}

/// The sign in front of a step.
pub(super) fn mark(outcome: Outcome, style: Style) -> String {
    match outcome {
        Outcome::Ok | Outcome::Changed => style.green("✓").to_string(),
        Outcome::Skipped => style.dim("-").to_string(),
        Outcome::Unverifiable => style.yellow("?").to_string(),
        Outcome::Failed | Outcome::Interrupted => style.red("✗").to_string(),
    }
}

/// One check on one line.
pub(super) fn checked(check: &Check, style: Style) -> String {
    let mark = match check.judgement {
        Judgement::Passed => style.green("✓").to_string(),
        Judgement::Failed => style.red("✗").to_string(),
        Judgement::Unverifiable => style.yellow("?").to_string(),
    };
    let detail = check.detail.as_deref().map(|detail| format!(": {}", escape(detail))).unwrap_or_default();
    let detail = if check.judgement == Judgement::Passed { style.dim(detail).to_string() } else { detail };
    format!("{mark} {}{detail}", escape(&check.what))
}

fn line(said: &LogLine, style: Style) -> String {
    let text = escape_lines(&said.text);
    if said.warning { format!("{} {text}", style.yellow("warning:")) } else { text.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Error, Kind,
        run::{Run, StepEnd},
    };

    /// What is shown, without the times.
    fn shown(work: impl FnOnce(&Run)) -> String {
        let (terminal, captured) = Terminal::captured();
        work(&Run::new("x.rhai", Live::new(terminal)));
        captured.err().replace("0.0s", "TIME")
    }

    #[test]
    fn steps_checks_and_lines_stand_in_their_step() {
        let text = shown(|run| {
            let outer = run.begin_step("restore\x1b[2J");
            run.say(false, "two lines\nof text");
            let inner = run.begin_step("pvc-1");
            run.check("rows", Judgement::Passed, Some("1000".into()));
            run.check("owner", Judgement::Unverifiable, Some("no answer".into()));
            run.check("size", Judgement::Failed, Some("expected 2, found 1".into()));
            run.end_step(inner, StepEnd::Returned);
            let error = Error::new(Kind::Failed, "disk full");
            let inner = run.begin_step("pvc-2");
            run.end_step(inner, StepEnd::Threw(&error));
            run.end_step(outer, StepEnd::Threw(&error));
            run.say(true, "nearly");
        });
        assert_eq!(
            text,
            "▸ restore\\u{1b}[2J\n  \
               two lines\n  \
               of text\n  \
               ▸ pvc-1\n    \
                 ✓ rows: 1000\n    \
                 ? owner: no answer\n    \
                 ✗ size: expected 2, found 1\n  \
               ✗ pvc-1  TIME\n  \
               ▸ pvc-2\n  \
               ✗ pvc-2  TIME  disk full\n\
             ✗ restore\\u{1b}[2J  TIME\n\
             warning: nearly\n"
        );
    }

    #[test]
    fn a_skipped_step_says_why() {
        let text = shown(|run| {
            let step = run.begin_step("namespaces");
            run.skip("all are there");
            run.end_step(step, StepEnd::Returned);
        });
        assert_eq!(text, "▸ namespaces\n- namespaces  TIME  all are there\n");
    }
}
