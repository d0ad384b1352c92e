//! What is in a store: volumes, backups, system backups, space, locks.

// Rhai's macro unwraps the `&mut` argument of methods, which it has checked to be there.
#![allow(clippy::unwrap_used)]

use rhai::{Array, Dynamic, Map, NativeCallContext, plugin::*};

use super::{Opened, data, list, on};
use crate::{
    Error, Kind, Result,
    backupstore::{
        BackupRef, Catalog, StoreUrl, TargetUrl, protection as safety, usage as space,
        view::{BackupView, SystemBackupView},
    },
    objectstore::{Store, StoreConfig},
    script::{
        Host, RhaiResultOf,
        convert::Options,
        primitives::{OrThrow, s3::reached},
    },
    terminal::Unit,
};

#[export_module]
pub mod api {
    /// A store opened with `backupstore::open`.
    pub type BackupStore = Opened;

    /// Another store, with the same functions: `let copy = backupstore::open("file:///mnt/copy"); copy.volumes()`. It is a
    /// folder that holds `backupstore/`, or a bucket, `"s3://bucket@region/path/"`, with keys from the AWS variables.
    #[rhai_fn(return_raw)]
    pub fn open(ctx: NativeCallContext, url: &str) -> RhaiResultOf<BackupStore> {
        opened(url, Options::new("backupstore::open", Map::new())).or_throw(&ctx)
    }

    /// As `open` with a text, which is the option `url`; for a bucket also `endpoint`, `region`, `access_key` and
    /// `secret_key`.
    #[rhai_fn(name = "open", return_raw)]
    pub fn open_with(ctx: NativeCallContext, options: Map) -> RhaiResultOf<BackupStore> {
        let mut options = Options::new("backupstore::open", options);
        let url = options.required_text("url").or_throw(&ctx)?;
        opened(&url, options).or_throw(&ctx)
    }

    /// Where the store is: `s3://bucket@region/prefix/` or `file:///folder/`.
    #[rhai_fn(return_raw)]
    pub fn url(ctx: NativeCallContext) -> RhaiResultOf<String> {
        on(&ctx, None, |store| async move { Ok(store.describe()) })
    }

    /// All volumes, by name: `#{volume, claim, size, backup_count, blocks, latest, latest_at, state, error, unfinished}`.
    /// `state` is `"ok"`, `"damaged"`, `"no-volume-cfg"`, `"crashed"` or `"in-progress"`; it says nothing of blocks.
    #[rhai_fn(return_raw)]
    pub fn volumes(ctx: NativeCallContext) -> RhaiResultOf<Array> {
        on(&ctx, None, listed)
    }

    /// The backups of a volume, oldest first: `#{volume, backup, state, error, begun, completed, snapshot, size, blocks,
    /// block_size, new_bytes, rewritten_bytes, compression, mode, recurring_job, claim, kubernetes, labels}`. `state` is
    /// `"complete"`, `"in-progress"`, `"crashed"` or `"damaged"`; it says nothing of blocks.
    #[rhai_fn(return_raw)]
    pub fn backups(ctx: NativeCallContext, volume: &str) -> RhaiResultOf<Array> {
        on(&ctx, None, |store| backups_of(store, volume.into()))
    }

    /// One backup of a volume, as `backups` gives it; throws `not-found` when there is none.
    #[rhai_fn(return_raw)]
    pub fn backup(ctx: NativeCallContext, volume: &str, name: &str) -> RhaiResultOf<Dynamic> {
        on(&ctx, None, |store| one(store, volume.into(), name.into()))
    }

    /// All system backups: `#{name, version, created, checksum, state, error}`.
    #[rhai_fn(return_raw)]
    pub fn system_backups(ctx: NativeCallContext) -> RhaiResultOf<Array> {
        on(&ctx, None, systems)
    }

    /// What takes the space: `#{volumes, backing_images, system_backups, used, unreferenced, bytes, noncurrent}`, each
    /// volume as `usage` of it gives it.
    #[rhai_fn(return_raw)]
    pub fn usage(ctx: NativeCallContext) -> RhaiResultOf<Dynamic> {
        used(&ctx, None)
    }

    /// What a volume takes: `#{volume, backups, used, shared, unreferenced, other, bytes, noncurrent, blocked_by, in_use}`;
    /// `backups` are `#{backup, state, all, unique, shared, missing, frees}`. While `blocked_by` names a backup or `in_use`
    /// is true, what is unreferenced or unique is so at most. `noncurrent` is `()` when former versions are not known.
    #[rhai_fn(name = "usage", return_raw)]
    pub fn usage_of(ctx: NativeCallContext, volume: &str) -> RhaiResultOf<Dynamic> {
        on(&ctx, None, |store| used_by(store, volume.into()))
    }

    /// The locks on all volumes: `#{volume, lock, purpose, held, refreshed, age, expired, blocks}`, ages in seconds by the
    /// store's clock.
    #[rhai_fn(return_raw)]
    pub fn locks(ctx: NativeCallContext) -> RhaiResultOf<Array> {
        on(&ctx, None, |store| locked(store, None))
    }

    /// The locks on a volume.
    #[rhai_fn(name = "locks", return_raw)]
    pub fn locks_of(ctx: NativeCallContext, volume: &str) -> RhaiResultOf<Array> {
        on(&ctx, None, |store| locked(store, Some(volume.into())))
    }

    /// As `protection` with options, without any.
    #[rhai_fn(return_raw)]
    pub fn protection(ctx: NativeCallContext) -> RhaiResultOf<Dynamic> {
        protected(&ctx, None, Map::new())
    }

    /// What versioning and object lock do for the store: `#{versioning, object_lock, noncurrent, at, until, backups, unknown}`.
    /// `versioning` is `"never"`, `"enabled"` or `"suspended"`; `object_lock` `()` or `#{retention: #{mode, days}}`; `backups`
    /// are `#{kind, volume, backup, claim, begun, own, blocks, short, unlocked, missing, earliest, is_protected}`: when the lock of
    /// the backup itself ends, and how many of its blocks can be destroyed sooner than wanted, or now. A time is `"held"`
    /// for what is locked until somebody lifts that. `unknown` are configurations that cannot be read.
    ///
    /// Options: `until` (a time, a day, or how long from now; without it each backup is wanted to be locked as long as its
    /// own configuration). Throws `denied` when these keys may not ask.
    #[rhai_fn(name = "protection", return_raw)]
    pub fn protection_with(ctx: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        protected(&ctx, None, options)
    }

    /// Where the store is.
    #[rhai_fn(global, name = "url", name = "to_string", name = "to_debug")]
    pub fn store_url(store: &mut BackupStore) -> String {
        store.0.describe()
    }

    /// As `backupstore::volumes`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "volumes", return_raw)]
    pub fn store_volumes(ctx: NativeCallContext, store: &mut BackupStore) -> RhaiResultOf<Array> {
        on(&ctx, Some(store), listed)
    }

    /// As `backupstore::backups`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "backups", return_raw)]
    pub fn store_backups(ctx: NativeCallContext, store: &mut BackupStore, volume: &str) -> RhaiResultOf<Array> {
        on(&ctx, Some(store), |store| backups_of(store, volume.into()))
    }

    /// As `backupstore::backup`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "backup", return_raw)]
    pub fn store_backup(
        ctx: NativeCallContext,
        store: &mut BackupStore,
        volume: &str,
        name: &str,
    ) -> RhaiResultOf<Dynamic> {
        on(&ctx, Some(store), |store| one(store, volume.into(), name.into()))
    }

    /// As `backupstore::system_backups`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "system_backups", return_raw)]
    pub fn store_system_backups(ctx: NativeCallContext, store: &mut BackupStore) -> RhaiResultOf<Array> {
        on(&ctx, Some(store), systems)
    }

    /// As `backupstore::usage`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "usage", return_raw)]
    pub fn store_usage(ctx: NativeCallContext, store: &mut BackupStore) -> RhaiResultOf<Dynamic> {
        used(&ctx, Some(store))
    }

    /// As `backupstore::usage`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "usage", return_raw)]
    pub fn store_usage_of(ctx: NativeCallContext, store: &mut BackupStore, volume: &str) -> RhaiResultOf<Dynamic> {
        on(&ctx, Some(store), |store| used_by(store, volume.into()))
    }

    /// As `backupstore::protection`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "protection", return_raw)]
    pub fn store_protection(ctx: NativeCallContext, store: &mut BackupStore) -> RhaiResultOf<Dynamic> {
        protected(&ctx, Some(store), Map::new())
    }

    /// As `backupstore::protection`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "protection", return_raw)]
    pub fn store_protection_with(
        ctx: NativeCallContext,
        store: &mut BackupStore,
        options: Map,
    ) -> RhaiResultOf<Dynamic> {
        protected(&ctx, Some(store), options)
    }

    /// As `backupstore::locks`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "locks", return_raw)]
    pub fn store_locks(ctx: NativeCallContext, store: &mut BackupStore) -> RhaiResultOf<Array> {
        on(&ctx, Some(store), |store| locked(store, None))
    }

    /// As `backupstore::locks`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "locks", return_raw)]
    pub fn store_locks_of(ctx: NativeCallContext, store: &mut BackupStore, volume: &str) -> RhaiResultOf<Array> {
        on(&ctx, Some(store), |store| locked(store, Some(volume.into())))
    }
}

fn opened(url: &str, mut options: Options) -> Result<Opened> {
    let store = match StoreUrl::parse(url)? {
        StoreUrl::Folder(folder) => {
            options.finish()?;
            Store::folder(folder)
        }
        StoreUrl::S3(target) => {
            let config = bucket(&target, &mut options)?;
            options.finish()?;
            Store::connect(&config)
        }
    };
    store.map(Opened)
}

fn bucket(target: &TargetUrl, options: &mut Options) -> Result<StoreConfig> {
    let mut config = StoreConfig::from_env(&target.bucket, target.prefix())?;
    config.region = target.region.clone().unwrap_or(config.region);
    reached("backupstore::open", options, config)
}

async fn listed(store: Store) -> Result<Array> {
    list(Catalog::new(store).overview().await?)
}

async fn backups_of(store: Store, volume: String) -> Result<Array> {
    list(Catalog::new(store).backups(&volume).await?.iter().map(BackupView::of))
}

async fn one(store: Store, volume: String, name: String) -> Result<Dynamic> {
    let of = BackupRef::new(volume, name)?;
    let found = Catalog::new(store).one(&of).await?;
    let found = found.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no {of}")).object(&of.backup))?;
    data(&BackupView::of(&found))
}

async fn systems(store: Store) -> Result<Array> {
    list(Catalog::new(store).system_backups().await?.into_iter().map(SystemBackupView::of))
}

fn used(ctx: &NativeCallContext, store: Option<&Opened>) -> RhaiResultOf<Dynamic> {
    let bar = Host::of(ctx).terminal().progress("adding up the store", Unit::Items);
    let told = |done: usize, total: usize, next: &str| {
        bar.total(total as u64);
        bar.set(done as u64);
        bar.note(next);
    };
    on(ctx, store, |store| async move { data(&space::store(&store, told).await?) })
}

async fn used_by(store: Store, volume: String) -> Result<Dynamic> {
    data(&space::volume(&store, &volume).await?)
}

fn protected(ctx: &NativeCallContext, store: Option<&Opened>, options: Map) -> RhaiResultOf<Dynamic> {
    let mut options = Options::new("backupstore::protection", options);
    let until = options.text("until").or_throw(ctx)?.map(|until| until.parse()).transpose().or_throw(ctx)?;
    options.finish().or_throw(ctx)?;
    let bar = Host::of(ctx).terminal().progress("asking for locks", Unit::Items);
    let told = |done: u64, known: u64, next: &str| {
        bar.total(known);
        bar.set(done);
        bar.note(next);
    };
    on(ctx, store, |store| async move { data(&safety::report(&store, until, told).await?) })
}

async fn locked(store: Store, volume: Option<String>) -> Result<Array> {
    list(Catalog::new(store).locks(volume.as_deref()).await?)
}
