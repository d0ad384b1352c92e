//! Integration tests over the sandbox.
