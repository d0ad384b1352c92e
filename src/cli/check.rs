//! `lhrun check`.

use super::{Failure, Setting, runbook};
use crate::{
    Kind, script,
    terminal::{Diagnostic, table},
};

/// Read runbooks without running them: syntax, unknown functions, imports that lead nowhere
///
/// Their parameters are listed. No cluster and no bucket is asked for anything.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  lhrun check runbooks/*.rhai")]
pub struct Args {
    /// The runbooks
    #[arg(value_name = "RUNBOOK", required = true)]
    runbooks: Vec<String>,
}

pub fn run(setting: &Setting, args: &Args) -> Result<u8, Failure> {
    let terminal = &setting.terminal;
    let mut mistakes = 0;
    let mut checked = Vec::new();
    for word in &args.runbooks {
        let (document, library) = runbook::find(word)?;
        let found = script::check(&library, document.clone());
        for diagnostic in &found {
            terminal.line(diagnostic.render(terminal.style()));
        }
        mistakes += found.len();
        if found.is_empty() {
            terminal.out(&format!("{word}: no mistakes found"));
        }
        let parameters = script::parameters(&library, document).unwrap_or_default();
        if !parameters.is_empty() {
            let row = |parameter: &script::Parameter| {
                let default = parameter.default.as_ref().map_or_else(|| "(computed)".into(), ToString::to_string);
                vec![parameter.name.clone(), default, parameter.help.clone()]
            };
            let rows: Vec<_> = parameters.iter().map(row).collect();
            terminal.out_styled(table::plain(&["parameter", "default", "meaning"], &rows));
        }
        checked.push(serde_json::json!({
            "runbook": word,
            "mistakes": found.iter().map(mistake).collect::<Vec<_>>(),
            "parameters": parameters.iter().map(|parameter| &parameter.name).collect::<Vec<_>>(),
        }));
    }
    if setting.is_for_programs() {
        setting.result(&checked)?;
    }
    Ok(if mistakes == 0 { 0 } else { Kind::Script.exit_code() })
}

fn mistake(diagnostic: &Diagnostic) -> serde_json::Value {
    let place = diagnostic.place.as_ref();
    serde_json::json!({
        "message": diagnostic.title,
        "hint": diagnostic.hint,
        "path": place.map(|place| &place.path),
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
    })
}
