//! A Kubernetes API server for kubectl, kube clients and lhrun itself.

pub mod admission;
pub mod kinds;
pub mod pods;
