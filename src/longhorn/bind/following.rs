//! Following claims until they are bound, and making the binder look at them in time.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    BindRequest, Bound,
    making::{Made, TOUCH},
    place,
};
use crate::{
    Error, Kind, Result,
    cluster::{ObjectRef, Observer},
    longhorn::{Longhorn, OnProgress, Progress, Volume, fields, persistent::BIND_COMPLETED, quantity},
};

/// Requests on their way at the same time.
const AT_ONCE: usize = 16;
/// Time without any progress after which the claims that are not bound are touched again.
const TOUCH_AFTER: Duration = Duration::from_secs(1);
/// Shortest time between two looks at all claims.
const LOOK: Duration = Duration::from_millis(10);

/// The observer's queries.
const CLAIMS: usize = 0;
const PVS: usize = 1;

type Action<'a> = BoxFuture<'a, (usize, Step)>;

/// What an action came to.
enum Step {
    Made(Result<Box<Made>>),
    /// The mark was set or removed.
    Touched(Result<bool>),
    /// The last one of a claim.
    Ended(Result<()>),
}

/// One request on its way.
struct Job {
    state: State,
    /// The binder has taken up the PersistentVolume.
    taken: bool,
    /// A touch is on its way.
    touching: bool,
}

enum State {
    Making,
    Waiting(Made),
    Ending(Made),
    Done(Result<Bound>),
}

/// Requests that are carried out together.
pub struct Binding<'a> {
    longhorn: &'a Longhorn,
    observer: Observer,
    known: BTreeMap<String, Volume>,
    requests: &'a [BindRequest],
    jobs: Vec<Job>,
    queue: VecDeque<Action<'a>>,
    at_work: FuturesUnordered<Action<'a>>,
    /// When anything last went on, and when a claim was last bound.
    moved: Instant,
    bound: Instant,
}

impl<'a> Binding<'a> {
    /// `known` are volumes that need not be asked for.
    pub fn new(
        longhorn: &'a Longhorn,
        observer: Observer,
        known: BTreeMap<String, Volume>,
        requests: &'a [BindRequest],
    ) -> Self {
        let job = |_: &BindRequest| Job { state: State::Making, taken: false, touching: false };
        let (jobs, now) = (requests.iter().map(job).collect(), Instant::now());
        let (queue, at_work) = (VecDeque::new(), FuturesUnordered::new());
        Self { longhorn, observer, known, requests, jobs, queue, at_work, moved: now, bound: now }
    }

    /// Has the request with that number begin with what was made already.
    pub fn is_made(&mut self, index: usize, made: Made) {
        if let Some(job) = self.jobs.get_mut(index) {
            job.state = State::Waiting(made);
        }
    }

    /// Carries them out; the results are in the order of the requests.
    pub async fn run(mut self, on_progress: OnProgress<'_>) -> Result<Vec<Result<Bound>>> {
        let (mut listed, mut told) = (false, 0);
        let (mut next_look, mut news) = (Instant::now(), false);
        loop {
            let done = self.jobs.iter().filter(|job| matches!(job.state, State::Done(_))).count();
            if done > told {
                told = done;
                on_progress(progress(done, self.jobs.len()));
            }
            if done == self.jobs.len() {
                return Ok(self.jobs.into_iter().filter_map(Job::result).collect());
            }
            while self.at_work.len() < AT_ONCE
                && let Some(action) = self.queue.pop_front()
            {
                self.at_work.push(action);
            }
            let due = self.due(listed);
            tokio::select! {
                Some((index, step)) = self.at_work.next(), if !self.at_work.is_empty() => self.take(index, step),
                // A connection hands over one change after the other, each when the one before was taken.
                changed = self.observer.changed() => {
                    changed?;
                    news = true;
                    if !listed {
                        listed = true;
                        self.begin();
                    }
                }
                // What arrives within a short time is looked at together, because a look is at all of them.
                () = tokio::time::sleep_until(next_look), if news => {
                    self.look(listed);
                    (next_look, news) = (Instant::now() + LOOK, false);
                }
                () = tokio::time::sleep_until(due) => self.look(listed),
            }
        }
    }

    /// Starts making what was not made before.
    fn begin(&mut self) {
        let longhorn = self.longhorn;
        for (index, request) in self.requests.iter().enumerate() {
            if matches!(self.jobs[index].state, State::Making) {
                let volume = self.known.remove(&request.volume);
                let claim = self.claim(index).cloned();
                let pv = self.observer.find(PVS, None, &request.wishes.pv_name(&request.volume)).cloned();
                let making =
                    async move { (index, Step::Made(longhorn.make(request, volume, claim, pv).await.map(Box::new))) };
                self.queue.push_back(Box::pin(making));
            }
        }
    }

    fn claim(&self, index: usize) -> Option<&Value> {
        let claim = &self.requests[index].claim;
        self.observer.find(CLAIMS, claim.namespace.as_deref(), &claim.name)
    }

    /// When something is to be done even if nothing changes.
    fn due(&self, listed: bool) -> Instant {
        let open = self.jobs.iter().zip(self.requests).filter(|(job, _)| job.waits(listed));
        let limit = open.map(|(_, request)| self.bound + request.limit).min();
        let touch = self.moved + TOUCH_AFTER;
        limit.map_or(touch, |limit| limit.min(touch))
    }

    /// Looks at every claim.
    fn look(&mut self, listed: bool) {
        for index in 0..self.jobs.len() {
            self.look_at(index);
        }
        let now = Instant::now();
        let quiet = now >= self.moved + TOUCH_AFTER;
        for (index, request) in self.requests.iter().enumerate() {
            if now >= self.bound + request.limit && self.jobs[index].waits(listed) {
                self.give_up(index, request);
            } else if quiet {
                // The binder's limits slow it down, they do not stop it: it has passed over what is left.
                self.touch(index);
            }
        }
        if quiet {
            self.moved = now;
        }
    }

    fn look_at(&mut self, index: usize) {
        let Some(made) = self.jobs[index].made() else { return };
        let claim = self.claim(index);
        let is = |pointer, value: &str| claim.is_some_and(|claim| fields::text(claim, pointer) == value);
        let bound = is("/status/phase", "Bound") && is("/spec/volumeName", &made.pv);
        let pv = self.observer.find(PVS, None, &made.pv);
        let taken = pv.is_some_and(|pv| fields::text(pv, "/status/phase") == "Bound");
        let marked = made.marked;
        if taken && !self.jobs[index].taken {
            self.jobs[index].taken = true;
            self.moved = Instant::now();
        }
        if marked && (bound || taken) {
            self.touch(index);
        } else if bound && !self.jobs[index].touching {
            self.finish(index);
        }
    }

    /// Sets or removes the mark: the binder looks at what changes. With the mark goes, when nothing is open but the claim's
    /// own status, a write of the binder.
    fn touch(&mut self, index: usize) {
        let (longhorn, claim) = (self.longhorn, &self.requests[index].claim);
        let Some(made) = self.jobs[index].made().filter(|_| !self.jobs[index].touching) else { return };
        let marked = made.marked;
        let settled = self.claim(index).zip(self.observer.find(PVS, None, &made.pv)).filter(|(c, pv)| settled(c, pv));
        let patch = match settled {
            // The uid keeps it off another claim of that name.
            Some((claim, _)) if marked => json!({"metadata": {"uid": fields::text(claim, "/metadata/uid"),
                "annotations": {TOUCH: null, BIND_COMPLETED: "yes"}}}),
            _ => json!({"metadata": {"annotations": {TOUCH: if marked { Value::Null } else { "pending".into() }}}}),
        };
        self.jobs[index].touching = true;
        // Before what is still to be made: the binder, which takes the longest, is not to wait.
        self.queue.push_front(Box::pin(async move {
            let touched = longhorn.cluster.merge(claim, &patch).await;
            (index, Step::Touched(touched.map(|_| !marked).map_err(|error| replaced(error, claim))))
        }));
    }

    /// Takes a claim that is bound off the list, or has it expanded.
    fn finish(&mut self, index: usize) {
        let (longhorn, request) = (self.longhorn, &self.requests[index]);
        (self.bound, self.moved) = (Instant::now(), Instant::now());
        let state = std::mem::replace(&mut self.jobs[index].state, State::Making);
        self.jobs[index].state = match state {
            State::Waiting(made) if made.asked > made.volume.size => {
                let (name, had, asked) = (made.volume.name.clone(), made.volume.size, made.asked);
                self.queue.push_back(Box::pin(async move {
                    (index, Step::Ended(longhorn.expand(request, &name, had, asked).await))
                }));
                State::Ending(made)
            }
            State::Waiting(made) => State::Done(Ok(bound(request, made))),
            other => other,
        };
    }

    fn give_up(&mut self, index: usize, request: &'a BindRequest) {
        let (longhorn, seconds) = (self.longhorn, request.limit.as_secs());
        let phase = self.claim(index).map_or("not there", |claim| fields::text(claim, "/status/phase"));
        let claim = place(&request.claim);
        let error = match (self.observer.trouble(), self.jobs[index].made()) {
            (Some(trouble), _) => {
                let message = format!(
                    "binding the claim {claim}: the API server was away at the end of {seconds} s: {}",
                    trouble.message()
                );
                Error::new(Kind::Unreachable, message)
            }
            (None, made) => {
                let to = made.map_or(&request.volume, |made| &made.pv);
                Error::new(Kind::Timeout, format!("the claim {claim} is {phase} after {seconds} s, not bound to {to}"))
            }
        };
        let state = std::mem::replace(&mut self.jobs[index].state, State::Making);
        self.jobs[index].state = match state {
            State::Waiting(made) => {
                self.queue.push_back(Box::pin(async move {
                    (index, Step::Ended(Err(longhorn.cluster.with_events(error, &request.claim).await)))
                }));
                State::Ending(made)
            }
            State::Done(result) => State::Done(result),
            _ => State::Done(Err(error)),
        };
    }

    fn take(&mut self, index: usize, step: Step) {
        let request = &self.requests[index];
        let job = &mut self.jobs[index];
        let state = std::mem::replace(&mut job.state, State::Making);
        job.state = match (step, state) {
            (Step::Made(Ok(made)), _) => {
                self.moved = Instant::now();
                State::Waiting(*made)
            }
            (Step::Touched(Ok(marked)), State::Waiting(made)) => State::Waiting(Made { marked, ..made }),
            (Step::Ended(Ok(())), State::Ending(made)) => State::Done(Ok(bound(request, made))),
            (Step::Made(Err(error)) | Step::Ended(Err(error)), _) | (Step::Touched(Err(error)), State::Waiting(_)) => {
                State::Done(Err(error))
            }
            (_, state) => state,
        };
        job.touching = false;
        self.look_at(index);
    }
}

impl Job {
    /// Whether the binder or, before the first listing, the API server is waited for.
    fn waits(&self, listed: bool) -> bool {
        match self.state {
            State::Waiting(_) => true,
            State::Making => !listed,
            State::Ending(_) | State::Done(_) => false,
        }
    }

    /// What is waited for.
    fn made(&self) -> Option<&Made> {
        match &self.state {
            State::Waiting(made) => Some(made),
            _ => None,
        }
    }

    fn result(self) -> Option<Result<Bound>> {
        match self.state {
            State::Done(result) => Some(result),
            _ => None,
        }
    }
}

/// Whether the binder has given the PersistentVolume to this very claim and would find that they fit: as
/// `checkVolumeSatisfyClaim` in Kubernetes' `pv_controller.go`. It asks that only of claims without [`BIND_COMPLETED`].
pub(super) fn settled(claim: &Value, pv: &Value) -> bool {
    let equal = |left: &str, right: &str| fields::text(claim, left) == fields::text(pv, right);
    let size = |object: &Value, pointer: &str| fields::some(object, pointer).and_then(quantity::parse);
    let modes = |object: &Value| -> Vec<Value> {
        object.pointer("/spec/accessModes").and_then(Value::as_array).cloned().unwrap_or_default()
    };
    fields::text(pv, "/status/phase") == "Bound"
        && equal("/metadata/uid", "/spec/claimRef/uid")
        && equal("/spec/volumeName", "/metadata/name")
        && ["storageClassName", "volumeMode", "volumeAttributesClassName"].into_iter().all(|key| {
            let pointer = format!("/spec/{key}");
            equal(&pointer, &pointer)
        })
        && modes(claim).iter().all(|mode| modes(pv).contains(mode))
        && size(claim, "/spec/resources/requests/storage")
            .zip(size(pv, "/spec/capacity/storage"))
            .is_some_and(|(asked, has)| asked <= has)
}

/// A uid cannot change: what refuses the one it was given is another claim.
pub(super) fn replaced(error: Error, claim: &ObjectRef) -> Error {
    if error.kind() != Kind::Invalid {
        return error;
    }
    let message = format!("the claim {} was deleted and made anew while it was being bound", place(claim));
    Error::new(Kind::Conflict, message).source(error).hint(
        "something recreated it, for example a GitOps tool: suspend it, delete the claim if it is empty, and run this again",
    )
}

fn bound(request: &BindRequest, made: Made) -> Bound {
    Bound { claim: place(&request.claim), pv: made.pv, volume: made.volume.name, changed: made.changed }
}

fn progress(done: usize, all: usize) -> Progress {
    let percent = u8::try_from(done * 100 / all.max(1)).ok();
    Progress { percent, note: format!("{done} of {all}") }
}
