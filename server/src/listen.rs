//! The people's port: connections with bounds on what a head may be and how long it may take.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use domain::limit;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::peer::Peer;

/// After an accept that failed for want of descriptors or memory.
const BREATHE: Duration = Duration::from_millis(50);

/// Serves `routes` until `stop` ends, and then what is open to its end. Dropping it cuts what is open.
pub async fn serve(listener: TcpListener, routes: Router, stop: impl Future<Output = ()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limit::API_HEAD_READ)
        // Twice what the API takes: its refusal has our form, this library's is bare.
        .max_headers(2 * limit::API_HEADERS_MAX)
        .max_buf_size(2 * limit::API_HEAD_MAX_BYTES);
    let graceful = GracefulShutdown::new();
    let mut open = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(failure) => {
                warn!(error = %failure, "a connection could not be accepted");
                tokio::time::sleep(BREATHE).await;
                continue;
            }
        };
        // Answers are small and wanted at once.
        let _ = stream.set_nodelay(true);
        let routes = routes.clone().map_request(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer.ip()));
            request
        });
        let service = TowerToHyperService::new(routes);
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        open.spawn(async move {
            if let Err(failure) = connection.await {
                // Clients go away as they like.
                debug!(error = %failure, "a connection ended");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
    while open.join_next().await.is_some() {}
}
