//! Ctrl-C, SIGTERM and a closed terminal: the first asks the run to stop, the second ends the process.

use std::{
    process,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{Error, Kind, Result, terminal::Terminal};

/// The signals' receiver. Cheap to clone.
#[derive(Clone)]
pub struct Interrupts(Arc<Mutex<CancellationToken>>);

impl Interrupts {
    /// Begins to listen, on tasks of the runtime.
    pub fn listen(runtime: &Handle, terminal: &Terminal) -> Result<Self> {
        let interrupts = Self(Arc::default());
        let _entered = runtime.enter();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let signals =
                signal(kind).map_err(|error| Error::new(Kind::Failed, "listening to signals").source(error))?;
            runtime.spawn(interrupts.clone().obey(signals, terminal.clone()));
        }
        Ok(interrupts)
    }

    /// Cancelled by the next signal.
    pub fn token(&self) -> CancellationToken {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins anew after a signal, and returns what the next one cancels: for a session that outlives its lines.
    pub fn renew(&self) -> CancellationToken {
        let mut token = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *token = CancellationToken::new();
        token.clone()
    }

    async fn obey(self, mut signals: Signal, terminal: Terminal) {
        while signals.recv().await.is_some() {
            let token = self.token();
            if token.is_cancelled() {
                process::exit(i32::from(Kind::Cancelled.exit_code()));
            }
            token.cancel();
            terminal.note("stopping what was started; once more to leave at once");
        }
    }
}
