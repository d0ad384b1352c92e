//! `runbook`: one runbook as a part of another, so that a drill exercises the very files an operator uses.

use std::collections::BTreeMap;

use rhai::{Dynamic, EvalAltResult, Map, NativeCallContext, plugin::*};

use super::OrThrow;
use crate::{
    Error, Kind, Result,
    script::{Host, RhaiResultOf, bridge, convert, engine, library, lint, parameters, throw},
};

#[export_module]
pub mod api {
    /// Runs another runbook as part of this run and returns its last value. It is looked up as an `import` is, and
    /// takes the defaults of its parameters, not the values given on the command line.
    #[rhai_fn(return_raw)]
    pub fn runbook(ctx: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        run(&ctx, name, Map::new())
    }

    /// Runs another runbook with these values of its parameters.
    #[rhai_fn(name = "runbook", return_raw)]
    pub fn runbook_with(ctx: NativeCallContext, name: &str, parameters: Map) -> RhaiResultOf<Dynamic> {
        run(&ctx, name, parameters)
    }
}

fn run(ctx: &NativeCallContext, name: &str, parameters: Map) -> RhaiResultOf<Dynamic> {
    bridge::go_on(ctx)?;
    let host = Host::of(ctx);
    let library = &host.settings().library;
    let document = library.script(name).or_throw(ctx)?;
    if host.parts().contains(&document.name) {
        let message = format!("the runbook {} runs itself, directly or through others", document.name);
        return Err(throw(ctx, &Error::new(Kind::Script, message)));
    }
    let parameters = texts(parameters).or_throw(ctx)?;
    if !parameters.is_empty()
        && let Some(declared) = lint::parameters(library, document.clone())
    {
        parameters::refuse_unknown(parameters.keys(), &declared).or_throw(ctx)?;
    }
    let part = host.for_part(&document.name, parameters);
    let source = document.name.clone();
    // An engine of its own: its scope, its imports and its parameters are not those of the runbook around it.
    let engine = engine::build(&part);
    let result = library::compile(&engine, part.sources(), document).and_then(|ast| engine.eval_ast::<Dynamic>(&ast));
    result.map_err(|error| match *error {
        EvalAltResult::ErrorTerminated(..) => error,
        _ => EvalAltResult::ErrorInFunctionCall(format!("runbook {name}"), source, error, ctx.call_position()).into(),
    })
}

/// Parameters as the command line would give them.
fn texts(parameters: Map) -> Result<BTreeMap<String, String>> {
    parameters
        .into_iter()
        .map(|(name, value)| {
            let value = match convert::to_json(&value)? {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            Ok((name.into(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rhai::Dynamic;

    use crate::script::{Fault, Library, Settings, convert::to_json, engine, host::fake};

    fn eval(script: &str) -> (crate::script::Host, crate::script::RhaiResultOf<Dynamic>) {
        let folder = tempfile::tempdir().unwrap();
        let part = "let a = param(\"a\", 1, \"\"); let b = param(\"b\", [], \"\"); step(\"part\", || [a, b])";
        std::fs::write(folder.path().join("part.rhai"), part).unwrap();
        std::fs::write(folder.path().join("broken.rhai"), "step(\"inner\", || fail(\"differs\", \"no row\"))").unwrap();
        std::fs::write(folder.path().join("self.rhai"), "runbook(\"self\")").unwrap();
        let library = Library::of_folder(folder.path());
        let parameters = [("a".to_owned(), "7".to_owned())].into();
        let (host, _) = fake::host(Settings { library, parameters, ..Settings::default() });
        let result = engine::build(&host).eval::<Dynamic>(script);
        (host, result)
    }

    #[test]
    fn a_part_gets_its_own_parameters_and_returns_its_last_value() {
        let value = |script: &str| to_json(&eval(script).1.unwrap()).unwrap();
        assert_eq!(value("runbook(\"part\")"), serde_json::json!([1, []]));
        assert_eq!(value("runbook(\"part\", #{ a: 3, b: [\"x\", \"y\"] })"), serde_json::json!([3, ["x", "y"]]));
    }

    #[test]
    fn its_steps_stand_in_the_step_around_it() {
        let (host, result) = eval("step(\"whole\", || runbook(\"part\"))");
        let _ = result.unwrap();
        let steps: Vec<_> = host.run().record().steps.iter().map(|step| (step.name.clone(), step.depth)).collect();
        assert_eq!(steps, [("whole".to_owned(), 0), ("part".to_owned(), 1)]);
    }

    #[test]
    fn its_failure_is_the_callers() {
        let fault = Fault::new(&eval("runbook(\"broken\")").1.unwrap_err());
        assert_eq!((fault.error.kind(), fault.error.message()), (crate::Kind::Differs, "no row"));
        let at = fault.at.unwrap();
        assert!(at.source.ends_with("broken.rhai") && at.line == 1, "{at:?}");
        assert!(eval("runbook(\"missing\")").1.unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn unknown_parameters_and_runbooks_that_run_themselves_are_refused() {
        let message = |script: &str| Fault::new(&eval(script).1.unwrap_err()).error.to_string();
        assert!(message("runbook(\"part\", #{ c: 3 })").contains("no parameter c"));
        assert!(message("runbook(\"part\", #{ a: \"x\" })").contains("expected a whole number"));
        assert!(message("runbook(\"self\")").contains("runs itself"));
    }

    #[test]
    fn only_the_operators_parameters_are_recorded() {
        let (host, _) = eval("param(\"a\", 1, \"\"); runbook(\"part\")");
        assert_eq!(serde_json::Value::from(host.run().record().parameters), serde_json::json!({"a": 7}));
    }
}
