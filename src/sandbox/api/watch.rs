//! Watches: the state at first, then every change, as one JSON line each.
//!
//! A watcher holds a position in the history, not a queue: however slow it reads, it costs no memory, and when the
//! history has moved on without it, it is told to list again (410).

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{sync::watch::Receiver, time::Instant};

use super::{
    kinds::ResourceKind,
    read,
    routes::Call,
    selector::Selector,
    server::Cluster,
    status::{Answer, Failure},
    store::{Event, Happening, Object},
    view::View,
};

/// Changes taken from the history at a time.
const BATCH: usize = 64;
/// How often a quiet watch that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
/// When the client names no time.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(30);
const MAX_TIMEOUT_SECONDS: u64 = 24 * 60 * 60;

struct Watch {
    cluster: Arc<Cluster>,
    kind: &'static ResourceKind,
    namespace: Option<String>,
    selector: Selector,
    view: View,
    changes: Receiver<u64>,
    /// Version up to which everything has been queued.
    position: u64,
    /// State at the start, not yet sent.
    initial: VecDeque<Object>,
    /// After the initial state, say that it is complete.
    announce_end: bool,
    queued: VecDeque<Event>,
    bookmarks: bool,
    next_bookmark: Instant,
    ends: Instant,
    over: bool,
}

/// Answers a watch request.
pub(super) fn answer(call: Call) -> Answer {
    let selector = read::selector(&call)?;
    let kind = call.target.kind;
    let store = &call.cluster.store;
    let changes = store.changes();
    let seconds = call.params.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    let timeout = seconds.map_or(DEFAULT_TIMEOUT, |seconds| Duration::from_secs(seconds.min(MAX_TIMEOUT_SECONDS)));
    let since = call.params.number("resourceVersion")?.filter(|version| *version > 0);
    let send_initial = call.params.flag("sendInitialEvents");
    let (initial, position) = match since {
        Some(version) if !send_initial => {
            // Refused at once where a real server does, so that clients which only look at the code understand.
            store.since(kind, version, 0).ok_or_else(Failure::expired)?;
            (Vec::new(), version)
        }
        _ => store.list(kind, call.target.namespace.as_deref()),
    };
    let watch = Watch {
        kind,
        namespace: call.target.namespace.clone(),
        view: View::of(&call),
        changes,
        position,
        initial: initial.into_iter().filter(|object| selector.matches(object)).collect(),
        announce_end: send_initial,
        queued: VecDeque::new(),
        bookmarks: call.params.flag("allowWatchBookmarks"),
        next_bookmark: Instant::now() + BOOKMARK_EVERY,
        ends: Instant::now() + timeout,
        over: false,
        selector,
        cluster: call.cluster,
    };
    let lines = futures::stream::unfold(watch, |mut watch| async move {
        let line = watch.next().await?;
        Some((Ok::<_, Infallible>(line), watch))
    });
    let mut response: Response = Body::from_stream(lines).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.over || self.cluster.stopping.is_cancelled() {
                return None;
            }
            if let Some(object) = self.initial.pop_front() {
                return Some(self.line("ADDED", &object));
            }
            if std::mem::take(&mut self.announce_end) {
                return Some(self.bookmark(true));
            }
            if let Some(event) = self.queued.pop_front() {
                if let Some(line) = self.tell(&event) {
                    return Some(line);
                }
                continue;
            }
            self.changes.mark_unchanged();
            match self.cluster.store.since(self.kind, self.position, BATCH) {
                None => {
                    self.over = true;
                    return Some(line("ERROR", &Failure::expired().to_value()));
                }
                Some((events, reached)) => {
                    self.position = reached;
                    if !events.is_empty() {
                        self.queued = events.into();
                        continue;
                    }
                }
            }
            tokio::select! {
                () = self.cluster.stopping.cancelled() => return None,
                changed = self.changes.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep_until(self.ends) => {
                    self.over = true;
                    if self.bookmarks {
                        return Some(self.bookmark(false));
                    }
                }
                () = tokio::time::sleep_until(self.next_bookmark) => {
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    if self.bookmarks {
                        return Some(self.bookmark(false));
                    }
                }
            }
        }
    }

    /// The event as this watcher sees it: an object that begins or ceases to match is added or deleted.
    fn tell(&self, event: &Event) -> Option<Bytes> {
        let sees = |object: &Value| {
            self.namespace.as_deref().is_none_or(|namespace| super::object::namespace(object) == namespace)
                && self.selector.matches(object)
        };
        let now = event.happening != Happening::Deleted && sees(&event.object);
        let before = event.previous.as_deref().is_some_and(sees);
        let word = match (before, now) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        Some(self.line(word, &event.object))
    }

    fn line(&self, word: &str, object: &Value) -> Bytes {
        match self.view {
            // Saves a copy of the object.
            View::Whole => format!("{{\"type\":\"{word}\",\"object\":{object}}}\n").into(),
            view => line(word, &view.object(self.kind, object)),
        }
    }

    fn bookmark(&self, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": self.position.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata});
        line("BOOKMARK", &object)
    }
}

fn line(word: &str, object: &Value) -> Bytes {
    let mut text = json!({"type": word, "object": object}).to_string();
    text.push('\n');
    text.into()
}
