//! From a script's thread into the asynchronous world and back, minding cancellation and deadlines.

use std::{future::Future, time::Duration};

use rhai::{Dynamic, EvalAltResult, NativeCallContext, Position};

use super::{Host, fault};
use crate::{Error, Kind, Result};

/// What fallible primitives return. The name is the one Rhai's metadata shows as `-> T`.
pub type RhaiResultOf<T> = std::result::Result<T, Box<EvalAltResult>>;

/// Runs asynchronous work to its end on the calling script thread; its failure is thrown into the script.
///
/// The work is a closure, as futures such as timers must be made inside the runtime. Script closures cannot be called
/// inside it (they would come back here): loop around `block` instead. When the operator interrupts the run, the work
/// is dropped and the script ends, whatever it tries to catch.
pub fn block<T, F>(ctx: &NativeCallContext, work: impl FnOnce(Host) -> F) -> RhaiResultOf<T>
where
    F: Future<Output = Result<T>>,
{
    run(ctx, None, work)
}

/// Like [`block`], but the work is dropped and [`Kind::Timeout`] thrown when it takes longer than `limit`. `what` says
/// what was waited for: `waiting for pod default/db-0`.
pub fn block_for<T, F>(
    ctx: &NativeCallContext,
    limit: Duration,
    what: &str,
    work: impl FnOnce(Host) -> F,
) -> RhaiResultOf<T>
where
    F: Future<Output = Result<T>>,
{
    run(ctx, Some((limit, what)), work)
}

fn run<T, F>(ctx: &NativeCallContext, limit: Option<(Duration, &str)>, work: impl FnOnce(Host) -> F) -> RhaiResultOf<T>
where
    F: Future<Output = Result<T>>,
{
    let host = Host::of(ctx);
    let cancel = host.cancel();
    let result = host.runtime().block_on(async {
        let bounded = async {
            match limit {
                None => work(host.clone()).await,
                Some((limit, what)) => {
                    tokio::time::timeout(limit, work(host.clone())).await.unwrap_or_else(|_| Err(late(what, limit)))
                }
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            result = bounded => Some(result),
        }
    });
    match result {
        None => Err(interrupted(ctx.call_position())),
        Some(result) => result.map_err(|error| fault::throw(ctx, &error)),
    }
}

/// Does work that changes something outside. When it is cut short, by the operator or by a deadline, or fails on its way,
/// nobody knows how far it came: that is noted, so that the run does not say that nothing was changed. `what` is what it
/// would have done: `the backup of the volume pvc-1`.
pub fn changing<T>(
    ctx: &NativeCallContext,
    what: impl FnOnce() -> String,
    work: impl FnOnce() -> RhaiResultOf<T>,
) -> RhaiResultOf<T> {
    let host = Host::of(ctx);
    // Then it is not even begun.
    let is_over = host.cancel().is_cancelled();
    work().inspect_err(|error| {
        let may_have = match &**error {
            EvalAltResult::ErrorTerminated(..) => !is_over,
            EvalAltResult::ErrorRuntime(thrown, _) => {
                matches!(fault::thrown(thrown).0.kind(), Kind::Timeout | Kind::Failed | Kind::Damaged)
            }
            _ => false,
        };
        if may_have {
            host.run().left_unfinished(what());
        }
    })
}

/// Fails when the operator has interrupted the run: for work that is not asynchronous, between its parts.
pub fn go_on(ctx: &NativeCallContext) -> RhaiResultOf<()> {
    if Host::of(ctx).cancel().is_cancelled() { Err(interrupted(ctx.call_position())) } else { Ok(()) }
}

/// The end of a script the operator interrupted. Scripts cannot catch it.
pub(super) fn interrupted(position: Position) -> Box<EvalAltResult> {
    EvalAltResult::ErrorTerminated(Dynamic::from("interrupted"), position).into()
}

fn late(what: &str, limit: Duration) -> Error {
    let limit = crate::terminal::human::duration(limit);
    Error::new(Kind::Timeout, format!("{what}: not done after {limit}"))
        .hint("allow more time, or find out what it waits for")
}

#[cfg(test)]
// Rhai passes the context by value.
#[allow(clippy::needless_pass_by_value)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::script::{Settings, engine, host::fake};

    fn nap(ctx: NativeCallContext) -> RhaiResultOf<()> {
        block(&ctx, |_| async {
            tokio::time::sleep(Duration::from_mins(1)).await;
            Ok(())
        })
    }

    fn short_nap(ctx: NativeCallContext) -> RhaiResultOf<()> {
        block_for(&ctx, Duration::from_millis(20), "napping", |_| async {
            tokio::time::sleep(Duration::from_mins(1)).await;
            Ok(())
        })
    }

    #[test]
    fn an_interrupt_stops_a_primitive_and_is_not_caught() {
        let (host, _) = fake::host(Settings::default());
        let mut engine = engine::build(&host);
        engine.register_fn("nap", nap);
        let began = Instant::now();
        let cancel = host.cancel();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            cancel.cancel();
        });
        let error = engine.eval::<()>("while true { try { nap() } catch { } }").unwrap_err();
        stopper.join().unwrap();
        assert!(matches!(*error, EvalAltResult::ErrorTerminated(..)), "{error}");
        assert!(began.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn an_interrupt_stops_a_script_between_operations() {
        let (host, _) = fake::host(Settings::default());
        host.cancel().cancel();
        let error = engine::build(&host).eval::<()>("loop { }").unwrap_err();
        assert!(matches!(*error, EvalAltResult::ErrorTerminated(..)), "{error}");
    }

    /// Ends with that kind of failure, or waits.
    fn change(ctx: NativeCallContext, kind: &str) -> RhaiResultOf<()> {
        let work = |_| async move {
            if let Some(kind) = Kind::from_name(kind) {
                return Err(Error::new(kind, "no"));
            }
            tokio::time::sleep(Duration::from_mins(1)).await;
            Ok(())
        };
        changing(&ctx, || format!("{kind} it"), || block(&ctx, work))
    }

    fn unfinished(host: &Host) -> Vec<String> {
        host.run().record().unfinished.into_iter().map(|change| change.what).collect()
    }

    #[test]
    fn what_may_have_changed_something_is_noted_when_it_does_not_come_to_its_end() {
        let (host, _) = fake::host(Settings::default());
        let mut engine = engine::build(&host);
        engine.register_fn("change", change);
        let tries =
            "for kind in [\"timeout\", \"conflict\", \"not-found\", \"damaged\"] { try { change(kind) } catch { } }";
        engine.run(tries).unwrap();
        assert_eq!(unfinished(&host), ["timeout it", "damaged it"], "the others were refused before anything was done");

        let cancel = host.cancel();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            cancel.cancel();
        });
        assert!(engine.run("change(\"wait for\")").is_err());
        stopper.join().unwrap();
        assert_eq!(unfinished(&host).last().unwrap(), "wait for it");
        assert!(engine.run("change(\"begin\")").is_err());
        assert_eq!(unfinished(&host).len(), 3, "it was not begun");
    }

    #[test]
    fn a_deadline_throws_a_timeout() {
        let (host, _) = fake::host(Settings::default());
        let mut engine = engine::build(&host);
        engine.register_fn("nap", short_nap);
        let kind: String =
            engine.eval("let said = (); try { nap() } catch (e) { said = e.kind + \": \" + e.message; } said").unwrap();
        assert_eq!(kind, "timeout: napping: not done after 0.0s");
    }
}
