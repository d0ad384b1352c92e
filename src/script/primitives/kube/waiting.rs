//! Waiting for objects.

use std::time::Instant;

use rhai::{Dynamic, FnPtr, NativeCallContext, plugin::*};

use super::{object, on_cluster};
use crate::{
    Error, Kind,
    cluster::{ObjectRef, Observer, WaitFor},
    script::{Host, RhaiResultOf, block, bridge, convert, primitives::OrThrow, throw},
    terminal::{Unit, human},
};

#[export_module]
pub mod api {
    /// Waits for an object as `kubectl wait --for` does: `"condition=Ready"`, `"condition=Ready=False"`,
    /// `"jsonpath={.status.phase}=Bound"`, `"delete"`, or `"rollout"` of a Deployment, StatefulSet or DaemonSet. An
    /// object that is not there yet is waited for. Throws `timeout`, saying what was seen last and the object's events.
    #[rhai_fn(return_raw)]
    pub fn wait(ctx: NativeCallContext, kind: &str, name: &str, what: &str, timeout: Dynamic) -> RhaiResultOf<()> {
        let limit = convert::duration(&timeout).or_throw(&ctx)?;
        let reference = ObjectRef::new(kind, name).or_throw(&ctx)?;
        let what = WaitFor::parse(what).or_throw(&ctx)?;
        let label = format!("waiting for {reference}, {what}");
        let _progress = Host::of(&ctx).terminal().progress(&label, Unit::Items);
        on_cluster(&ctx, |cluster| async move { cluster.wait(&reference, &what, limit).await.map(drop) })
    }

    /// Calls the closure with the object at each of its changes until it returns true; with `()` while the object is
    /// not there. Gives the object.
    #[rhai_fn(return_raw)]
    pub fn wait_until(
        ctx: NativeCallContext,
        kind: &str,
        name: &str,
        timeout: Dynamic,
        is_so: FnPtr,
    ) -> RhaiResultOf<Dynamic> {
        let limit = convert::duration(&timeout).or_throw(&ctx)?;
        let reference = ObjectRef::new(kind, name).or_throw(&ctx)?;
        let began = Instant::now();
        let _progress = Host::of(&ctx).terminal().progress(&format!("waiting for {reference}"), Unit::Items);
        let followed = reference.clone();
        let mut observer = on_cluster(&ctx, |cluster| async move {
            let query = cluster.query(&followed).await?;
            cluster.observe(&[query]).await
        })?;
        loop {
            bridge::go_on(&ctx)?;
            let left = limit.saturating_sub(began.elapsed());
            // The closure may call primitives, which block; so it is called outside of the asynchronous part.
            let changed = block(&ctx, |_| next(&mut observer, left))?;
            if !changed {
                let limit = human::duration(limit);
                let late = Error::new(Kind::Timeout, format!("waiting for {reference}: not as wanted after {limit}"));
                let late = on_cluster(&ctx, |cluster| async move { Ok(cluster.with_events(late, &reference).await) })?;
                return Err(throw(&ctx, &late));
            }
            let seen = observer.object(0).map_or(Dynamic::UNIT, object);
            if is_so.call_within_context::<bool>(&ctx, (seen.clone(),))? {
                return Ok(seen);
            }
        }
    }
}

/// Waits for the next change; false when there is none in that time.
async fn next(observer: &mut Observer, limit: std::time::Duration) -> crate::Result<bool> {
    match tokio::time::timeout(limit, observer.changed()).await {
        Ok(changed) => changed.map(|()| true),
        Err(_) => Ok(false),
    }
}
