//! An embedded cluster, reached over HTTP only: Kubernetes API, S3, Longhorn-like controllers, pods as processes.

pub mod api;
mod folder;
mod guest;
mod lifecycle;
pub mod longhorn;
pub mod programs;
pub mod s3;
#[cfg(test)]
mod tests;
pub mod workload;

pub use guest::{Guest, GuestOptions};
pub use lifecycle::{S3Access, Sandbox, SandboxOptions};

/// Name of the one node, as a Kubernetes Node and as a Longhorn Node.
pub const NODE: &str = "sandbox-node";

/// Bytes in hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
