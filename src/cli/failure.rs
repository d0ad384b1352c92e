//! What ends a command that did not succeed: the exit code's kind and what is shown.

use crate::{Error, Kind, terminal::Diagnostic};

/// A failure at the edge of the program.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// What is shown.
    pub diagnostic: Box<Diagnostic>,
}

impl Failure {
    /// A wrong command line or configuration, shown as that.
    pub fn usage(diagnostic: Diagnostic) -> Self {
        Self { kind: Kind::Usage, diagnostic: Box::new(diagnostic) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { kind: error.kind(), diagnostic: Box::new(Diagnostic::from(&error)) }
    }
}
