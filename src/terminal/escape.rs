//! Makes text from outside harmless: a name in a bucket must not move the cursor or hide what is printed after it.

use std::{borrow::Cow, fmt::Write};

/// The text on one line, with every control character (line breaks included) and every invisible direction mark
/// replaced by its escaped form, as in `\n` or `\u{1b}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    replace(text, is_unsafe)
}

/// Like [`escape`], but line breaks and tabs stay: for text that is meant to have several lines.
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    replace(text, |c| c != '\n' && c != '\t' && is_unsafe(c))
}

/// JSON on one line with the same characters in JSON's own escaped form, so that its meaning stays: writers of JSON
/// leave all but the first 32 as they are. They can stand in strings only.
pub fn escape_json(text: &str) -> Cow<'_, str> {
    // All of them are in the first plane, so four digits do.
    replace_by(text, is_unsafe, |safe, c| write!(safe, "\\u{:04x}", u32::from(c)))
}

fn replace(text: &str, is_unsafe: impl Fn(char) -> bool) -> Cow<'_, str> {
    replace_by(text, is_unsafe, |safe, c| write!(safe, "{}", c.escape_default()))
}

fn replace_by(
    text: &str,
    is_unsafe: impl Fn(char) -> bool,
    write: impl Fn(&mut String, char) -> std::fmt::Result,
) -> Cow<'_, str> {
    if !text.contains(&is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            let _ = write(&mut safe, c);
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Control characters (C0, DEL, C1), and the Unicode marks that reorder or hide what stands beside them.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_not_copied() {
        assert!(matches!(escape("pvc-0b3a größer 日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_terminal_sequence_is_shown_and_not_obeyed() {
        assert_eq!(escape("a\x1b[2Jb"), r"a\u{1b}[2Jb");
        assert_eq!(escape("a\u{9b}2Jb"), r"a\u{9b}2Jb");
        assert_eq!(escape("name\r\nerror: done\x07"), r"name\r\nerror: done\u{7}");
        assert_eq!(escape("safe\u{202e}gnp.exe"), r"safe\u{202e}gnp.exe");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let name = "a\x1b[2J\u{9b}2J\u{202e}gnp";
        let json = serde_json::to_string(name).unwrap();
        assert!(json.contains('\u{9b}'), "the writer leaves it");
        let safe = escape_json(&json);
        assert_eq!(safe, r#""a\u001b[2J\u009b2J\u202egnp""#);
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), name);
    }

    #[test]
    fn text_of_several_lines_keeps_its_lines() {
        assert_eq!(escape_lines("a\n\tb\x1b[0m"), "a\n\tb\\u{1b}[0m");
    }
}
