//! Plain requests: read by the proxy, made anew, and sent to the host that was decided about. Framing is the proxy's own
//! on both sides, so what one side takes for the end of a request the other does too.

use std::sync::Arc;

use axum::body::Body;
use domain::limit;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::attempt::{Passage, Side};
use super::credential::Credential;
use super::dial::{Cargo, Dialed};
use super::outer::OuterProxy;
use super::resolve::Reach;
use super::stream::{Counted, Pulse};
use super::target::Target;
use super::told::Refusal;

/// Headers that are of one connection, and never passed on.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header is the proxy's own to set: of the connection, of the framing, or the host.
pub fn is_framing(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name.as_str()) || ["content-length", "host", "expect"].contains(&name.as_str())
}

/// Takes out what is of one connection, and what `Connection` names as such.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Where requests go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The host.
    pub target: Target,
    /// Whether it is spoken to over TLS.
    pub tls: Tls,
    /// Whether an address that is not public will do.
    pub reach: Reach,
}

/// Whether TLS is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// The way to hosts that one connection of a tool has: the last connection to a host is kept for its next request.
pub struct Link {
    side: Arc<Side>,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    destination: Destination,
    sender: SendRequest<Body>,
    outer: Option<OuterProxy>,
}

impl Link {
    /// A link without a connection yet.
    pub fn new(side: Arc<Side>) -> Link {
        Link { side, kept: Mutex::new(None) }
    }

    /// Keeps a connection that was made already.
    pub async fn keep(&self, destination: Destination, dialed: Dialed) -> Result<(), Refusal> {
        let kept = self.speak(destination, dialed).await?;
        *self.kept.lock().await = Some(kept);
        Ok(())
    }

    /// Answers a request in absolute form.
    pub async fn absolute(&self, request: Request<Body>) -> Response<Body> {
        match self.absolute_or_refusal(request).await {
            Ok(answer) => answer,
            Err(refusal) => self.side.refused(&refusal).await,
        }
    }

    async fn absolute_or_refusal(&self, request: Request<Body>) -> Result<Response<Body>, Refusal> {
        let uri = request.uri();
        if echoes(request.method()) {
            return Err(Refusal::Method(request.method().to_string()));
        }
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(Refusal::Scheme(uri.scheme_str().unwrap_or("these").to_owned()));
        }
        let authority = uri.authority().map_or("", |a| a.as_str());
        let target = Target::parse(authority, Some(80))
            .map_err(|bad| Refusal::BadTarget(authority.to_owned(), bad))?;
        let passage = self.side.permit(&target).await?;
        let destination = Destination { target, tls: Tls::No, reach: passage.reach };
        self.send(destination, request, Some(&passage)).await
    }

    /// Answers a request within a connection that CONNECT opened to `destination`, and that the proxy reads.
    pub async fn origin(&self, destination: &Destination, request: Request<Body>) -> Response<Body> {
        if request.uri().authority().is_some() || request.method() == Method::CONNECT {
            let text = "bgagent egress: a request within a CONNECT must be for its host, by path\n";
            let mut answer = Response::new(Body::from(text));
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            return answer;
        }
        let sent = if echoes(request.method()) {
            Err(Refusal::Method(request.method().to_string()))
        } else {
            self.send(destination.clone(), request, None).await
        };
        match sent {
            Ok(answer) => answer,
            Err(refusal) => self.side.refused(&refusal).await,
        }
    }

    /// Sends a request to `destination`; `passage` is told once there is a connection.
    async fn send(
        &self,
        destination: Destination,
        request: Request<Body>,
        passage: Option<&Passage>,
    ) -> Result<Response<Body>, Refusal> {
        let mut kept = self.kept.lock().await;
        let target = destination.target.clone();
        let usable = kept.take().filter(|k| k.destination == destination && !k.sender.is_closed());
        let mut fresh = usable.is_none();
        let mut way = match usable {
            Some(way) => way,
            None => self.dial(&destination).await?,
        };
        if let Some(passage) = passage {
            self.side.passed(&target, passage).await;
        }
        let broken = |e: hyper::Error| Refusal::Broken(target.clone(), without_source(&e));
        let credentials = self.side.policy.credentials_of(&target);
        let mut request = outgoing(request, &destination, way.outer.as_ref(), credentials);
        let answer = loop {
            if way.sender.ready().await.is_err() && !fresh {
                (way, fresh) = (self.dial(&destination).await?, true);
            }
            match way.sender.try_send_request(request).await {
                Ok(answer) => break answer,
                // The host closed a kept connection before it took anything.
                Err(mut failed) => match failed.take_message().filter(|_| !fresh) {
                    Some(unsent) => {
                        (way, fresh) = (self.dial(&destination).await?, true);
                        request = unsent;
                    }
                    None => return Err(broken(failed.into_error())),
                },
            }
        };
        *kept = Some(way);
        Ok(incoming(answer.map(Body::new)))
    }

    async fn dial(&self, destination: &Destination) -> Result<Kept, Refusal> {
        let cargo = match destination.tls {
            Tls::Yes => Cargo::Bytes,
            Tls::No => Cargo::Plain,
        };
        let Destination { target, reach, .. } = destination;
        let dialed = self.side.egress.parts().dial(&self.side.policy, target, *reach, cargo).await?;
        self.speak(destination.clone(), dialed).await
    }

    /// Begins HTTP on a connection.
    async fn speak(&self, destination: Destination, dialed: Dialed) -> Result<Kept, Refusal> {
        let target = &destination.target;
        let pulse = Pulse::new();
        let Dialed { io, outer } = dialed;
        let io = match destination.tls {
            Tls::No => io,
            Tls::Yes => {
                let config = self.side.policy.credentials_of(target).find_map(|c| c.client_config.clone());
                let refused = |why: String| Refusal::Certificate(target.clone(), why);
                let config =
                    config.ok_or_else(|| refused("TLS is ended for hosts with a credential only".into()))?;
                let name = target.host.to_string();
                let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned());
                let name = name.map_err(|e| refused(e.to_string()))?;
                let shaken = TlsConnector::from(config).connect(name, io);
                let shaken = tokio::time::timeout(limit::EGRESS_CONNECT_TIMEOUT, shaken).await;
                let io = shaken.map_err(|_| refused("no answer in time".into()))?;
                Box::new(io.map_err(|e| refused(e.to_string()))?)
            }
        };
        let io = TokioIo::new(Counted::new(io, pulse.clone()));
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_headers(limit::EGRESS_HEADERS_MAX)
            .handshake::<_, Body>(io)
            .await
            .map_err(|e| Refusal::Broken(target.clone(), without_source(&e)))?;
        self.side.egress.spawn(&self.side, async move {
            tokio::select! {
                _ = connection => (),
                () = pulse.stopped(limit::EGRESS_IDLE) => (),
            }
        });
        Ok(Kept { destination, sender, outer })
    }
}

/// The request as it leaves: for this host and no other, whatever the box wrote in `Host`.
pub fn outgoing<'a>(
    request: Request<Body>,
    destination: &Destination,
    outer: Option<&OuterProxy>,
    credentials: impl IntoIterator<Item = &'a Credential>,
) -> Request<Body> {
    let (mut head, body) = request.into_parts();
    strip(&mut head.headers);
    // The length is known from the body, and so is whether it comes in chunks.
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.remove(header::EXPECT);
    let Destination { target, tls, .. } = destination;
    let host = target.host_header(if *tls == Tls::Yes { 443 } else { 80 });
    if let Ok(value) = HeaderValue::from_str(&host) {
        head.headers.insert(header::HOST, value);
    }
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    head.uri = Uri::from(path);
    if let Some(outer) = outer {
        let absolute = format!("http://{host}{}", head.uri);
        head.uri = absolute.parse().unwrap_or(head.uri);
        if let Some(value) = &outer.authorization {
            head.headers.insert(header::PROXY_AUTHORIZATION, value.clone());
        }
    }
    for credential in credentials.into_iter().filter(|c| c.tls == (*tls == Tls::Yes)) {
        credential.add(&mut head.headers);
    }
    head.version = Version::HTTP_11;
    // What is left there is of the connection to the box.
    head.extensions = http::Extensions::new();
    Request::from_parts(head, body)
}

/// Methods that send back what they were sent, credentials too.
fn echoes(method: &Method) -> bool {
    ["TRACE", "TRACK", "DEBUG"].contains(&method.as_str())
}

/// The answer as the box gets it.
fn incoming(answer: Response<Body>) -> Response<Body> {
    let (mut head, body) = answer.into_parts();
    let chunked = head.headers.contains_key(header::TRANSFER_ENCODING);
    strip(&mut head.headers);
    if chunked {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    head.version = Version::HTTP_11;
    Response::from_parts(head, body)
}

/// What went wrong, without what the host sent.
fn without_source(error: &hyper::Error) -> String {
    if error.is_parse() { "its answer is no HTTP".into() } else { error.to_string() }
}
