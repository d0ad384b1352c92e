//! The interpreter, set up: primitives, imports, limits, interruption, printing.

use rhai::{Dynamic, Engine, Token};

use super::{Host, library::Resolver, primitives};

/// Calls within calls. The stack of a thread holds far more of them, of natives calling closures in between, too.
const CALLS: usize = 64;
/// Expressions within expressions.
const DEPTH: usize = 64;
/// Bytes of one text: large enough for a manifest or a dump of a small table, small enough to notice a runaway.
const TEXT: usize = 64 << 20;
/// Items of one array or map.
const ITEMS: usize = 1_000_000;

/// An engine whose primitives use that host.
///
/// Operations are not counted, as a restore may take days; an interrupt stops the script between any two of them.
pub fn build(host: &Host) -> Engine {
    let mut engine = bare();
    engine.set_default_tag(Dynamic::from(host.clone()));
    engine.set_module_resolver(Resolver::new(host.settings().library.clone(), host.sources().clone()));
    let interrupted = host.clone();
    engine.on_progress(move |operations| {
        // Looking takes longer than most operations do.
        (operations % 16 == 0 && interrupted.cancel().is_cancelled()).then(|| "interrupted".into())
    });
    let terminal = host.terminal().clone();
    engine.on_print(move |text| terminal.out(text));
    let terminal = host.terminal().clone();
    engine.on_debug(move |text, source, position| {
        terminal.note(&format!(
            "debug: {}{position:?}: {text}",
            source.map(|source| format!("{source} ")).unwrap_or_default()
        ));
    });
    engine
}

/// An engine with all primitives and nothing behind them: to compile with and to look at.
pub(super) fn bare() -> Engine {
    let mut engine = Engine::new();
    // The defaults differ between debug and release builds.
    engine.set_max_call_levels(CALLS).set_max_expr_depths(DEPTH, DEPTH);
    // A misspelt variable is found before anything is done.
    engine.set_strict_variables(true);
    engine.set_max_string_size(TEXT).set_max_array_size(ITEMS).set_max_map_size(ITEMS);
    // `wait::until` reads better than a second form of `do … while !…`. The hook is marked as subject to change.
    #[allow(deprecated)]
    engine.on_parse_token(|token, _, _| match token {
        Token::Until => Token::Identifier(Box::new("until".into())),
        // `longhorn::sync`: the language only reserves the word.
        Token::Reserved(word) if *word == "sync" => Token::Identifier(word),
        token => token,
    });
    primitives::register(&mut engine);
    engine
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Settings, host::fake};

    fn error(script: &str) -> String {
        let (host, _) = fake::host(Settings::default());
        build(&host).eval::<Dynamic>(script).unwrap_err().to_string()
    }

    #[test]
    fn runaways_are_stopped() {
        assert!(error("fn f(x) { f(x + 1) } f(0)").contains("overflow"));
        assert!(error("let x = \"0123456789\"; loop { x += x; }").contains("too large"));
        assert!(error("let x = [0]; loop { x += x; }").contains("too large"));
    }

    #[test]
    fn printed_text_is_data() {
        let (host, captured) = fake::host(Settings::default());
        build(&host).run("print(\"42\"); debug(\"x\");").unwrap();
        assert_eq!(captured.out(), "42\n");
        assert!(captured.err().contains("debug: "), "{}", captured.err());
    }

    #[test]
    fn absent_properties_read_as_unit() {
        let (host, _) = fake::host(Settings::default());
        let script = "let pod = #{status: #{}}; pod.status.phase == () && pod.spec?.nodeName == ()";
        assert!(build(&host).eval::<bool>(script).unwrap());
    }
}
