//! `time::`: moments as RFC 3339 text in UTC, and the time between them.

use std::time::Duration;

use jiff::{Timestamp, Unit, Zoned, tz::TimeZone};
use rhai::{Array, Dynamic, NativeCallContext, plugin::*};

use super::OrThrow;
use crate::{
    Error, Kind, Result,
    script::{RhaiResultOf, convert},
    terminal::human,
};

/// More runs of a schedule than anybody looks at.
const MOST_RUNS: i64 = 1000;

#[export_module]
pub mod api {
    /// This moment, as `2026-11-20T08:15:30.123Z`.
    pub fn now() -> String {
        let now = Timestamp::now();
        now.round(Unit::Millisecond).unwrap_or(now).to_string()
    }

    /// This moment in letters that names may have and that sort by time: `20261120-081530`.
    pub fn stamp() -> String {
        Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string()
    }

    /// Seconds since that moment.
    #[rhai_fn(return_raw)]
    pub fn seconds_since(ctx: NativeCallContext, moment: &str) -> RhaiResultOf<f64> {
        let moment = read(moment).or_throw(&ctx)?;
        Ok(Timestamp::now().duration_since(moment).as_secs_f64())
    }

    /// Seconds from one moment to another; negative when the second one is earlier.
    #[rhai_fn(return_raw)]
    pub fn seconds_between(ctx: NativeCallContext, from: &str, to: &str) -> RhaiResultOf<f64> {
        let (from, to) = (read(from).or_throw(&ctx)?, read(to).or_throw(&ctx)?);
        Ok(to.duration_since(from).as_secs_f64())
    }

    /// The next moments of a schedule in cron's five fields, in UTC; throws `usage` for one that is none or never comes.
    #[rhai_fn(return_raw)]
    pub fn next_runs(ctx: NativeCallContext, schedule: &str, count: i64) -> RhaiResultOf<Array> {
        let runs = super::next_runs(&Timestamp::now().to_zoned(TimeZone::UTC), schedule, count).or_throw(&ctx)?;
        Ok(runs.into_iter().map(|moment| moment.to_string().into()).collect())
    }

    /// A length of time such as `"24h"` or `"1h30m"` in seconds.
    #[rhai_fn(return_raw)]
    pub fn seconds(ctx: NativeCallContext, duration: Dynamic) -> RhaiResultOf<f64> {
        Ok(convert::duration(&duration).or_throw(&ctx)?.as_secs_f64())
    }

    /// A length of time as people read it: `1m 12s`. Takes what every length of time is given as: seconds, or text
    /// such as `90s`.
    #[rhai_fn(return_raw)]
    pub fn human(ctx: NativeCallContext, duration: Dynamic) -> RhaiResultOf<String> {
        match duration.as_float() {
            // The clocks of two machines differ.
            Ok(seconds) if seconds < 0.0 => Ok(format!("-{}", human::duration(Duration::from_secs_f64(-seconds)))),
            _ => Ok(human::duration(convert::duration(&duration).or_throw(&ctx)?)),
        }
    }
}

fn next_runs(now: &Zoned, schedule: &str, count: i64) -> Result<Vec<Timestamp>> {
    let wrong = |why: String| {
        Error::new(Kind::Usage, format!("{schedule:?} is no schedule: {why}"))
            .hint("write minute, hour, day of month, month and day of week: 0 2 * * * is every day at two")
    };
    let fields = schedule.split_whitespace().count();
    if fields != 5 {
        return Err(wrong(format!("it has {fields} fields instead of five")));
    }
    let cron: croner::Cron = schedule.parse().map_err(|error: croner::errors::CronError| wrong(error.to_string()))?;
    let mut runs = Vec::new();
    let mut last = now.clone();
    for _ in 0..count.clamp(0, MOST_RUNS) {
        last = cron.find_next_occurrence(&last, false).map_err(|error| wrong(error.to_string()))?;
        runs.push(last.timestamp());
    }
    Ok(runs)
}

fn read(moment: &str) -> Result<Timestamp> {
    moment.parse().map_err(|_| {
        Error::new(Kind::Invalid, format!("{moment:?} is not a moment"))
            .hint("moments are written as 2026-11-20T08:15:30Z")
    })
}

#[cfg(test)]
mod tests {
    use crate::{
        Kind,
        script::{Fault, Settings, engine, host::fake},
    };

    #[test]
    fn moments_are_read_and_subtracted() {
        let (host, _) = fake::host(Settings::default());
        let engine = engine::build(&host);
        let between = "time::seconds_between(\"2026-11-20T08:00:00Z\", \"2026-11-20T09:30:00.5+01:00\")";
        assert!((engine.eval::<f64>(between).unwrap() - 1800.5).abs() < 1e-9);
        let since = engine.eval::<f64>("time::seconds_since(time::now())").unwrap();
        assert!((-0.01..1.0).contains(&since), "{since}");
        let stamp = engine.eval::<String>("time::stamp()").unwrap();
        assert!(stamp.len() == 15 && stamp.chars().all(|c| c.is_ascii_digit() || c == '-'), "{stamp}");
        let error = engine.eval::<f64>("time::seconds_since(\"yesterday\")").unwrap_err();
        assert_eq!(Fault::new(&error).error.kind(), Kind::Invalid);
    }

    #[test]
    fn the_next_runs_of_a_schedule_are_told() {
        let now = "2026-11-28T03:30:00+00:00[UTC]".parse().unwrap();
        let runs = |schedule: &str, count| {
            let runs = super::next_runs(&now, schedule, count).unwrap();
            runs.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(runs("0 2 * * *", 2), ["2026-11-29T02:00:00Z", "2026-11-30T02:00:00Z"]);
        // The 28th is a Saturday.
        assert_eq!(runs("0 3 * * 0", 2), ["2026-11-29T03:00:00Z", "2026-12-06T03:00:00Z"]);
        for schedule in ["", "daily", "61 2 * * *", "0 0 2 * * *", "* * * *", "0 0 31 2 *"] {
            assert_eq!(super::next_runs(&now, schedule, 1).unwrap_err().kind(), Kind::Usage, "{schedule}");
        }
    }

    #[test]
    fn lengths_of_time_are_written_for_people() {
        let (host, _) = fake::host(Settings::default());
        let engine = engine::build(&host);
        assert_eq!(engine.eval::<i64>("(time::seconds(\"1h30m\") + time::seconds(5)).to_int()").unwrap(), 5405);
        for (script, text) in [("72", "1m 12s"), ("72.4", "1m 12s"), ("\"90s\"", "1m 30s"), ("-0.5", "-0.5s")] {
            assert_eq!(engine.eval::<String>(&format!("time::human({script})")).unwrap(), text);
        }
    }
}
