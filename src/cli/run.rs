//! `lhrun run`, and its short form `lhrun RUNBOOK`.

use std::{collections::BTreeMap, ffi::OsStr, path::Path};

use super::{Failure, Setting, config::Params, place::Place, runbook};
use crate::{
    report,
    run::{Run, Verdict},
    script::{self, Document, Host, Library, RunOutcome, library::EMBEDDED},
};

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

pub fn run(setting: &Setting, args: &Args) -> Result<u8, Failure> {
    let (document, library) = runbook::find(&args.runbook)?;
    // Whoever gave a plain name meant the copy inside.
    let names_a_file = Path::new(&args.runbook).components().count() > 1 || args.runbook.contains('.');
    if let Some(name) = document.name.strip_prefix(EMBEDDED).filter(|_| names_a_file) {
        setting.terminal.note(&format!("there is no file {}: running the copy of {name} inside lhrun", args.runbook));
    }
    let parameters = parameters(setting, args, &library, &document);
    let place = Place::open(setting, library, parameters)?;
    let outcome = execute(setting, &place, document);
    let exit_code = outcome.exit_code;
    let shown = show(setting, outcome);
    match place.close(setting).and(shown) {
        Err(error) if exit_code == 0 => return Err(error.into()),
        Err(error) => setting.terminal.error(&error),
        Ok(()) => {}
    }
    Ok(exit_code)
}

fn show(setting: &Setting, outcome: RunOutcome) -> crate::Result<()> {
    let RunOutcome { record, error, mut diagnostic, verdict, .. } = outcome;
    if verdict == Verdict::Interrupted
        && let Some(diagnostic) = &mut diagnostic
    {
        // It was stopped, not wrong, where it was.
        diagnostic.place = None;
    }
    if let Some(diagnostic) = &diagnostic {
        setting.terminal.line(diagnostic.render(setting.terminal.style()));
    }
    if setting.is_for_programs() {
        return setting.result(&report::json::document(&record, error.as_ref(), diagnostic.as_ref()));
    }
    report::summary(&record, verdict, &setting.terminal);
    Ok(())
}

fn execute(setting: &Setting, place: &Place, document: Document) -> RunOutcome {
    let host = Host::new(
        place.settings.clone(),
        setting.runtime.handle().clone(),
        setting.interrupts.token(),
        setting.terminal.clone(),
        Run::new(document.name.clone(), report::Live::new(setting.terminal.clone())),
    );
    script::run(&host, document)
}

/// What was set, over the configuration's defaults for this runbook, over those for all that it has a parameter for.
fn parameters(setting: &Setting, args: &Args, library: &Library, document: &Document) -> BTreeMap<String, String> {
    let Params { all, of } = &setting.config.params;
    let mut parameters = all.clone();
    if !parameters.is_empty()
        && let Some(declared) = script::parameters(library, document.clone())
    {
        parameters.retain(|name, _| declared.iter().any(|parameter| parameter.name == *name));
    }
    let name = Path::new(&document.name).file_stem().and_then(OsStr::to_str).unwrap_or_default();
    let name = name.strip_prefix(EMBEDDED).unwrap_or(name);
    parameters.extend(of.get(name).cloned().unwrap_or_default());
    parameters.extend(args.set.iter().cloned());
    parameters
}
