//! What has to be looked at again, and when: one run per object at a time, repeated wishes count once.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::Result;

/// One object and the controller that looks after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    Backup(String),
    BackupTarget(String),
    BackupVolume(String),
    /// Namespace and name of a claim.
    Claim(String, String),
    /// What the engine of a volume has to do with its data.
    Engine(String),
    Job(String),
    RecurringJob(String),
    Secret(String),
    Snapshot(String),
    SystemBackup(String),
    SystemRestore(String),
    Volume(String),
}

/// What a run of a controller says about the next one; an error means again, later and later.
pub(super) type Again = Option<Duration>;

/// Takes wishes; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Queue(mpsc::UnboundedSender<(Task, Duration)>);

impl Queue {
    /// Looks at the object again as soon as possible.
    pub(super) fn add(&self, task: Task) {
        self.add_after(task, Duration::ZERO);
    }

    /// Looks at the object again after that time, or sooner if somebody else asks for it.
    pub(super) fn add_after(&self, task: Task, delay: Duration) {
        // After the end nobody listens, and nothing is to be done.
        let _ = self.0.send((task, delay));
    }
}

/// The other end of a [`Queue`].
pub(super) struct Wishes(mpsc::UnboundedReceiver<(Task, Duration)>);

pub(super) fn queue() -> (Queue, Wishes) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Queue(sender), Wishes(receiver))
}

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(20);

/// Runs what is asked for until cancelled; then waits for what is running.
pub(super) async fn run<F, Fut>(mut wishes: Wishes, cancel: CancellationToken, reconcile: F)
where
    F: Fn(Task) -> Fut,
    Fut: Future<Output = Result<Again>> + Send + 'static,
{
    let mut waiting: HashMap<Task, Instant> = HashMap::new();
    let mut running: HashSet<Task> = HashSet::new();
    let mut failures: HashMap<Task, u32> = HashMap::new();
    let mut runs = JoinSet::new();
    loop {
        let now = Instant::now();
        let due: Vec<Task> = waiting
            .iter()
            .filter(|(task, at)| **at <= now && !running.contains(*task))
            .map(|(t, _)| t.clone())
            .collect();
        for task in due {
            waiting.remove(&task);
            running.insert(task.clone());
            let run = reconcile(task.clone());
            runs.spawn(async move { (task, run.await) });
        }
        let next = waiting.iter().filter(|(task, _)| !running.contains(*task)).map(|(_, at)| *at).min();
        tokio::select! {
            () = cancel.cancelled() => break,
            wish = wishes.0.recv() => match wish {
                Some((task, delay)) => wait(&mut waiting, task, delay),
                None => break,
            },
            Some(done) = runs.join_next() => match done {
                Ok((task, Ok(again))) => {
                    running.remove(&task);
                    failures.remove(&task);
                    if let Some(delay) = again {
                        wait(&mut waiting, task, delay);
                    }
                }
                Ok((task, Err(error))) => {
                    running.remove(&task);
                    let count = failures.entry(task.clone()).or_default();
                    let delay = FIRST_RETRY.saturating_mul(1 << (*count).min(16)).min(LONGEST_RETRY);
                    *count += 1;
                    tracing::debug!(?task, %error, ?delay, "will be tried again");
                    wait(&mut waiting, task, delay);
                }
                // Nobody knows which one it was; its object is looked at no more, all others are.
                Err(error) => tracing::error!(%error, "a controller ended abnormally"),
            },
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    }
    while runs.join_next().await.is_some() {}
}

fn wait(waiting: &mut HashMap<Task, Instant>, task: Task, delay: Duration) {
    let at = Instant::now() + delay;
    waiting.entry(task).and_modify(|old| *old = at.min(*old)).or_insert(at);
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{Error, Kind};

    #[tokio::test]
    async fn one_object_is_never_run_twice_at_once_and_a_wish_during_a_run_is_not_lost() {
        let (queue, wishes) = queue();
        let cancel = CancellationToken::new();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (seen, again) = (log.clone(), queue.clone());
        let runner = tokio::spawn(run(wishes, cancel.clone(), move |task| {
            let (seen, again) = (seen.clone(), again.clone());
            async move {
                let first = { seen.lock().expect("log").iter().all(|t| *t != "end") };
                seen.lock().expect("log").push("begin");
                if first {
                    again.add(task.clone());
                    again.add(task);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                seen.lock().expect("log").push("end");
                Ok(None)
            }
        }));
        queue.add(Task::Volume("a".into()));
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
        runner.await.expect("the runner ends");
        assert_eq!(*log.lock().expect("log"), ["begin", "end", "begin", "end"]);
    }

    #[tokio::test]
    async fn a_failure_is_tried_again() {
        let (queue, wishes) = queue();
        let cancel = CancellationToken::new();
        let count = Arc::new(Mutex::new(0));
        let counted = count.clone();
        let runner = tokio::spawn(run(wishes, cancel.clone(), move |_| {
            let mut count = counted.lock().expect("count");
            *count += 1;
            let fails = *count < 3;
            async move { if fails { Err(Error::new(Kind::Failed, "not yet")) } else { Ok(None) } }
        }));
        queue.add(Task::Backup("b".into()));
        tokio::time::sleep(Duration::from_millis(600)).await;
        cancel.cancel();
        runner.await.expect("the runner ends");
        assert_eq!(*count.lock().expect("count"), 3);
    }
}
