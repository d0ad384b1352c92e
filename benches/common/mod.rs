//! What the benchmarks share.

pub mod load;
pub mod rows;
