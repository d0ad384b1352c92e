//! `lhrun repl`, and its short form `lhrun`.

use std::{
    io::{self, IsTerminal},
    path::Path,
};

use tokio_util::sync::CancellationToken;

use super::{Failure, Setting, interrupt::Interrupts, place::Place};
use crate::{
    Error, Kind,
    repl::{self, Signals},
    report,
    run::Run,
    script::{Host, Library},
    terminal::escape,
};

/// Try things by hand, in a session that keeps variables and functions; `lhrun` alone is short for it
///
/// `:help` in the session tells the rest.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  lhrun
  lhrun repl --context k3s -n longhorn-system
  lhrun --sandbox repl")]
pub struct Args {}

pub fn run(setting: &Setting) -> Result<u8, Failure> {
    if !io::stdin().is_terminal() {
        let error = Error::new(Kind::Usage, "a session needs a terminal, and standard input is none");
        return Err(error.hint("name a runbook, or - for one on standard input").into());
    }
    // Where runbooks are worked on, what they import is found as from inside of them.
    let folder = Path::new("runbooks");
    let library = Library::of_folder(if folder.is_dir() { folder } else { Path::new("") });
    let place = Place::open(setting, library, setting.config.params.all.clone())?;
    let host = Host::new(
        place.settings.clone(),
        setting.runtime.handle().clone(),
        setting.interrupts.token(),
        setting.terminal.clone(),
        Run::new("session", report::Live::new(setting.terminal.clone())),
    );
    let on = host.site_name().map(|name| format!(" on {}", escape(&name))).unwrap_or_default();
    setting.terminal.line(format_args!("lhrun {}{on}: :help for help, Ctrl-D to leave", env!("CARGO_PKG_VERSION")));
    let result = repl::run(&host, &setting.interrupts);
    drop(host);
    place.close(setting)?;
    result?;
    Ok(if setting.interrupts.ended() { Kind::Cancelled.exit_code() } else { 0 })
}

impl Signals for Interrupts {
    fn renew(&self) -> CancellationToken {
        Self::renew(self)
    }

    fn at_prompt<T>(&self, read: impl FnOnce() -> T) -> T {
        Self::at_prompt(self, read)
    }

    fn ended(&self) -> bool {
        Self::ended(self)
    }
}
