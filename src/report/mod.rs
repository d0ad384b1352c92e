//! What a run shows of itself: on a terminal and as JSON. Reads only `run`'s model.

pub mod json;
mod live;
mod summary;

pub use live::Live;
pub use summary::summary;
