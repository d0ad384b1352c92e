//! The end of a run: its steps with their times, what it measured, what its checks found, and how it ended.

use serde_json::Value;

use super::live::{checked, mark};
use crate::{
    run::{Judgement, Record, Verdict},
    terminal::{Style, Terminal, escape, human, table},
};

/// Shows the end of a run: measured values and tables on standard output, the rest on standard error.
pub fn summary(record: &Record, verdict: Verdict, terminal: &Terminal) {
    let style = terminal.style();
    if !record.steps.is_empty() {
        terminal.line("");
        terminal.line(steps(record, style));
    }
    for table in &record.tables {
        let rows: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(text).collect()).collect();
        terminal.out_styled(format_args!("\n{}", terminal.out_style().bold(escape(&table.title))));
        terminal.out_styled(table::plain(&table.columns, &rows));
    }
    if !record.values.is_empty() {
        terminal.out_styled("");
        let width = record.values.iter().map(|value| value.name.chars().count()).max().unwrap_or(0);
        for measured in &record.values {
            let name = format!("{}:", escape(&measured.name));
            terminal.out_styled(format_args!("{name:<0$}  {1}", width + 1, escape(&text(&measured.value))));
        }
    }
    let wrong: Vec<_> = record.checks.iter().filter(|check| check.judgement != Judgement::Passed).collect();
    if !wrong.is_empty() {
        terminal.line("");
        for check in wrong {
            terminal.line(checked(check, style));
        }
    }
    terminal.line("");
    terminal.line(ending(record, verdict, style));
}

/// A line for each step of the runbook and for each step right in them, as far as there is more than one.
fn steps(record: &Record, style: Style) -> String {
    let width =
        record.steps.iter().filter(|step| step.depth < 2).map(|step| step.depth * 2 + step.name.chars().count());
    let width = width.max().unwrap_or(0).min(70);
    let line = |step: &crate::run::Step| {
        let indent = "  ".repeat(step.depth);
        let outcome = step.outcome.map_or("under way", |outcome| outcome.as_str());
        let mark = step.outcome.map_or_else(|| "·".to_owned(), |outcome| mark(outcome, style));
        let time = step.duration.map(human::duration).unwrap_or_default();
        let name = format!("{indent}{}", escape(&step.name));
        format!("{mark} {name:<width$}  {time:>7}  {}", style.dim(outcome))
    };
    record.steps.iter().filter(|step| step.depth < 2).map(line).collect::<Vec<_>>().join("\n")
}

/// How it ended, in one line.
fn ending(record: &Record, verdict: Verdict, style: Style) -> String {
    let count = |judgement| record.checks.iter().filter(|check| check.judgement == judgement).count();
    let mut facts = Vec::new();
    if !record.checks.is_empty() {
        facts.push(format!("{} of {} checks passed", count(Judgement::Passed), record.checks.len()));
    }
    match count(Judgement::Unverifiable) {
        0 => {}
        unknown => facts.push(format!("{unknown} could not be made")),
    }
    facts.push(match (record.changes.len(), record.unfinished.is_empty()) {
        (0, true) => "nothing was changed".to_owned(),
        (0, false) => "no change is known".to_owned(),
        (1, _) => "1 change".to_owned(),
        (more, _) => format!("{more} changes"),
    });
    if !record.unfinished.is_empty() {
        facts.push(format!("not finished, so perhaps done in part: {}", unfinished(record)));
    }
    let words = match verdict {
        Verdict::Unchanged | Verdict::Done => style.green("done").to_string(),
        Verdict::Failed => style.red("failed").to_string(),
        Verdict::Differs => style.red("verification failed").to_string(),
        Verdict::Refused => style.red("refused").to_string(),
        Verdict::Partial => style.red("done in part").to_string(),
        Verdict::Unverifiable => style.yellow("could not check").to_string(),
        Verdict::Interrupted => style.red("interrupted").to_string(),
    };
    format!("{words} after {}: {}", human::duration(record.duration), facts.join(", "))
}

/// What was cut short, the first few of it.
fn unfinished(record: &Record) -> String {
    const TOLD: usize = 3;
    let mut names: Vec<_> = record.unfinished.iter().map(|change| escape(&change.what).to_string()).collect();
    let more = names.len().saturating_sub(TOLD);
    names.truncate(TOLD);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

/// A value as a person reads it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run::{Run, Silent, StepEnd, Table};

    #[test]
    fn data_go_to_the_output_and_the_rest_beside_it() {
        let (terminal, captured) = Terminal::captured();
        let run = Run::new("x.rhai", Silent);
        let outer = run.begin_step("restore");
        let inner = run.begin_step("pvc-1");
        run.change("created Volume pvc-1");
        run.end_step(inner, StepEnd::Returned);
        run.end_step(outer, StepEnd::Returned);
        run.check("rows", Judgement::Passed, None);
        run.check("size", Judgement::Failed, Some("expected 2, found 1".into()));
        run.measure("rows", json!(1000));
        run.measure("recovery time", json!("1m 12s"));
        let rows = vec![vec![json!("a/b"), json!(1)], vec![json!("c/d"), Value::Null]];
        run.table(Table { title: "restored".into(), columns: vec!["claim".into(), "size".into()], rows });
        summary(&run.record(), Verdict::Differs, &terminal);
        assert_eq!(
            captured.out(),
            "\nrestored\nCLAIM   SIZE\na/b     1\nc/d\n\nrows:           1000\nrecovery time:  1m 12s\n"
        );
        assert_eq!(
            captured.err(),
            "\n✓ restore     0.0s  changed\n✓   pvc-1     0.0s  changed\n\n✗ size: expected 2, found 1\n\n\
             verification failed after 0.0s: 1 of 2 checks passed, 1 change\n"
        );
    }

    #[test]
    fn what_was_cut_short_is_not_called_unchanged() {
        let ended = |run: &Run| {
            let (terminal, captured) = Terminal::captured();
            summary(&run.record(), Verdict::Interrupted, &terminal);
            captured.err()
        };
        let run = Run::new("x.rhai", Silent);
        run.left_unfinished("the backup of the volume a");
        let said = "no change is known, not finished, so perhaps done in part: the backup of the volume a\n";
        assert!(ended(&run).ends_with(said), "{}", ended(&run));
        run.change("created Secret a/b");
        for name in ["b", "c", "d"] {
            run.left_unfinished(name);
        }
        assert!(ended(&run).contains("1 change, not finished"), "{}", ended(&run));
        assert!(ended(&run).ends_with(", b, c, 1 more\n"), "{}", ended(&run));
    }

    #[test]
    fn a_run_that_changed_nothing_says_so() {
        let (terminal, captured) = Terminal::captured();
        summary(&Run::new("x.rhai", Silent).record(), Verdict::Unchanged, &terminal);
        assert_eq!(
            (captured.out().as_str(), captured.err().as_str()),
            ("", "\ndone after 0.0s: nothing was changed\n")
        );
    }
}
