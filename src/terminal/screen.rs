//! The two outputs and the operator: lines that do not tear progress bars, and whether anybody can answer a question.

use std::{
    env,
    fmt::Display,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressDrawTarget};

use super::{Style, diagnostic, escape::escape_lines};
use crate::Error;

/// Where a run talks to people. Cheap to clone; clones share outputs and progress bars.
#[derive(Clone)]
pub struct Terminal(Arc<Inner>);

struct Inner {
    style: Style,
    out_style: Style,
    escapes_data: bool,
    only_result: bool,
    assume_yes: bool,
    operator: Operator,
    bars: MultiProgress,
    pace: Pace,
    out: Mutex<Box<dyn Write + Send>>,
    err: Mutex<Box<dyn Write + Send>>,
}

/// Who answers questions.
pub(super) enum Operator {
    /// Somebody at standard input.
    Present,
    /// Nobody: standard input or standard error is not a terminal.
    Absent,
    /// A test, with the lines it would type.
    #[cfg(test)]
    Scripted(Mutex<std::collections::VecDeque<String>>),
}

/// How progress is shown.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// Bars that are redrawn, or lines.
    pub bars: bool,
    /// Nothing is shown of what takes less.
    pub patience: Duration,
    /// Time between two redraws or lines.
    pub every: Duration,
}

impl Terminal {
    /// Standard output and standard error. With `assume_yes`, yes-or-no questions are answered with yes; with
    /// `only_result`, standard output gets nothing but the [`result`](Self::result).
    pub fn standard(assume_yes: bool, only_result: bool) -> Self {
        let on_screen = io::stderr().is_terminal();
        let bars = on_screen && env::var_os("TERM").is_none_or(|term| term != "dumb");
        let target = if bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let every = if bars { Duration::from_millis(100) } else { Duration::from_secs(15) };
        let present = on_screen && io::stdin().is_terminal();
        Self(Arc::new(Inner {
            style: Style::stderr(),
            out_style: if only_result { Style::stderr() } else { Style::stdout() },
            escapes_data: if only_result { on_screen } else { io::stdout().is_terminal() },
            only_result,
            assume_yes,
            operator: if present { Operator::Present } else { Operator::Absent },
            bars: MultiProgress::with_draw_target(target),
            pace: Pace { bars, patience: Duration::from_secs(2), every },
            out: Mutex::new(Box::new(io::stdout())),
            err: Mutex::new(Box::new(io::stderr())),
        }))
    }

    /// The style of [`line`](Self::line)s.
    pub fn style(&self) -> Style {
        self.0.style
    }

    /// The style of data on standard output.
    pub fn out_style(&self) -> Style {
        self.0.out_style
    }

    /// Writes data and a line break to standard output. On a terminal, control characters are shown and not obeyed.
    pub fn out(&self, text: &str) {
        let text = if self.0.escapes_data { escape_lines(text) } else { text.into() };
        self.out_styled(text);
    }

    /// Writes styled text and a line break to standard output: for text whose foreign parts were escaped already.
    pub fn out_styled(&self, text: impl Display) {
        let output = if self.0.only_result { &self.0.err } else { &self.0.out };
        self.write(output, &text.to_string());
    }

    /// Writes what a program that called this one waits for, and a line break, to standard output.
    pub fn result(&self, text: &str) {
        self.write(&self.0.out, text);
    }

    /// Writes styled text and a line break to standard error: for text whose foreign parts were escaped already.
    pub fn line(&self, text: impl Display) {
        self.write(&self.0.err, &text.to_string());
    }

    /// Writes text and a line break to standard error; control characters are shown and not obeyed.
    pub fn note(&self, text: &str) {
        self.line(escape_lines(text));
    }

    /// Writes `warning: …` to standard error.
    pub fn warn(&self, text: &str) {
        self.line(format_args!("{} {}", self.style().yellow("warning:"), escape_lines(text)));
    }

    /// Writes `error: …` and `hint: …` to standard error.
    pub fn error(&self, error: &Error) {
        self.line(diagnostic::render(error, self.style()));
    }

    /// A writer to standard error for log lines, which come between progress bars and not into them.
    pub fn log_writer(&self) -> LogWriter {
        LogWriter(self.clone())
    }

    pub(super) fn assumes_yes(&self) -> bool {
        self.0.assume_yes
    }

    pub(super) fn operator(&self) -> &Operator {
        &self.0.operator
    }

    pub(super) fn bars(&self) -> &MultiProgress {
        &self.0.bars
    }

    pub(super) fn pace(&self) -> Pace {
        self.0.pace
    }

    /// Writes to standard error without a line break, so that an answer can stand on the same line.
    pub(super) fn prompt(&self, text: &str) {
        self.0.bars.suspend(|| {
            let mut err = self.0.err.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = write!(err, "{text}").and_then(|()| err.flush());
        });
    }

    /// A closed pipe (`lhrun … | head`) must not stop a restore half way: failures to write are ignored.
    fn write(&self, output: &Mutex<Box<dyn Write + Send>>, text: &str) {
        self.0.bars.suspend(|| {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = writeln!(output, "{text}").and_then(|()| output.flush());
        });
    }
}

/// See [`Terminal::log_writer`].
pub struct LogWriter(Terminal);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.line(text.trim_end_matches('\n'));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal for tests: what was written can be read, answers are given in advance.
#[cfg(test)]
pub(crate) mod fake {
    use super::*;

    /// What a [`Terminal`] has written.
    #[derive(Clone, Default)]
    pub(crate) struct Captured {
        out: Buffer,
        err: Buffer,
    }

    impl Captured {
        pub(crate) fn out(&self) -> String {
            self.out.text()
        }

        pub(crate) fn err(&self) -> String {
            self.err.text()
        }
    }

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic while writing").clone()).expect("text")
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic while writing").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Terminal {
        /// Nobody to ask, no colours.
        pub(crate) fn captured() -> (Self, Captured) {
            Self::fake(Operator::Absent, false)
        }

        /// Somebody who types these lines and then ends the input.
        pub(crate) fn answering(lines: &[&str]) -> (Self, Captured) {
            let lines = lines.iter().map(|line| (*line).to_owned()).collect();
            Self::fake(Operator::Scripted(Mutex::new(lines)), false)
        }

        /// Nobody to ask, and `--yes`.
        pub(crate) fn agreeing() -> (Self, Captured) {
            Self::fake(Operator::Absent, true)
        }

        fn fake(operator: Operator, assume_yes: bool) -> (Self, Captured) {
            let captured = Captured::default();
            let moment = Duration::from_millis(20);
            let terminal = Self(Arc::new(Inner {
                style: Style::PLAIN,
                out_style: Style::PLAIN,
                escapes_data: false,
                only_result: false,
                assume_yes,
                operator,
                bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
                pace: Pace { bars: false, patience: moment, every: moment },
                out: Mutex::new(Box::new(captured.out.clone())),
                err: Mutex::new(Box::new(captured.err.clone())),
            }));
            (terminal, captured)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn data_and_talk_go_to_different_outputs() {
        let (terminal, captured) = Terminal::captured();
        terminal.out("42");
        terminal.note("bucket \x1b[2J");
        terminal.warn("slow");
        terminal.error(&Error::new(Kind::Usage, "no file").hint("name one"));
        assert_eq!(captured.out(), "42\n");
        assert_eq!(captured.err(), "bucket \\u{1b}[2J\nwarning: slow\nerror: no file\nhint: name one\n");
    }

    #[test]
    fn log_lines_are_lines_of_standard_error() {
        let (terminal, captured) = Terminal::captured();
        terminal.log_writer().write_all(b"INFO listing\n").unwrap();
        assert_eq!(captured.err(), "INFO listing\n");
    }
}
