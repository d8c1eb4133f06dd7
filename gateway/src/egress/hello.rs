//! The first bytes of a stream that was opened with CONNECT: whether they are TLS, and whose name that TLS says. A name
//! other than the one that was allowed is another host behind the same address.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use url::Host;

use super::target::{Target, read_host};

/// Bytes of a greeting; today's have 2 KiB.
const HELLO_MAX: usize = 64 * 1024;

/// What the first bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// TLS for the host of this name, or without one.
    Tls(Option<String>),
    /// Something else.
    Other,
    /// They begin like TLS and are none.
    Broken,
}

/// Reads a greeting as it comes.
#[derive(Default)]
pub struct Hello {
    acceptor: Acceptor,
    seen: usize,
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hello({} bytes)", self.seen)
    }
}

impl Hello {
    /// Takes the next bytes; `None` when more are needed.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Option<First> {
        // A record of TLS begins with its kind (22 is a greeting's) and the major version.
        let odd = |(at, byte): (usize, &u8)| {
            matches!(self.seen + at, 0 | 1) && *byte != [0x16, 0x03][self.seen + at]
        };
        if bytes.iter().enumerate().take(2).any(odd) {
            return Some(First::Other);
        }
        self.seen += bytes.len();
        while !bytes.is_empty() {
            match self.acceptor.read_tls(&mut bytes) {
                Ok(0) | Err(_) => return Some(First::Broken),
                Ok(_) => (),
            }
            match self.acceptor.accept() {
                Ok(Some(accepted)) => {
                    return Some(First::Tls(accepted.client_hello().server_name().map(str::to_owned)));
                }
                Ok(None) => (),
                Err(_) => return Some(First::Broken),
            }
        }
        (self.seen > HELLO_MAX).then_some(First::Broken)
    }
}

/// Whether TLS that says `name` may go to `target`.
pub fn names(target: &Target, name: Option<&str>) -> Named {
    match (name, &target.host) {
        (None, Host::Ipv4(_) | Host::Ipv6(_)) => Named::Same,
        (None, Host::Domain(_)) => Named::Nobody,
        (Some(name), host) if read_host(name).as_ref() == Ok(host) => Named::Same,
        (Some(_), _) => Named::Other,
    }
}

/// Whom a greeting names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The host that was asked for.
    Same,
    /// None, where there is one to name.
    Nobody,
    /// Another.
    Other,
}

/// Waits for the first bytes and says what they are, with all that was read; `None` when none came in time.
pub async fn first<S: AsyncRead + Unpin>(io: &mut S, wait: Duration) -> Option<(First, Bytes)> {
    let read = async {
        let (mut hello, mut bytes) = (Hello::default(), BytesMut::new());
        loop {
            let before = bytes.len();
            match io.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => (),
            }
            if let Some(first) = hello.feed(&bytes[before..]) {
                return Some((first, bytes.freeze()));
            }
        }
    };
    tokio::time::timeout(wait, read).await.ok().flatten()
}

/// A stream that may begin with anything, but not with TLS for another host: then it fails before a byte is passed on.
/// Reading it waits for a whole greeting only when it begins like one.
#[derive(Debug)]
pub struct Guarded<S> {
    inner: S,
    target: Target,
    hello: Option<Hello>,
    held: Vec<u8>,
    given: usize,
}

/// The failure of a [`Guarded`] stream.
#[derive(Debug, thiserror::Error)]
#[error("TLS for another host")]
pub struct OtherHost;

impl<S> Guarded<S> {
    /// Guards a stream to `target`.
    pub fn new(inner: S, target: Target) -> Guarded<S> {
        Guarded { inner, target, hello: Some(Hello::default()), held: vec![], given: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let me = self.get_mut();
        while let Some(hello) = &mut me.hello {
            let mut chunk = [0u8; 4096];
            let mut part = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut me.inner).poll_read(cx, &mut part))?;
            let part = part.filled();
            if part.is_empty() {
                me.hello = None;
                break;
            }
            me.held.extend_from_slice(part);
            match hello.feed(part) {
                None => (),
                Some(First::Other) => me.hello = None,
                Some(First::Tls(name)) => match names(&me.target, name.as_deref()) {
                    Named::Same | Named::Nobody => me.hello = None,
                    Named::Other => return Poll::Ready(Err(std::io::Error::other(OtherHost))),
                },
                Some(First::Broken) => return Poll::Ready(Err(std::io::Error::other(OtherHost))),
            }
        }
        if me.given < me.held.len() {
            let n = (me.held.len() - me.given).min(buf.remaining());
            buf.put_slice(&me.held[me.given..me.given + n]);
            me.given += n;
            if me.given == me.held.len() {
                (me.held, me.given) = (vec![], 0);
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut me.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn greeting(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let name = name.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = vec![];
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same greeting in records of `size` bytes.
    fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
        let record = |part: &[u8]| [&[0x16, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat();
        hello[5..].chunks(size).flat_map(record).collect()
    }

    #[test]
    fn the_name_is_read_however_the_bytes_come() {
        let whole = greeting("www.example.com");
        let expected = Some(First::Tls(Some("www.example.com".into())));
        for bytes in [&whole, &in_records(&whole, 50), &in_records(&whole, 1)] {
            assert_eq!(Hello::default().feed(bytes), expected);
            let mut hello = Hello::default();
            let mut all = bytes.iter().map(|byte| hello.feed(std::slice::from_ref(byte)));
            assert_eq!(all.find(Option::is_some).flatten(), expected);
        }
        assert_eq!(Hello::default().feed(&greeting("192.0.2.1")), Some(First::Tls(None)));
    }

    #[test]
    fn what_is_no_greeting_is_told_at_once() {
        for (bytes, first) in [
            (&b"G"[..], Some(First::Other)),
            (b"SSH-2.0-x\r\n", Some(First::Other)),
            (&[0x16], None),
            (&[0x16, 0x02], Some(First::Other)),
            (&[0x16, 0x03, 0x01], None),
            (&[0x16, 0x03, 0x01, 0, 4, 2, 0, 0, 0], Some(First::Broken)),
        ] {
            assert_eq!(Hello::default().feed(bytes), first, "{bytes:?}");
        }
    }

    #[test]
    fn another_name_is_another_host() {
        let target = |text: &str| Target::parse(text, Some(443)).unwrap();
        assert_eq!(names(&target("a.example"), Some("A.example")), Named::Same);
        assert_eq!(names(&target("a.example"), Some("b.example")), Named::Other);
        assert_eq!(names(&target("a.example"), Some("x.a.example")), Named::Other);
        assert_eq!(names(&target("a.example"), None), Named::Nobody);
        assert_eq!(names(&target("192.0.2.1"), None), Named::Same);
        assert_eq!(names(&target("192.0.2.1"), Some("a.example")), Named::Other);
    }

    #[tokio::test]
    async fn a_guarded_stream_passes_all_or_nothing() {
        let ours = greeting("a.example");
        let target = Target::parse("a.example", Some(443)).unwrap();
        let read = async |bytes: &[u8]| {
            let mut all = vec![];
            Guarded::new(bytes, target.clone()).read_to_end(&mut all).await.map(|_| all)
        };
        for bytes in [&ours[..], b"SSH-2.0", b"", &[0x16], &[&ours[..], &[7; 10_000]].concat()] {
            assert_eq!(read(bytes).await.unwrap(), bytes);
        }
        assert!(read(&greeting("b.example")).await.is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), tls: bool) {
            let bytes = if tls { [&[0x16, 0x03, 0x01], &bytes[..]].concat() } else { bytes };
            let _ = Hello::default().feed(&bytes);
        }
    }
}
