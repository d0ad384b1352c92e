//! `ask::`: questions to the operator. Without a terminal they throw `refused` at once.

use rhai::{Array, NativeCallContext, plugin::*};

use super::OrThrow;
use crate::script::{Host, RhaiResultOf, convert};

#[export_module]
pub mod api {
    /// Asks a yes-or-no question. `--yes` answers it.
    #[rhai_fn(return_raw)]
    pub fn yes(ctx: NativeCallContext, question: &str) -> RhaiResultOf<bool> {
        let host = Host::of(&ctx);
        host.terminal().confirm(question, &|| host.cancel().is_cancelled()).or_throw(&ctx)
    }

    /// Asks for a text; an empty answer is the default.
    #[rhai_fn(return_raw)]
    pub fn text(ctx: NativeCallContext, question: &str, default: &str) -> RhaiResultOf<String> {
        let host = Host::of(&ctx);
        let default = (!default.is_empty()).then_some(default);
        host.terminal().ask_text(question, default, &|| host.cancel().is_cancelled()).or_throw(&ctx)
    }

    /// Asks to choose one of the texts, and returns it.
    #[rhai_fn(return_raw)]
    pub fn choice(ctx: NativeCallContext, question: &str, choices: Array) -> RhaiResultOf<String> {
        let host = Host::of(&ctx);
        let mut choices = convert::texts(choices).or_throw(&ctx)?;
        let chosen = host.terminal().choose(question, &choices, &|| host.cancel().is_cancelled()).or_throw(&ctx)?;
        Ok(choices.swap_remove(chosen))
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Kind,
        script::{Fault, Settings, engine, host::fake},
    };

    #[test]
    fn without_an_operator_every_question_is_refused() {
        let (host, _) = fake::host(Settings::default());
        let engine = engine::build(&host);
        for script in ["ask::yes(\"sure?\")", "ask::text(\"who?\", \"\")", "ask::choice(\"which?\", [\"a\", \"b\"])"] {
            let error = engine.eval::<rhai::Dynamic>(script).unwrap_err();
            assert_eq!(Fault::new(&error).error.kind(), Kind::Refused, "{script}");
        }
    }
}
