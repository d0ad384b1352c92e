//! `time::`: moments as RFC 3339 text in UTC, and the time between them.

use std::time::Duration;

use jiff::{Timestamp, Unit};
use rhai::{Dynamic, NativeCallContext, plugin::*};

use super::OrThrow;
use crate::{
    Error, Kind, Result,
    script::{RhaiResultOf, convert},
    terminal::human,
};

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
    fn lengths_of_time_are_written_for_people() {
        let (host, _) = fake::host(Settings::default());
        let engine = engine::build(&host);
        for (script, text) in [("72", "1m 12s"), ("72.4", "1m 12s"), ("\"90s\"", "1m 30s"), ("-0.5", "-0.5s")] {
            assert_eq!(engine.eval::<String>(&format!("time::human({script})")).unwrap(), text);
        }
    }
}
