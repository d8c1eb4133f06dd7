//! The place of objects, as it is configured: a folder of the state, or a bucket.

use std::sync::Arc;

use objects::{LocalObjects, ObjectError, ObjectStore};
use objects_s3::S3Objects;
use tracing::warn;

use crate::config::{Config, ConfigError, Env};
use crate::paths::State;
use crate::serve::ServeError;

/// The configured bucket; none where objects are in the state folder. Nothing is asked of its service.
pub fn bucket(config: &Config, env: &Env) -> Result<Option<S3Objects>, ConfigError> {
    let bucket = config.objects.bucket(env)?.map(|settings| S3Objects::new(&settings));
    bucket.transpose().map_err(|e| ConfigError(format!("objects.s3.{e}")))
}

/// The place of objects for a server, looked at: a bucket that refuses keeps the server from starting, one that cannot be
/// reached just now does not.
pub(crate) async fn open(
    config: &Config,
    state: &State,
    env: &Env,
) -> Result<Arc<dyn ObjectStore>, ServeError> {
    let Some(bucket) = bucket(config, env)? else {
        let path = state.objects();
        let opened = LocalObjects::open(path.clone()).map_err(|source| ServeError::State {
            doing: "cannot make the folder of objects",
            path: path.display().to_string(),
            source,
        });
        return Ok(Arc::new(opened?));
    };
    match bucket.check().await {
        Ok(()) => (),
        Err(failure @ (ObjectError::Refused { .. } | ObjectError::NotWritable { .. })) => {
            return Err(ServeError::Objects(failure));
        }
        Err(failure @ (ObjectError::Unavailable { .. } | ObjectError::Body { .. })) => {
            warn!(error = %failure, "the objects cannot be reached just now; traces and artifacts wait for them");
        }
    }
    Ok(Arc::new(bucket))
}
