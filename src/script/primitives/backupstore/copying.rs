//! Copying a store to another place.

// Rhai's macro unwraps the `&mut` argument of methods, which it has checked to be there.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroU64;

use rhai::{Dynamic, Map, NativeCallContext, plugin::*};

use super::{Opened, data, on, proving::shown};
use crate::{
    Error, Kind, Result,
    backupstore::copy::{self, CopyOptions},
    script::{Host, RhaiResultOf, changing, convert::Options, primitives::OrThrow},
    terminal::human,
};

#[export_module]
pub mod api {
    /// As `copy_to` with options, without any.
    #[rhai_fn(return_raw)]
    pub fn copy_to(ctx: NativeCallContext, place: Opened) -> RhaiResultOf<Dynamic> {
        copied(&ctx, None, &place, Map::new())
    }

    /// Copies the store to another one, opened with `backupstore::open`: backing images, volumes with their complete
    /// backups, system backups. Each block is verified on its way; what is there already is not moved again, so a copy that
    /// was cut short goes on. Gives `#{copied, bytes, skipped, pruned, removed, kept, failed, problems, notes}`: objects (and
    /// `bytes`) moved, there already, deleted, and not copied, each of `problems` being `#{key, why}`; `removed` names what
    /// was deleted, `kept` what only `prune_volumes` deletes.
    ///
    /// Options: `bytes_per_second` (at most; no bound), `at_once` (blocks on their way at the same time; 8), `prune` (whether
    /// to delete from the copy what the store no longer has; `false`), `prune_volumes` (whether also the last backup of a
    /// volume, whole volumes and backing images; `false`), `replace` (keys of damaged objects in the copy, to be written
    /// anew). Throws `not-found` when the store is empty, `usage` when both are the same place.
    #[rhai_fn(name = "copy_to", return_raw)]
    pub fn copy_to_with(ctx: NativeCallContext, place: Opened, options: Map) -> RhaiResultOf<Dynamic> {
        copied(&ctx, None, &place, options)
    }

    /// As `backupstore::copy_to`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "copy_to", return_raw)]
    pub fn store_copy_to(ctx: NativeCallContext, store: &mut Opened, place: Opened) -> RhaiResultOf<Dynamic> {
        copied(&ctx, Some(store), &place, Map::new())
    }

    /// As `backupstore::copy_to`, on a store opened with `backupstore::open`.
    #[rhai_fn(global, name = "copy_to", return_raw)]
    pub fn store_copy_to_with(
        ctx: NativeCallContext,
        store: &mut Opened,
        place: Opened,
        options: Map,
    ) -> RhaiResultOf<Dynamic> {
        copied(&ctx, Some(store), &place, options)
    }
}

fn copied(ctx: &NativeCallContext, store: Option<&Opened>, place: &Opened, options: Map) -> RhaiResultOf<Dynamic> {
    let options = wishes(options).or_throw(ctx)?;
    let options = CopyOptions { progress: Some(shown(ctx, "copying backups")), ..options };
    let (to, tally) = (&place.0, options.tally.clone());
    let done = changing(
        ctx,
        || format!("the copy to {}", to.describe()),
        || on(ctx, store, |from| async move { copy::copy(&from, to, options).await }),
    );
    // Also of a copy that was cut short.
    let ((copied, bytes), pruned) = (tally.copied(), tally.pruned());
    let host = Host::of(ctx);
    if copied > 0 {
        host.run().change(format!("copied {copied} objects, {bytes} bytes, to {}", to.describe()));
    }
    if pruned > 0 {
        host.run().change(format!("deleted {pruned} objects in {}", to.describe()));
    }
    if done.is_err() && copied + pruned > 0 {
        let bytes = human::bytes(bytes);
        let pruned = if pruned > 0 { format!(", {pruned} were deleted") } else { String::new() };
        host.run()
            .say(true, format!("cut short: {copied} objects, {bytes}, were copied{pruned}; run again, it goes on"));
    }
    data(&done?).or_throw(ctx)
}

fn wishes(options: Map) -> Result<CopyOptions> {
    let mut options = Options::new("backupstore::copy_to", options);
    let mut wishes = CopyOptions::default();
    if let Some(bytes) = options.int("bytes_per_second")? {
        let bytes = u64::try_from(bytes).ok().and_then(NonZeroU64::new);
        let wrong = || Error::new(Kind::Usage, "backupstore::copy_to: `bytes_per_second` must be above 0");
        wishes.bytes_per_second = Some(bytes.ok_or_else(|| wrong().hint("leave it out for no bound"))?);
    }
    if let Some(blocks) = options.count("at_once")? {
        wishes.at_once = usize::try_from(blocks).unwrap_or(usize::MAX).clamp(1, 256);
    }
    wishes.prune = options.flag("prune")?.unwrap_or(false);
    wishes.prune_volumes = options.flag("prune_volumes")?.unwrap_or(false);
    wishes.replace = options.texts("replace")?.unwrap_or_default().into_iter().collect();
    options.finish()?;
    Ok(wishes)
}
