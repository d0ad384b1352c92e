//! Locks on a volume, by Longhorn's protocol (`lock.go`), so that its own backups, restores and deletions and ours keep
//! out of each other's way.
//!
//! A lock is an object that is written, left to settle, compared with the others, and then marked as acquired. Nobody
//! waits: who finds a lock of another type with priority removes its own and gives up. A lock that has not been
//! rewritten for 150 s is abandoned. All ages are differences between times of the store, so clocks need not agree.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinHandle;

use super::{
    config::{LockConfig, LockType},
    layout::{MAX_CONFIG, VolumeKeys, random_name},
};
use crate::{Error, Kind, Result, objectstore::Store};

/// Age at which a lock that was not rewritten is abandoned.
pub const EXPIRY: SignedDuration = SignedDuration::from_secs(150);
/// How long Longhorn lets a lock settle before it looks at the others.
pub const SETTLE: Duration = Duration::from_secs(2);
const REFRESH: Duration = Duration::from_mins(1);

/// A lock found in the store.
#[derive(Clone, Debug)]
pub struct FoundLock {
    /// Who holds it for what; a lock that cannot be read counts as held, for something unknown.
    pub config: LockConfig,
    /// When it was last rewritten, by the store's clock.
    pub written: Timestamp,
}

impl FoundLock {
    /// Whether it is abandoned, as of `now` by the store's clock.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now.duration_since(self.written) > EXPIRY
    }

    /// The refusal to work on that volume while this lock is in force; `now` is by the store's clock.
    pub fn refusal(&self, keys: &VolumeKeys, now: Timestamp) -> Error {
        let purpose = match self.config.kind {
            LockType::Use => "a backup, a restore or a check",
            LockType::Delete => "a deletion",
            LockType::Other(_) => "an unknown purpose",
        };
        let seconds = |time: SignedDuration| time.as_secs().max(0);
        let age = now.duration_since(self.written);
        let text = format!(
            "volume {} is locked for {purpose} by {}, written {} s ago ({})",
            keys.name(),
            self.config.name,
            seconds(age),
            super::rfc3339(self.written)
        );
        let left = seconds(EXPIRY - age);
        Error::new(Kind::Conflict, text).object(keys.lock(&self.config.name)).hint(format!(
            "try again later: who holds it writes it anew every minute; if nobody does, it expires in {left} s"
        ))
    }

    /// What decides between two locks: held before asked for, older before younger, then by name.
    fn priority(&self) -> (bool, Timestamp, &str) {
        (!self.config.acquired, self.written, &self.config.name)
    }
}

/// All locks of a volume, abandoned ones included.
pub async fn list(store: &Store, keys: &VolumeKeys) -> Result<Vec<FoundLock>> {
    let mut found = Vec::new();
    for object in store.list(&keys.locks()).await? {
        let Some(name) = object.key.rsplit('/').next().and_then(|file| file.strip_suffix(".lck")) else { continue };
        let config = match store.get_limited(&object.key, MAX_CONFIG).await {
            Ok(body) => LockConfig::parse(&object.key, &body).unwrap_or_else(|_| LockConfig {
                name: name.into(),
                kind: LockType::Other(0),
                acquired: true,
            }),
            // Released since it was listed.
            Err(error) if error.kind() == Kind::NotFound => continue,
            Err(error) => return Err(error),
        };
        found.push(FoundLock { config, written: object.last_modified });
    }
    Ok(found)
}

/// A lock that is held and kept fresh until it is released.
#[derive(Debug)]
pub struct Lock {
    store: Store,
    key: String,
    released: bool,
    refresher: JoinHandle<()>,
}

impl Lock {
    /// Takes a lock of that type. `settle` is [`SETTLE`] wherever a real Longhorn may use the store.
    ///
    /// # Errors
    /// `conflict` when somebody holds, or asked earlier for, a lock of another type.
    pub async fn acquire(store: &Store, keys: &VolumeKeys, kind: LockType, settle: Duration) -> Result<Self> {
        let mut config = LockConfig { name: random_name("lock")?, kind, acquired: false };
        let key = keys.lock(&config.name);
        store.put(&key, config.to_bytes()?.into()).await?;
        // From here on the object goes away on every way out, also when this future is dropped.
        let mut lock = Self { store: store.clone(), key, released: false, refresher: tokio::spawn(async {}) };
        let written = lock.written().await?;
        tokio::time::sleep(settle).await;
        let mine = FoundLock { config: config.clone(), written };
        for other in list(store, keys).await? {
            let conflicts = other.config.kind != kind && !other.is_expired(written);
            if conflicts && other.priority() < mine.priority() {
                lock.remove().await;
                return Err(other.refusal(keys, written));
            }
        }
        config.acquired = true;
        let body = config.to_bytes()?;
        store.put(&lock.key, body.clone().into()).await?;
        let (store, key) = (store.clone(), lock.key.clone());
        lock.refresher = tokio::spawn(async move {
            loop {
                tokio::time::sleep(REFRESH).await;
                if let Err(error) = store.put(&key, body.clone().into()).await {
                    tracing::warn!("the lock {key} could not be kept fresh: {error}");
                }
            }
        });
        Ok(lock)
    }

    /// Gives the lock back.
    pub async fn release(mut self) -> Result<()> {
        self.refresher.abort();
        self.store.delete(&self.key).await?;
        self.released = true;
        Ok(())
    }

    async fn written(&self) -> Result<Timestamp> {
        let found = self.store.head(&self.key).await?;
        found.map(|object| object.last_modified).ok_or_else(|| {
            let text = format!("the lock {} vanished while it was taken", self.key);
            Error::new(Kind::Conflict, text).object(&self.key)
        })
    }

    async fn remove(self) {
        if let Err(error) = self.release().await {
            tracing::warn!("a lock could not be removed and expires in {} s: {error}", EXPIRY.as_secs());
        }
    }
}

impl Drop for Lock {
    /// Cancelled work gives its lock back too, as far as the runtime still runs; else it expires.
    fn drop(&mut self) {
        self.refresher.abort();
        if self.released {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (store, key) = (self.store.clone(), self.key.clone());
            runtime.spawn(async move { store.delete(&key).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, time::SystemTime};

    use super::*;

    struct Place {
        folder: tempfile::TempDir,
        store: Store,
        keys: VolumeKeys,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path()).unwrap();
        Place { folder, store, keys: VolumeKeys::new("pvc-1").unwrap() }
    }

    impl Place {
        async fn take(&self, kind: LockType) -> Result<Lock> {
            Lock::acquire(&self.store, &self.keys, kind, Duration::from_millis(5)).await
        }

        /// A lock somebody else wrote that many seconds ago.
        async fn foreign(&self, name: &str, body: &str, age: u64) {
            let key = self.keys.lock(name);
            self.store.put(&key, body.to_owned().into()).await.unwrap();
            let file = File::options().write(true).open(self.folder.path().join(key)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }

        async fn locks(&self) -> usize {
            list(&self.store, &self.keys).await.unwrap().len()
        }
    }

    #[tokio::test]
    async fn the_same_type_goes_together_and_another_does_not() {
        let place = place();
        let first = place.take(LockType::Use).await.unwrap();
        let second = place.take(LockType::Use).await.unwrap();
        let error = place.take(LockType::Delete).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().contains("pvc-1") && error.to_string().contains("restore"), "{error}");
        assert_eq!(place.locks().await, 2, "the refused lock is removed");
        first.release().await.unwrap();
        second.release().await.unwrap();
        let delete = place.take(LockType::Delete).await.unwrap();
        assert_eq!(place.take(LockType::Use).await.unwrap_err().kind(), Kind::Conflict);
        delete.release().await.unwrap();
        assert_eq!(place.locks().await, 0);
    }

    #[tokio::test]
    async fn an_abandoned_lock_is_ignored() {
        let place = place();
        let body = r#"{"Name":"lock-0000000000000001","Type":2,"Acquired":true}"#;
        place.foreign("lock-0000000000000001", body, 140).await;
        let error = place.take(LockType::Use).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().contains("for a deletion by lock-0000000000000001, written 1"), "{error}");
        let hint = error.hint_text().unwrap();
        // File times may lag behind the clock.
        assert!((8..=11).any(|left| hint.ends_with(&format!("expires in {left} s"))), "{hint}");
        place.foreign("lock-0000000000000001", body, 160).await;
        place.take(LockType::Use).await.unwrap().release().await.unwrap();
    }

    #[tokio::test]
    async fn who_asked_first_has_priority() {
        let place = place();
        let asked = r#"{"Name":"lock-0000000000000001","Type":2,"Acquired":false}"#;
        place.foreign("lock-0000000000000001", asked, 10).await;
        assert_eq!(place.take(LockType::Use).await.unwrap_err().kind(), Kind::Conflict);
        // A younger request gives way to an older one that is acquired meanwhile.
        let later = r#"{"Name":"lock-0000000000000001","Type":1,"Acquired":false}"#;
        place.foreign("lock-0000000000000001", later, 10).await;
        place.take(LockType::Use).await.unwrap().release().await.unwrap();
    }

    #[tokio::test]
    async fn a_lock_that_cannot_be_read_is_respected() {
        let place = place();
        place.foreign("lock-0000000000000001", "{", 10).await;
        assert_eq!(place.take(LockType::Use).await.unwrap_err().kind(), Kind::Conflict);
    }

    #[tokio::test]
    async fn a_dropped_lock_is_given_back() {
        let place = place();
        drop(place.take(LockType::Use).await.unwrap());
        let gone = async {
            while place.locks().await > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    }
}
