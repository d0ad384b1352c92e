//! How a pod is told to end.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio_util::sync::CancellationToken;

use super::images::Image;
use crate::sandbox::workload::runtime::process::Running;

/// How long a database may take to close its files when the whole cluster is torn down.
const TEARDOWN: Duration = Duration::from_secs(3);

/// How much time there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The pod was deleted with that grace period.
    Graceful(Duration),
    /// The cluster is torn down.
    Teardown,
}

/// The end of one pod's processes, once it has begun.
#[derive(Debug, Default)]
pub struct Ending {
    begun: CancellationToken,
    /// No more time: the pod object is gone.
    forced: CancellationToken,
    pace: Mutex<Option<Pace>>,
}

impl Ending {
    /// Begins the end; a teardown may follow a graceful one.
    pub fn begin(&self, pace: Pace) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = Some(pace);
        self.begun.cancel();
    }

    /// Whatever still runs is killed.
    pub fn force(&self) {
        self.forced.cancel();
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits until it begins.
    pub async fn wait(&self) {
        self.begun.cancelled().await;
    }

    /// Ends the process: a signal first, death when the time is over.
    pub async fn terminate(&self, process: &mut Running, image: Image) {
        let pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(Pace::Teardown);
        let (signal, time) = match (pace, image) {
            // PostgreSQL's fast shutdown rolls back open transactions and writes a checkpoint; its immediate one only
            // removes what it shares with the system.
            (Pace::Graceful(grace), Image::Postgres) => (Signal::SIGINT, grace),
            (Pace::Graceful(grace), _) => (Signal::SIGTERM, grace),
            (Pace::Teardown, Image::Postgres) => (Signal::SIGQUIT, TEARDOWN),
            (Pace::Teardown, _) => (Signal::SIGKILL, TEARDOWN),
        };
        if let Err(error) = killpg(Pid::from_raw(process.group.pid), signal) {
            tracing::debug!(%error, "signalling a container");
        }
        tokio::select! {
            _ = process.child.wait() => {}
            () = tokio::time::sleep(time) => {}
            () = self.forced.cancelled() => {}
        }
    }
}
