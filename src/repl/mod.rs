//! The interactive session over the same primitives as runbooks.

mod commands;
mod completer;
mod editor;
mod history;
mod known;
mod show;

use std::{cell::RefCell, rc::Rc};

use tokio_util::sync::CancellationToken;

use self::{
    commands::Next,
    editor::{Lines, Typed},
};
use crate::{
    Kind, Result,
    script::{Host, Session, session::Answer},
};

/// How the session learns of signals.
pub trait Signals {
    /// What the next Ctrl-C cancels.
    fn renew(&self) -> CancellationToken;
    /// Reads with a function that itself minds Ctrl-C, and that is interrupted when the process is to end.
    fn at_prompt<T>(&self, read: impl FnOnce() -> T) -> T;
    /// Whether the process is to end.
    fn ended(&self) -> bool;
}

/// Reads, evaluates and shows until the operator leaves or the process is to end.
///
/// Fails when the terminal cannot be read; what goes wrong in an input is shown, and the session goes on.
pub fn run(host: &Host, signals: &impl Signals) -> Result<()> {
    let session = Rc::new(RefCell::new(Session::new(host)));
    let mut lines = Lines::open(session.clone(), host.terminal(), host.terminal().out_style())?;
    while !signals.ended() {
        let input = match signals.at_prompt(|| lines.read())? {
            Typed::Input(input) => input,
            Typed::Interrupted => continue,
            Typed::End => break,
        };
        host.renew(signals.renew());
        if answer(host, &mut session.borrow_mut(), input.trim()) == Next::Quit {
            break;
        }
    }
    Ok(())
}

/// Does what an input says, and shows what comes of it.
fn answer(host: &Host, session: &mut Session, input: &str) -> Next {
    let terminal = host.terminal();
    let mut text = input.to_owned();
    if input.starts_with(':') {
        match commands::run(input, session, terminal) {
            Ok(Next::Eval(loaded)) => text = loaded,
            Ok(next) => return next,
            Err(error) => {
                terminal.error(&error);
                return Next::Prompt;
            }
        }
    }
    match session.eval(&text) {
        Answer::Value(value) => {
            if let Some(shown) = show::show(&value) {
                terminal.out_styled(shown);
            }
        }
        // Only a file that was loaded can end too early; the line editor asks for more.
        Answer::Incomplete => terminal.note("error: it ends too early: something in it is open"),
        Answer::Failed(fault) if fault.error.kind() == Kind::Cancelled => terminal.note("interrupted"),
        Answer::Failed(fault) => terminal.line(fault.diagnostic(host).render(terminal.style())),
    }
    Next::Prompt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Settings, host::fake};

    #[test]
    fn values_are_data_and_failures_are_talk() {
        let (host, captured) = fake::host(Settings::default());
        let mut session = Session::new(&host);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.rhai");
        std::fs::write(&path, "let loaded = 7;\nloaded").unwrap();
        let load = format!(":load {}", path.display());
        for input in ["let x = 1;", "x + 1", "nosuch(x)", ":nosuch", &load] {
            assert_eq!(answer(&host, &mut session, input), Next::Prompt, "{input}");
        }
        assert_eq!(answer(&host, &mut session, ":quit"), Next::Quit);
        assert_eq!(captured.out(), "2\n7\n");
        let talk = captured.err();
        assert!(talk.contains("there is no function nosuch") && talk.contains("no command :nosuch"), "{talk}");
    }
}
