//! Backups and restores by the runbooks.

use super::Scenario;
use crate::lab::Place;

pub const SCENARIOS: &[Scenario] =
    &[("a lost namespace comes back, and a second restore changes nothing", restore_twice)];

fn restore_twice(place: &Place) {
    crate::restore::twice(place);
}
