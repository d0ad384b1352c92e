//! Which step a thread is in. Runbooks run on plain threads and steps nest like calls, so a thread knows.

use std::cell::Cell;

use super::StepId;

thread_local! {
    static CURRENT: Cell<Option<StepId>> = const { Cell::new(None) };
}

/// Where in a run a thread is; to be carried into the threads it starts (see [`inherit`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(pub(super) Option<StepId>);

impl Place {
    /// Where the calling thread is.
    pub fn current() -> Self {
        Self(CURRENT.get())
    }
}

/// Runs work on the calling thread as a part of that place.
pub fn inherit<T>(place: Place, work: impl FnOnce() -> T) -> T {
    let before = CURRENT.replace(place.0);
    let result = work();
    CURRENT.set(before);
    result
}

pub(super) fn set(step: Option<StepId>) {
    CURRENT.set(step);
}
