//! A Kubernetes API server for kubectl, kube clients and lhrun itself: HTTPS on loopback, a token, objects in memory.
//!
//! A request is taken apart in `routes` and answered by `read`, `watch`, `write`, `scale`, `streams`, `discovery` or
//! `openapi`. What a change means, whoever makes it, is in `writer`; the objects and their recent history are in
//! `store`; who set which field is in `fields`, `managed` and `apply`; `gc` is the one task that works by itself.
//! What is not served (`port-forward`, protobuf, schemas for `kubectl explain`) is answered with a `Status` that says so.

pub mod admission;
mod apply;
mod binding;
mod columns;
mod defaults;
mod discovery;
mod fields;
mod gc;
pub mod kinds;
pub mod kubelet;
mod listener;
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
pub mod webhook;
mod write;
mod writer;

pub use listener::Endpoint;
pub use pki::{Pki, write_kubeconfig};
pub use server::{ApiConfig, ApiServer};
