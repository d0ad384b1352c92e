//! `lhrun repl`, and its short form `lhrun`.

use super::{Failure, Setting};

/// Try things by hand, in a session that keeps variables and functions; `lhrun` alone is short for it
///
/// `:help` in the session tells the rest.
#[derive(clap::Args, Debug)]
pub struct Args {}

pub fn run(_setting: &Setting) -> Result<(), Failure> {
    Ok(())
}
