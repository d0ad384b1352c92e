//! `lhrun check`.

use super::{Failure, Setting, runbook};

/// Read runbooks without running them: syntax, unknown functions, imports that lead nowhere
///
/// No cluster and no bucket is asked for anything.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  lhrun check runbooks/*.rhai")]
pub struct Args {
    /// The runbooks
    #[arg(value_name = "RUNBOOK", required = true)]
    runbooks: Vec<String>,
}

pub fn run(_setting: &Setting, args: &Args) -> Result<(), Failure> {
    for word in &args.runbooks {
        runbook::find(word)?;
    }
    Ok(())
}
