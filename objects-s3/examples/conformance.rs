//! Whether a service keeps objects as bgagent needs them: `conformance ENDPOINT BUCKET [PREFIX]`, with AWS_ACCESS_KEY_ID,
//! AWS_SECRET_ACCESS_KEY and, if the service has some, AWS_REGION. Nothing may be below the prefix; nothing is left there.

use std::time::Duration;

use objects_s3::{Addressing, Credentials, S3Objects, Settings};

#[expect(clippy::disallowed_methods, reason = "a program by itself")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, bucket, prefix @ ..] = words.as_slice() else {
        anyhow::bail!("usage: conformance ENDPOINT BUCKET [PREFIX]");
    };
    let place = S3Objects::new(&Settings {
        bucket: bucket.clone(),
        prefix: prefix.first().cloned().unwrap_or_default(),
        region: std::env::var("AWS_REGION").unwrap_or_else(|_| "us-east-1".into()),
        endpoint: Some(endpoint.parse()?),
        addressing: Addressing::Path,
        credentials: Credentials::Keys {
            access_key_id: std::env::var("AWS_ACCESS_KEY_ID")?,
            secret_access_key: std::env::var("AWS_SECRET_ACCESS_KEY")?.into(),
            session_token: None,
        },
        patience: Duration::from_secs(30),
    })?;
    place.check().await?;
    objects::conformance::run(&place.clone().with_parts_of(5 * 1024 * 1024)).await;
    println!("{} keeps objects as they are needed", place.address());
    Ok(())
}
