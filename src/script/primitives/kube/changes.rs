//! Changing objects.

use std::time::Duration;

use rhai::{Array, Dynamic, Map, NativeCallContext, plugin::*};
use serde_json::{Value, json};

use super::{object, on_cluster};
use crate::{
    Error, Kind, Result,
    cluster::{Applied, ApplyOptions, Change, Cluster, DeleteOptions, ObjectRef, PatchKind, Propagation},
    script::{
        Host, RhaiResultOf, changing,
        convert::{self, Options},
        primitives::OrThrow,
    },
};

/// Longest time for a deletion that is waited for, unless the runbook says another.
const DELETION: Duration = Duration::from_mins(2);

#[export_module]
pub mod api {
    /// Applies an object on the server's side, as `kubectl apply --server-side` does; says what came of it: `"created"`,
    /// `"configured"` or `"unchanged"`.
    #[rhai_fn(return_raw)]
    pub fn apply(ctx: NativeCallContext, wanted: Map) -> RhaiResultOf<String> {
        apply_with(ctx, wanted, Map::new())
    }

    /// Applies an object. With `force` fields that other tools own are taken over, with `dry_run` nothing is stored.
    #[rhai_fn(name = "apply", return_raw)]
    pub fn apply_with(ctx: NativeCallContext, wanted: Map, options: Map) -> RhaiResultOf<String> {
        let options = apply_options(options).or_throw(&ctx)?;
        let wanted = convert::from_map(&wanted).or_throw(&ctx)?;
        let applied = apply_one(&ctx, wanted, options)?;
        Ok(applied.change.as_str().to_string())
    }

    /// Applies the objects of an array in its order, as of a manifest; gives `#{object, change}` for each.
    #[rhai_fn(name = "apply", return_raw)]
    pub fn apply_all(ctx: NativeCallContext, wanted: Array) -> RhaiResultOf<Array> {
        apply_all_with(ctx, wanted, Map::new())
    }

    /// Applies the objects of an array with the options `force` and `dry_run`.
    #[rhai_fn(name = "apply", return_raw)]
    pub fn apply_all_with(ctx: NativeCallContext, wanted: Array, options: Map) -> RhaiResultOf<Array> {
        let options = apply_options(options).or_throw(&ctx)?;
        let mut results = Array::new();
        for wanted in &wanted {
            let wanted = convert::to_json(wanted).or_throw(&ctx)?;
            let applied = apply_one(&ctx, wanted, options)?;
            let result = json!({"object": applied.reference.to_string(), "change": applied.change.as_str()});
            results.push(object(&result));
        }
        Ok(results)
    }

    /// Merges a map into the object and gives the result. `()` removes a field, arrays are replaced.
    #[rhai_fn(return_raw)]
    pub fn patch(ctx: NativeCallContext, kind: &str, name: &str, change: Map) -> RhaiResultOf<Dynamic> {
        patch_with(ctx, kind, name, change.into(), Map::new())
    }

    /// Patches the object and gives the result. `type` is `"merge"`, `"json"` (an array of operations) or
    /// `"strategic"`; `subresource` is for example `"status"`.
    #[rhai_fn(name = "patch", return_raw)]
    pub fn patch_with(
        ctx: NativeCallContext,
        kind: &str,
        name: &str,
        change: Dynamic,
        options: Map,
    ) -> RhaiResultOf<Dynamic> {
        let (how, subresource) = patch_options(options).or_throw(&ctx)?;
        let change = convert::to_json(&change).or_throw(&ctx)?;
        patched(&ctx, kind, name, change, how, subresource)
    }

    /// Sets labels; `()` removes one.
    #[rhai_fn(return_raw)]
    pub fn label(ctx: NativeCallContext, kind: &str, name: &str, labels: Map) -> RhaiResultOf<()> {
        let change = json!({"metadata": {"labels": convert::from_map(&labels).or_throw(&ctx)?}});
        patched(&ctx, kind, name, change, PatchKind::Merge, None).map(drop)
    }

    /// Sets annotations; `()` removes one.
    #[rhai_fn(return_raw)]
    pub fn annotate(ctx: NativeCallContext, kind: &str, name: &str, annotations: Map) -> RhaiResultOf<()> {
        let change = json!({"metadata": {"annotations": convert::from_map(&annotations).or_throw(&ctx)?}});
        patched(&ctx, kind, name, change, PatchKind::Merge, None).map(drop)
    }

    /// Deletes the object; true when it was there. What it owns is deleted afterwards.
    #[rhai_fn(return_raw)]
    pub fn delete(ctx: NativeCallContext, kind: &str, name: &str) -> RhaiResultOf<bool> {
        delete_with(ctx, kind, name, Map::new())
    }

    /// Deletes the object; true when it was there. `propagation` is `"background"`, `"foreground"` or `"orphan"`; with
    /// `wait` it returns when the object is gone, for which `timeout` (2 minutes) is allowed.
    #[rhai_fn(name = "delete", return_raw)]
    pub fn delete_with(ctx: NativeCallContext, kind: &str, name: &str, options: Map) -> RhaiResultOf<bool> {
        let options = delete_options(options).or_throw(&ctx)?;
        let reference = ObjectRef::new(kind, name).or_throw(&ctx)?;
        let deleted = reference.clone();
        let existed = changing(
            &ctx,
            || format!("the deletion of {reference}"),
            || on_cluster(&ctx, |cluster| async move { cluster.delete(&deleted, options).await }),
        )?;
        if existed {
            Host::of(&ctx).run().change(format!("deleted {reference}"));
        }
        Ok(existed)
    }

    /// Sets how many replicas a workload has.
    #[rhai_fn(return_raw)]
    pub fn scale(ctx: NativeCallContext, kind: &str, name: &str, replicas: i64) -> RhaiResultOf<()> {
        let wrong = |_| Error::new(Kind::Script, format!("kube::scale: {replicas} is no number of replicas"));
        let replicas = u32::try_from(replicas).map_err(wrong).or_throw(&ctx)?;
        let reference = ObjectRef::new(kind, name).or_throw(&ctx)?;
        let scaled = reference.clone();
        let changed = changing(
            &ctx,
            || format!("the scaling of {reference} to {replicas}"),
            || on_cluster(&ctx, |cluster| async move { cluster.scale(&scaled, replicas).await }),
        )?;
        if changed {
            Host::of(&ctx).run().change(format!("scaled {reference} to {replicas}"));
        }
        Ok(())
    }
}

fn apply_one(ctx: &NativeCallContext, wanted: Value, options: ApplyOptions) -> RhaiResultOf<Applied> {
    let name = |pointer: &str| wanted.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
    let what = format!("the application of {} {}", name("/kind"), name("/metadata/name"));
    let applied =
        changing(ctx, || what, || on_cluster(ctx, |cluster| async move { cluster.apply(&wanted, options).await }))?;
    if applied.change != Change::Unchanged && !options.dry_run {
        Host::of(ctx).run().change(format!("{} {}", applied.change.as_str(), applied.reference));
    }
    Ok(applied)
}

fn patched(
    ctx: &NativeCallContext,
    kind: &str,
    name: &str,
    change: Value,
    how: PatchKind,
    subresource: Option<String>,
) -> RhaiResultOf<Dynamic> {
    let reference = ObjectRef::new(kind, name).or_throw(ctx)?;
    let target = reference.clone();
    let patch = |cluster: Cluster| async move {
        let before = cluster.get(&target).await?;
        Ok((before, cluster.patch(&target, &change, how, subresource.as_deref()).await?))
    };
    let (before, after) = changing(ctx, || format!("the patch of {reference}"), || on_cluster(ctx, patch))?;
    // The server keeps the version of an object that a patch leaves as it is.
    let version = "/metadata/resourceVersion";
    if before.pointer(version) != after.pointer(version) {
        Host::of(ctx).run().change(format!("patched {reference}"));
    }
    Ok(object(&after))
}

fn apply_options(map: Map) -> Result<ApplyOptions> {
    let mut options = Options::new("kube::apply", map);
    let force = options.flag("force")?.unwrap_or(false);
    let dry_run = options.flag("dry_run")?.unwrap_or(false);
    options.finish()?;
    Ok(ApplyOptions { force, dry_run })
}

fn patch_options(map: Map) -> Result<(PatchKind, Option<String>)> {
    let mut options = Options::new("kube::patch", map);
    let how = match options.text("type")?.as_deref() {
        None | Some("merge") => PatchKind::Merge,
        Some("json") => PatchKind::Json,
        Some("strategic") => PatchKind::Strategic,
        Some(other) => {
            return Err(Error::new(Kind::Script, format!("kube::patch: there is no type {other:?} of patches"))
                .hint("the types are \"merge\", \"json\" and \"strategic\""));
        }
    };
    let subresource = options.text("subresource")?;
    options.finish()?;
    Ok((how, subresource))
}

fn delete_options(map: Map) -> Result<DeleteOptions> {
    let mut options = Options::new("kube::delete", map);
    let propagation = match options.text("propagation")?.as_deref() {
        None | Some("background") => Propagation::Background,
        Some("foreground") => Propagation::Foreground,
        Some("orphan") => Propagation::Orphan,
        Some(other) => {
            return Err(Error::new(Kind::Script, format!("kube::delete: there is no propagation {other:?}"))
                .hint("it is \"background\", \"foreground\" or \"orphan\""));
        }
    };
    let wait = options.flag("wait")?.unwrap_or(false);
    let timeout = options.duration("timeout")?;
    options.finish()?;
    Ok(DeleteOptions { propagation, wait: wait.then(|| timeout.unwrap_or(DELETION)) })
}
