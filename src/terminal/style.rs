//! Colours, or none: `NO_COLOR`, `TERM=dumb` and output that is not a terminal switch them off.

use std::{
    env,
    fmt::{self, Display},
    io::{self, IsTerminal},
};

/// How text is marked on one output: with colours or plainly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// No colours.
    pub const PLAIN: Self = Self { colour: false };
    /// Colours, whatever the output is.
    pub const COLOUR: Self = Self { colour: true };

    /// What suits standard error.
    pub fn stderr() -> Self {
        Self::for_output(io::stderr().is_terminal(), |name| env::var(name).ok())
    }

    /// What suits standard output.
    pub fn stdout() -> Self {
        Self::for_output(io::stdout().is_terminal(), |name| env::var(name).ok())
    }

    /// `NO_COLOR` counts when it is set and not empty (<https://no-color.org>).
    fn for_output(is_terminal: bool, var: impl Fn(&str) -> Option<String>) -> Self {
        let refused = var("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = var("TERM").is_some_and(|term| term == "dumb");
        Self { colour: is_terminal && !refused && !dumb }
    }

    /// Whether colours are used.
    pub fn has_colour(self) -> bool {
        self.colour
    }

    /// Bold: names and headings.
    pub fn bold<T: Display>(self, text: T) -> Styled<T> {
        self.with("1", text)
    }

    /// Dim: what matters least.
    pub fn dim<T: Display>(self, text: T) -> Styled<T> {
        self.with("2", text)
    }

    /// Red and bold: failures.
    pub fn red<T: Display>(self, text: T) -> Styled<T> {
        self.with("1;31", text)
    }

    /// Yellow: warnings and what could not be checked.
    pub fn yellow<T: Display>(self, text: T) -> Styled<T> {
        self.with("33", text)
    }

    /// Green: success.
    pub fn green<T: Display>(self, text: T) -> Styled<T> {
        self.with("32", text)
    }

    /// Cyan: hints and questions.
    pub fn cyan<T: Display>(self, text: T) -> Styled<T> {
        self.with("36", text)
    }

    fn with<T: Display>(self, code: &'static str, text: T) -> Styled<T> {
        Styled { code: self.colour.then_some(code), text }
    }
}

/// Text with its marking; printing it writes both.
pub struct Styled<T> {
    code: Option<&'static str>,
    text: T,
}

impl<T: Display> Display for Styled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "\x1b[{code}m{}\x1b[0m", self.text),
            None => self.text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(is_terminal: bool, vars: &[(&str, &str)]) -> Style {
        Style::for_output(is_terminal, |name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn colours_need_a_terminal_and_nobody_against_them() {
        assert_eq!(style(true, &[]), Style::COLOUR);
        assert_eq!(style(false, &[]), Style::PLAIN);
        assert_eq!(style(true, &[("NO_COLOR", "1")]), Style::PLAIN);
        assert_eq!(style(true, &[("TERM", "dumb")]), Style::PLAIN);
        assert_eq!(style(true, &[("NO_COLOR", ""), ("TERM", "xterm")]), Style::COLOUR);
    }

    #[test]
    fn plain_text_has_no_escape_sequence() {
        assert_eq!(Style::PLAIN.red("error").to_string(), "error");
        assert_eq!(Style::COLOUR.green("ok").to_string(), "\x1b[32mok\x1b[0m");
    }
}
