//! An embedded cluster, reached over HTTP only: Kubernetes API, S3, Longhorn-like controllers, pods as processes.

pub mod api;
pub mod longhorn;
pub mod s3;
pub mod workload;

/// Name of the one node, as a Kubernetes Node and as a Longhorn Node.
pub const NODE: &str = "sandbox-node";
