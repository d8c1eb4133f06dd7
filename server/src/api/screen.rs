//! Screening at the edge: what a person says to an agent is looked at before anything is stored.

use protocol::rest::ErrorCode;
use screening::{Source, Verdict};

use super::{ApiError, App};

/// Seconds after which an outage may be over.
const TRY_AGAIN_S: u64 = 30;

/// Lets a text pass, with the warning that is to be told; `field` is what the person called it.
pub(super) async fn screened(
    app: &App,
    source: Source,
    field: &str,
    text: &str,
) -> Result<Option<String>, ApiError> {
    match app.orchestrator().screen(source, text).await {
        Ok(Verdict::Passed) => Ok(None),
        Ok(Verdict::Warned(reason)) => Ok(Some(reason)),
        Ok(Verdict::Blocked(reason)) => {
            Err(ApiError::invalid(format!("{field}: blocked by content policy: {reason}; rephrase it")))
        }
        Err(failure) => {
            let message = format!(
                "{field}: content screening is unavailable, so nothing was stored: {failure}; try again"
            );
            Err(ApiError::new(ErrorCode::ServiceUnavailable, message).retry_after(TRY_AGAIN_S))
        }
    }
}
