//! The interactive session over the same primitives as runbooks.

mod completer;
mod history;
mod input;
mod show;
