//! What may stand on the command line: global options, subcommands, and the short form `lhrun FILE`.

use std::{ffi::OsString, path::PathBuf};

use clap::{
    ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum,
    builder::{PathBufValueParser, TypedValueParser},
    error::ErrorKind,
};

use super::{backups, check, completions, repl, run, runbook, sandbox};
use crate::terminal::nearest;

const EXAMPLES: &str = "\
Examples:
  lhrun full-restore.rhai                   run a runbook against the current cluster
  lhrun full-restore.rhai --set replicas=1  the same with a parameter
  lhrun --sandbox dr-drill.rhai             on an embedded cluster: nothing to install or break
  lhrun check runbooks/*.rhai               read runbooks without running them
  lhrun                                     try things by hand
  lhrun sandbox up                          an embedded cluster for kubectl and S3 clients
  lhrun backups ls                          what is in the bucket, with or without a cluster

The cluster is found as kubectl does: --kubeconfig, $KUBECONFIG, ~/.kube/config,
/etc/rancher/k3s/k3s.yaml, in-cluster. The bucket is that of lhrun.toml, completed from the
AWS_ variables, else that of Longhorn's own backup target.

Exit codes: 0 done, 1 a step failed, 2 usage or script error, 3 data differ or are damaged,
4 refused, 5 partly done, 6 could not check (no cluster, wrong credentials), 130 interrupted.";

/// Runbooks that bring a k3s and Longhorn cluster back from S3, and prove it.
///
/// A runbook is a script of steps. Without one, a session starts in which the same steps can be tried by hand.
#[derive(Debug, Parser)]
#[command(
    name = "lhrun",
    version,
    after_help = EXAMPLES,
    override_usage = "lhrun [OPTIONS] [RUNBOOK] [--set NAME=VALUE]...\n       lhrun [OPTIONS] <COMMAND>",
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every subcommand.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Kubernetes configuration file
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the Kubernetes configuration
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of objects that are named without one
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Work on an embedded cluster that is thrown away at the end
    #[arg(long, global = true, conflicts_with_all = ["kubeconfig", "context"])]
    pub sandbox: bool,
    /// Answer every yes-or-no question with yes
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Form of the result on standard output
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    pub output: Output,
    /// Configuration file; without it ./lhrun.toml if there is one
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log what is done on standard error; -vv also every request
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// Form of results; what `-o` says.
#[derive(Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs
    Json,
    /// For programs, and for people who look for one thing
    Yaml,
    /// Where a subcommand that writes a file names it by an `-o` of its own, which takes the place of the global one:
    /// both have the same id, so they must have the same type.
    #[value(skip)]
    File(PathBuf),
}

impl Output {
    /// Reads the `-o` of a subcommand that writes a file.
    pub fn file() -> impl TypedValueParser<Value = Self> {
        PathBufValueParser::new().map(Self::File)
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(run::Args),
    Repl(repl::Args),
    Check(check::Args),
    Backups(backups::Args),
    #[command(subcommand)]
    Sandbox(sandbox::Command),
    Completions(completions::Args),
    /// Anything else: a runbook, see [`parse`].
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Reads the command line, the program's name first. `lhrun RUNBOOK …` is read as `lhrun run RUNBOOK …`.
pub fn parse(mut args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let mut cli = Cli::try_parse_from(&args)?;
    if let Some(Command::Backups(backups)) = &cli.command
        && let Some(form) = backups.form()
    {
        cli.globals.output = form;
    }
    let Some(Command::Other(rest)) = &cli.command else { return Ok(cli) };
    // The unknown word and all that follows it are the end of the command line.
    let at = args.len() - rest.len();
    let word = rest.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    if !runbook::looks_like_one(&word) {
        return Err(unknown(&word));
    }
    args.insert(at, "run".into());
    Cli::try_parse_from(&args)
}

fn unknown(word: &str) -> clap::Error {
    let mut command = Cli::command();
    let commands: Vec<_> = command.get_subcommands().map(|known| known.get_name().to_owned()).collect();
    let near = nearest(word, commands.iter().map(String::as_str));
    let hint = match near.as_slice() {
        [] => runbook::find(word).err().and_then(|error| error.hint_text().map(str::to_owned)),
        near => Some(format!("did you mean {}?", near.join(" or "))),
    };
    let tip = hint.map(|hint| format!("\n\n  tip: {hint}")).unwrap_or_default();
    command.error(ErrorKind::InvalidSubcommand, format!("no runbook or subcommand '{word}'{tip}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Cli {
        parse(line.split(' ').map(Into::into).collect()).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    fn refused(line: &str) -> String {
        parse(line.split(' ').map(Into::into).collect()).unwrap_err().to_string()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_runbook_needs_no_subcommand() {
        for line in [
            "lhrun -n apps drill.rhai --set rows=5 --yes --set class=a=b",
            "lhrun run drill.rhai --set rows=5 -y -n apps --set class=a=b",
        ] {
            let cli = parsed(line);
            let Some(Command::Run(args)) = &cli.command else { panic!("{line}: {:?}", cli.command) };
            assert_eq!(args.runbook, "drill.rhai");
            assert_eq!(args.set, [("rows".into(), "5".into()), ("class".into(), "a=b".into())]);
            assert!(cli.globals.yes);
            assert_eq!(cli.globals.namespace.as_deref(), Some("apps"));
        }
    }

    #[test]
    fn a_value_that_looks_like_a_runbook_is_still_a_value() {
        let cli = parsed("lhrun --context prod.rhai sandbox up");
        assert_eq!(cli.globals.context.as_deref(), Some("prod.rhai"));
        assert!(matches!(cli.command, Some(Command::Sandbox(_))));
    }

    #[test]
    fn a_mistyped_subcommand_is_not_taken_for_a_runbook() {
        let error = refused("lhrun sandbx up");
        assert!(error.contains("'sandbx'") && error.contains("did you mean sandbox"), "{error}");
    }

    #[test]
    fn a_parameter_needs_a_name_and_a_value() {
        assert!(refused("lhrun run drill.rhai --set rows").contains("NAME=VALUE"));
        assert!(refused("lhrun run drill.rhai --set =5").contains("NAME=VALUE"));
    }

    #[test]
    fn the_embedded_cluster_and_another_exclude_each_other() {
        assert!(refused("lhrun --sandbox --context prod drill.rhai").contains("--context"));
    }

    #[test]
    fn what_restores_writes_the_file_named_by_o() {
        for (line, file, form) in [
            ("lhrun backups restore pvc-1 -o json", "json", Output::Text),
            ("lhrun backups restore pvc-1@latest --output a.img --result json", "a.img", Output::Json),
            ("lhrun backups restore -o yaml pvc-1 --result yaml", "yaml", Output::Yaml),
        ] {
            let cli = parsed(line);
            assert_eq!(cli.globals.output, form, "{line}");
            assert!(format!("{:?}", cli.command).contains(&format!("File({file:?})")), "{:?}", cli.command);
        }
        assert!(refused("lhrun -o json backups restore pvc-1").contains("--output <FILE>"));
        assert!(refused("lhrun backups ls -o a.img").contains("[possible values: text, json, yaml]"));
        assert_eq!(parsed("lhrun backups ls -o json").globals.output, Output::Json);
        assert_eq!(parsed("lhrun backups -o yaml ls").globals.output, Output::Yaml);
    }

    #[test]
    fn without_words_there_is_no_subcommand() {
        assert!(parsed("lhrun -v").command.is_none());
    }
}
