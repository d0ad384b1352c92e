//! Workloads: controllers that make pods, the claim binder, and a kubelet stand-in that runs pods as processes.

pub mod binder;
pub mod controller;
pub mod events;
pub mod node;
pub mod objects;
pub mod sets;

/// Where Longhorn lives.
const LONGHORN_NAMESPACE: &str = "longhorn-system";
