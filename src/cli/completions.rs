//! `lhrun completions`.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;

use super::arguments::Cli;

/// Print the shell's completion script
///
/// bash: `lhrun completions bash > /etc/bash_completion.d/lhrun`;
/// zsh: `lhrun completions zsh > "${fpath[1]}/_lhrun"`;
/// fish: `lhrun completions fish > ~/.config/fish/completions/lhrun.fish`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(args: &Args) {
    clap_complete::generate(args.shell, &mut Cli::command(), "lhrun", &mut io::stdout());
}
