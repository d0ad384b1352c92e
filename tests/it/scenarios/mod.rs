//! What must hold on every cluster and every bucket, as one list: the embedded ones and the real ones run it alike.
//!
//! A scenario that passes on one tier only shows where the embedded servers differ from real ones.

pub mod bucket;
mod claims;
mod objects;
mod refusals;
mod restores;
pub mod versions;
mod watches;
mod workloads;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use crate::lab::{Lab, Place};

/// One scenario: what holds, and how it is tried.
pub type Scenario = (&'static str, fn(&Place));

/// All of them, in the order in which they run.
pub const ALL: &[&[Scenario]] = &[
    objects::SCENARIOS,
    refusals::SCENARIOS,
    watches::SCENARIOS,
    claims::SCENARIOS,
    workloads::SCENARIOS,
    restores::SCENARIOS,
    bucket::SCENARIOS,
    versions::SCENARIOS,
];

/// Those that the embedded cluster is known not to do.
pub const SCHEMAS: &[&[Scenario]] = &[&[("Longhorn's fields are those of its schemas", refusals::longhorn_fields)]];

/// Those that need a bucket and no cluster.
pub const BUCKET: &[&[Scenario]] = &[bucket::SCENARIOS, versions::SCENARIOS];

/// How a run of the list went.
#[must_use]
pub struct Outcome {
    tier: String,
    passed: usize,
    failed: Vec<&'static str>,
}

impl Outcome {
    /// Fails the test when a scenario failed.
    #[track_caller]
    pub fn check(self) {
        self.check_but(&[]);
    }

    /// Fails the test unless exactly these failed, which this tier is known not to do.
    #[track_caller]
    pub fn check_but(self, known: &[&str]) {
        println!("{} scenarios hold on the {} tier", self.passed, self.tier);
        assert_eq!(self.failed, known, "on the {} tier these do not hold", self.tier);
        assert!(self.passed > 0, "no scenario ran");
    }
}

/// Runs all of the lists, also after one has failed.
pub fn run(place: &Place, tier: &str, lists: &[&[Scenario]]) -> Outcome {
    let mut outcome = Outcome { tier: tier.to_owned(), passed: 0, failed: Vec::new() };
    let only = std::env::var("LHRUN_SCENARIO").unwrap_or_default();
    for (name, scenario) in lists.iter().copied().flatten().filter(|(name, _)| name.contains(&only)) {
        let begun = Instant::now();
        let held = catch_unwind(AssertUnwindSafe(|| scenario(place))).is_ok();
        println!("{tier}: {name}: {} ({:.1?})", if held { "holds" } else { "DOES NOT HOLD" }, begun.elapsed());
        if held {
            outcome.passed += 1;
        } else {
            outcome.failed.push(name);
        }
    }
    outcome
}

#[test]
fn every_scenario_holds_on_the_embedded_cluster() {
    let lab = Lab::up();
    run(&lab, "embedded", ALL).check();
}
