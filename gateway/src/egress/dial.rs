//! Makes the connection to a host: to an address that was checked just now, or through the proxy this machine must use.

use std::io;
use std::net::SocketAddr;

use axum::body::Body;
use domain::limit;
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::EgressParts;
use super::outer::{OuterProxy, is_local_name};
use super::policy::Policy;
use super::resolve::{Reach, check};
use super::stream::Io;
use super::target::Target;
use super::told::Refusal;

/// A connection that leads to a host.
pub struct Dialed {
    /// The stream.
    pub io: Io,
    /// Set when a plain request on it must be in the form for proxies.
    pub outer: Option<OuterProxy>,
}

/// What goes over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cargo {
    /// Requests of HTTP without TLS.
    Plain,
    /// Bytes.
    Bytes,
}

impl EgressParts {
    /// Connects to `target`, which the policy has allowed. Looks its name up, checks every address, and connects to one
    /// of these.
    pub async fn dial(
        &self,
        policy: &Policy,
        target: &Target,
        reach: Reach,
        cargo: Cargo,
    ) -> Result<Dialed, Refusal> {
        match &self.outer {
            Some(outer) if !outer.is_past(target) && !policy.named_private(target) => {
                self.through(outer, target, reach, cargo).await
            }
            Some(_) | None => {
                let addresses = self.resolve(target, reach).await?;
                let stream = connect(target, &addresses).await?;
                if reach == Reach::Public && is_this_machine(&stream) {
                    return Err(Refusal::Special(target.clone(), super::address::Special::Loopback));
                }
                Ok(Dialed { io: Box::new(stream), outer: None })
            }
        }
    }

    async fn resolve(&self, target: &Target, reach: Reach) -> Result<Vec<SocketAddr>, Refusal> {
        let addresses = match (target.ip(), &target.host) {
            (Some(ip), _) => vec![ip],
            (None, host) => {
                let host = host.to_string();
                let asked = timeout(limit::EGRESS_CONNECT_TIMEOUT, self.resolver.addresses(&host)).await;
                asked.ok().and_then(Result::ok).unwrap_or_default()
            }
        };
        if addresses.is_empty() {
            return Err(Refusal::NotFound(target.clone()));
        }
        check(&addresses, target.port, reach).map_err(|special| Refusal::Special(target.clone(), special))
    }

    async fn through(
        &self,
        outer: &OuterProxy,
        target: &Target,
        reach: Reach,
        cargo: Cargo,
    ) -> Result<Dialed, Refusal> {
        match target.ip() {
            Some(ip) => {
                check(&[ip], target.port, reach)
                    .map_err(|special| Refusal::Special(target.clone(), special))?;
            }
            None if is_local_name(&target.host) && reach == Reach::Public => {
                return Err(Refusal::LocalName(target.clone()));
            }
            None => (),
        }
        // The operator named the proxy, wherever it is.
        let addresses = self.resolve(&outer.target, Reach::Named).await?;
        let stream = connect(&outer.target, &addresses).await?;
        match cargo {
            Cargo::Plain => Ok(Dialed { io: Box::new(stream), outer: Some(outer.clone()) }),
            Cargo::Bytes => {
                let opened = timeout(limit::EGRESS_CONNECT_TIMEOUT, self.open(stream, outer, target)).await;
                let opened = opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut)).flatten();
                let io = opened
                    .map_err(|e| Refusal::Unreachable(target.clone(), format!("the outer proxy: {e}")))?;
                Ok(Dialed { io, outer: None })
            }
        }
    }

    /// Asks the outer proxy for a way through.
    async fn open(&self, stream: TcpStream, outer: &OuterProxy, target: &Target) -> io::Result<Io> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let mut request = Request::connect(target.to_string()).header(http::header::HOST, target.to_string());
        if let Some(value) = &outer.authorization {
            request = request.header(http::header::PROXY_AUTHORIZATION, value);
        }
        let request = request.body(Body::empty()).map_err(io::Error::other)?;
        let asked = async {
            let answer = sender.send_request(request).await.map_err(io::Error::other)?;
            if !answer.status().is_success() {
                return Err(io::Error::other(format!("it answered {}", answer.status())));
            }
            hyper::upgrade::on(answer).await.map_err(io::Error::other)
        };
        tokio::pin!(asked);
        let asked = tokio::select! {
            asked = &mut asked => asked,
            // Its end is the upgrade, or a failure that the answer tells.
            _ = connection.with_upgrades() => asked.await,
        };
        Ok(Box::new(TokioIo::new(asked?)))
    }
}

/// Tries the addresses one after the other, all within the time for one connection.
async fn connect(target: &Target, addresses: &[SocketAddr]) -> Result<TcpStream, Refusal> {
    match timeout(limit::EGRESS_CONNECT_TIMEOUT, TcpStream::connect(addresses)).await {
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(e)) => Err(Refusal::Unreachable(target.clone(), e.kind().to_string())),
        Err(_) => Err(Refusal::Unreachable(target.clone(), "no connection in time".into())),
    }
}

/// Whether a connection ended where it began: at this machine, under one of its public addresses.
fn is_this_machine(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(here), Ok(there)) if here.ip() == there.ip())
}
