//! The AWS client against a test's bucket, without retries: what the server says is what the test sees.

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Builder, Config, Credentials, Region, RequestChecksumCalculation, retry::RetryConfig},
};
use serde::Deserialize;
use tokio::runtime::Runtime;

/// A bucket and its keys, as `lhrun sandbox up -o json` prints them.
#[derive(Clone, Debug, Deserialize)]
pub struct S3 {
    pub endpoint: String,
    pub region: String,
    pub bucket: String,
    pub access_key: String,
    pub secret_key: String,
}

/// A client of the bucket's server.
pub fn client(access: &S3) -> Client {
    with_keys(access, &access.access_key, &access.secret_key)
}

/// A client that sends a checksum with each body: AWS takes nothing else where locks apply.
pub fn with_checksums(access: &S3) -> Client {
    let config = config(access, &access.access_key, &access.secret_key);
    Client::from_conf(config.request_checksum_calculation(RequestChecksumCalculation::WhenSupported).build())
}

/// A client that says it is somebody else.
pub fn with_keys(access: &S3, access_key: &str, secret_key: &str) -> Client {
    Client::from_conf(config(access, access_key, secret_key).build())
}

fn config(access: &S3, access_key: &str, secret_key: &str) -> Builder {
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(access.region.clone()))
        .credentials_provider(Credentials::new(access_key, secret_key, None, None, "test"))
        .endpoint_url(&access.endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .retry_config(RetryConfig::disabled())
}

/// Makes the bucket; false while the server cannot.
pub fn create_bucket(access: &S3) -> bool {
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(client(access).create_bucket().bucket(&access.bucket).send()).is_ok()
}
