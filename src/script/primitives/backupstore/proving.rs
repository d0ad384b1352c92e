//! Verifying and restoring backups from the store.

// Rhai's macro unwraps the `&mut` argument of methods, which it has checked to be there.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use jiff::Timestamp;
use rhai::{Dynamic, Map, NativeCallContext, plugin::*};
use serde_json::json;

use super::{Opened, data, on};
use crate::{
    Error, Kind, Result,
    backupstore::{
        Progress,
        restore::{self, RestoreOptions},
        select,
        verify::{self, Coverage, Level, Locking, Selection, VerifyOptions},
    },
    objectstore::Store,
    script::{Host, RhaiResultOf, changing, convert::Options, primitives::OrThrow},
    terminal::Unit,
};

#[export_module]
pub mod api {
    /// As `verify` with options, of the whole store, at the level `"exists"`.
    #[rhai_fn(return_raw)]
    pub fn verify(ctx: NativeCallContext) -> RhaiResultOf<Dynamic> {
        verified(&ctx, None, Map::new())
    }

    /// Tells whether backups are whole: `#{verdict, items, bad, notes, totals, …}`, as `lhrun backups verify -o json` prints
    /// it. `verdict` is `"whole"`, `"damaged"`, or `"unchecked"` when something could not be looked at; each of `items` is
    /// `#{volume, backup, verdict, why, begun, blocks}`, each of `bad` `#{key, what, spoils}`.
    ///
    /// Options: `level` (`"meta"`, `"exists"`, `"sample=N%"` or `"deep"`; `"exists"`), `volumes` and `backups` (names; all),
    /// `lock` (whether to keep deletions away while blocks are read; `true`), and for samples `coverage`, the file that
    /// remembers what the ones before have read.
    #[rhai_fn(name = "verify", return_raw)]
    pub fn verify_with(ctx: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        verified(&ctx, None, options)
    }

    /// Restores a backup to a raw image file that must not exist yet; every block is verified. The backup is named as for
    /// `lhrun backups restore`: `"volume"`, `"volume@backup"`, `"namespace/claim@3d"`. Gives
    /// `#{volume, backup, size, bytes, blocks, blocks_read, stored_bytes}`.
    #[rhai_fn(return_raw)]
    pub fn restore(ctx: NativeCallContext, backup: &str, file: &str) -> RhaiResultOf<Dynamic> {
        restored(&ctx, None, backup, file, Map::new())
    }

    /// As `restore` without options; with `overwrite`, a file that exists is replaced.
    #[rhai_fn(name = "restore", return_raw)]
    pub fn restore_with(ctx: NativeCallContext, backup: &str, file: &str, options: Map) -> RhaiResultOf<Dynamic> {
        restored(&ctx, None, backup, file, options)
    }

    /// As `backupstore::verify`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "verify", return_raw)]
    pub fn store_verify(ctx: NativeCallContext, store: &mut Opened) -> RhaiResultOf<Dynamic> {
        verified(&ctx, Some(store), Map::new())
    }

    /// As `backupstore::verify`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "verify", return_raw)]
    pub fn store_verify_with(ctx: NativeCallContext, store: &mut Opened, options: Map) -> RhaiResultOf<Dynamic> {
        verified(&ctx, Some(store), options)
    }

    /// As `backupstore::restore`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "restore", return_raw)]
    pub fn store_restore(
        ctx: NativeCallContext,
        store: &mut Opened,
        backup: &str,
        file: &str,
    ) -> RhaiResultOf<Dynamic> {
        restored(&ctx, Some(store), backup, file, Map::new())
    }

    /// As `backupstore::restore`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "restore", return_raw)]
    pub fn store_restore_with(
        ctx: NativeCallContext,
        store: &mut Opened,
        backup: &str,
        file: &str,
        options: Map,
    ) -> RhaiResultOf<Dynamic> {
        restored(&ctx, Some(store), backup, file, options)
    }
}

fn verified(ctx: &NativeCallContext, store: Option<&Opened>, options: Map) -> RhaiResultOf<Dynamic> {
    let (selection, coverage, options) = wishes(options).or_throw(ctx)?;
    let bytes = Some(shown(ctx, "verifying backups"));
    on(ctx, store, |store| async move {
        let coverage = match coverage {
            Some(file) => Coverage::open(file.as_ref(), &store.describe())?,
            None => Coverage::forgetful(),
        };
        let options = VerifyOptions { coverage, bytes, ..options };
        data(&verify::store(&store, &selection, options).await?)
    })
}

fn wishes(options: Map) -> Result<(Selection, Option<String>, VerifyOptions)> {
    let mut options = Options::new("backupstore::verify", options);
    let level = options.text("level")?.map_or(Ok(Level::Exists), |level| level.parse())?;
    let backups = options.texts("backups")?.unwrap_or_default();
    let selection = Selection {
        volumes: options.texts("volumes")?.unwrap_or_default(),
        backups: backups.iter().map(|backup| backup.parse()).collect::<Result<_>>()?,
    };
    let coverage = options.text("coverage")?;
    let lock = options.flag("lock")?.unwrap_or(true).then(Locking::default);
    options.finish()?;
    if matches!(level, Level::Sample(_)) && coverage.is_none() {
        return Err(Error::new(Kind::Script, "backupstore::verify: a sample needs the option `coverage`")
            .hint("name a file that remembers what is read, or each sample reads the same blocks"));
    }
    Ok((selection, coverage, VerifyOptions { lock, ..VerifyOptions::new(level) }))
}

fn restored(
    ctx: &NativeCallContext,
    store: Option<&Opened>,
    backup: &str,
    file: &str,
    options: Map,
) -> RhaiResultOf<Dynamic> {
    let mut wishes = Options::new("backupstore::restore", options);
    let overwrite = wishes.flag("overwrite").or_throw(ctx)?.unwrap_or(false);
    wishes.finish().or_throw(ctx)?;
    let progress = Some(shown(ctx, &format!("restoring {backup}")));
    let options = RestoreOptions { overwrite, progress, ..RestoreOptions::default() };
    let restore = |store: Store| async move {
        let of = select::backup(&store, backup, Timestamp::now()).await?;
        let restored = restore::to_file(&store, &of.backup, file, options).await?;
        Ok((of, restored))
    };
    let what = || format!("the restore of {backup} to the file {file}");
    let (of, restored) = changing(ctx, what, || on(ctx, store, restore))?;
    if let Some(note) = of.note {
        Host::of(ctx).run().say(true, note);
    }
    let of = of.backup;
    Host::of(ctx).run().change(format!("restored {of} to the file {file}"));
    data(&json!({
        "volume": of.volume,
        "backup": of.backup,
        "size": restored.size,
        "bytes": restored.bytes,
        "blocks": restored.blocks,
        "blocks_read": restored.blocks_read,
        "stored_bytes": restored.stored_bytes,
    }))
    .or_throw(ctx)
}

/// Shows the bytes done while it goes on.
pub(super) fn shown(ctx: &NativeCallContext, label: &str) -> Progress {
    let bar = Arc::new(Host::of(ctx).terminal().progress(label, Unit::Bytes));
    Progress::new(move |done, total| {
        bar.total(total);
        bar.set(done);
    })
}
