//! Running a runbook from its first to its last line.

use std::{panic, thread};

use rhai::Dynamic;

use super::{
    Fault, Host, engine,
    library::{Document, compile},
    lint, parameters,
};
use crate::{
    Error, Kind, Result,
    run::{Record, Verdict, exit_code},
    terminal::Diagnostic,
};

/// A thread that runs scripts: calls and expressions may nest as deeply as the engine allows.
pub(super) const STACK: usize = 64 << 20;

/// How a run ended.
#[derive(Debug)]
pub struct RunOutcome {
    /// What happened.
    pub record: Record,
    /// What ended it before its last line.
    pub error: Option<Error>,
    /// That, ready to be shown.
    pub diagnostic: Option<Diagnostic>,
    /// How it ended, as one word.
    pub verdict: Verdict,
    /// The process's exit code for it.
    pub exit_code: u8,
}

/// Runs a runbook on a thread of its own and waits for its end. Nothing is done when it has mistakes in its syntax, or
/// when parameters are set that it does not have.
pub fn run(host: &Host, document: Document) -> RunOutcome {
    let result = thread::scope(|scope| {
        let thread = thread::Builder::new().name("runbook".into()).stack_size(STACK);
        match thread.spawn_scoped(scope, || evaluate(host, document)) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)),
            Err(error) => Err(boxed(Error::new(Kind::Failed, "cannot start a thread").source(error))),
        }
    });
    let record = host.run().record();
    let fault = result.err();
    let diagnostic = fault.as_ref().map(|fault| fault.diagnostic(host));
    let error = fault.map(|fault| fault.error);
    RunOutcome {
        verdict: Verdict::of(&record, error.as_ref()),
        exit_code: exit_code(&record, error.as_ref()),
        record,
        error,
        diagnostic,
    }
}

fn evaluate(host: &Host, document: Document) -> Result<(), Box<Fault>> {
    let name = document.name.clone();
    let settings = host.settings();
    if !settings.parameters.is_empty()
        && let Some(declared) = lint::parameters(&settings.library, document.clone())
    {
        parameters::refuse_unknown(settings.parameters.keys(), &declared).map_err(boxed)?;
    }
    let engine = engine::build(host);
    let result = compile(&engine, host.sources(), document).and_then(|ast| engine.eval_ast::<Dynamic>(&ast));
    result.map(drop).map_err(|error| Box::new(Fault::in_source(&error, &name)))
}

fn boxed(error: Error) -> Box<Fault> {
    Box::new(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        script::{Settings, host::fake},
        terminal::Style,
    };

    fn run_alone(parameters: &[(&str, &str)], script: &str) -> (RunOutcome, String) {
        let parameters = parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let (host, captured) = fake::host(Settings { parameters, ..Settings::default() });
        let outcome = run(&host, Document { name: "x.rhai".into(), text: script.into() });
        (outcome, captured.out())
    }

    #[test]
    fn exit_codes_tell_how_it_ended() {
        let cases = [
            ("print(1);", 0),
            ("let x = ;", 2),
            ("nothing();", 2),
            ("fail(\"failed\", \"x\")", 1),
            ("fail(\"not-found\", \"x\")", 1),
            ("fail(\"usage\", \"x\")", 2),
            ("fail(\"damaged\", \"x\")", 3),
            ("check::that(\"x\", false)", 3),
            ("confirm(\"x\")", 4),
            ("fail(\"partial\", \"x\")", 5),
            ("try { step(\"a\", || fail(\"timeout\", \"x\")) } catch { }", 5),
            ("check::unverifiable(\"x\", \"y\")", 6),
            ("fail(\"unreachable\", \"x\")", 6),
            ("check::that(\"x\", false); fail(\"failed\", \"y\")", 3),
            ("exit(7)", 0),
        ];
        for (script, code) in cases {
            assert_eq!(run_alone(&[], script).0.exit_code, code, "{script}");
        }
    }

    #[test]
    fn nothing_is_done_when_the_script_is_wrong_or_a_parameter_unknown() {
        let (outcome, out) = run_alone(&[], "print(\"begun\");\nlet y = x + 1;");
        assert_eq!((outcome.exit_code, out.as_str()), (2, ""));
        assert!(outcome.diagnostic.unwrap().render(Style::PLAIN).contains("x.rhai:2:9"));
        let script = "print(\"begun\"); param(\"rows\", 5, \"\"); param(\"name\", \"\", \"\");";
        let (outcome, out) = run_alone(&[("rosw", "6")], script);
        assert_eq!((outcome.exit_code, out.as_str()), (2, ""));
        let error = outcome.error.unwrap();
        assert_eq!(error.to_string(), "the runbook has no parameter rosw");
        assert_eq!(error.hint_text(), Some("did you mean `rows`? (its parameters are rows, name)"));
        assert_eq!(run_alone(&[("rows", "6")], script).0.exit_code, 0);
    }

    #[test]
    fn an_interrupted_run_ends_with_130() {
        let (host, _) = fake::host(Settings::default());
        let cancel = host.cancel();
        let stopper = thread::spawn(move || {
            thread::sleep(std::time::Duration::from_millis(50));
            cancel.cancel();
        });
        let script = "step(\"a\", || { try { wait::sleep(60) } catch { } })";
        let outcome = run(&host, Document { name: "x.rhai".into(), text: script.into() });
        stopper.join().unwrap();
        assert_eq!((outcome.exit_code, outcome.verdict), (130, Verdict::Interrupted));
        assert_eq!(outcome.record.steps[0].outcome, Some(crate::run::Outcome::Interrupted));
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let script = "fn f(n) { step(`${n}`, || parallel([n], 1, |x| f(x + 1))) }\nf(0)";
        assert_eq!(run_alone(&[], script).0.exit_code, 2);
        let expression = format!("let x = {}1{};", "(".repeat(5000), ")".repeat(5000));
        assert_eq!(run_alone(&[], &expression).0.exit_code, 2);
    }
}
