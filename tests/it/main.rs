//! Integration tests over the sandbox.

mod cli;
mod repl;
