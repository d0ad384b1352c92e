//! The servers of the second tier of tests.

#[path = "../../tests/it/real/buckets.rs"]
pub mod buckets;
#[path = "../../tests/it/real/control_plane.rs"]
pub mod control_plane;
#[path = "../../tests/it/real/pki.rs"]
mod pki;
#[path = "../../tests/it/real/server.rs"]
pub mod server;
