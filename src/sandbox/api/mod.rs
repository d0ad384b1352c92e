//! A Kubernetes API server for kubectl, kube clients and lhrun itself.

pub mod admission;
mod columns;
mod defaults;
mod discovery;
mod gc;
pub mod kinds;
mod object;
mod patch;
mod pki;
pub mod pods;
mod read;
mod routes;
mod selector;
mod server;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod validate;
mod view;
mod watch;
mod write;
mod writer;

pub use pki::{Pki, write_kubeconfig};
pub use server::{ApiConfig, ApiServer};
