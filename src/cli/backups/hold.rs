//! Longhorn's lock on a volume whose backups are read, so that none is deleted meanwhile.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    Error, Kind, Result,
    backupstore::{
        config::LockType,
        layout::VolumeKeys,
        lock::{self, Lock, SETTLE},
    },
    cli::Setting,
    objectstore::Store,
};

/// How long an interrupted command waits for its lock, so that it can be given back.
const GRACE: Duration = Duration::from_secs(4);

/// A volume that is read. To be [released](Hold::release) in the end, also after Ctrl-C.
pub struct Hold(Option<Lock>);

impl Hold {
    /// Takes the lock. Where it cannot be written, as with keys that may only read, the work goes on without, and the
    /// operator is told.
    ///
    /// # Errors
    /// `conflict` when somebody deletes backups of the volume.
    pub fn take(setting: &Setting, store: &Store, keys: &VolumeKeys) -> Result<Self> {
        let (of, at) = (store.clone(), keys.clone());
        let mut taking = setting.runtime.spawn(async move { Lock::acquire(&of, &at, LockType::Use, SETTLE).await });
        let cancel = setting.interrupts.token();
        let taken = setting.runtime.block_on(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    if let Ok(Ok(Ok(lock))) = tokio::time::timeout(GRACE, &mut taking).await {
                        let _ = lock.release().await;
                    }
                    Err(Error::new(Kind::Cancelled, "interrupted"))
                }
                taken = &mut taking => taken.map_err(|error| Error::new(Kind::Failed, "taking a lock").source(error)),
            }
        })?;
        match taken {
            Ok(lock) => Ok(Self(Some(lock))),
            Err(error) if error.kind() == Kind::Conflict => Err(without(error)),
            Err(error) => {
                if let Some(refusal) = deletion(setting, store, keys)? {
                    return Err(without(refusal));
                }
                setting.terminal.note(&format!("reading without a lock, which cannot be taken: {error}"));
                Ok(Self(None))
            }
        }
    }

    /// Takes no lock, but warns of a deletion.
    pub fn none(setting: &Setting, store: &Store, keys: &VolumeKeys) -> Result<Self> {
        if let Some(refusal) = deletion(setting, store, keys)? {
            setting.terminal.warn(&refusal.to_string());
        }
        Ok(Self(None))
    }

    /// Gives the lock back.
    pub fn release(self, setting: &Setting) {
        let Some(lock) = self.0 else { return };
        if let Err(error) = setting.runtime.block_on(lock.release()) {
            let left = lock::EXPIRY.as_secs();
            setting.terminal.warn(&format!("the lock could not be given back and expires in {left} s: {error}"));
        }
    }
}

/// The refusal by a lock of another type than ours that has not expired.
fn deletion(setting: &Setting, store: &Store, keys: &VolumeKeys) -> Result<Option<Error>> {
    let now = Timestamp::now();
    let locks = super::store::wait(setting, lock::list(store, keys))?;
    let held = locks.iter().find(|lock| lock.config.kind != LockType::Use && !lock.is_expired(now));
    Ok(held.map(|lock| lock.refusal(keys, now)))
}

fn without(error: Error) -> Error {
    let hint = error.hint_text().unwrap_or_default().to_owned();
    error.hint(format!("{hint}; --no-lock reads all the same"))
}
