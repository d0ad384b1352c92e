//! Questions to the operator. Without a terminal they are refused at once: a job without an operator must not hang.

use std::{io, os::fd::AsFd};

use nix::poll::{PollFd, PollFlags, poll};

use super::{Terminal, escape, escape::escape_lines, screen::Operator};
use crate::{Error, Kind, Result};

/// How often, in milliseconds, a wait for the operator looks whether the run was cancelled.
const GLANCE: u8 = 100;
/// Wrong answers before giving up.
const PATIENCE: usize = 5;

impl Terminal {
    /// Asks a yes-or-no question; an empty answer is no. Agreed without asking when the terminal was opened with
    /// `assume_yes`.
    ///
    /// Fails with [`Kind::Refused`] when there is nobody to answer and [`Kind::Cancelled`] when `cancelled` becomes
    /// true while waiting.
    pub fn confirm(&self, question: &str, cancelled: &dyn Fn() -> bool) -> Result<bool> {
        let question = format!("{} [y/N] ", self.style().bold(escape_lines(question)));
        if self.assumes_yes() {
            self.line(format_args!("{question}yes (--yes)"));
            return Ok(true);
        }
        for _ in 0..PATIENCE {
            let answer = self.answer(&question, "agree with --yes, or run it on a terminal", cancelled)?;
            match answer.to_lowercase().as_str() {
                "y" | "yes" => return Ok(true),
                "" | "n" | "no" => return Ok(false),
                _ => self.note("please answer y or n"),
            }
        }
        Err(no_answer(&question))
    }

    /// Asks for a text; an empty answer is the default, and is asked again where there is none. Fails like
    /// [`confirm`](Self::confirm).
    pub fn ask_text(&self, question: &str, default: Option<&str>, cancelled: &dyn Fn() -> bool) -> Result<String> {
        let shown = default.map(|default| format!(" [{}]", escape(default))).unwrap_or_default();
        let question = format!("{}{shown}: ", self.style().bold(escape_lines(question)));
        for _ in 0..PATIENCE {
            let answer = self.answer(&question, "run it on a terminal", cancelled)?;
            match default {
                _ if !answer.is_empty() => return Ok(answer),
                Some(default) => return Ok(default.to_owned()),
                None => self.note("please type an answer"),
            }
        }
        Err(no_answer(&question))
    }

    /// Asks to choose one of several, by number or by text, and returns its index. Fails like
    /// [`confirm`](Self::confirm).
    pub fn choose(&self, question: &str, choices: &[String], cancelled: &dyn Fn() -> bool) -> Result<usize> {
        let mut text = format!("{}\n", self.style().bold(escape_lines(question)));
        for (index, choice) in choices.iter().enumerate() {
            let number = self.style().cyan(format_args!("{}.", index + 1)).to_string();
            text.extend(["  ", &number, " ", &escape(choice), "\n"]);
        }
        text.push_str("number: ");
        for _ in 0..PATIENCE {
            let answer = self.answer(&text, "run it on a terminal", cancelled)?;
            if let Some(index) = choices.iter().position(|choice| *choice == answer) {
                return Ok(index);
            }
            match answer.parse::<usize>() {
                Ok(number) if (1..=choices.len()).contains(&number) => return Ok(number - 1),
                _ => self.note(&format!("please answer with a number from 1 to {}", choices.len())),
            }
        }
        Err(no_answer(question))
    }

    /// One line typed by the operator, trimmed.
    fn answer(&self, question: &str, hint: &str, cancelled: &dyn Fn() -> bool) -> Result<String> {
        let line = match self.operator() {
            Operator::Absent => {
                let question = question.lines().next().unwrap_or_default().trim();
                return Err(Error::new(Kind::Refused, format!("nobody can answer the question \"{question}\""))
                    .hint(format!("standard input or standard error is not a terminal: {hint}")));
            }
            Operator::Present => {
                self.prompt(question);
                type_line(cancelled)?
            }
            #[cfg(test)]
            Operator::Scripted(lines) => {
                self.prompt(question);
                if cancelled() {
                    return Err(interrupted());
                }
                lines.lock().expect("one thread").pop_front()
            }
        };
        line.map(|line| line.trim().to_owned()).ok_or_else(|| no_answer(question))
    }
}

/// A line from standard input, or nothing at its end.
fn type_line(cancelled: &dyn Fn() -> bool) -> Result<Option<String>> {
    let failed = |error: io::Error| Error::new(Kind::Failed, "reading the answer").source(error);
    let stdin = io::stdin();
    loop {
        if cancelled() {
            return Err(interrupted());
        }
        // A read cannot be interrupted, so wait until the terminal has a whole line to give.
        match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], GLANCE) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => break,
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    let mut line = String::new();
    let length = stdin.read_line(&mut line).map_err(failed)?;
    Ok((length > 0).then_some(line))
}

fn interrupted() -> Error {
    Error::new(Kind::Cancelled, "interrupted at a question")
}

fn no_answer(question: &str) -> Error {
    let question = question.lines().next().unwrap_or_default().trim();
    Error::new(Kind::Refused, format!("no usable answer to the question \"{question}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: &dyn Fn() -> bool = &|| false;

    #[test]
    fn yes_must_be_said() {
        for (line, agreed) in [("y", true), (" YES ", true), ("", false), ("n", false), ("no", false)] {
            let (terminal, _) = Terminal::answering(&[line]);
            assert_eq!(terminal.confirm("Wipe the cluster?", NEVER).unwrap(), agreed, "{line}");
        }
    }

    #[test]
    fn an_unclear_answer_is_asked_again_but_not_for_ever() {
        let (terminal, captured) = Terminal::answering(&["what", "y"]);
        assert!(terminal.confirm("Go on?", NEVER).unwrap());
        assert_eq!(captured.err().matches("Go on?").count(), 2);
        let (terminal, _) = Terminal::answering(&["what"; 50]);
        assert_eq!(terminal.confirm("Go on?", NEVER).unwrap_err().kind(), Kind::Refused);
    }

    #[test]
    fn nobody_to_ask_is_an_error_and_not_a_wait() {
        let (terminal, _) = Terminal::captured();
        let error = terminal.confirm("Wipe the cluster?", NEVER).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.message().contains("Wipe the cluster?"), "{error}");
        assert!(error.hint_text().unwrap().contains("--yes"));
        assert_eq!(terminal.ask_text("Name?", Some("x"), NEVER).unwrap_err().kind(), Kind::Refused);
        assert_eq!(terminal.choose("Which?", &["a".into()], NEVER).unwrap_err().kind(), Kind::Refused);
    }

    #[test]
    fn yes_given_in_advance_is_recorded() {
        let (terminal, captured) = Terminal::agreeing();
        assert!(terminal.confirm("Wipe the cluster?", NEVER).unwrap());
        assert_eq!(captured.err(), "Wipe the cluster? [y/N] yes (--yes)\n");
    }

    #[test]
    fn the_end_of_input_and_ctrl_c_are_not_an_agreement() {
        let (terminal, _) = Terminal::answering(&[]);
        assert_eq!(terminal.confirm("Go on?", NEVER).unwrap_err().kind(), Kind::Refused);
        let (terminal, _) = Terminal::answering(&["y"]);
        assert_eq!(terminal.confirm("Go on?", &|| true).unwrap_err().kind(), Kind::Cancelled);
    }

    #[test]
    fn a_text_may_have_a_default() {
        let (terminal, _) = Terminal::answering(&["", "", "demo"]);
        assert_eq!(terminal.ask_text("Bucket", Some("backups"), NEVER).unwrap(), "backups");
        assert_eq!(terminal.ask_text("Bucket", None, NEVER).unwrap(), "demo");
    }

    #[test]
    fn a_choice_is_a_number_or_its_text() {
        let choices = ["system".to_owned(), "volumes".to_owned()];
        let (terminal, captured) = Terminal::answering(&["3", "2", "system"]);
        assert_eq!(terminal.choose("Strategy?", &choices, NEVER).unwrap(), 1);
        assert_eq!(terminal.choose("Strategy?", &choices, NEVER).unwrap(), 0);
        assert!(captured.err().contains("  2. volumes\n"), "{}", captured.err());
    }
}
