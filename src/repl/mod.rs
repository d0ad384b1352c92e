//! The interactive session over the same primitives as runbooks.
