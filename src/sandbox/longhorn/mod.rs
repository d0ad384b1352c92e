//! Controllers that act as Longhorn's manager does, written as ordinary Kubernetes clients.

pub mod disk;
