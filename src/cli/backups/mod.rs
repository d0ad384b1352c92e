//! `lhrun backups`: one file per subcommand.

mod ls;
mod store;

use self::store::StoreArgs;
use super::{Failure, Setting};

/// Look at, prove and restore backups straight from the bucket, with or without a cluster
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The store is named by --store; without it, it is the bucket of lhrun.toml, else that of the cluster's backup target. Keys come
from lhrun.toml, the AWS_ variables, or the target's own secret.

Examples:
  lhrun backups ls
  lhrun backups ls --store s3://longhorn@us-east-1/ --endpoint http://minio.home:9000
  lhrun backups ls --store file:///mnt/copy-of-the-bucket")]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Ls(ls::Args),
}

pub fn run(setting: &Setting, args: &Args) -> Result<u8, Failure> {
    let store = store::open(setting, &args.store)?;
    match &args.command {
        Command::Ls(args) => ls::run(setting, &store, args),
    }
}
