//! `lhrun run`, and its short form `lhrun RUNBOOK`.

use super::{Failure, Setting, runbook};

/// Run a runbook; `lhrun RUNBOOK` is short for it
///
/// The runbook is a file, `-` for standard input, or the plain name of one inside the program (`full-restore`) when there
/// is no such file.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  lhrun run full-restore.rhai --set replicas=1 --yes
  lhrun --sandbox --yes dr-drill.rhai
  lhrun run - < my-check.rhai
  lhrun run verify-restore -o json")]
pub struct Args {
    /// The runbook
    #[arg(value_name = "RUNBOOK")]
    pub runbook: String,
    /// Give a parameter of the runbook a value; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
    pub set: Vec<(String, String)>,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it is not of the form NAME=VALUE".to_owned()),
    }
}

pub fn run(_setting: &Setting, args: &Args) -> Result<(), Failure> {
    runbook::find(&args.runbook)?;
    Ok(())
}
