//! Bounds on the head of a request, kept here so that the refusal has our form and an id. The HTTP library has no hook for
//! its own refusals (400 for what is no HTTP, 431 beyond twice these bounds): those are bare.

use axum::extract::Request;
use domain::limit;
use protocol::rest::ErrorCode;

use super::ApiError;

/// The refusal of a head that is too large.
pub(super) fn too_large(request: &Request) -> Option<ApiError> {
    let headers = request.headers();
    if headers.len() > limit::API_HEADERS_MAX {
        let message = format!(
            "a request may have {} header fields, this one has {}",
            limit::API_HEADERS_MAX,
            headers.len()
        );
        return Some(ApiError::new(ErrorCode::HeadersTooLarge, message));
    }
    let uri = request.uri().to_string().len();
    // `name: value` and the end of the line.
    let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    (uri + fields > limit::API_HEAD_MAX_BYTES).then(|| {
        let message =
            format!("address and header fields may have {} bytes together", limit::API_HEAD_MAX_BYTES);
        ApiError::new(ErrorCode::HeadersTooLarge, message)
    })
}
