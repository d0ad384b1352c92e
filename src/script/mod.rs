//! The script host: the only place, with `repl`, that knows Rhai.

pub mod primitives;
