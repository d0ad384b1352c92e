//! What was measured, as medians and as ratios.

use crate::{child::Cost, common::rows::Rows};

/// One measured run.
pub struct Round {
    /// What it cost the process that did it.
    pub cost: Cost,
    /// CPU seconds of the server meanwhile.
    pub server: f64,
    /// CPU seconds of everything else on the machine meanwhile.
    pub others: f64,
}

impl Round {
    fn cpu(&self) -> f64 {
        self.cost.user_seconds + self.cost.system_seconds
    }

    /// Processors that others kept busy.
    fn taken(&self) -> f64 {
        self.others / self.cost.seconds
    }
}

/// The rows by name, in the order they were first measured.
pub struct Table {
    mapped: u64,
    rows: Rows<Round>,
}

impl Table {
    /// A table about a volume of that many mapped bytes.
    pub fn new(mapped: u64) -> Self {
        Self { mapped, rows: Rows::new() }
    }

    /// Adds a run.
    pub fn add(&mut self, name: &str, round: Round) {
        self.rows.add(name, round);
    }

    fn median(&self, name: &str, figure: impl Fn(&Round) -> f64) -> Option<f64> {
        self.rows.median(name, figure)
    }

    /// Prints both.
    pub fn print(&self) {
        println!("medians                        total s   data s  MiB/s  user s   sys s  server s  peak MiB  others");
        for name in self.rows.names() {
            let of = |figure: &dyn Fn(&Round) -> f64| self.median(name, figure).unwrap_or(f64::NAN);
            let data = of(&|round| round.cost.data_seconds);
            println!(
                "{name:<30} {:7.2} {data:8.2} {:6.0} {:7.2} {:7.2} {:9.2} {:9.1} {:7.2}",
                of(&|round| round.cost.seconds),
                self.mapped as f64 / f64::from(1 << 20) / data,
                of(&|round| round.cost.user_seconds),
                of(&|round| round.cost.system_seconds),
                of(&|round| round.server),
                of(&|round| round.cost.peak_bytes as f64) / f64::from(1 << 20),
                of(&Round::taken),
            );
        }
        println!("user, sys and server are CPU seconds; others is how many processors other programs kept busy");
        println!("\nratios of medians; above 1 is in favour of lhrun");
        for concurrency in [1, 2, 5] {
            let theirs = format!("Longhorn restore, {concurrency} at once");
            for ours in ["lhrun restore", "lhrun deep verify"] {
                self.ratios(&theirs, ours);
            }
        }
        println!("\ntime over the floor's; 1 is the floor");
        self.floor("lhrun deep verify", &["floor: sha-512", "floor: get"]);
        self.floor("lhrun deep verify", &["floor: bare verify"]);
        self.floor("lhrun restore", &["floor: sha-512", "floor: get", "floor: write"]);
        self.floor("lhrun restore", &["floor: bare restore"]);
    }

    fn floor(&self, ours: &str, floors: &[&str]) {
        let data = |name: &str| self.median(name, |round| round.cost.data_seconds).unwrap_or(f64::NAN);
        let ratio = data(ours) / floors.iter().map(|name| data(name)).sum::<f64>();
        println!("{ours:<18} {ratio:5.2} × {}", floors.join(" + ").replace("floor: ", ""));
    }

    fn ratios(&self, theirs: &str, ours: &str) {
        let ratio = |name: &str, figure: &dyn Fn(&Round) -> f64| {
            Some(self.median(theirs, figure)? / self.median(name, figure)?)
        };
        let Some(data) = ratio(ours, &|round| round.cost.data_seconds) else { return };
        let locked = if ours == "lhrun restore" { "lhrun restore, locked" } else { ours };
        println!(
            "{ours:<18} against {theirs:<28} data {data:5.2}  total {:5.2}  with the lock too {:5.2}  CPU {:5.2}  memory {:5.2}",
            ratio(ours, &|round| round.cost.seconds).unwrap_or(f64::NAN),
            ratio(locked, &|round| round.cost.seconds).unwrap_or(f64::NAN),
            ratio(ours, &Round::cpu).unwrap_or(f64::NAN),
            ratio(ours, &|round| round.cost.peak_bytes as f64).unwrap_or(f64::NAN),
        );
    }
}
