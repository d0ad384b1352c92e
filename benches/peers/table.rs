//! What was measured, as medians and as ratios.

use crate::{common::rows::Rows, cost::Cost};

const OURS: &str = "lhrun";

/// Rows that are compared with the one of lhrun.
pub struct Table {
    title: String,
    /// Seconds that no client can go below.
    floor: Option<f64>,
    rows: Rows<Cost>,
    notes: Vec<String>,
}

impl Table {
    pub fn new(title: String, floor: Option<f64>) -> Self {
        Self { title, floor, rows: Rows::new(), notes: Vec::new() }
    }

    /// Adds a run.
    pub fn add(&mut self, name: &str, cost: Cost) {
        println!("{}: {name}: {:.2} s, {:.2} CPU s, {:.0} MiB", self.title, cost.seconds, cost.cpu, cost.peak / MIB);
        self.rows.add(name, cost);
    }

    /// Adds a line below.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Prints it.
    pub fn print(&self) {
        println!("\n{}\n{:<40} seconds   CPU s  peak MiB  servers  others   × time   × CPU  × memory", self.title, "");
        for name in self.rows.names() {
            let of = |figure: &dyn Fn(&Cost) -> f64| self.rows.median(name, figure).unwrap_or(f64::NAN);
            let times = |figure: &dyn Fn(&Cost) -> f64| of(figure) / self.rows.median(OURS, figure).unwrap_or(f64::NAN);
            println!(
                "{name:<40} {:7.2} {:7.2} {:9.1} {:8.2} {:7.2} {:8.2} {:7.2} {:9.2}",
                of(&|cost| cost.seconds),
                of(&|cost| cost.cpu),
                of(&|cost| cost.peak) / MIB,
                of(&|cost| cost.servers),
                of(&|cost| cost.others),
                times(&|cost| cost.seconds),
                times(&|cost| cost.cpu),
                times(&|cost| cost.peak),
            );
        }
        if let (Some(floor), Some(ours)) = (self.floor, self.rows.median(OURS, |cost| cost.seconds)) {
            println!("floor of the binder: {floor:.2} s; lhrun takes {:.2} times that", ours / floor);
        }
        for note in &self.notes {
            println!("{note}");
        }
    }
}

const MIB: f64 = 1_048_576.0;
