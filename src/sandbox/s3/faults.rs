//! Faults on request: what real stores do on bad days.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, future, stream};
use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    s3_error,
};

/// A body on its way out.
pub(super) type Body = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send + Sync>>;

/// The faults of a running server; clones are the same faults.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    asked: Arc<Mutex<Asked>>,
}

#[derive(Debug, Default)]
struct Asked {
    unavailable: u32,
    delay: Duration,
    cut: Option<String>,
    flipped: Option<String>,
    denied: HashMap<String, String>,
}

impl Faults {
    fn with<T>(&self, change: impl FnOnce(&mut Asked) -> T) -> T {
        change(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next so many requests are answered `503 SlowDown`.
    pub fn refuse_next(&self, requests: u32) {
        self.with(|asked| asked.unavailable = requests);
    }

    /// Every request waits so long before it is answered.
    pub fn delay(&self, each: Duration) {
        self.with(|asked| asked.delay = each);
    }

    /// Reading an object whose key starts with the prefix breaks off halfway; `None` ends that.
    pub fn cut_off(&self, prefix: Option<&str>) {
        self.with(|asked| asked.cut = prefix.map(str::to_owned));
    }

    /// The first byte read of an object whose key starts with the prefix has its lowest bit flipped; `None` ends that.
    pub fn flip_bit(&self, prefix: Option<&str>) {
        self.with(|asked| asked.flipped = prefix.map(str::to_owned));
    }

    /// An S3 operation (`"DeleteObject"`) on keys that start with the prefix is answered `403 AccessDenied`; `None` ends
    /// that.
    pub fn deny(&self, operation: &str, prefix: Option<&str>) {
        self.with(|asked| match prefix {
            Some(prefix) => drop(asked.denied.insert(operation.to_owned(), prefix.to_owned())),
            None => drop(asked.denied.remove(operation)),
        });
    }

    pub(super) fn denies(&self, operation: &str, key: &str) -> bool {
        self.with(|asked| asked.denied.get(operation).is_some_and(|prefix| key.starts_with(prefix)))
    }

    /// The body of `length` bytes as a reader of the key gets it.
    pub(super) fn spoil(&self, key: &str, length: u64, body: Body) -> Body {
        let hit = |prefix: &Option<String>| prefix.as_ref().is_some_and(|prefix| key.starts_with(prefix));
        let (cut, flipped) = self.with(|asked| (hit(&asked.cut), hit(&asked.flipped)));
        let body = if flipped { flip_first(body) } else { body };
        if cut { stop_after(length / 2, body) } else { body }
    }
}

fn flip_first(body: Body) -> Body {
    let mut first = true;
    Box::pin(body.map(move |chunk| {
        let mut chunk = BytesMut::from(chunk?);
        if std::mem::take(&mut first) && !chunk.is_empty() {
            chunk[0] ^= 1;
        }
        Ok(chunk.freeze())
    }))
}

fn stop_after(bytes: u64, body: Body) -> Body {
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    let kept = body.map(move |chunk| {
        let mut chunk = chunk?;
        chunk.truncate(left);
        left -= chunk.len();
        Ok(chunk)
    });
    let kept = kept.take_while(|chunk| future::ready(!matches!(chunk, Ok(chunk) if chunk.is_empty())));
    // Without a pause the connection would end before the first half has left.
    let end = stream::once(async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(std::io::Error::other("cut off on request"))
    });
    Box::pin(kept.chain(end))
}

#[async_trait::async_trait]
impl S3Access for Faults {
    /// Runs before every request: refuses what is not signed, then adds the faults asked for.
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "requests must be signed"));
        }
        let (delay, refuse) = self.with(|asked| {
            let refuse = asked.unavailable > 0;
            asked.unavailable = asked.unavailable.saturating_sub(1);
            (asked.delay, refuse)
        });
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if refuse {
            return Err(s3_error!(SlowDown, "reduce your request rate"));
        }
        let key = context.s3_path().get_object_key().unwrap_or_default();
        if self.denies(context.s3_op().name(), key) {
            return Err(s3_error!(AccessDenied, "these keys may not do that"));
        }
        Ok(())
    }
}
