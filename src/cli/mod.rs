//! The command line: one file per subcommand, its arguments and `run`.

mod arguments;
mod backups;
mod check;
mod completions;
pub mod config;
mod failure;
mod interrupt;
mod place;
mod repl;
mod run;
mod runbook;
mod sandbox;
mod site;

use std::{
    ffi::OsString,
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::CommandFactory;
use serde::Serialize;
use tokio::runtime::{self, Runtime};
use tracing_subscriber::EnvFilter;

pub use self::failure::Failure;
use self::{
    arguments::{Cli, Command, Globals, Output},
    config::Config,
    interrupt::Interrupts,
};
use crate::{
    Error, Kind,
    terminal::{Terminal, escape::escape_json},
};

/// What every subcommand works with.
struct Setting {
    globals: Globals,
    config: Config,
    terminal: Terminal,
    runtime: Runtime,
    interrupts: Interrupts,
}

impl Setting {
    /// Whether a program reads the result, so that [`Setting::result`] is to be called.
    fn is_for_programs(&self) -> bool {
        self.globals.output != Output::Text
    }

    /// Writes a result for a program that waits for it, in the form that was asked for.
    fn result(&self, result: &impl Serialize) -> crate::Result<()> {
        let failed = |error: String| Error::new(Kind::Failed, format!("writing the result: {error}"));
        let text = if self.globals.output == Output::Yaml {
            serde_saphyr::to_string(result).map_err(|error| failed(error.to_string()))?
        } else {
            let text = serde_json::to_string(result).map_err(|error| failed(error.to_string()))?;
            // What JSON lets pass unescaped can still drive a terminal. It stands in strings only.
            escape_json(&text).into_owned()
        };
        self.terminal.result(text.trim_end());
        Ok(())
    }
}

/// Does what the command line says, the program's name first, and returns the process's exit code.
pub fn main(args: Vec<OsString>) -> ExitCode {
    // Nothing is built before this: `--version` and `--help` answer at once.
    let cli = match arguments::parse(args) {
        Ok(cli) => cli,
        Err(answer) => {
            let _ = answer.print();
            return ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2));
        }
    };
    let terminal = Terminal::standard(cli.globals.yes, cli.globals.output != Output::Text);
    match dispatch(cli, &terminal) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            terminal.line(failure.diagnostic.render(terminal.style()));
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

/// Does it and returns the exit code.
fn dispatch(cli: Cli, terminal: &Terminal) -> Result<u8, Failure> {
    if cli.command.is_none() && !io::stdin().is_terminal() {
        terminal.line(Cli::command().render_help());
    }
    let command = cli.command.unwrap_or(Command::Repl(repl::Args {}));
    if let Command::Completions(args) = &command {
        completions::run(args);
        return Ok(0);
    }
    let setting = prepare(cli.globals, terminal)?;
    match &command {
        Command::Run(args) => run::run(&setting, args),
        Command::Repl(repl::Args {}) => repl::run(&setting),
        Command::Check(args) => check::run(&setting, args),
        Command::Backups(args) => backups::run(&setting, args),
        Command::Sandbox(command) => sandbox::run(&setting, command),
        Command::Completions(_) | Command::Other(_) => Ok(0),
    }
}

fn prepare(globals: Globals, terminal: &Terminal) -> Result<Setting, Failure> {
    log_to(terminal, globals.verbose);
    let config = Config::load(globals.config.as_deref())?;
    if let Some(warning) = config.exposure() {
        terminal.warn(&warning);
    }
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Kind::Failed, "starting threads").source(error))?;
    let interrupts = Interrupts::listen(runtime.handle(), terminal)?;
    Ok(Setting { globals, config, terminal: terminal.clone(), runtime, interrupts })
}

/// `-v` shows what lhrun does, `-vv` also every request; `RUST_LOG` says it in detail.
fn log_to(terminal: &Terminal, verbose: u8) {
    let level = match verbose {
        // What others log is about their work, not about the operator's.
        0 => "off,lhrun=warn",
        1 => "warn,lhrun=info",
        _ => "info,lhrun=debug,kube=debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("{level},s3s=off")));
    let log = terminal.clone();
    // A second subscriber in one process is a programming error that costs only the log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(terminal.style().has_colour())
        .with_writer(move || log.log_writer())
        .try_init();
}
