//! `lhrun sandbox`.

use std::path::PathBuf;

use super::{Failure, Setting};

/// The embedded cluster on its own, for kubectl and S3 clients
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Up(Up),
}

/// Start an embedded cluster, print where it is, and keep it until Ctrl-C
///
/// Prints the path of a kubeconfig, the S3 endpoint and its keys, and the same as lines to paste into a shell. Ctrl-C
/// stops every process of the cluster and removes its files; a folder named with --folder keeps its bucket.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  lhrun sandbox up
  lhrun sandbox up --folder ~/sandbox --api-port 6443 --s3-port 9000
  lhrun sandbox up -o json")]
pub struct Up {
    /// Keep the cluster's files here instead of in a temporary folder
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Port of the Kubernetes API on 127.0.0.1; without it any free one
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    api_port: u16,
    /// Port of the S3 endpoint on 127.0.0.1; without it any free one
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    s3_port: u16,
}

pub fn run(_setting: &Setting, command: &Command) -> Result<(), Failure> {
    let Command::Up(_up) = command;
    Ok(())
}
