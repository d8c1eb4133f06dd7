//! The tunnel: one stream of a box, on which its tools' connections to the proxy come in. Tools hold no token: the worker
//! opens the tunnel with its own, and what is said within is the attempt's.
//!
//! `GET /box/v1/tunnel` with `Upgrade: bgagent-tunnel`; after 101 the stream is HTTP/1.1, and the box is its client:
//!
//! | request | goes to |
//! |---|---|
//! | `CONNECT host:port`, `GET http://host/...` | the egress proxy |
//! | `GET /git/<task>.git/...` | the git proxy, as this attempt |
//! | anything else | 404 |

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as AxumRequest, State};
use axum::response::{IntoResponse as _, Response as AxumResponse};
use axum::routing::get;
use domain::limit;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use protocol::box_api::BoxErrorCode;
use tokio::net::UnixStream;
use tower::ServiceExt as _;
use tracing::warn;

use crate::auth::{Caller, Known, Refusal};
use crate::egress::attempt::Side;
use crate::egress::connect::{self, Opened};
use crate::egress::forward::Link;
use crate::{Gateway, git_proxy};

/// The name of the protocol in `Upgrade`.
pub const PROTOCOL: &str = "bgagent-tunnel";
/// A request's head comes within this time; so long a connection may wait for its next one.
const HEAD_WAIT: Duration = Duration::from_secs(60);

/// The route of the tunnel.
pub fn routes() -> Router<Gateway> {
    Router::new().route("/box/v1/tunnel", get(open))
}

async fn open(
    State(gateway): State<Gateway>,
    Caller(me): Caller,
    mut request: AxumRequest,
) -> Result<AxumResponse, Refusal> {
    if !asks_for_tunnel(request.headers()) {
        let message = format!("a tunnel is opened with `Connection: upgrade` and `Upgrade: {PROTOCOL}`");
        return Err(Refusal::new(BoxErrorCode::BadRequest, message));
    }
    let side = gateway.egress().side(gateway.orchestrator(), &me).await?.ok_or_else(Refusal::superseded)?;
    let Some(slot) = side.slot().await else {
        let message = format!(
            "this attempt has {} connections to the network already; close some",
            limit::EGRESS_CONNECTIONS_PER_ATTEMPT
        );
        return Err(Refusal::new(BoxErrorCode::EventLimit, message));
    };
    let upgrade = hyper::upgrade::on(&mut request);
    gateway.egress().clone().spawn(&side.clone(), async move {
        match upgrade.await {
            Ok(stream) => serve(Some(git_proxy::routes().with_state(gateway)), side, stream).await,
            Err(failure) => warn!(error = %failure, "a tunnel was not taken"),
        }
        drop(slot);
    });
    let mut answer = StatusCode::SWITCHING_PROTOCOLS.into_response();
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(answer)
}

fn asks_for_tunnel(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        values.flat_map(|v| v.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, PROTOCOL)
}

/// How requests of boxes are read, bounded in every direction.
pub(crate) fn server() -> http1::Builder {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_headers(limit::EGRESS_HEADERS_MAX)
        .max_header_size(limit::EGRESS_HEAD_MAX_BYTES)
        .max_buf_size(limit::EGRESS_HEAD_MAX_BYTES);
    server
}

/// Serves one stream of a command that the owner runs in a box: the proxy, and nothing of git.
pub async fn serve_owner(side: Arc<Side>, stream: UnixStream) {
    serve(None, side, TokioIo::new(stream)).await;
}

/// Serves one stream of a box until it ends.
async fn serve<S>(git: Option<Router>, side: Arc<Side>, stream: S)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let link = Arc::new(Link::new(side.clone()));
    let opened: Arc<Mutex<Option<Opened>>> = Arc::default();
    let service = {
        let (side, opened) = (side.clone(), opened.clone());
        hyper::service::service_fn(move |request: Request<Incoming>| {
            let (side, link, git, opened) = (side.clone(), link.clone(), git.clone(), opened.clone());
            let request = request.map(Body::new);
            async move { Ok::<_, Infallible>(answer(&side, &link, git, &opened, request).await) }
        })
    };
    let served = server().serve_connection(stream, service).with_upgrades().await;
    let opened = opened.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let (Ok(()), Some(opened)) = (served, opened) {
        opened.carry(side).await;
    }
}

async fn answer(
    side: &Arc<Side>,
    link: &Link,
    git: Option<Router>,
    opened: &Mutex<Option<Opened>>,
    mut request: Request<Body>,
) -> Response<Body> {
    if let Err(answer) = still_counts(side).await {
        return *answer;
    }
    if request.method() == Method::CONNECT {
        return match connect::open(side, &mut request).await {
            Ok(granted) => {
                *opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(granted);
                connect::granted()
            }
            Err(refusal) => side.refused(&refusal).await,
        };
    }
    if request.uri().scheme().is_some() {
        return link.absolute(request).await;
    }
    if let (Some(git), Some(identity)) = (git, side.identity())
        && request.uri().path().starts_with("/git/")
    {
        request.extensions_mut().insert(Known(identity.clone()));
        return match git.oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
    }
    text(
        StatusCode::NOT_FOUND,
        "bgagent: this is the box's proxy: it takes `http://` URLs, CONNECT, and /git/<task>.git; see HTTP_PROXY\n",
    )
}

/// Asks the record whether the attempt still counts; the answer to its request when not.
pub(crate) async fn still_counts(side: &Side) -> Result<(), Box<Response<Body>>> {
    match side.is_current().await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Box::new(text(StatusCode::CONFLICT, "bgagent: this attempt is over\n"))),
        Err(_) => {
            let words = "bgagent: the control plane cannot answer now; try again\n";
            Err(Box::new(text(StatusCode::SERVICE_UNAVAILABLE, words)))
        }
    }
}

fn text(status: StatusCode, words: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::from(words));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    answer
}
