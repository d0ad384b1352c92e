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

/// What is done about a signal, the run being stopped.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Leave,
    Stop,
    Wake,
    Nothing,
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
        // What the last Ctrl-C stopped is over: another one is the first again.
        self.renew();
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
            match self.take(ends) {
                Answer::Leave => self.leave(),
                Answer::Stop => terminal.note("stopping what was started; once more to leave at once"),
                Answer::Wake => {
                    // The line editor reads on the main thread, which is where a signal to the process goes, and has its
                    // own handler for this one meanwhile.
                    let _ = kill(Pid::this(), nix::sys::signal::Signal::SIGINT);
                }
                Answer::Nothing => {}
            }
        }
    }

    /// What a signal means. What is asked of the state is asked before the run is stopped: after it, the prompt may come.
    fn take(&self, ends: bool) -> Answer {
        let mut state = self.state();
        if state.token.is_cancelled() {
            return Answer::Leave;
        }
        state.ended |= ends;
        state.token.cancel();
        match (state.at_prompt, ends) {
            (false, _) => Answer::Stop,
            (true, true) => Answer::Wake,
            // The editor takes it itself, or did not yet wait for it.
            (true, false) => Answer::Nothing,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_ctrl_c_leaves_a_run_and_no_prompt() {
        let interrupts = Interrupts::default();
        assert_eq!((interrupts.take(false), interrupts.take(false)), (Answer::Stop, Answer::Leave));
        // One that was on its way when the prompt came.
        let taken = interrupts.at_prompt(|| interrupts.take(false));
        assert_eq!((taken, interrupts.ended()), (Answer::Nothing, false));
        assert!(!interrupts.renew().is_cancelled());
        let taken = interrupts.at_prompt(|| interrupts.take(true));
        assert_eq!((taken, interrupts.ended()), (Answer::Wake, true));
        assert_eq!(interrupts.at_prompt(|| interrupts.take(false)), Answer::Leave, "it was told to end");
    }
}
