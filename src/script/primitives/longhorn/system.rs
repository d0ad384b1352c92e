//! System backups and restores.

use std::time::Duration;

use rhai::{Array, Dynamic, Map, NativeCallContext, plugin::*};

use super::{data, on_longhorn, shown, store_of};
use crate::{
    longhorn::{Bundle, DEFAULT_TARGET, Longhorn},
    script::{Host, RhaiResultOf, changing, convert::Options, primitives::OrThrow},
};

/// Longest times, unless the runbook says others.
const SYSTEM_BACKUP: Duration = Duration::from_mins(30);
const SYSTEM_RESTORE: Duration = Duration::from_hours(2);

#[export_module]
pub mod api {
    /// Makes a system backup, without backups of the volumes, and waits until it is in the store.
    #[rhai_fn(return_raw)]
    pub fn system_backup(ctx: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        system_backup_with(ctx, name, Map::new())
    }

    /// Makes a system backup: `#{name, state, version, created_at, policy, error}`. The `policy` for the volumes'
    /// own backups is `"disabled"` (take them before), `"if-not-present"` or `"always"`; `timeout` is 30 minutes.
    /// Throws `conflict` when the name is taken: Longhorn would only show the old one.
    #[rhai_fn(name = "system_backup", return_raw)]
    pub fn system_backup_with(ctx: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let mut options = Options::new("longhorn::system_backup", options);
        let policy = options.text("policy").or_throw(&ctx)?.unwrap_or_else(|| "disabled".to_string());
        let limit = options.duration("timeout").or_throw(&ctx)?.unwrap_or(SYSTEM_BACKUP);
        options.finish().or_throw(&ctx)?;
        let mut tell = shown(&ctx, &format!("making the system backup {name}"));
        let make = |host, longhorn: Longhorn| async move {
            let store = store_of(&host, &longhorn, &longhorn.target(DEFAULT_TARGET).await?).await?;
            data(&longhorn.system_backup(name, &policy, &store, limit, &mut tell).await?)
        };
        let backup = changing(&ctx, || format!("the system backup {name}"), || on_longhorn(&ctx, make))?;
        Host::of(&ctx).run().change(format!("made the system backup {name}"));
        Ok(backup)
    }

    /// The system backups Longhorn knows of, newest first.
    #[rhai_fn(return_raw)]
    pub fn system_backups(ctx: NativeCallContext) -> RhaiResultOf<Array> {
        on_longhorn(&ctx, |_, longhorn| async move { longhorn.system_backups().await?.iter().map(data).collect() })
    }

    /// What a system backup holds, read from the store and checked against its checksum: `#{name, version, created,
    /// kubernetes_version, manager_image, volumes, persistent_volumes, claims, storage_classes, recurring_jobs, settings,
    /// backup_targets, backing_images}`, the last ones arrays of objects.
    #[rhai_fn(return_raw)]
    pub fn bundle(ctx: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        on_longhorn(&ctx, |host, longhorn| async move {
            let store = store_of(&host, &longhorn, &longhorn.target(DEFAULT_TARGET).await?).await?;
            data(&Bundle::read(&store, name).await?)
        })
    }

    /// Has Longhorn restore a system backup and waits for its end, 2 hours at most.
    #[rhai_fn(return_raw)]
    pub fn system_restore(ctx: NativeCallContext, bundle: &str) -> RhaiResultOf<Dynamic> {
        system_restore_with(ctx, bundle, Map::new())
    }

    /// Has Longhorn restore a system backup: `#{name, state, warnings}`. The state is `"Completed"`, or `"Stopped"` when it
    /// could not have come to an end within `timeout` (2 hours). That it ends proves little: volumes without
    /// their backup and claims without their namespace are left out silently, so compare with `longhorn::expected`.
    /// Throws `refused` while a volume is attached.
    #[rhai_fn(name = "system_restore", return_raw)]
    pub fn system_restore_with(ctx: NativeCallContext, bundle: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let mut options = Options::new("longhorn::system_restore", options);
        let limit = options.duration("timeout").or_throw(&ctx)?.unwrap_or(SYSTEM_RESTORE);
        options.finish().or_throw(&ctx)?;
        let mut tell = shown(&ctx, &format!("restoring the system backup {bundle}"));
        let restore =
            |_, longhorn: Longhorn| async move { data(&longhorn.system_restore(bundle, limit, &mut tell).await?) };
        let what = || format!("the restore of the system backup {bundle}");
        let restored = changing(&ctx, what, || on_longhorn(&ctx, restore))?;
        Host::of(&ctx).run().change(format!("restored the system backup {bundle}"));
        Ok(restored)
    }
}
