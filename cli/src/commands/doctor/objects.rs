//! Whether the configured bucket keeps objects.

use server::Config;
use server::config::Env;

use super::check;
use crate::render::doctor::{Check, Verdict};

/// A check of the bucket, with an object that is written, read and removed; none where objects are in the state folder.
pub async fn bucket(config: &Config, env: &Env) -> Option<Check> {
    let fix =
        "Correct [objects.s3] or the bucket; until then traces, artifacts and attachments cannot be kept.";
    let failed = |detail: String| check("objects", Verdict::Fail, detail, Some(fix.into()));
    let bucket = match server::objects::bucket(config, env) {
        Ok(bucket) => bucket?,
        Err(failure) => return Some(failed(failure.to_string())),
    };
    Some(match bucket.check().await {
        Ok(()) => check(
            "objects",
            Verdict::Ok,
            format!("{} can be written, read and listed", bucket.address()),
            None,
        ),
        Err(failure) => failed(failure.to_string()),
    })
}
