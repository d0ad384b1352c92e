//! A run as one JSON object, for programs.

use serde_json::{Value, json};

use crate::{
    Error,
    run::{Record, Verdict, exit_code},
    terminal::Diagnostic,
};

/// The run with its verdict, its exit code and, if one ended it, its error with the place in the runbook.
///
/// Fields: `runbook`, `verdict`, `exit_code`, `started` (RFC 3339), `seconds`, `parameters`, `steps`, `checks`, `values`,
/// `tables`, `changes`, `unfinished`, `log`, `error` (null, or an object with `kind`, `message`, `hint`, `object`, `file`, `line`,
/// `column`).
pub fn document(record: &Record, error: Option<&Error>, diagnostic: Option<&Diagnostic>) -> Value {
    let mut document = json!(record);
    document["verdict"] = json!(Verdict::of(record, error));
    document["exit_code"] = json!(exit_code(record, error));
    document["error"] = error.map_or(Value::Null, |error| {
        let place = diagnostic.and_then(|diagnostic| diagnostic.place.as_ref());
        json!({
            "kind": error.kind().as_str(),
            "message": error.to_string(),
            "hint": error.hint_text(),
            "object": error.object_name(),
            "file": place.map(|place| &place.path),
            "line": place.map(|place| place.line),
            "column": place.map(|place| place.column),
        })
    });
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Kind,
        run::{Judgement, Run, Silent, StepEnd},
        terminal::Place,
    };

    #[test]
    fn everything_a_program_may_ask_for_is_there() {
        let run = Run::new("x.rhai", Silent);
        run.parameter("rows", json!(5));
        let error = Error::new(Kind::Damaged, "block gone").hint("restore an older one").object("blocks/ab.blk");
        let step = run.begin_step("restore");
        run.check("rows", Judgement::Passed, None);
        run.change("created Volume a");
        run.left_unfinished("the backup of b");
        run.end_step(step, StepEnd::Threw(&error));
        let place = Place { path: "x.rhai".into(), text: String::new(), line: 3, column: 5, length: 1 };
        let diagnostic = Diagnostic { place: Some(place), ..Diagnostic::from(&error) };
        let mut found = document(&run.record(), Some(&error), Some(&diagnostic));
        assert!(found["steps"][0]["seconds"].is_number() && found["seconds"].is_number());
        let times: [(&str, &str); 2] = [("", "started"), ("/steps/0", "started")];
        for (pointer, field) in times {
            let owner = found.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
            let time = owner.remove(field).unwrap();
            assert!(time.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{time}");
            owner.remove("seconds");
        }
        assert_eq!(
            found,
            json!({
                "runbook": "x.rhai",
                "verdict": "differs",
                "exit_code": 3,
                "parameters": {"rows": 5},
                "steps": [{
                    "name": "restore", "parent": null, "depth": 0, "outcome": "failed", "reason": "block gone", "changes": 1
                }],
                "checks": [{"what": "rows", "judgement": "passed", "detail": null, "step": 0}],
                "values": [],
                "tables": [],
                "changes": [{"what": "created Volume a", "step": 0}],
                "unfinished": [{"what": "the backup of b", "step": 0}],
                "log": [],
                "error": {
                    "kind": "damaged", "message": "block gone", "hint": "restore an older one", "object": "blocks/ab.blk",
                    "file": "x.rhai", "line": 3, "column": 5
                }
            })
        );
    }

    #[test]
    fn a_run_without_error_has_none() {
        let found = document(&Run::new("x.rhai", Silent).record(), None, None);
        assert_eq!(
            (&found["error"], &found["exit_code"], &found["verdict"]),
            (&Value::Null, &json!(0), &json!("unchanged"))
        );
    }
}
