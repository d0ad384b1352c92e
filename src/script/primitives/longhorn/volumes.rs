//! Volumes.

use rhai::{Array, Dynamic, NativeCallContext, plugin::*};

use super::{data, on_longhorn};
use crate::{
    cluster::ObjectRef,
    script::{RhaiResultOf, primitives::OrThrow},
};

#[export_module]
pub mod api {
    /// All volumes, each as `longhorn::volume` gives it.
    #[rhai_fn(return_raw)]
    pub fn volumes(ctx: NativeCallContext) -> RhaiResultOf<Array> {
        on_longhorn(&ctx, |_, longhorn| async move { longhorn.volumes().await?.iter().map(data).collect() })
    }

    /// A volume: `#{name, size, state, robustness, claim, last_claim, pv, access_mode, replicas, node, from_backup,
    /// from_volume, created, restoring, last_backup, last_backup_at, target, encrypted, standby}`. `claim` is `()` when
    /// none uses it now, `from_backup` empty for a volume that was made empty.
    #[rhai_fn(return_raw)]
    pub fn volume(ctx: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        on_longhorn(&ctx, |_, longhorn| async move { data(&longhorn.volume(name).await?) })
    }

    /// The name of the volume behind a claim.
    #[rhai_fn(return_raw)]
    pub fn volume_of(ctx: NativeCallContext, claim: &str) -> RhaiResultOf<String> {
        let claim = ObjectRef::new("persistentvolumeclaims", claim).or_throw(&ctx)?;
        on_longhorn(&ctx, |_, longhorn| async move { longhorn.volume_of(&claim).await })
    }

    /// The volumes that are not detached. While there is one, Longhorn refuses a system restore.
    #[rhai_fn(return_raw)]
    pub fn attached(ctx: NativeCallContext) -> RhaiResultOf<Array> {
        on_longhorn(&ctx, |_, longhorn| async move { longhorn.attached().await?.iter().map(data).collect() })
    }
}
