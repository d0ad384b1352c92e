//! Backup targets: reading them, and pointing one at a bucket.

use std::{ops::ControlFlow, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{API_VERSION, BACKUP_TARGET, Credentials, Longhorn, credentials, fields, rest};
use crate::{
    Error, Kind, Result,
    backupstore::url::TargetUrl,
    cluster::{ApplyOptions, Change, Observer},
    objectstore::{Store, StoreConfig},
};

/// Longest time of one look of Longhorn's at a target, with its own time-out of a minute.
const SAME_FAILURE: Duration = Duration::from_secs(75);

/// A backup target as Longhorn sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Name; `default` always exists.
    pub name: String,
    /// `s3://bucket@region/path/`; empty when it is not configured.
    pub url: String,
    /// Name of the credential secret in Longhorn's namespace.
    pub secret: Option<String>,
    /// How often Longhorn looks for changes by itself, as a Go duration.
    pub poll_interval: Option<String>,
    /// Whether Longhorn reached it when it last looked. This does not say that its content is known already.
    pub available: bool,
    /// Start of the last full look at the store, RFC 3339.
    pub last_synced: Option<String>,
    /// Why it is not available.
    pub message: Option<String>,
}

/// What to set up.
#[derive(Clone, Debug)]
pub struct TargetRequest {
    /// Name of the target.
    pub name: String,
    /// `s3://bucket@region/path/`.
    pub url: String,
    /// Name of the credential secret.
    pub secret: String,
    /// What to write into the secret; `None` leaves the existing one as it is.
    pub credentials: Option<Credentials>,
    /// How often Longhorn shall look by itself, as a Go duration (`5m0s`); `None` leaves it as it is.
    pub poll_interval: Option<String>,
    /// Longest time until the target is available and looked at.
    pub limit: Duration,
}

impl Target {
    pub(super) fn read(object: &Value) -> Self {
        // The condition is called Unavailable: its status True means that the target cannot be reached.
        let unavailable = fields::condition(object, "Unavailable").filter(|condition| condition["status"] == "True");
        Self {
            name: fields::name(object).to_string(),
            url: fields::text(object, "/spec/backupTargetURL").to_string(),
            secret: fields::owned(object, "/spec/credentialSecret"),
            poll_interval: fields::owned(object, "/spec/pollInterval"),
            available: fields::flag(object, "/status/available"),
            last_synced: fields::owned(object, "/status/lastSyncedAt"),
            message: unavailable.and_then(|condition| fields::owned(condition, "/message")),
        }
    }
}

impl Longhorn {
    /// A backup target. Errors: `not-found`.
    pub async fn target(&self, name: &str) -> Result<Target> {
        Ok(Target::read(&self.cluster.get(&self.object(BACKUP_TARGET, name)?).await?))
    }

    /// Writes the credential secret, points the target at the bucket, and waits until Longhorn has looked at it.
    ///
    /// The bucket is listed with the same credentials first, because Longhorn's own report of a wrong key is slow and
    /// of a missing secret does not exist. A server that only the cluster can reach is not an error here.
    ///
    /// Tells as well whether anything was another before.
    ///
    /// Errors: `invalid` for a URL or credentials Longhorn would refuse, `denied` or `not-found` for wrong keys or a
    /// missing bucket, `failed` with Longhorn's own message when it cannot use the target.
    pub async fn configure_target(&self, request: &TargetRequest) -> Result<(Target, bool)> {
        let start = Instant::now();
        if !self.version().await?.at_least(1, 8) {
            return Err(Error::new(
                Kind::Invalid,
                "this Longhorn is older than 1.8 and is configured through its settings",
            )
            .hint("set backup-target and backup-target-credential-secret in Longhorn's settings, or upgrade"));
        }
        check_url(&request.url)?;
        let values = match &request.credentials {
            Some(credentials) => credentials.secret_values(),
            None => self.cluster.secret(&self.namespace, &request.secret).await?,
        };
        credentials::check(&values, &request.secret)?;
        look(&credentials::store_config(&request.url, &values)?).await?;
        let mut changed = false;
        if request.credentials.is_some() {
            changed = self.cluster.apply_secret(&self.namespace, &request.secret, &values).await? != Change::Unchanged;
        }
        let mut spec = json!({"backupTargetURL": request.url, "credentialSecret": request.secret});
        if let Some(interval) = &request.poll_interval {
            spec["pollInterval"] = interval.clone().into();
        }
        let reference = self.object(BACKUP_TARGET, &request.name)?;
        let before = if let Some(before) = self.cluster.find(&reference).await? {
            before
        } else {
            let object = json!({"apiVersion": API_VERSION, "kind": "BackupTarget",
                "metadata": {"name": request.name, "namespace": self.namespace}, "spec": spec});
            changed = true;
            self.cluster.apply(&object, ApplyOptions::default()).await?.object
        };
        let asked = self.request_sync(&before, spec).await?;
        let target = self.wait_looked_at(&request.name, &before, asked, rest(request.limit, start)).await?;
        let before = Target::read(&before);
        changed |= (&before.url, &before.secret, &before.poll_interval)
            != (&target.url, &target.secret, &target.poll_interval);
        Ok((target, changed))
    }

    /// Asks Longhorn to look at the store now, with `spec` merged into the target's; gives the moment asked for.
    pub(super) async fn request_sync(&self, target: &Value, mut spec: Value) -> Result<Timestamp> {
        let now = Timestamp::now();
        // Longhorn looks when the request is later than its last look, both in whole seconds.
        let later = fields::time(target, "/status/lastSyncedAt")
            .and_then(|last| last.checked_add(SignedDuration::from_secs(1)).ok());
        let asked = later.map_or(now, |later| later.max(now));
        spec["syncRequestedAt"] = fields::seconds(asked).into();
        self.cluster.merge(&self.object(BACKUP_TARGET, fields::name(target))?, &json!({"spec": spec})).await?;
        Ok(asked)
    }

    /// Waits until the target is available and was looked at after the moment asked for.
    pub(super) async fn wait_looked_at(
        &self,
        name: &str,
        before: &Value,
        asked: Timestamp,
        limit: Duration,
    ) -> Result<Target> {
        let old_message = Target::read(before).message;
        let doing = format!("waiting for Longhorn to look at the backup target {name}");
        let check = |observer: &Observer| {
            let Some(object) = observer.object(0) else {
                return Err(Error::new(Kind::NotFound, format!("the backup target {name} was deleted")));
            };
            let target = Target::read(object);
            let looked =
                fields::time(object, "/status/lastSyncedAt").is_some_and(|last| last.as_second() >= asked.as_second());
            if target.available && looked {
                return Ok(ControlFlow::Break(target));
            }
            // The message of before the request says nothing about it.
            if let Some(message) =
                target.message.as_ref().filter(|_| !target.available && target.message != old_message)
            {
                return Err(unusable(name, message));
            }
            Ok(ControlFlow::Continue(match (&target.message, target.available) {
                (Some(message), false) => format!("not available: {}", message.trim()),
                (None, false) => "not available, without a reason".to_string(),
                (_, true) => format!("available, last looked at {}", target.last_synced.as_deref().unwrap_or("never")),
            }))
        };
        let reference = self.object(BACKUP_TARGET, name)?;
        let queries = [self.cluster.query(&reference).await?];
        let start = Instant::now();
        let mut waited = None;
        // The same failure again leaves no trace of its own, so it counts once it had time to be another.
        if old_message.is_some() {
            let first = self.cluster.watch(&queries, limit.min(SAME_FAILURE), &doing, check).await;
            if matches!(&first, Err(error) if error.kind() == Kind::Timeout) {
                let now = self.target(name).await?;
                if let Some(message) = now.message.filter(|_| !now.available) {
                    return Err(unusable(name, &message));
                }
            } else {
                waited = Some(first);
            }
        }
        let waited = match waited {
            Some(waited) => waited,
            None => self.cluster.watch(&queries, rest(limit, start), &doing, check).await,
        };
        waited.map_err(|error| {
            if error.kind() == Kind::Timeout && error.hint_text().is_none() {
                return error.object(reference.to_string()).hint(
                    "does the credential secret exist and is a Longhorn node ready? if it was looked at earlier than \
                     asked for, compare this machine's clock with the cluster's",
                );
            }
            error
        })
    }
}

/// What the webhook would refuse, said before anything is changed.
fn check_url(url: &str) -> Result<()> {
    TargetUrl::parse(url)?;
    if let Some(bad) = url.chars().find(|c| matches!(c, '$' | ',')) {
        return Err(Error::new(Kind::Invalid, format!("the backup target's URL has the character {bad:?}"))
            .hint("Longhorn refuses $ and , in it"));
    }
    Ok(())
}

async fn look(config: &StoreConfig) -> Result<()> {
    let store = Store::connect(config)?;
    match store.list_names("backupstore/").await {
        Ok(_) => Ok(()),
        // The cluster may reach a server that this machine does not; Longhorn's own answer decides then.
        Err(error) if error.kind() == Kind::Unreachable => {
            tracing::warn!(%error, "the backup target's server cannot be reached from here");
            Ok(())
        }
        Err(error) => Err(error.context("trying the backup target before it is configured")),
    }
}

fn unusable(name: &str, message: &str) -> Error {
    let message = message.trim();
    let error = Error::new(Kind::Failed, format!("Longhorn cannot use the backup target {name}: {message}"));
    let hints = [
        ("InvalidAccessKeyId", "the access key is not known to the server"),
        ("SignatureDoesNotMatch", "the secret key is wrong, or the region in the URL is not the bucket's"),
        ("NoSuchBucket", "the bucket does not exist; create it first"),
        ("PermanentRedirect", "the region in the URL is not the bucket's"),
        ("AuthorizationHeaderMalformed", "the region in the URL is not the bucket's"),
        ("RequestTimeTooSkewed", "the clocks of the nodes and the S3 server differ by more than 15 minutes"),
        ("x509", "the server's certificate is not trusted; give its CA as AWS_CERT"),
        ("http: server gave HTTP response", "the endpoint is http, not https"),
        ("connection refused", "nothing listens there; MinIO's console and API have different ports"),
        ("no such host", "the endpoint's host name cannot be resolved inside the cluster"),
        ("URL is empty", "the target has no URL"),
    ];
    match hints.iter().find(|(sign, _)| message.contains(sign)) {
        Some((_, hint)) => error.hint(*hint),
        None => error.hint("Longhorn's pods must reach the endpoint with these keys; see the logs of longhorn-manager"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverted_condition_is_read_the_right_way() {
        let mut object = json!({"metadata": {"name": "default"}, "spec": {"backupTargetURL": "s3://b@r/",
            "credentialSecret": "", "pollInterval": "5m0s"}, "status": {"available": false, "lastSyncedAt": null,
            "conditions": [{"type": "Unavailable", "status": "True", "reason": "Unavailable", "message": "no such host"}]}});
        let target = Target::read(&object);
        assert_eq!((target.available, target.message.as_deref()), (false, Some("no such host")));
        assert_eq!((target.secret, target.last_synced), (None, None));
        object["status"]["conditions"][0]["status"] = "False".into();
        object["status"]["available"] = true.into();
        let target = Target::read(&object);
        assert_eq!((target.available, target.message), (true, None));
    }

    #[test]
    fn urls_longhorn_refuses_are_refused_here() {
        assert!(check_url("s3://backups@eu-west-1/").is_ok());
        for url in ["s3://backups@eu-west-1", "s3://a,b@eu-west-1/", "s3://$bucket@eu-west-1/", "nfs://server/path"] {
            assert_eq!(check_url(url).unwrap_err().kind(), Kind::Invalid, "{url}");
        }
    }

    #[test]
    fn longhorns_messages_get_a_next_step() {
        let error = unusable("default", "failed to list: operation error S3: SignatureDoesNotMatch: …\n");
        assert!(error.hint_text().unwrap().contains("secret key is wrong"));
        assert!(unusable("default", "something else").hint_text().is_some());
    }
}
