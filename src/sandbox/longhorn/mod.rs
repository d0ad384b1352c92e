//! Controllers that act as Longhorn's manager does, written as ordinary Kubernetes clients.

mod cache;
mod context;
pub mod disk;
mod names;
mod options;
mod queue;
mod resource;

pub use options::{LonghornOptions, TargetOptions, VERSION};
