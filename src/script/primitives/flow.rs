//! What a runbook is given and what it says: `param`, `env`, `log`, `warn`, `confirm`, `fail`.

use rhai::{Dynamic, NativeCallContext, plugin::*};

use super::OrThrow;
use crate::{
    Error, Kind,
    script::{Host, RhaiResultOf, convert, parameters, throw},
};

#[export_module]
pub mod api {
    /// A parameter of the runbook: the value given with `--set name=value`, read as the default's type, or the default.
    /// With the default `()` the value is text, and `()` when none is given.
    #[rhai_fn(return_raw)]
    pub fn param(ctx: NativeCallContext, name: &str, default: Dynamic, help: &str) -> RhaiResultOf<Dynamic> {
        let _ = help;
        let host = Host::of(&ctx);
        let value = match host.settings().parameters.get(name) {
            Some(given) => parameters::read(name, given, &default).or_throw(&ctx)?,
            None => default,
        };
        if host.parts().is_empty() {
            let shown = convert::to_json(&value).or_throw(&ctx)?;
            host.run().parameter(name, parameters::hide_secret(name, shown));
        }
        Ok(value)
    }

    /// The environment variable; throws `not-found` when it is not set.
    #[rhai_fn(return_raw)]
    pub fn env(ctx: NativeCallContext, name: &str) -> RhaiResultOf<String> {
        let missing = || Error::new(Kind::NotFound, format!("the environment variable {name} is not set")).object(name);
        std::env::var(name).map_err(|_| missing()).or_throw(&ctx)
    }

    /// The environment variable, or the default when it is not set.
    #[rhai_fn(name = "env")]
    pub fn env_or(name: &str, default: &str) -> String {
        std::env::var(name).unwrap_or_else(|_| default.to_owned())
    }

    /// Shows a line and keeps it in the report.
    #[rhai_fn(name = "log")]
    pub fn log_text(ctx: NativeCallContext, text: &str) {
        Host::of(&ctx).run().say(false, text);
    }

    /// Shows a warning and keeps it in the report.
    pub fn warn(ctx: NativeCallContext, text: &str) {
        Host::of(&ctx).run().say(true, text);
    }

    /// Asks the operator to agree; throws `refused` when that is not given, and at once when there is nobody to ask.
    #[rhai_fn(return_raw)]
    pub fn confirm(ctx: NativeCallContext, question: &str) -> RhaiResultOf<()> {
        let host = Host::of(&ctx);
        let agreed = host.terminal().confirm(question, &|| host.cancel().is_cancelled()).or_throw(&ctx)?;
        let refused = || Error::new(Kind::Refused, format!("not confirmed: {question}"));
        agreed.then_some(()).ok_or_else(refused).or_throw(&ctx)
    }

    /// Throws an error of that kind: `not-found`, `conflict`, `timeout`, `invalid`, `differs`, `refused`, `failed`, ….
    #[rhai_fn(return_raw)]
    pub fn fail(ctx: NativeCallContext, kind: &str, message: &str) -> RhaiResultOf<()> {
        Err(throw(&ctx, &failure(kind, message)))
    }

    /// Throws an error of that kind which says what to do next.
    #[rhai_fn(name = "fail", return_raw)]
    pub fn fail_with_hint(ctx: NativeCallContext, kind: &str, message: &str, hint: &str) -> RhaiResultOf<()> {
        Err(throw(&ctx, &failure(kind, message).hint(hint)))
    }
}

fn failure(kind: &str, message: &str) -> Error {
    match Kind::from_name(kind) {
        Some(kind) => Error::new(kind, message),
        None => Error::new(Kind::Script, format!("fail: there is no kind of error {kind:?} (message: {message})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Fault, Settings, engine, host::fake};

    fn settings(parameters: &[(&str, &str)]) -> Settings {
        let parameters = parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Settings { parameters, ..Settings::default() }
    }

    #[test]
    fn a_parameter_has_its_default_or_what_was_set() {
        let (host, _) = fake::host(settings(&[("rows", "5")]));
        let script = "param(\"rows\", 1000, \"rows to make\") + param(\"more\", 1, \"\")";
        assert_eq!(engine::build(&host).eval::<i64>(script).unwrap(), 6);
        let parameters = host.run().record().parameters;
        assert_eq!(serde_json::Value::from(parameters), serde_json::json!({"rows": 5, "more": 1}));
    }

    #[test]
    fn a_parameter_of_another_type_is_a_usage_error() {
        let (host, _) = fake::host(settings(&[("rows", "many")]));
        let error = engine::build(&host).eval::<i64>("param(\"rows\", 1000, \"\")").unwrap_err();
        let error = Fault::new(&error).error;
        assert_eq!(
            (error.kind(), error.message()),
            (Kind::Usage, "parameter rows: expected a whole number, found \"many\"")
        );
    }

    #[test]
    fn without_an_operator_a_confirmation_is_refused_at_once() {
        let (host, _) = fake::host(Settings::default());
        let error = engine::build(&host).eval::<()>("confirm(\"Destroy it?\")").unwrap_err();
        assert_eq!(Fault::new(&error).error.kind(), Kind::Refused);
    }

    #[test]
    fn an_unset_variable_is_not_found() {
        let (host, _) = fake::host(Settings::default());
        let engine = engine::build(&host);
        let found = engine.eval::<Dynamic>("let k = (); try { env(\"LHRUN_NOT_SET\") } catch (e) { k = e.kind; } k");
        assert_eq!(found.unwrap().to_string(), "not-found");
        assert_eq!(engine.eval::<String>("env(\"LHRUN_NOT_SET\", \"x\")").unwrap(), "x");
    }

    #[test]
    fn an_unknown_kind_is_a_mistake_in_the_script() {
        let (host, _) = fake::host(Settings::default());
        let error = engine::build(&host).eval::<()>("fail(\"catastrophe\", \"x\")").unwrap_err();
        assert_eq!(Fault::new(&error).error.kind(), Kind::Script);
    }

    #[test]
    fn lines_are_kept() {
        let (host, _) = fake::host(Settings::default());
        engine::build(&host).run("log(\"a\"); warn(\"b\");").unwrap();
        let lines: Vec<_> = host.run().record().log.into_iter().map(|line| (line.warning, line.text)).collect();
        assert_eq!(lines, [(false, "a".to_owned()), (true, "b".to_owned())]);
    }
}
