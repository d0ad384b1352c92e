//! The Longhorn backup format without a cluster: names, configuration objects, blocks, locks, reading and writing.

pub mod block;
pub mod codec;
pub mod config;
pub mod layout;
pub mod url;
