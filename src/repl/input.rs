//! Whether what has been typed is a whole input, or goes on in the next line.

use rhai::{Engine, LexError, ParseErrorType, Position};

/// Whether more must follow: something opened is not closed, or an expression is not ended.
///
/// Input that is wrong is whole: evaluating it shows what is wrong.
pub fn is_incomplete(engine: &Engine, text: &str) -> bool {
    let Err(error) = engine.compile(text) else { return false };
    match error.err_type() {
        ParseErrorType::UnexpectedEOF => true,
        // Only a text in backticks may go over several lines; the place is where it begins.
        ParseErrorType::BadInput(LexError::UnterminatedString) => {
            begins_with_backtick(text, error.position()).unwrap_or_default()
        }
        // What is missing is missing at the very end.
        _ => error.position() == end(text),
    }
}

fn end(text: &str) -> Position {
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Position::new(u16::try_from(line).unwrap_or(u16::MAX), u16::try_from(column).unwrap_or(u16::MAX))
}

fn begins_with_backtick(text: &str, position: Position) -> Option<bool> {
    let line = text.lines().nth(position.line()?.checked_sub(1)?)?;
    Some(line.chars().nth(position.position()?.checked_sub(1)?)? == '`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_ends_ask_for_more() {
        let engine = Engine::new();
        for text in [
            "let x = [1,",
            "let x = [1",
            "step(\"a\", || {",
            "step(\"a\",",
            "step(",
            "fn f(x) {\n x",
            "if a { b } else {",
            "`first",
            "let x = #{",
            "let x = #{ a: 1,",
            "1 +",
            "let x =",
            "a.",
            "kube::",
            "foo(#{\n  a: [\n",
        ] {
            assert!(is_incomplete(&engine, text), "{text:?}: {:?}", engine.compile(text).err());
        }
    }

    #[test]
    fn whole_input_and_mistakes_are_evaluated() {
        let engine = Engine::new();
        for text in [
            "",
            "1 + 1",
            "let x = 1;",
            "let let",
            ")",
            "\"abc",
            "x = = 1",
            "let x = \"a` b",
            "fn f(x) { x }",
            "// only a remark",
        ] {
            assert!(!is_incomplete(&engine, text), "{text}: {:?}", engine.compile(text).err());
        }
    }
}
