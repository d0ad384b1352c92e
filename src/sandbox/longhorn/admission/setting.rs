//! Settings: the kind of value stays what it was, and some are Longhorn's alone.

use serde_json::Value;

use super::{invalid, name_of};
use crate::sandbox::{
    api::admission::Refusal,
    longhorn::{resource::Fields, settings},
};

pub(super) fn update(old: &Value, new: &Value) -> Result<(), Refusal> {
    let name = name_of(new);
    let (before, after) = (old.text("/value"), new.text("/value"));
    if before == after {
        return Ok(());
    }
    let internal = new["metadata"]["annotations"].get("longhorn.io/update-setting-from-longhorn").is_some();
    if settings::READ_ONLY.contains(&name) && !internal {
        return Err(invalid(format!("setting {name} is read-only")));
    }
    let (was, is) = (settings::for_v1(before), settings::for_v1(after));
    let fits = (was.parse::<u64>().is_err() || is.parse::<u64>().is_ok())
        && (was.parse::<bool>().is_err() || is.parse::<bool>().is_ok())
        && (name != "default-backup-block-size" || matches!(is.as_str(), "2" | "16"))
        && (name != "backup-compression-method" || matches!(is.as_str(), "none" | "lz4" | "gzip"));
    if fits { Ok(()) } else { Err(invalid(format!("failed to set the setting {name} with invalid value {after}"))) }
}

pub(super) fn delete(setting: &Value) -> Result<(), Refusal> {
    Err(invalid(format!("setting {} can not be deleted", name_of(setting))))
}
