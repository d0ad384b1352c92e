//! The line editor: what it asks the session while somebody types.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
};

use rustyline::{
    Context, Editor, ExternalPrinter, Helper, Highlighter, Hinter,
    completion::Completer,
    config::{ColorMode, CompletionType, Config},
    error::ReadlineError,
    highlight::MatchingBracketHighlighter,
    history::FileHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};

use super::{commands, completer, history};
use crate::{
    Error, Kind, Result,
    script::Session,
    terminal::{Style, Terminal},
};

const PROMPT: &str = "lhrun> ";

/// What the operator typed.
pub enum Typed {
    /// An input.
    Input(String),
    /// Ctrl-C: the input was thrown away.
    Interrupted,
    /// Ctrl-D, or the terminal is gone.
    End,
}

/// A line editor with the session's completion and history.
pub struct Lines {
    editor: Editor<Assistant, FileHistory>,
    prompt: (String, String),
    history: Option<PathBuf>,
    /// Never printed with: while there is one, the editor waits for its terminal and for signals at once. Without, it
    /// misses a signal that another thread takes, or that comes just before it begins to wait.
    _printer: Option<Box<dyn ExternalPrinter>>,
}

impl Lines {
    /// An editor on standard input. A history that cannot be kept is warned of.
    pub fn open(session: Rc<RefCell<Session>>, terminal: &Terminal, style: Style) -> Result<Self> {
        let colours = if style.has_colour() { ColorMode::Enabled } else { ColorMode::Disabled };
        let config = Config::builder().completion_type(CompletionType::List).color_mode(colours).build();
        let failed = |error: ReadlineError| Error::new(Kind::Failed, "opening the terminal").source(error);
        let mut editor = Editor::with_config(config).map_err(failed)?;
        let printer =
            editor.create_external_printer().ok().map(|printer| Box::new(printer) as Box<dyn ExternalPrinter>);
        editor.set_helper(Some(Assistant { session, brackets: MatchingBracketHighlighter::new() }));
        let history = match history::file() {
            Some(Ok(file)) => Some(file),
            Some(Err(error)) => {
                terminal.warn(&format!("the history is not kept: {error}"));
                None
            }
            None => None,
        };
        if let Some(file) = history.as_deref().filter(|file| file.exists())
            && let Err(error) = editor.load_history(file)
        {
            terminal.warn(&format!("the history {} cannot be read: {error}", file.display()));
        }
        Ok(Self { editor, prompt: (PROMPT.to_owned(), style.cyan(PROMPT).to_string()), history, _printer: printer })
    }

    /// Reads one input, over several lines while something in it is open.
    pub fn read(&mut self) -> Result<Typed> {
        match self.editor.readline(&self.prompt) {
            Ok(input) => {
                self.remember(&input);
                Ok(Typed::Input(input))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Interrupted),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(Error::new(Kind::Failed, "reading from the terminal").source(error)),
        }
    }

    /// Written at once, so that a session that is killed keeps its history.
    fn remember(&mut self, input: &str) {
        let added = !input.trim().is_empty() && self.editor.add_history_entry(input).unwrap_or(false);
        if added && let Some(file) = &self.history {
            let _ = self.editor.append_history(file);
        }
    }
}

#[derive(Helper, Highlighter, Hinter)]
struct Assistant {
    session: Rc<RefCell<Session>>,
    #[rustyline(Highlighter)]
    brackets: MatchingBracketHighlighter,
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(completer::complete(&line[..pos], &*self.session.borrow(), Path::new("."), &commands::NAMES))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let input = context.input();
        let more = !input.starts_with(':') && !self.session.borrow().is_complete(input);
        Ok(if more { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}
