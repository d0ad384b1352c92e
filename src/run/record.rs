//! Collecting what happens.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Value;

use super::{Change, Check, Judgement, LogLine, Measured, Outcome, Place, Record, Step, StepId, Table, current};
use crate::{Error, Kind};

/// Something that just happened in a run.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A step began.
    StepStarted(&'a Step),
    /// A step ended.
    StepEnded(&'a Step),
    /// A check was made, in a step of that depth (0: outside of all).
    Checked(&'a Check, usize),
    /// The runbook said something, in a step of that depth (0: outside of all).
    Said(&'a LogLine, usize),
}

/// Told of everything as it happens, from whichever thread it happens on.
pub trait Observer: Send + Sync {
    /// Called with each event; must return soon and must not call back into the run.
    fn observe(&self, event: Event<'_>);
}

/// An observer that shows nothing.
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _: Event<'_>) {}
}

/// How the work of a step ended.
#[derive(Clone, Copy, Debug)]
pub enum StepEnd<'a> {
    /// It returned.
    Returned,
    /// It threw.
    Threw(&'a Error),
}

/// One execution of a runbook. Cheap to clone; clones are the same run.
#[derive(Clone)]
pub struct Run(Arc<Inner>);

struct Inner {
    observer: Box<dyn Observer>,
    began: Instant,
    record: Mutex<Record>,
    /// When each step began, by a clock that is never set.
    clocks: Mutex<Vec<Instant>>,
}

impl Run {
    /// A run of that runbook that begins now.
    pub fn new(runbook: impl Into<String>, observer: impl Observer + 'static) -> Self {
        Self(Arc::new(Inner {
            observer: Box::new(observer),
            began: Instant::now(),
            record: Mutex::new(Record {
                runbook: runbook.into(),
                started: Timestamp::now(),
                duration: Duration::ZERO,
                parameters: serde_json::Map::new(),
                steps: Vec::new(),
                checks: Vec::new(),
                values: Vec::new(),
                tables: Vec::new(),
                changes: Vec::new(),
                unfinished: Vec::new(),
                log: Vec::new(),
            }),
            clocks: Mutex::default(),
        }))
    }

    /// Begins a step inside the calling thread's step, and makes it the thread's step until [`end_step`](Self::end_step).
    pub fn begin_step(&self, name: &str) -> StepId {
        let parent = Place::current().0;
        let mut record = self.lock();
        let id = record.steps.len();
        let depth = parent.and_then(|parent| record.steps.get(parent)).map_or(0, |parent| parent.depth + 1);
        record.steps.push(Step {
            name: name.to_owned(),
            parent,
            depth,
            started: Timestamp::now(),
            duration: None,
            outcome: None,
            reason: None,
            changes: 0,
            threw: false,
        });
        self.0.clocks.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        self.0.observer.observe(Event::StepStarted(&record.steps[id]));
        current::set(Some(id));
        id
    }

    /// Ends a step; the calling thread is in the step around it again.
    pub fn end_step(&self, id: StepId, end: StepEnd<'_>) {
        let began = self.0.clocks.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied();
        let mut record = self.lock();
        let (changed, judgement) = (record.changed_in(id), record.worst_in(id));
        let Some(step) = record.steps.get_mut(id) else { return };
        step.duration = began.map(|began| began.elapsed());
        step.outcome = Some(match (end, judgement) {
            (StepEnd::Threw(error), _) => {
                step.threw = true;
                step.reason = Some(error.to_string());
                if error.kind() == Kind::Cancelled { Outcome::Interrupted } else { Outcome::Failed }
            }
            (StepEnd::Returned, Some(Judgement::Failed)) => Outcome::Failed,
            (StepEnd::Returned, Some(Judgement::Unverifiable)) => Outcome::Unverifiable,
            (StepEnd::Returned, _) if step.outcome == Some(Outcome::Skipped) => Outcome::Skipped,
            (StepEnd::Returned, _) if changed => Outcome::Changed,
            (StepEnd::Returned, _) => Outcome::Ok,
        });
        current::set(step.parent);
        self.0.observer.observe(Event::StepEnded(&record.steps[id]));
    }

    /// Marks the calling thread's step as not needed. False when the thread is in no step.
    pub fn skip(&self, reason: &str) -> bool {
        let mut record = self.lock();
        let Some(step) = Place::current().0.and_then(|id| record.steps.get_mut(id)) else { return false };
        step.outcome = Some(Outcome::Skipped);
        step.reason = Some(reason.to_owned());
        true
    }

    /// Notes that something was changed: `created Secret longhorn-system/s3`.
    pub fn change(&self, what: impl Into<String>) {
        let step = Place::current().0;
        let mut record = self.lock();
        if let Some(step) = step.and_then(|id| record.steps.get_mut(id)) {
            step.changes += 1;
        }
        record.changes.push(Change { what: what.into(), step });
    }

    /// Notes that something which changes things was cut short: `the backup of the volume pvc-1`.
    pub fn left_unfinished(&self, what: impl Into<String>) {
        let step = Place::current().0;
        self.lock().unfinished.push(Change { what: what.into(), step });
    }

    /// Notes a check.
    pub fn check(&self, what: impl Into<String>, judgement: Judgement, detail: Option<String>) {
        let check = Check { what: what.into(), judgement, detail, step: Place::current().0 };
        let mut record = self.lock();
        self.0.observer.observe(Event::Checked(&check, record.depth_here()));
        record.checks.push(check);
    }

    /// Notes a line the runbook wrote.
    pub fn say(&self, warning: bool, text: impl Into<String>) {
        let line = LogLine { at: Timestamp::now(), warning, text: text.into() };
        let mut record = self.lock();
        self.0.observer.observe(Event::Said(&line, record.depth_here()));
        record.log.push(line);
    }

    /// Notes a measured value; a second one of that name replaces the first, and null takes it back.
    pub fn measure(&self, name: &str, value: Value) {
        let mut record = self.lock();
        if value.is_null() {
            record.values.retain(|measured| measured.name != name);
            return;
        }
        match record.values.iter_mut().find(|measured| measured.name == name) {
            Some(measured) => measured.value = value,
            None => record.values.push(Measured { name: name.to_owned(), value }),
        }
    }

    /// Notes a table; a second one of that title replaces the first.
    pub fn table(&self, table: Table) {
        let mut record = self.lock();
        match record.tables.iter_mut().find(|other| other.title == table.title) {
            Some(other) => *other = table,
            None => record.tables.push(table),
        }
    }

    /// Notes the value a parameter has in this run.
    pub fn parameter(&self, name: &str, value: Value) {
        self.lock().parameters.insert(name.to_owned(), value);
    }

    /// What is known so far. Steps under way have no outcome.
    pub fn record(&self) -> Record {
        let mut record = self.lock().clone();
        record.duration = self.0.began.elapsed();
        record
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    /// The step that error came out of, with the steps around it: `restore → pvc-1`.
    pub fn step_of(&self, error: &Error) -> Option<String> {
        let reason = error.to_string();
        let innermost = |step: &&Step| step.threw && step.reason.as_ref() == Some(&reason);
        let mut step = self.steps.iter().filter(innermost).max_by_key(|step| (step.started, step.depth));
        let mut names = Vec::new();
        while let Some(inner) = step {
            names.push(inner.name.as_str());
            step = inner.parent.and_then(|parent| self.steps.get(parent));
        }
        names.reverse();
        (!names.is_empty()).then(|| names.join(" → "))
    }

    /// Whether the step or one inside it changed something.
    fn changed_in(&self, id: StepId) -> bool {
        self.changes.iter().any(|change| self.is_in(change.step, id))
    }

    /// The worst judgement of the checks in the step or in one inside it.
    fn worst_in(&self, id: StepId) -> Option<Judgement> {
        worst(self.checks.iter().filter(|check| self.is_in(check.step, id)))
    }

    fn is_in(&self, mut step: Option<StepId>, id: StepId) -> bool {
        while let Some(at) = step {
            if at == id {
                return true;
            }
            step = self.steps.get(at).and_then(|step| step.parent);
        }
        false
    }

    fn depth_here(&self) -> usize {
        Place::current().0.and_then(|id| self.steps.get(id)).map_or(0, |step| step.depth + 1)
    }
}

/// The worst of several judgements.
pub(super) fn worst<'a>(checks: impl Iterator<Item = &'a Check>) -> Option<Judgement> {
    checks.map(|check| check.judgement).max_by_key(|judgement| match judgement {
        Judgement::Passed => 0,
        Judgement::Unverifiable => 1,
        Judgement::Failed => 2,
    })
}
