//! A Kubernetes API server for kubectl, kube clients and lhrun itself.

pub mod admission;
mod apply;
mod columns;
mod defaults;
mod discovery;
mod fields;
mod gc;
pub mod kinds;
mod managed;
mod object;
mod openapi;
mod patch;
mod pki;
pub mod pods;
mod read;
mod reviews;
mod routes;
mod rows;
mod scale;
mod selector;
mod server;
mod shape;
mod status;
mod store;
mod strategic;
mod streams;
mod table;
#[cfg(test)]
mod tests;
mod typed;
mod validate;
mod view;
mod watch;
mod write;
mod writer;

pub use pki::{Pki, write_kubeconfig};
pub use server::{ApiConfig, ApiServer};
