//! Integration tests: the `lhrun` binary over the embedded cluster.

mod architecture;
mod bucket;
mod cli;
mod drill;
mod interrupt;
mod kubectl;
mod lab;
mod repl;
