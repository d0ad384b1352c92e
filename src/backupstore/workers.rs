//! Threads for hashing and packing, so that the async ones are free for the network.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::Result;

/// Buffers that are used again, so that the memory of each block need not be got anew. There come to be as many as were
/// ever in use at once.
#[derive(Clone, Debug, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// One that holds anything.
    pub fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Puts one back.
    pub fn give(&self, buffer: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// Works on one block more at once than there are processors, as one may have to wait for the file it writes; in buffers
/// that are used again.
#[derive(Clone, Debug)]
pub struct Workers {
    turns: Arc<Semaphore>,
    buffers: Buffers,
}

impl Workers {
    /// One worker for each processor, and one.
    pub fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self { turns: Arc::new(Semaphore::new(processors + 1)), buffers: Buffers::default() }
    }

    /// Waits for a worker and runs `work` on it, with a buffer of that length, which holds anything.
    pub async fn run<T, F>(&self, length: usize, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut [u8]) -> Result<T> + Send + 'static,
    {
        let turn = self.turns.clone().acquire_owned().await;
        let buffers = self.buffers.clone();
        super::blocking(move || {
            // Given back at the end of the work, not of the waiting for it, which may be given up.
            let _turn = turn;
            let mut buffer = buffers.take();
            buffer.resize(length, 0);
            let outcome = work(&mut buffer);
            buffers.give(buffer);
            outcome
        })
        .await
    }
}
