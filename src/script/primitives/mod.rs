//! What scripts can call: one file, one namespace.
//!
//! A primitive is a function of an exported module that takes the [`NativeCallContext`](rhai::NativeCallContext)
//! first, converts its arguments, and calls a layer below through [`block`](super::block). Its doc comment is its
//! entry in the reference.

// Rhai passes arguments by value, and its macros write items without documentation.
#![allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps, clippy::wildcard_imports, missing_docs)]

mod ask;
mod backupstore;
mod check;
mod file;
mod flow;
mod formats;
mod kube;
mod longhorn;
mod report;
mod runbook;
mod s3;
mod site;
mod steps;
mod time;
mod wait;

use rhai::{Engine, exported_module};

/// Registers everything.
pub(super) fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(flow::api).into());
    engine.register_global_module(exported_module!(steps::api).into());
    engine.register_global_module(exported_module!(runbook::api).into());
    engine.register_static_module("ask", exported_module!(ask::api).into());
    engine.register_static_module("backupstore", backupstore::module().into());
    engine.register_static_module("check", exported_module!(check::api).into());
    engine.register_static_module("file", exported_module!(file::api).into());
    engine.register_static_module("json", exported_module!(formats::json).into());
    engine.register_static_module("kube", kube::module().into());
    engine.register_static_module("longhorn", longhorn::module().into());
    engine.register_static_module("report", exported_module!(report::api).into());
    engine.register_static_module("s3", exported_module!(s3::api).into());
    engine.register_static_module("site", exported_module!(site::api).into());
    engine.register_static_module("time", exported_module!(time::api).into());
    engine.register_static_module("yaml", exported_module!(formats::yaml).into());
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
