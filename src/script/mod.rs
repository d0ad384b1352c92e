//! The script host: the only place, with `repl`, that knows Rhai.
//!
//! A runbook is a Rhai script; what it can call lives in [`primitives`], one file per namespace. Missing properties of
//! a map read as `()`, as absent fields of Kubernetes objects are ordinary (`pvc.status?.phase == "Bound"`), while
//! option maps given to primitives are strict (see [`convert::Options`]).

// Rhai's functions return boxed errors; what makes them does so too.
#![allow(clippy::unnecessary_box_returns)]

pub mod bridge;
pub mod convert;
mod embedded;
pub mod engine;
pub mod fault;
pub mod host;
pub mod library;
pub mod lint;
mod module;
mod outline;
mod parameters;

pub mod primitives;
pub mod reference;
mod run;
pub mod session;

pub use bridge::{RhaiResultOf, block, block_for, changing};
pub use fault::{Fault, throw};
pub use host::{Host, Settings, Site};
pub use library::{Document, Library};
pub use lint::{check, parameters};
pub use parameters::Parameter;
pub use run::{RunOutcome, run};
pub use session::Session;
