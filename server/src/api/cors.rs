//! Pages of other origins may use `/v1`, as the contract has it: they bring a key in a header, never a cookie, so a page
//! can do no more than whoever holds the key.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// What a page may send.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
const HEADERS: &str = "Content-Type, Authorization, X-API-Key, Idempotency-Key, Last-Event-ID";
/// What a page may read of an answer.
const EXPOSED: &str = "X-Request-Id, Idempotent-Replay, Retry-After";
/// How long a browser may remember the answer to its preflight, in seconds.
const REMEMBER: &str = "600";

/// Whether this path is part of the contract.
pub(super) fn open(path: &str) -> bool {
    path == "/v1" || path.starts_with("/v1/")
}

/// The answer to a browser that asks whether a page may send a request.
pub(super) fn preflight<B>(request: &Request<B>) -> Option<Response> {
    let asks = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    (asks && open(request.uri().path())).then(|| {
        let answer: [(HeaderName, &str); 3] = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
            (header::ACCESS_CONTROL_MAX_AGE, REMEMBER),
        ];
        (StatusCode::NO_CONTENT, answer).into_response()
    })
}

/// The headers of every answer of the contract.
pub(super) fn set(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}
