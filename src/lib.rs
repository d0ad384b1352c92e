//! `lhrun`: runbooks that bring a k3s and Longhorn cluster back from S3, and prove it.
//!
//! Rooms, top to bottom (arrows go down only): `cli`, `repl` → `script` → `run` → `longhorn` → `backupstore`,
//! `cluster` → `objectstore`. `report` reads only `run`'s model; `terminal`, `state` and `error` are leaves; `sandbox` is an
//! embedded cluster that everything above reaches over HTTP. See `docs/architecture.md`.

pub mod backupstore;
pub mod cli;
pub mod cluster;
pub mod error;
pub mod longhorn;
pub mod objectstore;
pub mod repl;
pub mod report;
pub mod run;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod script;
pub mod state;
pub mod terminal;

pub use error::{Error, Kind, Result};
