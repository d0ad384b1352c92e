//! An interactive session: lines that see the variables, functions and imports of the lines before.

use std::sync::PoisonError;

use rhai::{AST, Dynamic, Engine, EvalAltResult, LexError, ParseError, ParseErrorType, Scope, Stmt};

use super::{Fault, Host, engine};

/// How the lines of a session are named in messages.
const NAME: &str = "input";

/// What became of a line.
#[derive(Debug)]
pub enum Answer {
    /// Its value.
    Value(Dynamic),
    /// It goes on: a bracket, a brace or a text is still open.
    Incomplete,
    /// It failed.
    Failed(Box<Fault>),
}

/// An interactive session.
pub struct Session {
    host: Host,
    engine: Engine,
    scope: Scope<'static>,
    /// Functions of the lines so far.
    functions: AST,
    /// Imports of the lines so far, which the language forgets at the end of each.
    imports: Vec<Stmt>,
}

impl Session {
    /// A session without variables.
    pub fn new(host: &Host) -> Self {
        let mut engine = engine::build(host);
        // Variables and imports of earlier lines are not known when a line is read.
        engine.set_strict_variables(false);
        Self { host: host.clone(), engine, scope: Scope::new(), functions: AST::empty(), imports: Vec::new() }
    }

    /// Whether the text is a whole input, so that a line break ends it; also when it is wrong.
    pub fn is_complete(&self, text: &str) -> bool {
        !self.engine.compile(text).is_err_and(|error| is_unfinished(&error, text))
    }

    /// Runs a line, or several.
    pub fn eval(&mut self, text: &str) -> Answer {
        let mut line = match self.engine.compile_with_scope(&self.scope, text) {
            Ok(ast) => ast,
            Err(error) if is_unfinished(&error, text) => return Answer::Incomplete,
            Err(error) => return self.failed(&error.into(), text, None),
        };
        line.set_source(NAME);
        let imported = line.statements().iter().filter(|statement| matches!(statement, Stmt::Import(..)));
        let imported: Vec<_> = imported.cloned().collect();
        let statements = self.imports.iter().chain(line.statements()).cloned();
        let mut functions = self.functions.clone();
        functions.combine(line.clone_functions_only());
        let mut whole = AST::new(statements, functions.shared_lib().clone());
        whole.set_source(NAME);
        match self.engine.eval_ast_with_scope::<Dynamic>(&mut self.scope, &whole) {
            Ok(value) => {
                self.functions = functions;
                self.imports.extend(imported);
                Answer::Value(value)
            }
            Err(error) => {
                let answer = self.failed(&error, text, Some(&line));
                // What it defined may be what its next attempt needs.
                self.functions = functions;
                answer
            }
        }
    }

    /// The variables and constants, with their values; the youngest of a name.
    pub fn variables(&self) -> Vec<(String, Dynamic)> {
        let mut variables: Vec<_> = Vec::new();
        for (name, _, value) in self.scope.iter() {
            variables.retain(|(known, _)| known != name);
            variables.push((name.to_owned(), value));
        }
        variables
    }

    /// The functions of the lines so far, as they are called: `restore(claim)`.
    pub fn functions(&self) -> Vec<String> {
        let functions = self.functions.iter_functions().filter(|function| !function.name.starts_with("anon$"));
        functions.map(|function| format!("{}({})", function.name, function.params.join(", "))).collect()
    }

    /// The namespaces that imports made.
    pub fn namespaces(&self) -> Vec<String> {
        let alias = |import: &Stmt| match import {
            Stmt::Import(import, _) => Some(import.1.name.to_string()),
            _ => None,
        };
        let mut aliases: Vec<_> = self.imports.iter().filter_map(alias).filter(|alias| !alias.is_empty()).collect();
        aliases.sort();
        aliases.dedup();
        aliases
    }

    fn failed(&self, error: &EvalAltResult, text: &str, line: Option<&AST>) -> Answer {
        let mut fault = Fault::in_source(error, NAME);
        // A function of an earlier line: its text is gone, and this line's would be wrong.
        let here = |name: &str| line.is_some_and(|line| line.iter_functions().any(|function| function.name == name));
        let inner = fault.stack.first().filter(|_| fault.at.as_ref().is_some_and(|at| at.source == NAME));
        if inner.is_some_and(|frame| !here(&frame.function)) {
            fault.at = None;
        }
        let mut sources = self.host.sources().lock().unwrap_or_else(PoisonError::into_inner);
        sources.insert(NAME.into(), text.to_owned());
        Answer::Failed(Box::new(fault))
    }
}

/// Whether something is missing at the end of the text, rather than wrong before it.
fn is_unfinished(error: &ParseError, text: &str) -> bool {
    let text = text.trim_end();
    let last = (text.lines().count(), text.lines().last().map_or(0, |line| line.chars().count()));
    let position = error.position();
    let place = (position.line().unwrap_or(usize::MAX), position.position().unwrap_or(usize::MAX));
    match error.err_type() {
        ParseErrorType::UnexpectedEOF => true,
        // Only a text in backticks may go over several lines; the place is where it begins.
        ParseErrorType::BadInput(LexError::UnterminatedString) => {
            let line = text.lines().nth(place.0.saturating_sub(1)).unwrap_or_default();
            line.chars().nth(place.1.saturating_sub(1)) == Some('`')
        }
        ParseErrorType::MissingToken(..) => place > last,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        Kind,
        script::{Library, Settings, host::fake},
        terminal::Style,
    };

    fn session() -> Session {
        Session::new(&fake::host(Settings::default()).0)
    }

    fn value(session: &mut Session, line: &str) -> String {
        match session.eval(line) {
            Answer::Value(value) => value.to_string(),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn fault(session: &mut Session, line: &str) -> Fault {
        match session.eval(line) {
            Answer::Failed(fault) => *fault,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn lines_see_the_lines_before() {
        let mut session = session();
        value(&mut session, "let x = 40");
        value(&mut session, "fn twice(n) { n * 2 }");
        value(&mut session, "let add = |n| n + x;");
        assert_eq!(value(&mut session, "x += 1; twice(x)"), "82");
        assert_eq!(value(&mut session, "add.call(1)"), "42");
        value(&mut session, "fn twice(n) { n * 20 }");
        assert_eq!(value(&mut session, "twice(x)"), "820");
        assert_eq!(session.functions(), ["twice(n)"]);
        assert_eq!(session.variables()[0].0, "x");
    }

    #[test]
    fn imports_last() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.rhai"), "fn name() { \"a\" }").unwrap();
        let library = Library::of_folder(folder.path());
        let mut session = Session::new(&fake::host(Settings { library, ..Settings::default() }).0);
        value(&mut session, "import \"a\" as a");
        assert_eq!(value(&mut session, "a::name()"), "a");
        assert_eq!(session.namespaces(), ["a"]);
    }

    #[test]
    fn an_open_bracket_or_text_goes_on() {
        let mut session = session();
        for text in ["fn f(x) {", "step(\"a\", || {\n  let x = 1;", "[1,\n2,", "let x = `a", "#{a: 1"] {
            assert!(!session.is_complete(text), "{text}: {:?}", session.engine.compile(text));
            assert!(matches!(session.eval(text), Answer::Incomplete), "{text}");
        }
        for text in ["1 + 1", "let x = ;", "let x = \"a", "fn f(x) {\n x }", ""] {
            assert!(session.is_complete(text), "{text}");
        }
    }

    #[test]
    fn a_failed_line_leaves_the_session_alive() {
        let mut session = session();
        value(&mut session, "let x = 1; fn bad(n) {\n\n n.nothing() }");
        let shown = fault(&mut session, "let y = 2; x = oops + 1").diagnostic(&session.host).render(Style::PLAIN);
        assert!(shown.contains("input:1:16") && shown.contains("oops"), "{shown}");
        assert_eq!(fault(&mut session, "bad(1)").at, None);
        assert_eq!(fault(&mut session, "fail(\"denied\", \"x\")").error.kind(), Kind::Denied);
        assert_eq!(value(&mut session, "x + y"), "3");
    }

    #[test]
    fn an_interrupted_line_leaves_the_session_alive() {
        let (host, _) = fake::host(Settings::default());
        let mut session = Session::new(&host);
        let cancel = host.cancel();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            cancel.cancel();
        });
        assert_eq!(fault(&mut session, "loop { }").error.kind(), Kind::Cancelled);
        stopper.join().unwrap();
        host.renew(CancellationToken::new());
        assert_eq!(value(&mut session, "1 + 1"), "2");
    }
}
