//! The command line: one file per subcommand, its arguments and `run`.
