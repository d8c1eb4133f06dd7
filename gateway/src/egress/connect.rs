//! CONNECT: a way for bytes to an allowed host, once its first bytes are known to be for that host. Where there is a
//! credential to add, or no TLS to pass through, the proxy reads the requests itself.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use domain::limit;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::attempt::{Passage, Side};
use super::dial::{Cargo, Dialed};
use super::forward::{Destination, Link, Tls};
use super::hello::{First, Guarded, Named, OtherHost, first, names};
use super::policy::Speech;
use super::stream::{Counted, Io, Pulse, Rewound};
use super::target::Target;
use super::told::Refusal;
use crate::tunnel;

/// A tool says something within this time after its CONNECT was answered.
const FIRST_WAIT: Duration = Duration::from_secs(30);

/// A CONNECT that was granted: what is left to do once the tool has its answer.
pub struct Opened {
    target: Target,
    passage: Passage,
    dialed: Dialed,
    upgrade: OnUpgrade,
}

/// Decides about a CONNECT and connects to its host.
pub async fn open(side: &Side, request: &mut Request<Body>) -> Result<Opened, Refusal> {
    let authority = request.uri().authority().map_or("", |a| a.as_str());
    let target =
        Target::parse(authority, None).map_err(|bad| Refusal::BadTarget(authority.to_owned(), bad))?;
    let passage = side.permit(&target).await?;
    let dialed = side.egress.parts().dial(&side.policy, &target, passage.reach, Cargo::Bytes).await?;
    side.passed(&target, &passage).await;
    Ok(Opened { target, passage, dialed, upgrade: hyper::upgrade::on(request) })
}

/// The answer to a granted CONNECT.
pub fn granted() -> Response<Body> {
    Response::new(Body::empty())
}

impl Opened {
    /// Carries the connection until either side is done.
    pub async fn carry(self, side: Arc<Side>) {
        let Opened { target, passage, dialed, upgrade } = self;
        let Ok(upgraded) = upgrade.await else { return };
        let mut client = TokioIo::new(upgraded);
        let credential = side.policy.credentials_of(&target).any(|c| c.tls);
        if passage.speech == Speech::Any && !credential {
            return pass(&side, &target, Guarded::new(client, target.clone()), dialed.io).await;
        }
        let Some((what, bytes)) = first(&mut client, FIRST_WAIT).await else { return };
        let client = Rewound::new(bytes, client);
        let reach = passage.reach;
        match what {
            First::Tls(name) if names(&target, name.as_deref()) == Named::Same => {
                if credential {
                    end_tls(side, Destination { target, tls: Tls::Yes, reach }, client, dialed).await;
                } else {
                    pass(&side, &target, client, dialed.io).await;
                }
            }
            First::Other if !credential => {
                read(side, Destination { target, tls: Tls::No, reach }, client, dialed).await
            }
            First::Tls(_) | First::Broken | First::Other => {
                side.refused(&Refusal::OtherHost(target)).await;
            }
        }
    }
}

/// Passes bytes both ways, until both are done or nothing moves any more.
async fn pass(
    side: &Side,
    target: &Target,
    mut client: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    host: Io,
) {
    let pulse = Pulse::new();
    let mut host = Counted::new(host, pulse.clone());
    let ended = tokio::select! {
        ended = tokio::io::copy_bidirectional(&mut client, &mut host) => ended,
        () = pulse.stopped(limit::EGRESS_IDLE) => return,
    };
    if let Err(failure) = ended
        && failure.get_ref().is_some_and(|e| e.is::<OtherHost>())
    {
        side.refused(&Refusal::OtherHost(target.clone())).await;
    }
}

/// Ends the box's TLS here, with a certificate that boxes trust, and reads its requests.
async fn end_tls(
    side: Arc<Side>,
    destination: Destination,
    client: Rewound<TokioIo<Upgraded>>,
    dialed: Dialed,
) {
    let config =
        side.egress.parts().authority.as_ref().map(|a| a.server_config(&destination.target.host, side.now()));
    let Some(Ok(config)) = config else {
        let why = "no certificate for it could be made".to_owned();
        side.refused(&Refusal::Certificate(destination.target, why)).await;
        return;
    };
    let shaken = tokio::time::timeout(FIRST_WAIT, TlsAcceptor::from(config).accept(client)).await;
    match shaken {
        Ok(Ok(client)) => read(side, destination, client, dialed).await,
        Ok(Err(failure)) => debug!(error = %failure, "a box did not take the proxy's certificate"),
        Err(_) => (),
    }
}

/// Reads requests and sends each to `destination`, over the connection that was made for it.
async fn read(
    side: Arc<Side>,
    destination: Destination,
    client: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    dialed: Dialed,
) {
    let link = Arc::new(Link::new(side.clone()));
    // When the host's TLS is not good, each request is told so.
    let kept = link.keep(destination.clone(), dialed).await;
    if let Err(refusal) = &kept {
        debug!(error = %refusal, "the host of a CONNECT is not good");
    }
    let destination = Arc::new(destination);
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (side, link, destination) = (side.clone(), link.clone(), destination.clone());
        async move {
            Ok::<_, std::convert::Infallible>(match tunnel::still_counts(&side).await {
                Ok(()) => link.origin(&destination, request.map(Body::new)).await,
                Err(answer) => *answer,
            })
        }
    });
    let _ = tunnel::server().serve_connection(TokioIo::new(client), service).await;
}
