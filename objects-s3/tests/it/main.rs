//! A service nobody here wrote keeps objects as the suite wants; and what only a bucket, or a service that fails, can show.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod broken;
mod bucket;
mod role;
mod stub;

use std::time::Duration;

use objects_s3::{Addressing, Credentials, S3Objects, Settings};

const SECRET: &str = "wJalrXUtnFEMI-secret-of-the-test";
const TOKEN: &str = "FwoGZXIvYXdzEBYaD-session-of-the-test";

/// A bucket at `url`, that is waited for at most `patience`.
fn settings(url: &str, bucket: &str, prefix: &str, patience: Duration) -> Settings {
    Settings {
        bucket: bucket.into(),
        prefix: prefix.into(),
        region: "us-east-1".into(),
        endpoint: Some(url.parse().unwrap()),
        addressing: Addressing::Path,
        credentials: Credentials::Keys {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: SECRET.into(),
            session_token: Some(TOKEN.into()),
        },
        patience,
    }
}

fn objects(url: &str, bucket: &str, prefix: &str) -> S3Objects {
    S3Objects::new(&settings(url, bucket, prefix, Duration::from_secs(30))).unwrap()
}
