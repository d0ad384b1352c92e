//! `lhrun backups`: one file per subcommand.

mod files;
mod hold;
mod ls;
mod restore;
mod store;

use self::store::StoreArgs;
use super::{Failure, Setting, arguments::Output};

/// Look at, prove and restore backups straight from the bucket, with or without a cluster
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The store is named by --store; without it, it is the bucket of lhrun.toml, else that of the cluster's backup target. Keys come
from lhrun.toml, the AWS_ variables, or the target's own secret.

Examples:
  lhrun backups ls
  lhrun backups ls --store s3://longhorn@us-east-1/ --endpoint http://minio.home:9000
  lhrun backups ls --store file:///mnt/copy-of-the-bucket
  lhrun backups restore pvc-1 -o volume.img
  lhrun backups files ls pvc-0b3a:/data")]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(subcommand)]
    Files(files::Command),
    Ls(ls::Args),
    Restore(restore::Args),
}

impl Args {
    /// The form of the result, where the subcommand's `-o` names a file instead.
    pub fn form(&self) -> Option<Output> {
        if let Command::Restore(args) = &self.command { Some(args.form()) } else { None }
    }
}

pub fn run(setting: &Setting, args: &Args) -> Result<u8, Failure> {
    let store = store::open(setting, &args.store)?;
    match &args.command {
        Command::Files(command) => files::run(setting, &store, command),
        Command::Ls(args) => ls::run(setting, &store, args),
        Command::Restore(args) => restore::run(setting, &store, args),
    }
}
