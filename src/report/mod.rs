//! What a run shows of itself: on a terminal and as JSON.
