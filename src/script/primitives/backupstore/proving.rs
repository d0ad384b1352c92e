//! Verifying and restoring backups from the store.

// Rhai's macro unwraps the `&mut` argument of methods, which it has checked to be there.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use rhai::{Dynamic, Map, NativeCallContext, plugin::*};
use serde_json::json;

use super::{Opened, data, on};
use crate::{
    Error, Kind, Result,
    backupstore::{
        BackupRef, Progress,
        restore::{self, RestoreOptions},
        verify::{self, Level, Verdict, VerifyOptions, VolumeReport},
    },
    script::{Host, RhaiResultOf, convert::Options, primitives::OrThrow},
    terminal::Unit,
};

#[export_module]
pub mod api {
    /// Reads and hashes every block of a volume's backups; see `verify` with options.
    #[rhai_fn(return_raw)]
    pub fn verify(ctx: NativeCallContext, volume: &str) -> RhaiResultOf<Dynamic> {
        verified(&ctx, None, volume, Map::new())
    }

    /// Tells whether the backups of a volume are whole: `#{volume, whole, blocks, bytes, backups, bad}`; `backups` are
    /// `#{backup, verdict, error, spoilt}` with the verdict `"whole"`, `"damaged"`, `"unusable"`, `"in-progress"`,
    /// `"crashed"` or `"deleted"`, `bad` are `#{key, fault}`. Options: `level`, `"deep"` (every block is read; the usual one)
    /// or `"exists"`, and `backups`, the names of some.
    #[rhai_fn(name = "verify", return_raw)]
    pub fn verify_with(ctx: NativeCallContext, volume: &str, options: Map) -> RhaiResultOf<Dynamic> {
        verified(&ctx, None, volume, options)
    }

    /// Restores a backup, `"volume@backup"`, to a raw image file that must not exist yet; every block is verified. Gives
    /// `#{size, bytes, blocks, blocks_read, stored_bytes}`.
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
    pub fn store_verify(ctx: NativeCallContext, store: &mut Opened, volume: &str) -> RhaiResultOf<Dynamic> {
        verified(&ctx, Some(store), volume, Map::new())
    }

    /// As `backupstore::verify`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "verify", return_raw)]
    pub fn store_verify_with(
        ctx: NativeCallContext,
        store: &mut Opened,
        volume: &str,
        options: Map,
    ) -> RhaiResultOf<Dynamic> {
        verified(&ctx, Some(store), volume, options)
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

fn verified(ctx: &NativeCallContext, store: Option<&Opened>, volume: &str, options: Map) -> RhaiResultOf<Dynamic> {
    let (level, only) = wishes(options).or_throw(ctx)?;
    let progress = Some(shown(ctx, &format!("verifying {volume}")));
    let options = VerifyOptions { progress, ..VerifyOptions::new(level) };
    on(ctx, store, |store| async move {
        let report = verify::volume(&store, volume, only.as_deref(), &options).await?;
        data(&told(&report))
    })
}

fn wishes(options: Map) -> Result<(Level, Option<Vec<String>>)> {
    let mut options = Options::new("backupstore::verify", options);
    let level = match options.text("level")?.as_deref() {
        None | Some("deep") => Level::Deep,
        Some("exists") => Level::Exists,
        Some(other) => {
            return Err(Error::new(Kind::Script, format!("backupstore::verify: there is no level {other:?}"))
                .hint("it is \"deep\" or \"exists\""));
        }
    };
    let only = options.texts("backups")?;
    options.finish()?;
    Ok((level, only))
}

fn told(report: &VolumeReport) -> serde_json::Value {
    let backups = report.backups.iter().map(|(backup, verdict)| {
        let (word, error, spoilt) = match verdict {
            Verdict::Whole => ("whole", None, &[][..]),
            Verdict::Damaged(spoilt) => ("damaged", None, spoilt.as_slice()),
            Verdict::Unusable(error) => ("unusable", Some(error.to_string()), &[][..]),
            Verdict::InProgress => ("in-progress", None, &[][..]),
            Verdict::Crashed => ("crashed", None, &[][..]),
            Verdict::Deleted => ("deleted", None, &[][..]),
        };
        let spoilt: Vec<_> = spoilt.iter().map(|bad| json!({"key": bad.key, "offsets": bad.offsets})).collect();
        json!({"backup": backup.backup, "verdict": word, "error": error, "spoilt": spoilt})
    });
    let bad = report.bad.iter().map(|bad| json!({"key": bad.key, "fault": bad.fault.to_string()}));
    json!({
        "volume": report.volume,
        "whole": report.is_whole(),
        "blocks": report.blocks,
        "bytes": report.bytes,
        "backups": backups.collect::<Vec<_>>(),
        "bad": bad.collect::<Vec<_>>(),
    })
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
    let of = named(backup).or_throw(ctx)?;
    let progress = Some(shown(ctx, &format!("restoring {of}")));
    let options = RestoreOptions { overwrite, progress, ..RestoreOptions::default() };
    let restored = on(ctx, store, |store| async move { restore::to_file(&store, &of, file, options).await })?;
    Host::of(ctx).run().change(format!("restored {backup} to the file {file}"));
    data(&json!({
        "size": restored.size,
        "bytes": restored.bytes,
        "blocks": restored.blocks,
        "blocks_read": restored.blocks_read,
        "stored_bytes": restored.stored_bytes,
    }))
    .or_throw(ctx)
}

/// `volume@backup`.
fn named(backup: &str) -> Result<BackupRef> {
    let (volume, name) = backup.split_once('@').ok_or_else(|| {
        Error::new(Kind::Script, format!("{backup:?} does not name a backup")).hint("write it as \"volume@backup\"")
    })?;
    BackupRef::new(volume, name)
}

/// Shows the bytes done while it goes on.
fn shown(ctx: &NativeCallContext, label: &str) -> Progress {
    let bar = Arc::new(Host::of(ctx).terminal().progress(label, Unit::Bytes));
    Progress::new(move |done, total| {
        bar.total(total);
        bar.set(done);
    })
}
