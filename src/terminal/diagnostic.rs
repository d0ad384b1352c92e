//! How a failure is shown: `error: …`, the place in the file with a caret, notes, `hint: …`.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};

use super::{Style, escape::escape_lines};
use crate::Error;

/// A position in a text file that somebody wrote: a runbook, a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub path: String,
    /// The file's whole text.
    pub text: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters the carets mark, at least one.
    pub length: usize,
}

impl Place {
    /// The position of a byte in a text, as parsers report it, marking that many bytes.
    pub fn at_bytes(path: impl Into<String>, text: &str, bytes: std::ops::Range<usize>) -> Self {
        let start = text.floor_char_boundary(bytes.start.min(text.len()));
        let end = text.floor_char_boundary(bytes.end.min(text.len())).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        Self {
            path: path.into(),
            text: text.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            length: text[start..end].chars().take_while(|c| *c != '\n').count().max(1),
        }
    }
}

/// A failure ready to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostic {
    /// What happened, in one sentence.
    pub title: String,
    /// Where in a file, if it is about one.
    pub place: Option<Place>,
    /// What stands beside the carets.
    pub label: Option<String>,
    /// Further facts, one line each: the step, the callers.
    pub notes: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl From<&Error> for Diagnostic {
    fn from(error: &Error) -> Self {
        Self { title: error.to_string(), hint: error.hint_text().map(str::to_owned), ..Self::default() }
    }
}

impl Diagnostic {
    /// Its lines, without a line break at the end.
    pub fn render(&self, style: Style) -> String {
        let mut lines = vec![format!("{} {}", style.red("error:"), escape_lines(&self.title))];
        if let Some(place) = &self.place {
            lines.push(snippet(place, self.label.as_deref(), style));
        }
        for note in &self.notes {
            lines.push(format!("{} {}", style.dim("note:"), escape_lines(note)));
        }
        if let Some(hint) = &self.hint {
            lines.push(format!("{} {}", style.cyan("hint:"), escape_lines(hint)));
        }
        lines.join("\n")
    }
}

/// `error: …` and `hint: …` of a failure, without a line break at the end.
pub fn render(error: &Error, style: Style) -> String {
    Diagnostic::from(error).render(style)
}

/// The line of the file with carets under the place, headed by `--> path:line:column`.
fn snippet(place: &Place, label: Option<&str>, style: Style) -> String {
    let path = escape_lines(&place.path);
    let Some(line) = place.text.lines().nth(place.line.saturating_sub(1)) else {
        return format!(" --> {path}:{}:{}", place.line, place.column);
    };
    let byte = |column: usize| line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let start = byte(place.column.saturating_sub(1));
    let end = byte(place.column.saturating_sub(1) + place.length.max(1));
    let label = label.map(|label| escape_lines(label).into_owned());
    let annotation = AnnotationKind::Primary.span(start..end).label(label);
    let source = Snippet::source(line).line_start(place.line).path(path).annotation(annotation);
    let renderer = if style.has_colour() { Renderer::styled() } else { Renderer::plain() };
    let report = [Group::with_level(Level::ERROR).element(source)];
    renderer.decor_style(DecorStyle::Ascii).render(&report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn place(line: usize, column: usize) -> Place {
        let text = "let a = 1;\nlet größe = kube::gte(a);\n".to_owned();
        Place { path: "demo.rhai".into(), text, line, column, length: 9 }
    }

    #[test]
    fn an_error_shows_what_happened_and_what_to_do() {
        let error = Error::new(Kind::NotFound, "no bucket \x1b[31m`x`").hint("create it");
        assert_eq!(render(&error, Style::PLAIN), "error: no bucket \\u{1b}[31m`x`\nhint: create it");
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        let diagnostic = Diagnostic {
            title: "unknown function".into(),
            place: Some(place(2, 13)),
            label: Some("did you mean `get`?".into()),
            ..Diagnostic::default()
        };
        assert_eq!(
            diagnostic.render(Style::PLAIN),
            "error: unknown function\n \
             --> demo.rhai:2:13\n  \
             |\n\
             2 | let größe = kube::gte(a);\n  \
             |             ^^^^^^^^^ did you mean `get`?"
        );
    }

    #[test]
    fn a_place_beyond_the_text_is_still_named() {
        for (line, column) in [(9, 1), (2, 500), (0, 0)] {
            let diagnostic = Diagnostic { place: Some(place(line, column)), ..Diagnostic::default() };
            assert!(diagnostic.render(Style::PLAIN).contains("demo.rhai:"));
        }
    }

    #[test]
    fn bytes_become_line_and_column_in_characters() {
        let place = Place::at_bytes("x", "a = 'ü'\nb = ü!", 15..16);
        assert_eq!((place.line, place.column, place.length), (2, 6, 1));
        let end = Place::at_bytes("x", "ab\n", 10..12);
        assert_eq!((end.line, end.column, end.length), (2, 1, 1));
    }
}
