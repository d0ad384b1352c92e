//! Taking and finding backups.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use rhai::{Array, Dynamic, Map, NativeCallContext, plugin::*};

use super::{data, on_longhorn, shown};
use crate::{
    Error, Kind, Result,
    longhorn::{BackupRequest, ClaimInfo},
    script::{
        Host, RhaiResultOf, changing,
        convert::{self, Options},
        primitives::OrThrow,
    },
};

/// Longest time of one backup, unless the runbook says another.
const BACKUP: Duration = Duration::from_hours(1);

#[export_module]
pub mod api {
    /// Backs a volume up and waits until the backup can be restored; gives it as `longhorn::backups` does.
    #[rhai_fn(return_raw)]
    pub fn backup(ctx: NativeCallContext, volume: &str) -> RhaiResultOf<Dynamic> {
        backup_with(ctx, volume, Map::new())
    }

    /// Backs a volume up. `name` names the backup, so that a repetition finds it; `labels` (texts) are stored with it;
    /// `mode` is `"incremental"` or `"full"`, which uploads again what the store has; `timeout` is 1 hour.
    #[rhai_fn(name = "backup", return_raw)]
    pub fn backup_with(ctx: NativeCallContext, volume: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let request = backup_request(volume, options).or_throw(&ctx)?;
        let mut tell = shown(&ctx, &format!("backing up {volume}"));
        let what = || format!("the backup of the volume {volume}");
        let (backup, is_new) = changing(&ctx, what, || {
            on_longhorn(&ctx, |_, longhorn| async move { longhorn.backup(&request, &mut tell).await })
        })?;
        if is_new {
            Host::of(&ctx).run().change(format!("backed up the volume {volume} as {}", backup.name));
        }
        data(&backup).or_throw(&ctx)
    }

    /// All backups, newest data first.
    #[rhai_fn(return_raw)]
    pub fn backups(ctx: NativeCallContext) -> RhaiResultOf<Array> {
        on_longhorn(&ctx, |_, longhorn| async move { longhorn.backups(None).await?.iter().map(data).collect() })
    }

    /// The backups of a volume, newest data first: `#{name, volume, target, state, complete, url, size, volume_size,
    /// snapshot_time, created, snapshot, progress, error, labels, access_mode, block_size, claim}`. `snapshot_time` is
    /// the moment of the data; only `complete` ones can be restored.
    #[rhai_fn(name = "backups", return_raw)]
    pub fn backups_of(ctx: NativeCallContext, volume: &str) -> RhaiResultOf<Array> {
        on_longhorn(&ctx, |_, longhorn| async move { longhorn.backups(Some(volume)).await?.iter().map(data).collect() })
    }

    /// The volume's newest backup that can be restored; throws `not-found` when there is none.
    #[rhai_fn(return_raw)]
    pub fn latest_backup(ctx: NativeCallContext, volume: &str) -> RhaiResultOf<Dynamic> {
        latest_backup_with(ctx, volume, Map::new())
    }

    /// The volume's newest backup that can be restored, with data not younger than `as_of` (`"2026-11-20T00:00:00Z"`).
    #[rhai_fn(name = "latest_backup", return_raw)]
    pub fn latest_backup_with(ctx: NativeCallContext, volume: &str, options: Map) -> RhaiResultOf<Dynamic> {
        let mut options = Options::new("longhorn::latest_backup", options);
        let as_of = moment(&mut options, "as_of").or_throw(&ctx)?;
        options.finish().or_throw(&ctx)?;
        on_longhorn(&ctx, |_, longhorn| async move { data(&longhorn.latest_backup(volume, as_of).await?) })
    }

    /// What a backup records of its claim: `#{namespace, name, pv, current, workloads}`, or `()` when it records none.
    /// The backup is a map as `longhorn::backups` gives it, or its name.
    #[rhai_fn(return_raw)]
    pub fn claim_info(ctx: NativeCallContext, backup: Dynamic) -> RhaiResultOf<Dynamic> {
        let info = if let Some(map) = backup.read_lock::<Map>() {
            let labels = map.get("labels").map(convert::to_json).transpose().or_throw(&ctx)?.unwrap_or_default();
            let labels: BTreeMap<String, String> = serde_json::from_value(labels).unwrap_or_default();
            ClaimInfo::of_labels(&labels)
        } else {
            let name = backup.to_string();
            on_longhorn(&ctx, |_, longhorn| async move { Ok(longhorn.find_backup(&name).await?.claim_info) })?
        };
        info.map_or(Ok(Dynamic::UNIT), |info| data(&info)).or_throw(&ctx)
    }
}

fn backup_request(volume: &str, map: Map) -> Result<BackupRequest> {
    let mut options = Options::new("longhorn::backup", map);
    let full = match options.text("mode")?.as_deref() {
        None | Some("incremental") => false,
        Some("full") => true,
        Some(other) => {
            return Err(Error::new(Kind::Script, format!("longhorn::backup: there is no mode {other:?}"))
                .hint("it is \"incremental\" or \"full\""));
        }
    };
    let request = BackupRequest {
        volume: volume.to_string(),
        name: options.text("name")?,
        labels: options.text_map("labels")?.unwrap_or_default(),
        full,
        limit: options.duration("timeout")?.unwrap_or(BACKUP),
    };
    options.finish()?;
    Ok(request)
}

/// A moment in RFC 3339; an empty text counts as none, as parameters of runbooks have it.
pub(super) fn moment(options: &mut Options, key: &'static str) -> Result<Option<Timestamp>> {
    let Some(text) = options.text(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        Error::new(Kind::Script, format!("`{key}` is no moment: {text:?}")).hint("write it as 2026-11-20T00:00:00Z")
    })
}
