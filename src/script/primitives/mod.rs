//! What scripts can call: one file, one namespace.
//!
//! A primitive is a function of an exported module that takes the [`NativeCallContext`](rhai::NativeCallContext)
//! first, converts its arguments, and calls a layer below through [`block`](super::block). Its doc comment is its
//! entry in the reference.

// Rhai passes arguments by value, and its macros write items without documentation.
#![allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps, clippy::wildcard_imports, missing_docs)]

mod flow;
mod steps;
mod wait;

use rhai::{Engine, exported_module};

/// Registers everything.
pub(super) fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(flow::api).into());
    engine.register_global_module(exported_module!(steps::api).into());
    engine.register_static_module("wait", exported_module!(wait::api).into());
}

/// Turns a failure of a layer below into one thrown into the script.
pub(super) trait OrThrow<T> {
    /// The value, or the failure thrown into the script that called the primitive.
    fn or_throw(self, ctx: &rhai::NativeCallContext) -> super::RhaiResultOf<T>;
}

impl<T> OrThrow<T> for crate::Result<T> {
    fn or_throw(self, ctx: &rhai::NativeCallContext) -> super::RhaiResultOf<T> {
        self.map_err(|error| super::throw(ctx, &error))
    }
}
