//! The `lhrun` program: everything is in the library, this only ends the process.

use std::process::ExitCode;

fn main() -> ExitCode {
    lhrun::cli::main(std::env::args_os().collect())
}
