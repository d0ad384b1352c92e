//! `lhrun backups`: one file per subcommand.

mod du;
mod files;
mod hold;
mod locks;
mod ls;
mod restore;
mod show;
mod shown;
mod store;
mod verify;

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
  lhrun backups show postgres/data-postgres-0 --store file:///mnt/copy-of-the-bucket
  lhrun backups du -o json
  lhrun backups verify --level deep
  lhrun backups restore pvc-1 -o volume.img
  lhrun backups files ls pvc-1:/data")]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Du(du::Args),
    #[command(subcommand)]
    Files(files::Command),
    Locks(locks::Args),
    Ls(ls::Args),
    Restore(restore::Args),
    Show(show::Args),
    Verify(verify::Args),
}

impl Args {
    /// The form of the result, where the subcommand's `-o` names a file instead.
    pub fn form(&self) -> Option<Output> {
        if let Command::Restore(args) = &self.command { Some(args.form()) } else { None }
    }
}

pub fn run(setting: &Setting, args: &Args) -> Result<u8, Failure> {
    // What keeps it from opening a store is part of its answer.
    if let Command::Verify(verify) = &args.command {
        return verify::run(setting, &args.store, verify);
    }
    let store = store::open(setting, &args.store)?;
    match &args.command {
        Command::Du(args) => du::run(setting, &store, args),
        Command::Files(command) => files::run(setting, &store, command),
        Command::Locks(args) => locks::run(setting, &store, args),
        Command::Ls(args) => ls::run(setting, &store, args),
        Command::Restore(args) => restore::run(setting, &store, args),
        Command::Show(args) => show::run(setting, &store, args),
        Command::Verify(_) => Ok(0),
    }
}
