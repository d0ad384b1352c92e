//! `check::`: comparisons that are collected and judged at the end, instead of ending the run at the first.

use rhai::{Array, Dynamic, NativeCallContext, plugin::*};
use serde_json::Value;

use super::OrThrow;
use crate::{
    run::Judgement,
    script::{Host, RhaiResultOf, convert},
};

/// Characters of a value shown when it differs.
const SHOWN: usize = 200;

#[export_module]
pub mod api {
    /// Notes whether the actual value is the expected one, and returns that. A failed check ends the run with exit
    /// code 3, at its end.
    #[rhai_fn(return_raw)]
    pub fn equal(ctx: NativeCallContext, what: &str, actual: Dynamic, expected: Dynamic) -> RhaiResultOf<bool> {
        let (actual, expected) =
            (convert::to_json(&actual).or_throw(&ctx)?, convert::to_json(&expected).or_throw(&ctx)?);
        let same = same(&actual, &expected);
        let detail =
            if same { shown(&actual) } else { format!("expected {}, found {}", shown(&expected), shown(&actual)) };
        note(&ctx, what, same, Some(detail));
        Ok(same)
    }

    /// Notes whether it is so, and returns that.
    pub fn that(ctx: NativeCallContext, what: &str, is_so: bool) -> bool {
        note(&ctx, what, is_so, None);
        is_so
    }

    /// Notes whether it is so, with what was found, and returns that.
    #[rhai_fn(name = "that")]
    pub fn that_because(ctx: NativeCallContext, what: &str, is_so: bool, detail: Dynamic) -> bool {
        let detail = if detail.is_unit() { None } else { Some(detail.to_string()) };
        note(&ctx, what, is_so, detail);
        is_so
    }

    /// Notes that nothing can be known, and why. Such a run ends with exit code 6 at best.
    pub fn unverifiable(ctx: NativeCallContext, what: &str, reason: &str) {
        Host::of(&ctx).run().check(what, Judgement::Unverifiable, Some(reason.to_owned()));
    }

    /// The checks so far, each `#{what, judgement, detail}` with the judgement `passed`, `failed` or `unverifiable`.
    pub fn results(ctx: NativeCallContext) -> Array {
        let checks = Host::of(&ctx).run().record().checks;
        let entry = |check: &crate::run::Check| {
            let fields = serde_json::json!({
                "what": check.what, "judgement": check.judgement, "detail": check.detail
            });
            convert::to_dynamic(&fields)
        };
        checks.iter().map(entry).collect()
    }

    /// How many checks have failed so far.
    pub fn failed(ctx: NativeCallContext) -> i64 {
        let checks = Host::of(&ctx).run().record().checks;
        let failed = checks.iter().filter(|check| check.judgement == Judgement::Failed).count();
        i64::try_from(failed).unwrap_or(i64::MAX)
    }
}

fn note(ctx: &NativeCallContext, what: &str, is_so: bool, detail: Option<String>) {
    let judgement = if is_so { Judgement::Passed } else { Judgement::Failed };
    Host::of(ctx).run().check(what, judgement, detail);
}

/// Equal as data; whole numbers equal floats of the same value.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || (x.is_f64() != y.is_f64() && x.as_f64() == y.as_f64()),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(name, value)| y.get(name).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

fn shown(value: &Value) -> String {
    let text = if value.is_null() { "()".into() } else { value.to_string() };
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        run::exit_code,
        script::{Settings, engine, host::fake},
    };

    fn run(script: &str) -> Host {
        let (host, _) = fake::host(Settings::default());
        engine::build(&host).run(script).unwrap();
        host
    }

    #[test]
    fn checks_are_collected_and_the_script_goes_on() {
        let host = run("check::equal(\"rows\", 999, 1000); check::that(\"size\", true, 5); \
                        check::unverifiable(\"owner\", \"no answer\"); \
                        check::equal(\"counted\", check::failed(), 1); check::equal(\"all\", check::results().len(), 4);");
        let record = host.run().record();
        let found: Vec<_> =
            record.checks.iter().map(|check| (check.judgement, check.detail.as_deref().unwrap_or(""))).collect();
        let expected = [
            (Judgement::Failed, "expected 1000, found 999"),
            (Judgement::Passed, "5"),
            (Judgement::Unverifiable, "no answer"),
            (Judgement::Passed, "1"),
            (Judgement::Passed, "4"),
        ];
        assert_eq!(found, expected);
        assert_eq!(exit_code(&record, None), 3);
    }

    #[test]
    fn data_are_compared_and_not_their_types() {
        let host = run("check::equal(\"a\", #{x: [1, 2.0]}, #{x: [1.0, 2]}); check::equal(\"b\", \"1\", 1); \
                        check::equal(\"c\", (), \"\"); check::equal(\"d\", [1], [1, 2]);");
        let found: Vec<_> = host.run().record().checks.into_iter().map(|check| check.judgement).collect();
        assert_eq!(found, [Judgement::Passed, Judgement::Failed, Judgement::Failed, Judgement::Failed]);
    }
}
