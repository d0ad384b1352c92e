//! Controllers that act as Longhorn's manager does, written as ordinary Kubernetes clients.
//!
//! [`install`] puts Longhorn's own objects into a cluster, [`LonghornControllers`] brings them to life, [`admission`]
//! changes and refuses writes as its webhooks do, and [`disk`] holds the data. What is reproduced is version 1.10, with
//! its surprises; times are shorter than in a real cluster, their order is not.

pub mod admission;
mod backup;
mod backup_volume;
mod cache;
mod context;
mod controllers;
pub mod disk;
mod install;
mod names;
mod options;
mod provision;
mod queue;
mod recurring;
mod resource;
mod restore;
mod settings;
mod snapshot;
mod store;
mod system;
mod target;
#[cfg(test)]
mod tests;
mod volume;
mod webhooks;

pub use controllers::LonghornControllers;
pub use install::install;
pub use options::{LonghornOptions, TargetOptions, VERSION};
pub use webhooks::register_webhooks;
