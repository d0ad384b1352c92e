//! What must come back, and the PersistentVolumes and claims of restored volumes.

use std::{path::Path, time::Duration};

use rhai::{Array, Dynamic, Map, NativeCallContext, plugin::*};
use serde_json::{Value, json};

use super::{backups::moment, data, on_longhorn, shown, store_of};
use crate::{
    Error, Kind, Result,
    cluster::{Change, ObjectRef},
    longhorn::{BindRequest, Bound, Bundle, DEFAULT_TARGET, Inventory, Wishes, expected, quantity},
    script::{
        Host, RhaiResultOf, changing,
        convert::{self, Options},
        primitives::{OrThrow, steps::collect},
    },
};

/// Longest time until a claim is bound, unless the runbook says another.
const BIND: Duration = Duration::from_mins(2);

#[export_module]
pub mod api {
    /// What a full restore must bring back, from the newest system backup and what the backups themselves record.
    #[rhai_fn(name = "expected", return_raw)]
    pub fn expect(ctx: NativeCallContext) -> RhaiResultOf<Array> {
        expect_with(ctx, Map::new())
    }

    /// What a full restore must bring back, one map for each volume: `#{claim, volume, backup, taken, source, namespace,
    /// pv, class, size, access_modes, volume_mode, fs_type, recorded_backup, skew_seconds, secrets, sources, unknown,
    /// pv_object, claim_object, volume_spec, job_labels}`. `backup` is the newest complete one (`()`: there is none), `taken` the moment of
    /// its data, `skew_seconds` how much newer it is than the one the system backup recorded. `claim` is `()` for a
    /// volume no claim is known of.
    ///
    /// Every fact is taken from the first source that has it, and `sources` says which: `state` (a folder that
    /// `export-state` wrote) or `exported` (an array of objects, as `kube::manifest` reads them), the system backup `bundle` (a name; without it the newest, with
    /// `""` none), the backups' own records. `as_of` limits how young the data may be. A volume that was deleted, or
    /// whose claim is on another one, is left out with a warning.
    #[rhai_fn(name = "expected", return_raw)]
    pub fn expect_with(ctx: NativeCallContext, options: Map) -> RhaiResultOf<Array> {
        let mut options = Options::new("longhorn::expected", options);
        let as_of = moment(&mut options, "as_of").or_throw(&ctx)?;
        let bundle = options.text("bundle").or_throw(&ctx)?;
        let exported = options.json("exported").or_throw(&ctx)?;
        let state = options.text("state").or_throw(&ctx)?.filter(|folder| !folder.is_empty());
        options.finish().or_throw(&ctx)?;
        let exported = match state {
            Some(folder) => Some(Inventory::read_folder(Path::new(&folder)).or_throw(&ctx)?),
            None => exported.map(inventory).transpose().or_throw(&ctx)?,
        };
        let set = on_longhorn(&ctx, |host, longhorn| async move {
            let store = store_of(&host, &longhorn, &longhorn.target(DEFAULT_TARGET).await?).await?;
            let bundle = match bundle.as_deref() {
                Some("") => None,
                Some(name) => Some(Bundle::read(&store, name).await?),
                None => Bundle::newest(&store).await?,
            };
            let backups = longhorn.backups(None).await?;
            let known = bundle.as_ref().map(Bundle::inventory);
            let made = bundle.as_ref().and_then(Bundle::moment);
            Ok(expected(exported.as_ref(), known.as_ref(), made, &backups, as_of))
        })?;
        for (volume, why) in &set.retired {
            Host::of(&ctx).run().say(true, format!("the volume {volume} is not expected back: {why}"));
        }
        set.volumes.iter().map(data).collect::<Result<_>>().or_throw(&ctx)
    }

    /// Makes the claim and the PersistentVolume of a volume and waits until they are bound; gives `#{claim, pv, volume,
    /// changed}`. What is there already and fits is left alone.
    ///
    /// `volume` and `claim` are needed. Further options: `pv`, `class`, `size` (bytes, or a text as `"10Gi"`),
    /// `fs_type`, `volume_mode`, `access_modes`, the former objects `pv_object` and `claim_object`, which everything
    /// else is taken from, and `timeout` (2 minutes). The maps of `longhorn::expected` can be passed as they are; one
    /// without a claim binds nothing.
    #[rhai_fn(return_raw)]
    pub fn bind_claim(ctx: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let bound = match bind_request("longhorn::bind_claim", options).or_throw(&ctx)? {
            Wanted::Nothing(nothing) => return Ok(nothing),
            Wanted::Bind(request) => {
                let what = format!("the binding of the claim {}", request.claim);
                let bind = || on_longhorn(&ctx, |_, longhorn| async move { longhorn.bind(&request).await });
                changing(&ctx, || what, bind)?
            }
        };
        told(&ctx, &bound)
    }

    /// Binds many claims at the same time, with the options of `longhorn::bind_claim` for each, and gives what that gives,
    /// in their order. Much faster than one after the other. Every claim has its turn even when others fail; then one error is
    /// thrown that has them all in `e.errors` (`#{index, kind, message, …}`) and the results of the others in `e.results`.
    ///
    /// `timeout` is the longest time in which none of the claims gets bound.
    #[rhai_fn(return_raw)]
    pub fn bind_claims(ctx: NativeCallContext, claims: Array) -> RhaiResultOf<Array> {
        let mut results = Vec::with_capacity(claims.len());
        let (mut indices, mut requests) = (Vec::new(), Vec::new());
        for (index, options) in claims.into_iter().enumerate() {
            let wrong = |found: &str| {
                Error::new(Kind::Script, format!("longhorn::bind_claims: item {index} is no map but {found}"))
            };
            let options = options.try_cast_result::<Map>().map_err(|other| wrong(other.type_name())).or_throw(&ctx)?;
            match bind_request("longhorn::bind_claims", options).or_throw(&ctx)? {
                Wanted::Nothing(nothing) => results.push(Ok(nothing)),
                Wanted::Bind(request) => {
                    results.push(Ok(Dynamic::UNIT));
                    indices.push(index);
                    requests.push(*request);
                }
            }
        }
        let mut on_progress = shown(&ctx, "binding claims");
        let what = format!("the binding of {} claims", requests.len());
        let bind =
            || on_longhorn(&ctx, |_, longhorn| async move { longhorn.bind_all(&requests, &mut on_progress).await });
        let bound = changing(&ctx, || what, bind)?;
        for (index, bound) in indices.into_iter().zip(bound) {
            results[index] = bound.or_throw(&ctx).and_then(|bound| told(&ctx, &bound));
        }
        collect(&ctx, results)
    }

    /// Makes the PersistentVolume of a volume, with the options of `longhorn::bind_claim`; with a `claim` it is
    /// reserved for that one. Says what came of it as `kube::apply` does.
    #[rhai_fn(return_raw)]
    pub fn create_pv(ctx: NativeCallContext, options: Map) -> RhaiResultOf<String> {
        let mut options = Options::new("longhorn::create_pv", options);
        let (volume, claim, wishes, _) = bind_options(&mut options).or_throw(&ctx)?;
        options.finish().or_throw(&ctx)?;
        let (name, change) =
            on_longhorn(&ctx, |_, longhorn| async move { longhorn.create_pv(&volume, claim.as_ref(), &wishes).await })?;
        Ok(noted(&ctx, change, &format!("PersistentVolume/{name}")))
    }

    /// Makes the claim of a volume, with the options of `longhorn::bind_claim`, and waits until it is bound when its
    /// PersistentVolume is there. Says what came of it as `kube::apply` does.
    #[rhai_fn(return_raw)]
    pub fn create_pvc(ctx: NativeCallContext, options: Map) -> RhaiResultOf<String> {
        let mut options = Options::new("longhorn::create_pvc", options);
        let (volume, claim, wishes, limit) = bind_options(&mut options).or_throw(&ctx)?;
        options.finish().or_throw(&ctx)?;
        let missing = || Error::new(Kind::Script, "longhorn::create_pvc: the option `claim` is missing");
        let claim = claim.ok_or_else(missing).or_throw(&ctx)?;
        let name = claim.to_string();
        let request = BindRequest { volume, claim, wishes, limit };
        let change = on_longhorn(&ctx, |_, longhorn| async move { longhorn.create_claim(&request).await })?;
        Ok(noted(&ctx, change, &name))
    }
}

fn noted(ctx: &NativeCallContext, change: Change, object: &str) -> String {
    if change != Change::Unchanged {
        Host::of(ctx).run().change(format!("{} {object}", change.as_str()));
    }
    change.as_str().to_string()
}

/// What the options of `bind_claim` ask for; without a claim, nothing.
enum Wanted {
    Nothing(Dynamic),
    Bind(Box<BindRequest>),
}

fn bind_request(of: &'static str, options: Map) -> Result<Wanted> {
    let mut options = Options::new(of, options);
    // What else the maps of `expected` hold.
    for key in [
        "backup",
        "taken",
        "source",
        "namespace",
        "recorded_backup",
        "skew_seconds",
        "secrets",
        "sources",
        "unknown",
        "volume_spec",
        "job_labels",
    ] {
        options.value(key);
    }
    let (volume, claim, wishes, limit) = bind_options(&mut options)?;
    options.finish()?;
    Ok(match claim {
        Some(claim) => Wanted::Bind(Box::new(BindRequest { volume, claim, wishes, limit })),
        None => Wanted::Nothing(data(&json!({"claim": null, "pv": null, "volume": volume, "changed": false}))?),
    })
}

fn told(ctx: &NativeCallContext, bound: &Bound) -> RhaiResultOf<Dynamic> {
    if bound.changed {
        Host::of(ctx).run().change(format!("bound the claim {} to the volume {}", bound.claim, bound.volume));
    }
    data(bound).or_throw(ctx)
}

fn bind_options(options: &mut Options) -> Result<(String, Option<ObjectRef>, Wishes, Duration)> {
    let volume = options.required_text("volume")?;
    let claim = options.text("claim")?.map(|claim| ObjectRef::new("persistentvolumeclaims", &claim)).transpose()?;
    let wishes = Wishes {
        pv: options.text("pv")?,
        class: options.text("class")?,
        fs_type: options.text("fs_type")?,
        volume_mode: options.text("volume_mode")?,
        access_modes: options.texts("access_modes")?.filter(|modes| !modes.is_empty()),
        size: options.value("size").map(|size| bytes(&size)).transpose()?,
        former_pv: options.json("pv_object")?,
        former_claim: options.json("claim_object")?,
    };
    Ok((volume, claim, wishes, options.duration("timeout")?.unwrap_or(BIND)))
}

fn bytes(size: &Dynamic) -> Result<u64> {
    let read = match size.as_int() {
        Ok(bytes) => u64::try_from(bytes).ok(),
        Err(_) => size.as_immutable_string_ref().ok().and_then(|text| quantity::parse(&text)),
    };
    read.ok_or_else(|| {
        Error::new(Kind::Script, format!("`size` is no size: {}", convert::describe(size)))
            .hint("write bytes as a number, or a text as \"10Gi\"")
    })
}

fn inventory(exported: Value) -> Result<Inventory> {
    match exported {
        Value::Array(objects) => Ok(Inventory::of(&objects)),
        _ => Err(Error::new(Kind::Script, "longhorn::expected: `exported` must be an array of objects")
            .hint("read them with kube::manifest(path)")),
    }
}
