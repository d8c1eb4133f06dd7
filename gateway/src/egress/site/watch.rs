//! Finding out where a tool goes by watching it: it is given a proxy that notes the host and refuses.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::address::Address;
use super::{Origin, Site};

/// A tool sends its request at once.
const REQUEST: Duration = Duration::from_secs(3);
/// Longest request head that is read.
const HEAD_MAX: usize = 16 * 1024;
/// Hosts that are noted.
const SEEN_MAX: usize = 16;

/// Where a tool went.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Vec<Site>>>);

impl Seen {
    fn note(&self, site: Site) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < SEEN_MAX && !seen.contains(&site) {
            seen.push(site);
        }
    }

    /// All hosts, in order.
    pub(super) fn sites(&self) -> Vec<Site> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs `act` with the address of a proxy (`http://127.0.0.1:port`) that lets nothing through; returns what `act` gave
/// and the hosts it was asked for.
pub(super) async fn watch<T>(act: impl AsyncFnOnce(String) -> T) -> io::Result<(T, Vec<Site>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let proxy = format!("http://{}", listener.local_addr()?);
    let seen = Seen::default();
    let refuse = async {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                // One after the other: a tool that is refused ends soon.
                let _ = tokio::time::timeout(REQUEST, refuse(stream, &seen)).await;
            }
        }
    };
    let given = tokio::select! {
        given = act(proxy) => given,
        () = refuse => unreachable!("it goes on for ever"),
    };
    Ok((given, seen.sites()))
}

async fn refuse(mut stream: TcpStream, seen: &Seen) -> io::Result<()> {
    let mut head = Vec::new();
    while head.len() < HEAD_MAX && !head.windows(4).any(|w| w == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    if let Some(site) = asked_for(&String::from_utf8_lossy(&head)) {
        seen.note(site);
    }
    stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
    stream.shutdown().await
}

/// The host of a request's first line: `CONNECT host:port` or `GET http://host/...`.
fn asked_for(head: &str) -> Option<Site> {
    let mut words = head.lines().next()?.split(' ');
    match (words.next()?, words.next()?) {
        ("CONNECT", authority) => {
            // Of a known scheme, so that the host is read as everywhere.
            let url = Url::parse(&format!("https://{authority}/")).ok()?;
            let site = Address::read(url.as_str())?.site;
            Some(Site { port: url.port_or_known_default()?, origin: Origin::Configured, ..site })
        }
        (_method, target) => Some(Address::read(target)?.site),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_name_hosts() {
        let told = |line: &str| asked_for(line).map(|site| format!("{site} {}", site.tls));
        assert_eq!(told("CONNECT a.example:443 HTTP/1.1\r\n").as_deref(), Some("a.example:443 true"));
        assert_eq!(told("CONNECT a.example:8443 HTTP/1.1\r\n").as_deref(), Some("a.example:8443 true"));
        assert_eq!(told("GET http://A.example/config.json HTTP/1.1").as_deref(), Some("a.example:80 false"));
        assert_eq!(told("GET /config.json HTTP/1.1"), None);
        assert_eq!(told(""), None);
    }
}
