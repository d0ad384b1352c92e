//! What an answer of the API server means: its kind of failure, and whether asking again can help.

use kube::core::Status;

use crate::{Error, Kind};

/// Text the API server puts in front of a failed call to an admission webhook.
const WEBHOOK_CALL: &str = "failed calling webhook";
/// Text that marks a webhook's own refusal, whatever its HTTP status (a mutating webhook's refusal is a 500).
const WEBHOOK_REFUSAL: &str = "denied the request";

/// Why a request should be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transient {
    /// The server or a webhook it needs is not ready for a moment, or asks to slow down.
    Busy,
    /// No connection.
    NoConnection,
}

/// Whether the failure is one that passes by itself.
///
/// A webhook that cannot be called answers 500 for the few seconds in which its own pods restart; a refusal by a
/// webhook is a 500 as well, and is final.
pub(super) fn transient(error: &kube::Error) -> Option<Transient> {
    match error {
        kube::Error::Api(status) => {
            let busy = match status.code {
                429 | 503 | 504 => true,
                500 => status.message.contains(WEBHOOK_CALL) && !status.message.contains(WEBHOOK_REFUSAL),
                409 => status.message.contains("the object has been modified"),
                _ => false,
            };
            busy.then_some(Transient::Busy)
        }
        kube::Error::HyperError(_) => Some(Transient::NoConnection),
        kube::Error::Service(cause) => (!is_tls(&chain(cause.as_ref()))).then_some(Transient::NoConnection),
        _ => None,
    }
}

/// The failure in the project's terms; `doing` says what was asked of which object.
pub(super) fn describe(error: kube::Error, doing: &str) -> Error {
    match error {
        kube::Error::Api(status) => refused(&status, doing),
        kube::Error::Service(cause) => {
            let text = chain(cause.as_ref());
            let error = Error::new(Kind::Unreachable, format!("{doing}: the API server cannot be reached: {text}"));
            if is_tls(&text) {
                error.hint("the server's certificate is not signed by the kubeconfig's certificate-authority; fetch a current kubeconfig")
            } else {
                error.hint("check that the server of the kubeconfig's context is up and reachable from here")
            }
        }
        kube::Error::HyperError(cause) => {
            Error::new(Kind::Unreachable, format!("{doing}: the connection to the API server broke")).source(cause)
        }
        kube::Error::Auth(cause) => {
            Error::new(Kind::Denied, format!("{doing}: no credentials could be obtained")).source(cause)
        }
        kube::Error::SerdeError(cause) => {
            Error::new(Kind::Invalid, format!("{doing}: the API server's answer is not what it must be")).source(cause)
        }
        kube::Error::UpgradeConnection(cause) => {
            Error::new(Kind::Failed, format!("{doing}: the stream could not be opened")).source(cause)
        }
        other => Error::new(Kind::Failed, doing.to_string()).source(other),
    }
}

fn refused(status: &Status, doing: &str) -> Error {
    let message = status.message.trim();
    let say = |kind| Error::new(kind, format!("{doing}: {message}"));
    if message.contains(WEBHOOK_REFUSAL) {
        return say(Kind::Invalid);
    }
    match status.code {
        401 => say(Kind::Denied).hint("the credentials of the kubeconfig's user were not accepted; they may have expired"),
        403 => say(Kind::Denied).hint("the kubeconfig's user lacks this permission; see kubectl auth can-i"),
        404 => say(Kind::NotFound),
        409 if message.contains("Apply failed with") => {
            say(Kind::Conflict).hint("another manager owns these fields; apply with force to take them over")
        }
        409 => say(Kind::Conflict),
        400 | 415 | 422 => say(Kind::Invalid),
        429 | 503 | 504 => say(Kind::Unreachable).hint("the API server stayed overloaded or not ready; try again later"),
        500 if message.contains(WEBHOOK_CALL) => say(Kind::Unreachable).hint(
            "the webhook's pods are not ready (for Longhorn: longhorn-manager in its namespace); look at their state and logs",
        ),
        _ => say(Kind::Failed),
    }
}

/// The causes of a connection failure, each said once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

fn is_tls(text: &str) -> bool {
    text.contains("certificate") || text.contains("CertificateRequired") || text.contains("HandshakeFailure")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, "").with_code(code).boxed())
    }

    #[test]
    fn a_webhook_that_cannot_be_called_passes_and_its_refusal_does_not() {
        let gone = "Internal error occurred: failed calling webhook \"validator.longhorn.io\": no endpoints available";
        let no = "admission webhook \"mutator.longhorn.io\" denied the request: cannot get backup backup-1";
        assert_eq!(transient(&api(500, gone)), Some(Transient::Busy));
        assert_eq!(transient(&api(500, no)), None);
        assert_eq!(describe(api(500, no), "create Volume v").kind(), Kind::Invalid);
        assert_eq!(describe(api(500, gone), "create Volume v").kind(), Kind::Unreachable);
    }

    #[test]
    fn overload_is_transient_and_a_wrong_object_is_not() {
        assert_eq!(transient(&api(429, "slow down")), Some(Transient::Busy));
        assert_eq!(transient(&api(503, "starting")), Some(Transient::Busy));
        assert_eq!(transient(&api(422, "spec.size: Required value")), None);
        assert_eq!(transient(&api(500, "etcd: something")), None);
    }

    #[test]
    fn codes_become_kinds() {
        let kind = |code| describe(api(code, "text"), "get Pod p").kind();
        assert_eq!(kind(401), Kind::Denied);
        assert_eq!(kind(403), Kind::Denied);
        assert_eq!(kind(404), Kind::NotFound);
        assert_eq!(kind(409), Kind::Conflict);
        assert_eq!(kind(422), Kind::Invalid);
        assert_eq!(kind(500), Kind::Failed);
        assert_eq!(
            describe(api(404, "pods \"p\" not found"), "get Pod p").message(),
            "get Pod p: pods \"p\" not found"
        );
    }
}
