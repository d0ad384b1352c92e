//! Leaves for talking to people: progress, tables, prompts, diagnostics.
//!
//! Data go to standard output, everything else to standard error. Text that comes from outside the program (names in
//! a bucket, messages of a server) passes [`escape`] before it is shown, so that it cannot drive the terminal.

pub mod diagnostic;
pub mod escape;
pub mod human;
pub mod progress;
pub mod prompt;
pub mod screen;
pub mod style;
pub mod suggest;
pub mod table;

pub use diagnostic::{Diagnostic, Place};
pub use escape::escape;
pub use progress::{Progress, Unit};
pub use screen::Terminal;
pub use style::Style;
pub use suggest::{did_you_mean, nearest};
