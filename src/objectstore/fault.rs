//! What an S3 failure means for the operator: the SDK's errors as [`Error`]s.

use std::error::Error as StdError;

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use super::s3::Bucket;
use crate::{Error, Kind};

/// How much of an unknown answer is worth showing.
const EXCERPT: usize = 200;

impl Bucket {
    /// The failure of `doing` (`"reading"`) with that key (or prefix).
    pub(super) fn fault<E>(&self, doing: &str, key: &str, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let place = self.describe();
        let what = if key.is_empty() { format!("{doing} {place}") } else { format!("{doing} {key} in {place}") };
        let fault = |kind, text: &str| Error::new(kind, format!("{what}: {text}")).object(key);
        let endpoint = self.endpoint();

        if error.raw_response().is_some_and(is_html) {
            return fault(Kind::Unreachable, &format!("{endpoint} answered with a web page, not as an S3 server"))
                .hint("the endpoint is probably a console's or proxy's port: name the S3 API's own port");
        }
        match error {
            SdkError::ConstructionFailure(_) => {
                fault(Kind::Usage, "the request could not be built").source(cause(error))
            }
            SdkError::TimeoutError(_) => {
                fault(Kind::Timeout, &format!("{endpoint} did not answer in time")).hint(self.reach_hint())
            }
            SdkError::DispatchFailure(ref failure) if failure.is_timeout() => {
                fault(Kind::Timeout, &format!("{endpoint} did not answer in time")).hint(self.reach_hint())
            }
            SdkError::DispatchFailure(_) => fault(Kind::Unreachable, &format!("cannot reach {endpoint}"))
                .hint(self.reach_hint())
                .source(cause(error)),
            SdkError::ServiceError(ref answer) => {
                let status = answer.raw().status().as_u16();
                let code = answer.err().code().unwrap_or_default();
                self.answer(status, code, answer.err().message(), answer.raw(), &what).object(key)
            }
            // ResponseError, and whatever the SDK may add.
            _ => fault(Kind::Unreachable, &format!("the answer of {endpoint} is not S3")).source(cause(error)),
        }
    }

    /// An answer with an error status. `what` is the operation, key and place.
    fn answer(&self, status: u16, code: &str, message: Option<&str>, raw: &HttpResponse, what: &str) -> Error {
        let said = said(status, code, message, raw);
        let error = |kind| Error::new(kind, format!("{what}: {said}"));
        let key_id = self.key_id();
        match (status, code) {
            (_, "NoSuchBucket") => Error::new(Kind::NotFound, format!("{what}: the bucket does not exist"))
                .hint("check the bucket's name, the region and the endpoint"),
            (_, "NoSuchKey" | "NotFound") | (404, "") => Error::new(Kind::NotFound, format!("{what}: no such object")),
            (_, "RequestTimeTooSkewed") => {
                error(Kind::Denied).hint("the clocks of this machine and of the server differ: set them by NTP")
            }
            (_, "SignatureDoesNotMatch") => error(Kind::Denied)
                .hint(format!("the secret key does not belong to key id {key_id}, or this machine's clock is wrong")),
            (_, "InvalidAccessKeyId") => {
                error(Kind::Denied).hint(format!("the server does not know the key id {key_id}"))
            }
            (301 | 307, _) | (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
                let region = raw.headers().get("x-amz-bucket-region").map_or("another region", |region| region);
                error(Kind::Usage).hint(format!("the bucket is in {region}: correct the region or the endpoint"))
            }
            (401 | 403, _) => error(Kind::Denied)
                .hint(format!("key id {key_id} lacks the permission, its secret is wrong, or this machine's clock is")),
            (409 | 412, _) => error(Kind::Conflict),
            (400 | 404 | 405 | 411 | 416 | 501, _) => error(Kind::Invalid),
            (429 | 500..=599, _) => error(Kind::Unreachable).hint("the server is overloaded or failing: try later"),
            _ => error(Kind::Failed),
        }
    }

    fn reach_hint(&self) -> String {
        let server = self.endpoint();
        let scheme = if server.starts_with("http://") { "http" } else { "https" };
        format!("check that {server} is the S3 API, can be reached from here, and speaks {scheme}")
    }
}

/// Everything below the SDK's own variant, whose name ("dispatch failure") says nothing to an operator.
fn cause<E>(error: SdkError<E>) -> Box<dyn StdError + Send + Sync>
where
    E: StdError + Send + Sync + 'static,
{
    error.into_source().unwrap_or_else(|whole| Box::new(whole))
}

fn is_html(response: &HttpResponse) -> bool {
    response.headers().get("content-type").is_some_and(|kind| kind.trim_start().starts_with("text/html"))
}

/// What the server said: its code and message, else the start of its answer, always on one line.
fn said(status: u16, code: &str, message: Option<&str>, raw: &HttpResponse) -> String {
    let text = match message {
        Some(message) => message.to_owned(),
        None if code.is_empty() => String::from_utf8_lossy(raw.body().bytes().unwrap_or_default()).into_owned(),
        None => String::new(),
    };
    let text: String = text.chars().take(EXCERPT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut said = format!("the server answered {status}");
    if !code.is_empty() {
        said.push(' ');
        said.extend(code.chars().filter(|c| !c.is_control()));
    }
    if !text.trim().is_empty() {
        said.push_str(": ");
        said.push_str(text.trim().trim_end_matches('.'));
    }
    said
}
