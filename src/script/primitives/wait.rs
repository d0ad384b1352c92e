//! `wait::`: letting time pass, and waiting for something to become true.

use std::time::{Duration, Instant};

use rhai::{Dynamic, FnPtr, NativeCallContext, plugin::*};

use super::OrThrow;
use crate::{
    Error, Kind,
    script::{Host, RhaiResultOf, block, bridge, convert, throw},
    terminal::{Unit, human},
};

/// Time between two looks, as it grows.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

#[export_module]
pub mod api {
    /// Lets time pass.
    #[rhai_fn(return_raw)]
    pub fn sleep(ctx: NativeCallContext, duration: Dynamic) -> RhaiResultOf<()> {
        pause(&ctx, convert::duration(&duration).or_throw(&ctx)?)
    }

    /// Calls the closure until it returns true; throws `timeout`, saying what was waited for, when that takes longer.
    #[rhai_fn(return_raw)]
    pub fn until(ctx: NativeCallContext, what: &str, timeout: Dynamic, is_so: FnPtr) -> RhaiResultOf<()> {
        let limit = convert::duration(&timeout).or_throw(&ctx)?;
        let began = Instant::now();
        let _progress = Host::of(&ctx).terminal().progress(&format!("waiting for {what}"), Unit::Items);
        let mut wait = PAUSES.0;
        loop {
            bridge::go_on(&ctx)?;
            if is_so.call_within_context::<bool>(&ctx, ())? {
                return Ok(());
            }
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                let limit = human::duration(limit);
                let late = Error::new(Kind::Timeout, format!("waiting for {what}: not so after {limit}"));
                return Err(throw(&ctx, &late));
            }
            pause(&ctx, wait.min(left))?;
            wait = (wait * 2).min(PAUSES.1);
        }
    }
}

fn pause(ctx: &NativeCallContext, duration: Duration) -> RhaiResultOf<()> {
    block(ctx, |_| async move {
        tokio::time::sleep(duration).await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Fault, Settings, engine, host::fake};

    #[test]
    fn it_waits_until_the_closure_agrees() {
        let (host, _) = fake::host(Settings::default());
        let script = "let n = 0; wait::until(\"three\", \"5s\", || { n += 1; n == 3 }); n";
        assert_eq!(engine::build(&host).eval::<i64>(script).unwrap(), 3);
    }

    #[test]
    fn it_gives_up_saying_what_it_waited_for() {
        let (host, _) = fake::host(Settings::default());
        let error = engine::build(&host).eval::<()>("wait::until(\"rain\", \"150ms\", || false)").unwrap_err();
        let error = Fault::new(&error).error;
        assert_eq!((error.kind(), error.message()), (Kind::Timeout, "waiting for rain: not so after 0.1s"));
    }

    #[test]
    fn a_closure_that_throws_or_answers_otherwise_ends_the_waiting() {
        let (host, _) = fake::host(Settings::default());
        let engine = engine::build(&host);
        let error = engine.eval::<()>("wait::until(\"x\", \"5s\", || fail(\"denied\", \"no\"))").unwrap_err();
        assert_eq!(Fault::new(&error).error.kind(), Kind::Denied);
        let error = engine.eval::<()>("wait::until(\"x\", \"5s\", || 5)").unwrap_err();
        assert_eq!(Fault::new(&error).error.kind(), Kind::Script);
    }
}
