//! Which backup store is meant.

use std::future::Future;

use crate::{
    Error, Kind, Result,
    backupstore::{Catalog, StoreUrl},
    cli::Setting,
    cluster::{Cluster, ConnectOptions},
    longhorn::{DEFAULT_TARGET, Longhorn},
    objectstore::Store,
    terminal::{Unit, did_you_mean},
};

const STORE: &str =
    "Where the backups are: s3://bucket@region/path/ or file:///folder (the folder that holds backupstore/)";

/// Options that name the store.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Store")]
pub struct StoreArgs {
    #[arg(long, global = true, value_name = "URL", help = STORE)]
    store: Option<String>,
    /// Address of the S3 server, for a bucket that is not at AWS
    #[arg(long, global = true, value_name = "URL")]
    endpoint: Option<String>,
}

/// The store that was named, else the one of the configuration, else that of the cluster's backup target.
pub fn open(setting: &Setting, args: &StoreArgs) -> Result<Store> {
    if setting.globals.sandbox {
        return Err(Error::new(Kind::Usage, "an embedded cluster starts with an empty bucket: there is nothing in it")
            .hint("start one with `lhrun sandbox up`, and name its bucket with --store and --endpoint"));
    }
    match args.store.as_deref().map(StoreUrl::parse).transpose()? {
        Some(StoreUrl::Folder(_)) if args.endpoint.is_some() => {
            Err(Error::new(Kind::Usage, "a folder has no --endpoint")
                .hint("leave it out, or name a bucket with --store"))
        }
        Some(StoreUrl::Folder(folder)) => Store::folder(folder),
        Some(StoreUrl::S3(url)) => Store::connect(&setting.config.store_at(&url, args.endpoint.as_deref())?),
        None => match setting.config.store()? {
            Some(mut config) => {
                config.endpoint = args.endpoint.clone().or(config.endpoint);
                Store::connect(&config)
            }
            None => wait(setting, of_the_cluster(setting)).map_err(|error| {
                let error = error.context(
                    "no --store is given, lhrun.toml names no bucket, and the cluster's backup target cannot be used",
                );
                match error.hint_text() {
                    Some(_) => error,
                    None => error.hint("name the store with --store s3://bucket@region/path/"),
                }
            }),
        },
    }
}

/// The address of the server of the store that [`open`] opens, where it is known without a cluster: buckets on several
/// servers may have the same name.
pub fn endpoint(setting: &Setting, args: &StoreArgs) -> Result<Option<String>> {
    let config = match args.store.as_deref().map(StoreUrl::parse).transpose()? {
        Some(StoreUrl::Folder(_)) => return Ok(None),
        Some(StoreUrl::S3(url)) => Some(setting.config.store_at(&url, args.endpoint.as_deref())?),
        None => setting.config.store()?,
    };
    Ok(args.endpoint.clone().or(config.and_then(|config| config.endpoint)))
}

async fn of_the_cluster(setting: &Setting) -> Result<Store> {
    let options = ConnectOptions {
        kubeconfig: setting.globals.kubeconfig.clone(),
        context: setting.globals.context.clone(),
        namespace: setting.globals.namespace.clone(),
    };
    let longhorn = Longhorn::find(&Cluster::connect(&options).await?).await?;
    longhorn.store(&longhorn.target(DEFAULT_TARGET).await?).await
}

/// Waits for work that Ctrl-C gives up.
pub fn wait<T>(setting: &Setting, work: impl Future<Output = Result<T>>) -> Result<T> {
    let cancel = setting.interrupts.token();
    setting.runtime.block_on(async {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::new(Kind::Cancelled, "interrupted")),
            done = work => done,
        }
    })
}

/// As [`wait`], saying what is done when it takes longer.
pub fn look<T>(setting: &Setting, label: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let _progress = setting.terminal.progress(label, Unit::Items);
    wait(setting, work)
}

/// Says which of a claim's volumes was taken, if there is a choice.
pub fn tell(setting: &Setting, note: Option<&str>) {
    if let Some(note) = note {
        setting.terminal.warn(note);
    }
}

/// Adds to the failure to find a volume what there is instead.
pub fn named(setting: &Setting, catalog: &Catalog, error: Error) -> Error {
    let Some(name) = error.object_name().filter(|_| error.kind() == Kind::NotFound && error.hint_text().is_none())
    else {
        return error;
    };
    let names = wait(setting, catalog.volume_names()).unwrap_or_default();
    match did_you_mean(name, names.iter().map(String::as_str)) {
        Some(hint) => error.hint(hint),
        None => error.hint("`lhrun backups ls` lists what there is"),
    }
}
