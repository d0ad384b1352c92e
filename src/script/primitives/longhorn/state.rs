//! What stands where before, while and after a cluster is restored, and holding it still meanwhile.

use rhai::{Array, Dynamic, NativeCallContext, plugin::*};

use super::{data, on_longhorn, store_of};
use crate::{
    Error, Kind, Result,
    cluster::ObjectRef,
    longhorn::{Bundle, DEFAULT_TARGET, Expected, Held, risks},
    script::{Host, RhaiResultOf, changing, convert, primitives::OrThrow},
};

#[export_module]
pub mod api {
    /// Where each volume of `longhorn::expected` stands now, in the same order: `#{volume, claim, backup, state, to_do,
    /// reason, next}`. It is judged by the objects that are there, whatever was reported of them.
    ///
    /// `state` is `"in-place"`, or one that restoring can help, which `to_do` says: `"missing"`, `"restoring"`,
    /// `"failed"`, `"unbound"`; or one that only the operator can decide, which `next` is about: `"lost"` (no backup),
    /// `"taken"` (its claim is on another volume), `"empty"`, `"other-backup"`, `"differs"`.
    #[rhai_fn(return_raw)]
    pub fn standing(ctx: NativeCallContext, expected: Array) -> RhaiResultOf<Array> {
        let expected = volumes(expected).or_throw(&ctx)?;
        on_longhorn(&ctx, |_, longhorn| async move { longhorn.standing(&expected).await?.iter().map(data).collect() })
    }

    /// Why Longhorn's own restore of a system backup would not bring back exactly what is expected: `#{bundle, risks}`,
    /// an array of sentences that is empty when it would. The bundle is a name, or `""` for the newest; it is `()` when
    /// there is none, and that is a risk as well.
    #[rhai_fn(return_raw)]
    pub fn bundle_risks(ctx: NativeCallContext, expected: Array, bundle: &str) -> RhaiResultOf<Dynamic> {
        let expected = volumes(expected).or_throw(&ctx)?;
        on_longhorn(&ctx, |host, longhorn| async move {
            let store = store_of(&host, &longhorn, &longhorn.target(DEFAULT_TARGET).await?).await?;
            let found = if bundle.is_empty() {
                Bundle::newest(&store).await?
            } else {
                Some(Bundle::read(&store, bundle).await?)
            };
            let Some(bundle) = found else {
                return data(
                    &serde_json::json!({"bundle": null, "risks": ["there is no system backup in the bucket"]}),
                );
            };
            let (backups, version) = (longhorn.backups(None).await?, longhorn.version().await?);
            let risks = risks(&bundle, &expected, &backups, &version, &longhorn.volumes().await?);
            data(&serde_json::json!({"bundle": bundle.name, "risks": risks}))
        })
    }

    /// Throws `refused` when Longhorn is set to run no restore at all.
    #[rhai_fn(return_raw)]
    pub fn check_restores_run(ctx: NativeCallContext) -> RhaiResultOf<()> {
        on_longhorn(&ctx, |_, longhorn| async move { longhorn.check_restores_run().await })
    }

    /// Holds the cluster still while volumes of `longhorn::expected` are restored: suspends the recurring jobs, scales what
    /// uses the claims to 0 and waits for the end of its pods, and has the PersistentVolumes keep their data. What is held
    /// is noted on the objects. Gives what was changed: `#{jobs, workloads, persistent_volumes}`.
    #[rhai_fn(return_raw)]
    pub fn hold(ctx: NativeCallContext, expected: Array) -> RhaiResultOf<Dynamic> {
        let expected = volumes(expected).or_throw(&ctx)?;
        let work = || on_longhorn(&ctx, |_, longhorn| async move { longhorn.hold(&expected).await });
        let held = changing(&ctx, || "the holding of jobs and workloads".to_string(), work)?;
        note(&ctx, "held", &held);
        data(&held).or_throw(&ctx)
    }

    /// Lets go of everything that `longhorn::hold` holds, also of an earlier run; gives what was changed.
    #[rhai_fn(return_raw)]
    pub fn release(ctx: NativeCallContext) -> RhaiResultOf<Dynamic> {
        let work = || on_longhorn(&ctx, |_, longhorn| async move { longhorn.release().await });
        let released = changing(&ctx, || "the release of jobs and workloads".to_string(), work)?;
        note(&ctx, "let go of", &released);
        data(&released).or_throw(&ctx)
    }

    /// Gives only the workloads that use none of these claims their replicas back; everything else stays held.
    #[rhai_fn(name = "release", return_raw)]
    pub fn release_but(ctx: NativeCallContext, unproven: Array) -> RhaiResultOf<Dynamic> {
        let unproven = convert::texts(unproven).or_throw(&ctx)?;
        let work = || on_longhorn(&ctx, |_, longhorn| async move { longhorn.release_workloads(&unproven).await });
        let workloads = changing(&ctx, || "the release of workloads".to_string(), work)?;
        let released = Held { workloads, ..Held::default() };
        note(&ctx, "let go of", &released);
        data(&released).or_throw(&ctx)
    }

    /// What is held at the moment: `#{jobs, workloads, persistent_volumes}`, the last one always empty.
    #[rhai_fn(return_raw)]
    pub fn held(ctx: NativeCallContext) -> RhaiResultOf<Dynamic> {
        on_longhorn(&ctx, |_, longhorn| async move { data(&longhorn.held().await?) })
    }

    /// Deletes a claim that something made before its data were back, so that it can be bound to `volume`; the volume it
    /// had is kept, and its name is given. Throws `refused` while a pod has that volume.
    #[rhai_fn(return_raw)]
    pub fn set_aside(ctx: NativeCallContext, claim: &str, volume: &str) -> RhaiResultOf<String> {
        let reference = ObjectRef::new("persistentvolumeclaims", claim).or_throw(&ctx)?;
        let work = || on_longhorn(&ctx, |_, longhorn| async move { longhorn.set_aside(&reference, volume).await });
        let kept = changing(&ctx, || format!("the deletion of the claim {claim}"), work)?;
        Host::of(&ctx).run().change(format!("deleted the claim {claim} and kept its volume {kept}"));
        Ok(kept)
    }
}

fn volumes(expected: Array) -> Result<Vec<Expected>> {
    let read = |entry: Dynamic| {
        serde_json::from_value(convert::to_json(&entry)?).map_err(|error| {
            Error::new(Kind::Script, format!("this is no volume of longhorn::expected: {error}"))
                .hint("pass what longhorn::expected() gives, or some of it")
        })
    };
    expected.into_iter().map(read).collect()
}

fn note(ctx: &NativeCallContext, what: &str, held: &Held) {
    let run = Host::of(ctx).run().clone();
    let kinds =
        [("the recurring job", &held.jobs), ("", &held.workloads), ("the PersistentVolume", &held.persistent_volumes)];
    for (kind, names) in kinds {
        for name in names {
            run.change(format!("{what} {}", format!("{kind} {name}").trim()));
        }
    }
}
