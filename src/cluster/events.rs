//! The events of an object: what its controllers say about it.

use std::fmt;

use serde_json::Value;

use super::{Cluster, ListOptions, ObjectRef};
use crate::Result;

/// One event, repeated ones counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it was last seen, RFC 3339.
    pub time: String,
    /// `Normal` or `Warning`.
    pub severity: String,
    /// For example `FailedMount`.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// How often.
    pub count: i64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.reason, self.message.trim())
    }
}

impl Cluster {
    /// The events of the object, oldest first.
    pub async fn events(&self, reference: &ObjectRef) -> Result<Vec<Event>> {
        let kind = self.kind(&reference.kind).await?;
        // Events of objects without a namespace are kept in the default one.
        let namespace = self.object_namespace(&kind, reference)?.unwrap_or("default");
        let fields = format!("involvedObject.kind={},involvedObject.name={}", kind.kind, reference.name);
        let options = ListOptions { fields: Some(fields), ..ListOptions::namespace(namespace) };
        let mut events: Vec<_> = self.list("events", &options).await?.iter().map(event).collect();
        events.sort_by(|a, b| a.time.cmp(&b.time));
        Ok(events)
    }
}

fn event(object: &Value) -> Event {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let time =
        ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/firstTimestamp", "/metadata/creationTimestamp"];
    let count = ["/series/count", "/count"].iter().find_map(|pointer| object.pointer(pointer)?.as_i64());
    Event {
        time: time.into_iter().find_map(text).unwrap_or_default().to_string(),
        severity: text("/type").unwrap_or("Normal").to_string(),
        reason: text("/reason").unwrap_or_default().to_string(),
        message: text("/message").unwrap_or_default().to_string(),
        count: count.unwrap_or(1),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_generations_of_events_are_read() {
        let old = json!({"type": "Warning", "reason": "FailedMount", "message": "no volume\n", "count": 3,
            "lastTimestamp": "2026-01-01T00:00:02Z", "firstTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!((event(&old).time.as_str(), event(&old).count), ("2026-01-01T00:00:02Z", 3));
        assert_eq!(event(&old).to_string(), "Warning FailedMount: no volume");
        let new = json!({"type": "Normal", "reason": "Pulled", "message": "m", "lastTimestamp": null, "count": null,
            "eventTime": "2026-01-01T00:00:01.5Z"});
        assert_eq!((event(&new).time.as_str(), event(&new).count), ("2026-01-01T00:00:01.5Z", 1));
    }
}
