//! Failures between Rust and scripts: an [`Error`] thrown as a map scripts can read, and whatever ends a script as an
//! [`Error`] again, with the place in the script.

use std::sync::PoisonError;

use rhai::{Dynamic, EvalAltResult, Map, NativeCallContext, ParseErrorType, Position};

use super::{Host, convert, reference};
use crate::{
    Error, Kind,
    terminal::{Diagnostic, Place},
};

/// Throws a failure into the script that called the primitive, as the map
/// `#{kind, message, hint, object, line, position, source}`. An interrupt ends the script instead.
pub fn throw(ctx: &NativeCallContext, error: &Error) -> Box<EvalAltResult> {
    throw_at(error, ctx.call_source(), ctx.call_position())
}

pub(super) fn throw_at(error: &Error, source: Option<&str>, position: Position) -> Box<EvalAltResult> {
    if error.kind() == Kind::Cancelled {
        return super::bridge::interrupted(position);
    }
    // Rhai adds no position to maps that are thrown.
    let mut map = as_map(error);
    if let Some(at) = At::new(source.unwrap_or_default(), position) {
        at.put_into(&mut map);
    }
    EvalAltResult::ErrorRuntime(map.into(), position).into()
}

/// A failure as scripts see it, without a place.
fn as_map(error: &Error) -> Map {
    let mut map = Map::new();
    map.insert("kind".into(), error.kind().as_str().into());
    map.insert("message".into(), error.to_string().into());
    if let Some(hint) = error.hint_text() {
        map.insert("hint".into(), hint.into());
    }
    if let Some(object) = error.object_name() {
        map.insert("object".into(), object.into());
    }
    map
}

fn int(value: usize) -> Dynamic {
    i64::try_from(value).unwrap_or(i64::MAX).into()
}

/// A place in a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// Name of the script; empty for the one that was run, if it has none.
    pub source: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl At {
    /// The place of that position in that script, if it is known.
    pub(super) fn new(source: &str, position: Position) -> Option<Self> {
        let line = position.line()?;
        Some(Self { source: source.to_owned(), line, column: position.position().unwrap_or(1) })
    }

    /// Puts the place into a failure's map.
    pub(super) fn put_into(&self, map: &mut Map) {
        map.insert("line".into(), int(self.line));
        map.insert("position".into(), int(self.column));
        map.insert("source".into(), self.source.as_str().into());
    }
}

/// A call that was under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The function, with the language's own name for a closure, or `import`.
    pub function: String,
    /// Where it was called, if known.
    pub at: Option<At>,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { error, at: None, stack: Vec::new() }
    }
}

/// What ended a script.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The failure.
    pub error: Error,
    /// Where it happened.
    pub at: Option<At>,
    /// The calls that led there, innermost first.
    pub stack: Vec<Frame>,
}

impl Fault {
    /// Reads what ended a script without a name of its own.
    pub fn new(error: &EvalAltResult) -> Self {
        Self::in_source(error, "")
    }

    /// Reads what ended the script of that name.
    pub fn in_source(mut error: &EvalAltResult, source: &str) -> Self {
        let mut source = source.to_owned();
        let mut stack = Vec::new();
        loop {
            match error {
                EvalAltResult::ErrorInFunctionCall(name, inner_source, inner, position) => {
                    stack.insert(0, Frame { function: name.clone(), at: At::new(&source, *position) });
                    if !inner_source.is_empty() {
                        source.clone_from(inner_source);
                    }
                    error = inner;
                }
                EvalAltResult::ErrorInModule(path, inner, position) => {
                    stack.insert(0, Frame { function: "import".into(), at: At::new(&source, *position) });
                    source.clone_from(path);
                    error = inner;
                }
                _ => break,
            }
        }
        let position = error.position();
        if let EvalAltResult::ErrorRuntime(value, _) = error {
            let (error, thrown_at) = thrown(value);
            return Self { error, at: thrown_at.or_else(|| At::new(&source, position)), stack };
        }
        Self { error: own(error), at: At::new(&source, position), stack }
    }

    /// The failure as scripts see it.
    pub(super) fn as_map(&self) -> Map {
        let mut map = as_map(&self.error);
        if let Some(at) = &self.at {
            at.put_into(&mut map);
        }
        map
    }

    /// The failure with its place, steps and callers, ready to be shown.
    pub fn diagnostic(&self, host: &Host) -> Diagnostic {
        let sources = host.sources().lock().unwrap_or_else(PoisonError::into_inner);
        let mut diagnostic = self.placed(self.at.as_ref().and_then(|at| sources.get(&at.source)).map(String::as_str));
        drop(sources);
        if let Some(step) = host.run().record().step_of(&self.error) {
            diagnostic.notes.push(format!("in step {step}"));
        }
        let frames = self.stack.iter().filter(|frame| !frame.function.starts_with("anon$"));
        for (depth, frame) in frames.enumerate() {
            if depth == 8 {
                diagnostic.notes.push("called from further functions".into());
                break;
            }
            let place = match &frame.at {
                Some(at) if at.source.is_empty() => format!(" at line {}:{}", at.line, at.column),
                Some(at) => format!(" at {}:{}:{}", at.source, at.line, at.column),
                None => String::new(),
            };
            diagnostic.notes.push(format!("in {}, called{place}", frame.function));
        }
        diagnostic
    }

    /// The failure with its place alone, in a script of that text.
    pub(super) fn placed(&self, text: Option<&str>) -> Diagnostic {
        let mut diagnostic = Diagnostic::from(&self.error);
        diagnostic.place = self.at.as_ref().map(|at| {
            let text = text.unwrap_or_default().to_owned();
            let length = word_length(&text, at);
            let path = if at.source.is_empty() { "input".into() } else { at.source.clone() };
            Place { path, text, line: at.line, column: at.column, length }
        });
        diagnostic
    }
}

/// How many characters the word at the place has, with its namespaces.
fn word_length(text: &str, at: &At) -> usize {
    let line = text.lines().nth(at.line.saturating_sub(1)).unwrap_or_default();
    let word = line.chars().skip(at.column.saturating_sub(1));
    word.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).count().max(1)
}

/// What a script threw: a failure of a primitive (as it was or passed on), one of Rhai's own it had caught, or its own.
pub(super) fn thrown(value: &Dynamic) -> (Error, Option<At>) {
    let value = value.flatten_clone();
    let Ok(map) = value.as_map_ref() else {
        let message = match value.as_immutable_string_ref() {
            Ok(text) => text.to_string(),
            Err(_) => format!("the script threw {}", convert::describe(&value)),
        };
        return (Error::new(Kind::Failed, message), None);
    };
    let text = |name: &str| map.get(name)?.as_immutable_string_ref().ok().map(|text| text.to_string());
    let number = |name: &str| usize::try_from(map.get(name)?.as_int().ok()?).ok();
    // Errors of Rhai itself name themselves in `error` when they are caught.
    let default = if map.contains_key("error") { Kind::Script } else { Kind::Failed };
    let kind = text("kind").and_then(|kind| Kind::from_name(&kind)).unwrap_or(default);
    let mut error =
        Error::new(kind, text("message").unwrap_or_else(|| "the script threw a map without message".into()));
    if let Some(hint) = text("hint") {
        error = error.hint(hint);
    }
    if let Some(object) = text("object") {
        error = error.object(object);
    }
    let at = number("line").map(|line| At {
        source: text("source").unwrap_or_default(),
        line,
        column: number("position").unwrap_or(1),
    });
    (error, at)
}

/// One of Rhai's own errors, in the words of somebody who writes runbooks.
fn own(error: &EvalAltResult) -> Error {
    use EvalAltResult as E;
    // The place is shown beside the message.
    let text = error.to_string();
    let text = text.strip_suffix(&format!(" ({})", error.position())).unwrap_or(&text);
    let script = |message: String| Error::new(Kind::Script, message);
    match error {
        E::ErrorTerminated(..) => Error::new(Kind::Cancelled, "interrupted by the operator"),
        E::ErrorFunctionNotFound(signature, _) if signature.starts_with("anon$") => {
            script("a closure takes other arguments than it is called with".into())
        }
        E::ErrorFunctionNotFound(signature, _) => {
            let signature = signature.replace("&str | ImmutableString | String", "text");
            let name = signature.split(" (").next().unwrap_or(&signature);
            let error = script(format!("there is no function {}", signature.replacen(" (", "(", 1)));
            match reference::hint_for(name) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
        E::ErrorModuleNotFound(name, _) | E::ErrorParsing(ParseErrorType::ModuleUndefined(name), _) => {
            script(format!("there is no namespace {name}")).hint(reference::namespace_hint(name))
        }
        E::ErrorVariableNotFound(name, _) | E::ErrorParsing(ParseErrorType::VariableUndefined(name), _) => {
            script(format!("there is no variable {name} here"))
                .hint("functions see only their parameters and their own variables, closures what surrounds them")
        }
        E::ErrorDotExpr(message, _) if message.contains("type '()'") => script(text.into())
            .hint("what stands before it is (), nothing: write ?. instead of the dot if it may be absent"),
        E::ErrorIndexingType(what, _) if what.contains("()") => {
            script(text.into()).hint("what stands before the bracket is (), nothing: write ?[ if it may be absent")
        }
        E::ErrorStackOverflow(_) => {
            script("calls nested too deeply".into()).hint("look for a function that calls itself without end")
        }
        E::ErrorParsing(ParseErrorType::UnexpectedEOF, _) => script("the script ends too early".into())
            .hint("look for an opening bracket, brace or quote that is not closed"),
        _ => script(text.strip_prefix("Syntax error: ").unwrap_or(text).into()),
    }
}

#[cfg(test)]
// Rhai passes the context by value.
#[allow(clippy::needless_pass_by_value)]
mod tests {
    use super::*;
    use crate::{
        script::{Settings, engine, host::fake, library},
        terminal::Style,
    };

    fn fail(ctx: NativeCallContext, kind: &str, message: &str) -> super::super::RhaiResultOf<()> {
        let error = Error::new(Kind::from_name(kind).unwrap(), message).hint("try again").object("pod/a/b");
        Err(throw(&ctx, &error))
    }

    fn run(text: &str) -> std::result::Result<Dynamic, (Box<Fault>, String)> {
        let (host, _) = fake::host(Settings::default());
        let mut engine = engine::build(&host);
        engine.register_fn("boom", fail);
        let document = library::Document { name: "demo.rhai".into(), text: text.into() };
        let result = library::compile(&engine, host.sources(), document).and_then(|ast| engine.eval_ast(&ast));
        result.map_err(|error| {
            let fault = Fault::in_source(&error, "demo.rhai");
            let text = fault.diagnostic(&host).render(Style::PLAIN);
            (Box::new(fault), text)
        })
    }

    #[test]
    fn a_failure_is_caught_as_a_map() {
        let script = "let seen; try {\n  boom(\"not-found\", \"no pod\") } catch (e) { \
                      seen = [e.kind, e.message, e.hint, e.object, e.line, e.position, e.source]; } seen";
        let value = run(script).unwrap();
        let expected = serde_json::json!(["not-found", "no pod", "try again", "pod/a/b", 2, 3, "demo.rhai"]);
        assert_eq!(convert::to_json(&value).unwrap(), expected);
    }

    #[test]
    fn a_failure_passed_on_keeps_its_kind_and_place() {
        let (fault, _) = run("try {\n  boom(\"timeout\", \"late\") }\ncatch (e) {\n  throw e; }").unwrap_err();
        assert_eq!((fault.error.kind(), fault.error.message()), (Kind::Timeout, "late"));
        assert_eq!(fault.error.hint_text(), Some("try again"));
        assert_eq!(fault.at.unwrap().line, 2);
    }

    #[test]
    fn an_uncaught_failure_shows_the_place_and_the_callers() {
        let (fault, text) =
            run("fn restore(x) {\n    boom(\"damaged\", \"block gone\")\n}\n\nrestore(1);").unwrap_err();
        assert_eq!(fault.error.kind().exit_code(), 3);
        assert_eq!(
            text,
            "error: block gone\n \
             --> demo.rhai:2:5\n  \
             |\n\
             2 |     boom(\"damaged\", \"block gone\")\n  \
             |     ^^^^\n\
             note: in restore, called at demo.rhai:5:1\n\
             hint: try again"
        );
    }

    #[test]
    fn mistakes_in_the_script_are_explained() {
        let cases = [
            ("let a = 1;\nstpe(\"x\", || 1);", "there is no function stpe(", Some("did you mean `step`?")),
            ("let x = (); x.phase", "phase", Some("what stands before it is (), nothing: write ?.")),
            ("nowhere::f()", "there is no namespace nowhere", Some("import it first")),
            ("fn f() { y } f()", "there is no variable y here", Some("functions see only")),
            ("let x = [1, 2", "", None),
            ("step(5)", "there is no function step(", Some("step(name")),
        ];
        for (script, message, hint) in cases {
            let (fault, text) = run(script).unwrap_err();
            assert_eq!(fault.error.kind(), Kind::Script, "{script}");
            assert!(fault.error.message().contains(message), "{script}: {}", fault.error);
            let found = fault.error.hint_text().unwrap_or_default();
            assert!(hint.is_none_or(|hint| found.contains(hint)), "{script}: {found}");
            assert!(text.contains('^') && text.contains("demo.rhai:"), "{script}: {text}");
        }
    }

    #[test]
    fn what_a_script_throws_itself_has_a_kind() {
        let cases = [
            ("throw \"no luck\"", Kind::Failed, "no luck"),
            ("throw #{kind: \"refused\", message: \"not today\"}", Kind::Refused, "not today"),
            ("throw #{kind: \"of no sort\", message: \"x\"}", Kind::Failed, "x"),
            ("throw 5", Kind::Failed, "the script threw 5"),
            ("try { nothing() } catch (e) { throw e }", Kind::Script, "Function not found: nothing ()"),
        ];
        for (script, kind, message) in cases {
            let (fault, _) = run(script).unwrap_err();
            assert_eq!((fault.error.kind(), fault.error.message()), (kind, message), "{script}");
        }
    }
}
