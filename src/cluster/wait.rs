//! Waiting until an object is as wanted, and telling what was seen when it did not get there.

use std::{fmt, ops::ControlFlow, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use super::{
    Cluster, ObjectRef, Observer, Query,
    jsonpath::{self, JsonPath},
    rollout,
};
use crate::{Error, Kind, Result};

/// Events told of at a time-out.
const EVENTS_TOLD: usize = 5;

/// What to wait for, in the forms of `kubectl wait --for` and `kubectl rollout status`.
#[derive(Clone, Debug)]
pub enum WaitFor {
    /// `condition=TYPE` or `condition=TYPE=STATUS`; the status is `True` when not named.
    Condition(String, String),
    /// `jsonpath={PATH}=VALUE`, or without a value: the path leads to something.
    JsonPath(JsonPathWait),
    /// `delete`: the object is gone.
    Delete,
    /// `rollout`: a Deployment, StatefulSet or DaemonSet runs what its spec asks for.
    Rollout,
}

/// A path and the value it should lead to.
#[derive(Clone, Debug)]
pub struct JsonPathWait {
    path: JsonPath,
    value: Option<String>,
}

impl WaitFor {
    /// Reads one of the forms. Errors: `usage`, listing them.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once('=') {
            None if text == "delete" => Ok(Self::Delete),
            None if text == "rollout" => Ok(Self::Rollout),
            Some(("condition", rest)) if !rest.is_empty() => {
                let (name, status) = rest.split_once('=').unwrap_or((rest, "True"));
                Ok(Self::Condition(name.to_string(), status.to_string()))
            }
            Some(("jsonpath", rest)) => {
                let rest = unquote(rest);
                // A filter inside the braces may hold "=".
                let end = rest.rfind('}').map_or(0, |at| at + 1);
                let (path, value) = match rest[end..].split_once('=') {
                    Some((tail, value)) => (&rest[..end + tail.len()], Some(value.to_string())),
                    None => (rest, None),
                };
                Ok(Self::JsonPath(JsonPathWait { path: JsonPath::parse(path)?, value }))
            }
            _ => Err(Error::new(Kind::Usage, format!("cannot wait for {text:?}")).hint(
                "the forms are \"condition=Ready\", \"condition=Ready=False\", \"jsonpath={.status.phase}=Bound\", \
                 \"delete\" and \"rollout\"",
            )),
        }
    }

    /// Whether the object (`None`: it is not there) is as wanted, and else what it is like.
    fn check(&self, object: Option<&Value>) -> Result<ControlFlow<(), String>> {
        let Some(object) = object else {
            return Ok(match self {
                Self::Delete => ControlFlow::Break(()),
                _ => ControlFlow::Continue("it is not there".to_string()),
            });
        };
        match self {
            Self::Delete => Ok(ControlFlow::Continue(still_there(object))),
            Self::Rollout => Ok(match rollout::progress(object)? {
                rollout::Progress::Done => ControlFlow::Break(()),
                rollout::Progress::Waiting(what) => ControlFlow::Continue(what),
            }),
            Self::Condition(name, status) => Ok(condition(object, name, status)),
            Self::JsonPath(wait) => wait.check(object),
        }
    }
}

impl JsonPathWait {
    fn check(&self, object: &Value) -> Result<ControlFlow<(), String>> {
        let found = self.path.values(object);
        let seen = match found.as_slice() {
            [] => return Ok(ControlFlow::Continue(format!("{} leads to nothing", self.path.as_str()))),
            [one] => jsonpath::text(one),
            several => {
                let message = format!("JSONPath {} leads to {} values, not to one", self.path.as_str(), several.len());
                return Err(Error::new(Kind::Usage, message));
            }
        };
        Ok(match &self.value {
            Some(wanted) if *wanted != seen => ControlFlow::Continue(format!("{} is {seen:?}", self.path.as_str())),
            _ => ControlFlow::Break(()),
        })
    }
}

impl fmt::Display for WaitFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition(name, status) => write!(f, "condition {name}={status}"),
            Self::JsonPath(JsonPathWait { path, value: Some(value) }) => write!(f, "{}={value}", path.as_str()),
            Self::JsonPath(wait) => f.write_str(wait.path.as_str()),
            Self::Delete => f.write_str("its deletion"),
            Self::Rollout => f.write_str("its rollout"),
        }
    }
}

impl Cluster {
    /// Waits until the object is as wanted; an object that is not there yet is waited for as well. Gives the object,
    /// null after `delete`.
    ///
    /// Errors: `timeout` with what was last seen and the object's recent events, `unreachable` when the API server
    /// was away at the end of the time.
    pub async fn wait(&self, reference: &ObjectRef, what: &WaitFor, limit: Duration) -> Result<Value> {
        let doing = format!("waiting for {reference}, {what}");
        let done = |observer: &Observer| {
            let object = observer.object(0);
            Ok(match what.check(object)? {
                ControlFlow::Break(()) => ControlFlow::Break(object.cloned().unwrap_or(Value::Null)),
                ControlFlow::Continue(seen) => ControlFlow::Continue(seen),
            })
        };
        match self.watch(&[self.query(reference).await?], limit, &doing, done).await {
            Err(error) if error.kind() == Kind::Timeout => Err(self.with_events(error, reference).await),
            other => other,
        }
    }

    /// Follows the objects of the queries until `check` breaks with a result; it continues with what it sees at the
    /// moment, for the message of the time-out. `doing` says what is waited for.
    pub async fn watch<T>(
        &self,
        queries: &[Query],
        limit: Duration,
        doing: &str,
        mut check: impl FnMut(&Observer) -> Result<ControlFlow<T, String>>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        let mut observer = self.observe(queries).await?;
        let mut seen = None;
        loop {
            match tokio::time::timeout_at(deadline, observer.changed()).await {
                Ok(Ok(())) => match check(&observer)? {
                    ControlFlow::Break(result) => return Ok(result),
                    ControlFlow::Continue(now) => seen = Some(now),
                },
                Ok(Err(error)) => return Err(error.context(doing)),
                Err(_) => return Err(timed_out(doing, limit, seen.as_deref(), observer.trouble())),
            }
        }
    }

    /// The query for one object, in the namespace it is really in.
    pub async fn query(&self, reference: &ObjectRef) -> Result<Query> {
        let kind = self.kind(&reference.kind).await?;
        let namespace = self.object_namespace(&kind, reference)?.map(str::to_string);
        Ok(Query::object(&ObjectRef { namespace, ..reference.clone() }))
    }

    /// Adds the object's last events to a failure: they usually hold the reason.
    pub async fn with_events(&self, error: Error, reference: &ObjectRef) -> Error {
        let error = error.object(reference.to_string());
        let Ok(events) = self.events(reference).await else { return error };
        let told: Vec<_> = events.iter().rev().take(EVENTS_TOLD).rev().map(ToString::to_string).collect();
        if told.is_empty() {
            return error.hint("the object has no events; look at the controller that should act on it");
        }
        error.hint(format!("its last events: {}", told.join("; ")))
    }
}

fn timed_out(doing: &str, limit: Duration, seen: Option<&str>, trouble: Option<&Error>) -> Error {
    let seconds = limit.as_secs();
    if let Some(trouble) = trouble {
        let message = format!("{doing}: the API server was away at the end of {seconds} s: {}", trouble.message());
        return Error::new(Kind::Unreachable, message);
    }
    let seen = seen.unwrap_or("nothing, the first listing did not arrive");
    Error::new(Kind::Timeout, format!("{doing}: not within {seconds} s; last seen: {seen}"))
}

/// As in kubectl: names and states are compared in any case, and a condition that is older than the spec does not
/// count.
fn condition(object: &Value, name: &str, status: &str) -> ControlFlow<(), String> {
    let conditions =
        object.pointer("/status/conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |condition: &Value, key: &str| condition[key].as_str().unwrap_or_default().to_string();
    let Some(found) = conditions.iter().find(|condition| text(condition, "type").eq_ignore_ascii_case(name)) else {
        let types: Vec<_> = conditions.iter().map(|condition| text(condition, "type")).collect();
        return ControlFlow::Continue(match types.as_slice() {
            [] => "it has no conditions".to_string(),
            types => format!("it has no condition {name}, only {}", types.join(", ")),
        });
    };
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
    let observed = found["observedGeneration"].as_i64().unwrap_or(generation);
    if text(found, "status").eq_ignore_ascii_case(status) && observed >= generation {
        return ControlFlow::Break(());
    }
    let mut seen = format!("condition {name} is {}", text(found, "status"));
    let why: Vec<_> =
        ["reason", "message"].iter().map(|key| text(found, key)).filter(|part| !part.is_empty()).collect();
    if !why.is_empty() {
        seen = format!("{seen} ({})", why.join(": "));
    }
    ControlFlow::Continue(seen)
}

fn still_there(object: &Value) -> String {
    if object.pointer("/metadata/deletionTimestamp").is_none() {
        return "it is there and not being deleted".to_string();
    }
    let finalizers =
        object.pointer("/metadata/finalizers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> = finalizers.iter().filter_map(Value::as_str).collect();
    match names.as_slice() {
        [] => "it is being deleted".to_string(),
        names => format!("its deletion waits for the finalizers {}", names.join(", ")),
    }
}

fn unquote(text: &str) -> &str {
    text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn met(what: &str, object: &Value) -> bool {
        WaitFor::parse(what).unwrap().check(Some(object)).unwrap().is_break()
    }

    fn seen(what: &str, object: Option<&Value>) -> String {
        match WaitFor::parse(what).unwrap().check(object).unwrap() {
            ControlFlow::Continue(seen) => seen,
            ControlFlow::Break(()) => panic!("{what} is met"),
        }
    }

    #[test]
    fn conditions_are_compared_as_kubectl_does() {
        let pod = json!({"metadata": {"generation": 2}, "status": {"conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "web is waiting"},
            {"type": "Initialized", "status": "True", "observedGeneration": 1}]}});
        assert!(met("condition=ready=false", &pod));
        assert_eq!(
            seen("condition=Ready", Some(&pod)),
            "condition Ready is False (ContainersNotReady: web is waiting)"
        );
        assert!(!met("condition=Initialized", &pod), "of an older spec");
        assert_eq!(seen("condition=Gone", Some(&pod)), "it has no condition Gone, only Ready, Initialized");
        assert_eq!(seen("condition=Ready", None), "it is not there");
    }

    #[test]
    fn json_paths_are_compared_with_a_value_or_for_being_there() {
        let claim = json!({"status": {"phase": "Pending", "conditions": [{"type": "A", "status": "True"}]}});
        assert!(met("jsonpath={.status.phase}=Pending", &claim));
        assert!(met("jsonpath='{.status.phase}'=Pending", &claim) || met("jsonpath='{.status.phase}=Pending'", &claim));
        assert!(met("jsonpath=.status.phase=Pending", &claim));
        assert!(met("jsonpath={.status.phase}", &claim));
        assert!(met("jsonpath={.status.conditions[?(@.type==\"A\")].status}=True", &claim));
        assert_eq!(seen("jsonpath={.status.phase}=Bound", Some(&claim)), "{.status.phase} is \"Pending\"");
        assert_eq!(seen("jsonpath={.spec.volumeName}", Some(&claim)), "{.spec.volumeName} leads to nothing");
    }

    #[test]
    fn deletion_tells_what_holds_it() {
        let pod = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["longhorn.io"]}});
        assert!(WaitFor::Delete.check(None).unwrap().is_break());
        assert_eq!(seen("delete", Some(&pod)), "its deletion waits for the finalizers longhorn.io");
        assert_eq!(seen("delete", Some(&json!({"metadata": {}}))), "it is there and not being deleted");
    }

    #[test]
    fn other_forms_are_refused_with_the_list() {
        for text in ["", "ready", "condition=", "phase=Bound", "jsonpath=", "jsonpath={.a"] {
            assert_eq!(WaitFor::parse(text).unwrap_err().kind(), Kind::Usage, "{text}");
        }
    }
}
