//! Restoring volumes.

use std::time::Duration;

use rhai::{Dynamic, Map, NativeCallContext, plugin::*};

use super::{data, on_longhorn, shown};
use crate::{
    Result,
    longhorn::RestoreRequest,
    script::{Host, RhaiResultOf, changing, convert::Options, primitives::OrThrow},
};

/// Longest time of one restore, unless the runbook says another.
const RESTORE: Duration = Duration::from_hours(2);

#[export_module]
pub mod api {
    /// Restores a backup into a new volume and waits until its data are there; gives the volume as `longhorn::volume`
    /// does, with `changed`: false when it had been restored from that backup before.
    ///
    /// `volume` (the new volume's name) and `backup` (the backup's name) are needed. Further options: `replicas` (0:
    /// Longhorn's default), `spec` (of the former volume, for what no backup records: selectors, locality,
    /// encryption), `labels` (texts; those of recurring jobs keep it out of the group `default`), `timeout` (2 hours).
    #[rhai_fn(return_raw)]
    pub fn restore(ctx: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let request = restore_request(options).or_throw(&ctx)?;
        let what = format!("the volume {} from the backup {}", request.volume, request.backup);
        let mut tell = shown(&ctx, &format!("restoring {}", request.volume));
        let restored = changing(
            &ctx,
            || format!("the restore of {what}"),
            || on_longhorn(&ctx, |_, longhorn| async move { longhorn.restore(&request, &mut tell).await }),
        )?;
        if restored.changed {
            Host::of(&ctx).run().change(format!("restored {what}"));
        }
        data(&restored).or_throw(&ctx)
    }
}

fn restore_request(map: Map) -> Result<RestoreRequest> {
    let mut options = Options::new("longhorn::restore", map);
    let request = RestoreRequest {
        volume: options.required_text("volume")?,
        backup: options.required_text("backup")?,
        replicas: options.count("replicas")?.filter(|count| *count > 0),
        spec: options.json("spec")?,
        labels: options.text_map("labels")?.unwrap_or_default(),
        limit: options.duration("timeout")?.unwrap_or(RESTORE),
    };
    options.finish()?;
    Ok(request)
}
