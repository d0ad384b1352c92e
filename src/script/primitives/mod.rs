//! What scripts can call: one file, one namespace.
