//! `step`, `skip`, `parallel`, `retry`: the shape of a runbook.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use rhai::{Array, Dynamic, EvalAltResult, FnPtr, NativeCallContext, plugin::*};

use super::OrThrow;
use crate::{
    Error, Kind,
    run::{Place, StepEnd, inherit},
    script::{Fault, Host, RhaiResultOf, block, bridge, convert, fault, run::STACK},
    terminal::human,
};

/// Most closures one `parallel` runs at a time.
const WIDEST: usize = 64;

#[export_module]
pub mod api {
    /// Does a part of the runbook and returns what the closure returns. Steps are timed, shown and reported, and may
    /// stand in one another. An error ends the step and goes on outwards.
    #[rhai_fn(return_raw)]
    pub fn step(ctx: NativeCallContext, name: &str, work: FnPtr) -> RhaiResultOf<Dynamic> {
        bridge::go_on(&ctx)?;
        let run = Host::of(&ctx).run().clone();
        let step = run.begin_step(name);
        let result = work.call_within_context::<Dynamic>(&ctx, ());
        match &result {
            Ok(_) => run.end_step(step, StepEnd::Returned),
            Err(error) => run.end_step(step, StepEnd::Threw(&Fault::new(error).error)),
        }
        result
    }

    /// Marks the step it stands in as not needed, and says why: `if done { return skip("already there"); }`.
    #[rhai_fn(return_raw)]
    pub fn skip(ctx: NativeCallContext, reason: &str) -> RhaiResultOf<()> {
        let inside = Host::of(&ctx).run().skip(reason);
        let outside = || Error::new(Kind::Script, "skip is called outside of a step");
        inside.then_some(()).ok_or_else(outside).or_throw(&ctx)
    }

    /// Calls the closure with each item, at most `limit` at a time, and returns the results in the order of the items.
    /// Every item has its turn even when others fail; then one error is thrown that has them all in `e.errors`
    /// (`#{index, kind, message, …}`) and the results of the others in `e.results`.
    #[rhai_fn(return_raw)]
    pub fn parallel(ctx: NativeCallContext, items: Array, limit: i64, work: FnPtr) -> RhaiResultOf<Array> {
        bridge::go_on(&ctx)?;
        let wrong = || Error::new(Kind::Script, format!("parallel: the limit must be from 1 to {WIDEST}, not {limit}"));
        let limit = usize::try_from(limit).ok().filter(|limit| (1..=WIDEST).contains(limit));
        let limit = limit.ok_or_else(wrong).or_throw(&ctx)?;
        let results = call_each(&ctx, items, limit, &work).or_throw(&ctx)?;
        collect(&ctx, results)
    }

    /// Calls the closure until it returns instead of throwing, at most that many times and with a pause in between.
    /// Mistakes in the script and refusals are thrown at once.
    #[rhai_fn(return_raw)]
    pub fn retry(ctx: NativeCallContext, times: i64, pause: Dynamic, work: FnPtr) -> RhaiResultOf<Dynamic> {
        let pause = convert::duration(&pause).or_throw(&ctx)?;
        let mut attempt = 1;
        loop {
            bridge::go_on(&ctx)?;
            let error = match work.call_within_context::<Dynamic>(&ctx, ()) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let failure = Fault::new(&error).error;
            let hopeless = matches!(failure.kind(), Kind::Usage | Kind::Script | Kind::Refused | Kind::Cancelled);
            if hopeless || attempt >= times {
                return Err(error);
            }
            let again = human::duration(pause);
            Host::of(&ctx).run().say(true, format!("attempt {attempt} of {times}: {failure}; again in {again}"));
            block(&ctx, |_| async move {
                tokio::time::sleep(pause).await;
                Ok(())
            })?;
            attempt += 1;
        }
    }
}

type Outcome = RhaiResultOf<Dynamic>;

/// The result of each item, in order. Threads of its own, so that a `parallel` in a `parallel` cannot wait for itself.
fn call_each(ctx: &NativeCallContext, items: Array, limit: usize, work: &FnPtr) -> crate::Result<Vec<Outcome>> {
    let place = Place::current();
    let next = AtomicUsize::new(0);
    let count = items.len();
    let items: Vec<_> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let results: Vec<Mutex<Option<Outcome>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let worker = || {
        inherit(place, || {
            loop {
                let index = next.fetch_add(1, Relaxed);
                let Some(item) = items.get(index) else { return };
                let item = item.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
                let result = bridge::go_on(ctx).and_then(|()| work.call_within_context::<Dynamic>(ctx, (item,)));
                *results[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            }
        });
    };
    thread::scope(|scope| {
        let mut started = 0;
        for _ in 0..limit.min(count) {
            let thread = thread::Builder::new().name("parallel".into()).stack_size(STACK);
            match thread.spawn_scoped(scope, worker) {
                Ok(_) => started += 1,
                // Fewer threads do the same work.
                Err(_) if started > 0 => break,
                Err(error) => return Err(Error::new(Kind::Failed, "parallel: cannot start a thread").source(error)),
            }
        }
        Ok(())
    })?;
    let take = |result: Mutex<Option<Outcome>>| {
        let result = result.into_inner().unwrap_or_else(PoisonError::into_inner);
        result.unwrap_or_else(|| Ok(Dynamic::UNIT))
    };
    Ok(results.into_iter().map(take).collect())
}

/// The values, or one error for all errors.
pub(super) fn collect(ctx: &NativeCallContext, results: Vec<Outcome>) -> RhaiResultOf<Array> {
    bridge::go_on(ctx)?;
    let count = results.len();
    let mut values = Array::with_capacity(count);
    let mut failures = Vec::new();
    for (index, result) in results.into_iter().enumerate() {
        match result {
            Ok(value) => values.push(value),
            Err(error) if matches!(*error, EvalAltResult::ErrorTerminated(..)) => return Err(error),
            Err(error) => {
                values.push(Dynamic::UNIT);
                failures.push((index, Fault::new(&error)));
            }
        }
    }
    let Some((_, first)) = failures.first() else { return Ok(values) };
    let kind = kind_of_all(failures.iter().map(|(_, fault)| fault.error.kind()).collect(), count);
    let said = failures.iter().map(|(index, fault)| format!("item {index}: {}", fault.error)).collect::<Vec<_>>();
    let mut error = Error::new(kind, format!("{} of {count} failed: {}", failures.len(), said.join("; ")));
    if let Some(hint) = first.error.hint_text() {
        error = error.hint(hint);
    }
    let mut thrown = fault::throw(ctx, &error);
    if let EvalAltResult::ErrorRuntime(value, _) = &mut *thrown
        && let Ok(mut map) = value.as_map_mut()
    {
        if let Some(at) = &first.at {
            at.put_into(&mut map);
        }
        map.insert("results".into(), values.into());
        let errors = failures.iter().map(|(index, fault)| {
            let mut map = fault.as_map();
            map.insert("index".into(), i64::try_from(*index).unwrap_or(i64::MAX).into());
            Dynamic::from(map)
        });
        map.insert("errors".into(), errors.collect::<Array>().into());
    }
    Err(thrown)
}

/// The kind they share; else that data are wrong, if one says so; else that some of it failed.
fn kind_of_all(kinds: Vec<Kind>, count: usize) -> Kind {
    match kinds.as_slice() {
        [first, rest @ ..] if rest.iter().all(|kind| kind == first) => *first,
        kinds if kinds.contains(&Kind::Damaged) => Kind::Damaged,
        kinds if kinds.contains(&Kind::Differs) => Kind::Differs,
        kinds if kinds.len() < count => Kind::Partial,
        _ => Kind::Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{
        run::Outcome as StepOutcome,
        script::{Settings, convert::to_json, engine, host::fake},
    };

    fn eval(script: &str) -> (Host, RhaiResultOf<Dynamic>) {
        let (host, _) = fake::host(Settings::default());
        let result = engine::build(&host).eval::<Dynamic>(script);
        (host, result)
    }

    fn value(script: &str) -> serde_json::Value {
        to_json(&eval(script).1.unwrap()).unwrap()
    }

    #[test]
    fn a_step_returns_what_its_closure_returns() {
        let (host, result) = eval("let base = 40; step(\"add\", || { step(\"inner\", || base += 1); base + 1 })");
        assert_eq!(result.unwrap().as_int().unwrap(), 42);
        let steps = host.run().record().steps;
        let seen: Vec<_> = steps.iter().map(|step| (step.name.as_str(), step.depth, step.outcome)).collect();
        assert_eq!(seen, [("add", 0, Some(StepOutcome::Ok)), ("inner", 1, Some(StepOutcome::Ok))]);
        assert!(steps.iter().all(|step| step.duration.is_some()));
    }

    #[test]
    fn a_failing_step_is_recorded_and_passes_its_error_on() {
        let (host, result) =
            eval("step(\"outer\", || step(\"inner\", || fail(\"timeout\", \"too slow\", \"wait longer\")))");
        let fault = Fault::new(&result.unwrap_err());
        assert_eq!((fault.error.kind(), fault.error.message()), (Kind::Timeout, "too slow"));
        let record = host.run().record();
        assert_eq!(record.step_of(&fault.error).unwrap(), "outer → inner");
        assert!(record.steps.iter().all(|step| step.outcome == Some(StepOutcome::Failed)));
    }

    #[test]
    fn a_step_may_be_skipped() {
        let (host, _) =
            eval("step(\"a\", || { if true { return skip(\"already there\"); } fail(\"failed\", \"no\") })");
        let step = host.run().record().steps.remove(0);
        assert_eq!((step.outcome, step.reason.as_deref()), (Some(StepOutcome::Skipped), Some("already there")));
        assert!(eval("skip(\"x\")").1.unwrap_err().to_string().contains("outside of a step"));
    }

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let script =
            "let sum = 0; let out = parallel([5, 1, 3], 3, |x| { wait::sleep(x * 0.01); sum += x; x * 2 }); [out, sum]";
        assert_eq!(value(script), serde_json::json!([[10, 2, 6], 9]));
        assert_eq!(value("parallel([], 4, |x| x)"), serde_json::json!([]));
    }

    #[test]
    fn no_more_than_the_limit_run_at_once() {
        let began = Instant::now();
        value("parallel([1, 2, 3, 4], 2, |x| wait::sleep(0.1))");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(190) && took < Duration::from_millis(390), "{took:?}");
        for limit in ["0", "-1", "65"] {
            let error = eval(&format!("parallel([1], {limit}, |x| x)")).1.unwrap_err();
            assert!(error.to_string().contains("from 1 to 64"), "{error}");
        }
    }

    #[test]
    fn all_errors_come_together_with_their_items() {
        let script = "let seen; try { parallel([0, 1, 2, 3], 2, |x| if x % 2 == 1 { fail(\"damaged\", `block ${x}`) } else { x }) } \
                      catch (e) { seen = [e.kind, e.message, e.errors.map(|e| e.index), e.results]; } seen";
        let message = "2 of 4 failed: item 1: block 1; item 3: block 3";
        assert_eq!(value(script), serde_json::json!(["damaged", message, [1, 3], [0, null, 2, null]]));
        let mixed = "let kind; try { parallel([\"timeout\", \"conflict\", ()], 3, |k| if k != () { fail(k, \"x\") }) } catch (e) { kind = e.kind; } kind";
        assert_eq!(value(mixed), "partial");
    }

    #[test]
    fn parallel_in_parallel_ends() {
        let script = "parallel([1, 2, 3, 4], 2, |x| parallel([10, 20, 30], 2, |y| x * y).reduce(|a, b| a + b, 0))";
        assert_eq!(value(script), serde_json::json!([60, 120, 180, 240]));
    }

    #[test]
    fn steps_in_threads_belong_to_the_step_around() {
        let (host, result) = eval("step(\"all\", || parallel([\"a\", \"b\"], 2, |n| step(n, || n)))");
        assert!(result.is_ok());
        assert!(host.run().record().steps[1..].iter().all(|step| step.parent == Some(0) && step.depth == 1));
    }

    #[test]
    fn an_interrupt_ends_all_threads_and_marks_their_steps() {
        let (host, _) = fake::host(Settings::default());
        let cancel = host.cancel();
        let stopper = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            cancel.cancel();
        });
        let began = Instant::now();
        let script = "parallel([1, 2, 3, 4, 5], 2, |x| step(`wait ${x}`, || wait::sleep(60)))";
        let error = engine::build(&host).eval::<Dynamic>(script).unwrap_err();
        stopper.join().unwrap();
        assert!(began.elapsed() < Duration::from_secs(2));
        assert!(matches!(*error, EvalAltResult::ErrorTerminated(..)));
        let steps = host.run().record().steps;
        assert_eq!(steps.len(), 2);
        assert!(steps.iter().all(|step| step.outcome == Some(StepOutcome::Interrupted)));
    }

    #[test]
    fn a_retry_gives_up_after_its_attempts_or_at_once() {
        assert_eq!(value("let n = 0; retry(3, 0, || { n += 1; if n < 3 { fail(\"timeout\", \"x\") } n })"), 3);
        let count = |kind: &str| {
            value(&format!(
                "let n = 0; try {{ retry(3, \"1ms\", || {{ n += 1; fail(\"{kind}\", \"x\") }}) }} catch {{ }} n"
            ))
        };
        assert_eq!(count("conflict"), 3);
        assert_eq!(count("refused"), 1);
        assert_eq!(value("let n = 0; try { retry(3, 0, || { n += 1; nothing() }) } catch { } n"), 1);
    }
}
