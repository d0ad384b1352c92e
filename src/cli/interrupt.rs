//! Ctrl-C, SIGTERM and a closed terminal: the first asks the run to stop, the second ends the process.

use std::{
    collections::BTreeSet,
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::signal::{kill, killpg},
    unistd::Pid,
};
use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{Error, Kind, Result, terminal::Terminal};

/// The signals' receiver. Cheap to clone.
#[derive(Clone, Default)]
pub struct Interrupts(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    token: CancellationToken,
    ended: bool,
    at_prompt: bool,
    groups: BTreeSet<Pid>,
}

impl Interrupts {
    /// Begins to listen, on tasks of the runtime.
    pub fn listen(runtime: &Handle, terminal: &Terminal) -> Result<Self> {
        let interrupts = Self::default();
        let _entered = runtime.enter();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let signals =
                signal(kind).map_err(|error| Error::new(Kind::Failed, "listening to signals").source(error))?;
            let ends = kind != SignalKind::interrupt();
            runtime.spawn(interrupts.clone().obey(signals, ends, terminal.clone()));
        }
        Ok(interrupts)
    }

    /// Cancelled by the next signal.
    pub fn token(&self) -> CancellationToken {
        self.state().token.clone()
    }

    /// Begins anew after a Ctrl-C, and returns what the next signal cancels: for a session that outlives its lines.
    pub fn renew(&self) -> CancellationToken {
        let mut state = self.state();
        if !state.ended {
            state.token = CancellationToken::new();
        }
        state.token.clone()
    }

    /// Reads a line with a function that itself minds Ctrl-C, and that is interrupted when the process is to end.
    pub fn at_prompt<T>(&self, read: impl FnOnce() -> T) -> T {
        self.state().at_prompt = true;
        let line = read();
        self.state().at_prompt = false;
        line
    }

    /// Whether the process was told to end.
    pub fn ended(&self) -> bool {
        self.state().ended
    }

    /// A process group that must not outlive this process.
    pub fn kill_on_exit(&self, group: Pid) {
        self.state().groups.insert(group);
    }

    /// The process group has ended, or may go on.
    pub fn no_kill_on_exit(&self, group: Pid) {
        self.state().groups.remove(&group);
    }

    async fn obey(self, mut signals: Signal, ends: bool, terminal: Terminal) {
        while signals.recv().await.is_some() {
            let token = self.token();
            if token.is_cancelled() {
                self.leave();
            }
            self.state().ended |= ends;
            token.cancel();
            if self.state().at_prompt {
                // The line editor reads on the main thread, which is where a signal to the process goes, and has its
                // own handler for this one meanwhile.
                let _ = kill(Pid::this(), nix::sys::signal::Signal::SIGINT);
            } else {
                terminal.note("stopping what was started; once more to leave at once");
            }
        }
    }

    fn leave(&self) -> ! {
        for group in &self.state().groups {
            let _ = killpg(*group, nix::sys::signal::Signal::SIGKILL);
        }
        process::exit(i32::from(Kind::Cancelled.exit_code()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
