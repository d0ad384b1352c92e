//! Inputs that begin with a colon: commands to the session itself.

use std::{fs, path::Path};

use super::show;
use crate::{
    Error, Kind, Result,
    script::{Session, reference},
    terminal::{Terminal, did_you_mean, escape},
};

/// The commands' names.
pub const NAMES: [&str; 4] = [":help", ":load", ":quit", ":vars"];

const HELP: &str = "\
Type what could stand in a runbook; the value of the last expression is shown. Variables, functions and imports stay.

  :help NAME     what a function does, or what is in a namespace (:help kube, :help kube::get)
  :load FILE     run a file in this session
  :vars          the variables and functions so far
  :quit          leave, as Ctrl-D does

Tab completes. An input goes on in the next line while something in it is open. Ctrl-C stops what runs.";

/// What follows from a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing more.
    Prompt,
    /// This text is to be evaluated.
    Eval(String),
    /// The session is over.
    Quit,
}

/// Does what the input says. Fails with [`Kind::Usage`] when there is no such command, file or function.
pub fn run(input: &str, session: &Session, terminal: &Terminal) -> Result<Next> {
    let (command, argument) = input.split_once(char::is_whitespace).unwrap_or((input, ""));
    match (command, argument.trim()) {
        (":help", "") => {
            let namespaces: Vec<_> = reference::namespaces().collect();
            terminal.out(&format!("{HELP}\n\nNamespaces: {}", namespaces.join(", ")));
        }
        (":help", name) => terminal.out(&help(name)?),
        (":load", "") => return Err(Error::new(Kind::Usage, "which file?").hint(":load FILE")),
        (":load", path) => {
            let text = fs::read_to_string(Path::new(path))
                .map_err(|error| Error::new(Kind::Usage, format!("cannot read {path}")).source(error))?;
            return Ok(Next::Eval(text));
        }
        (":quit", "") => return Ok(Next::Quit),
        (":vars", "") => {
            for (name, value) in session.variables() {
                terminal.out_styled(format_args!("{} = {}", escape(&name), show::brief(&value)));
            }
            for function in session.functions() {
                terminal.out(&format!("fn {function}"));
            }
        }
        _ => {
            let hint = did_you_mean(command, NAMES).unwrap_or_else(|| ":help lists the commands".into());
            return Err(Error::new(Kind::Usage, format!("there is no command {input}")).hint(hint));
        }
    }
    Ok(Next::Prompt)
}

/// A function with what it does, or all functions of a namespace.
fn help(name: &str) -> Result<String> {
    let name = name.trim_end_matches("::").trim_end_matches("()");
    let all = reference::functions();
    let named: Vec<_> = all
        .iter()
        .filter(|function| function.path() == name)
        .map(|function| format!("{}\n    {}", function.signature, function.doc.trim().replace('\n', "\n    ")))
        .collect();
    if !named.is_empty() {
        return Ok(named.join("\n\n"));
    }
    let inside: Vec<_> = all
        .iter()
        .filter(|function| function.namespace == name && !name.is_empty())
        .map(|function| format!("{}\n    {}", function.signature, function.doc.lines().next().unwrap_or_default()))
        .collect();
    if !inside.is_empty() {
        return Ok(inside.join("\n"));
    }
    let paths = all.iter().map(reference::Function::path).chain(reference::namespaces().map(str::to_owned));
    let paths: Vec<_> = paths.collect();
    let error = Error::new(Kind::Usage, format!("there is no function or namespace {name}"));
    let hint = did_you_mean(name, paths.iter().map(String::as_str));
    Err(match hint {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Settings, host::fake};

    fn run_in(session: &Session, input: &str) -> (Result<Next>, String) {
        let (terminal, captured) = Terminal::captured();
        (run(input, session, &terminal), captured.out())
    }

    fn session() -> Session {
        Session::new(&fake::host(Settings::default()).0)
    }

    #[test]
    fn help_explains_functions_and_namespaces() {
        let session = session();
        let (next, shown) = run_in(&session, ":help check::equal");
        assert_eq!(next.unwrap(), Next::Prompt);
        assert!(shown.starts_with("check::equal("), "{shown}");
        let (_, shown) = run_in(&session, ":help check");
        assert!(shown.contains("check::that("), "{shown}");
        let (_, shown) = run_in(&session, ":help");
        assert!(shown.contains(":load FILE") && shown.contains("check"), "{shown}");
        let error = run_in(&session, ":help check::equl").0.unwrap_err();
        assert_eq!(error.hint_text(), Some("did you mean `check::equal`?"));
    }

    #[test]
    fn variables_and_functions_are_listed() {
        let mut session = session();
        session.eval("let b = [1]; let a = \"x\"; fn f(n) { n }");
        assert_eq!(run_in(&session, ":vars").1, "b = array of 1\na = x\nfn f(n)\n");
    }

    #[test]
    fn files_are_loaded_and_missing_ones_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.rhai");
        fs::write(&path, "1 + 1").unwrap();
        let (session, path) = (session(), path.display());
        assert_eq!(run_in(&session, &format!(":load {path}")).0.unwrap(), Next::Eval("1 + 1".into()));
        assert!(run_in(&session, ":load /no/such.rhai").0.unwrap_err().message().contains("/no/such.rhai"));
        assert!(run_in(&session, ":load").0.is_err());
    }

    #[test]
    fn other_commands_are_errors() {
        let session = session();
        assert_eq!(run_in(&session, ":quit").0.unwrap(), Next::Quit);
        assert_eq!(run_in(&session, ":qiut").0.unwrap_err().hint_text(), Some("did you mean `:quit`?"));
        assert!(run_in(&session, ":vars x").0.is_err());
    }
}
