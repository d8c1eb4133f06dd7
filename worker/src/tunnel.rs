//! The only way out of the tools' layer: what connects to its loopback port is carried to the gateway.
//!
//! The port was made in the tools' network namespace and handed to us; programs there find it as their HTTP proxy and as
//! their git remote. Each connection becomes one to the gateway's socket that this side opens with the session token
//! ([`TUNNEL_PATH`], HTTP upgrade): so programs need no token, and have none. What may be reached is decided there.
//!
//! A gateway that is away or refuses is told to the program as an HTTP answer, which git, curl and package managers show.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

/// Where the gateway takes tunnels.
pub const TUNNEL_PATH: &str = "/box/v1/tunnel";
/// What the connection becomes.
pub const TUNNEL_PROTOCOL: &str = "bgagent-tunnel";

/// Connections at once; the next ones wait until one ends.
const CONNECTIONS_MAX: usize = 256;
/// For the gateway to take a connection and say yes.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of its answer's head.
const HEAD_MAX_BYTES: usize = 8 * 1024;
/// Bytes moved at once, each way.
const BUFFER_BYTES: usize = 32 * 1024;
/// After a failed accept (no file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// So much of a request is taken, and for so long, that the answer to it is not lost with the connection.
const UNREAD_MAX_BYTES: u64 = 1024 * 1024;
const UNREAD_MAX: Duration = Duration::from_secs(2);

/// Carries connections until dropped.
#[derive(Debug)]
pub struct Tunnel {
    _accepting: AbortOnDropHandle<()>,
}

/// Where connections are carried to.
#[derive(Debug)]
struct Far {
    socket: PathBuf,
    token: SecretString,
    opened_within: Duration,
}

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("the gateway is away ({0}); try again in a moment")]
    Away(#[from] io::Error),
    #[error("the gateway did not answer in time; try again in a moment")]
    Late,
    #[error("the gateway refused the connection: HTTP {0}")]
    Refused(u16),
    #[error("the gateway's answer is not understood")]
    Garbled,
}

impl Tunnel {
    /// Carries what connects to `listener` to the gateway's socket, which need not be there yet.
    pub fn start(
        listener: std::net::TcpListener,
        socket: PathBuf,
        token: SecretString,
    ) -> io::Result<Tunnel> {
        Self::bounded(listener, Far { socket, token, opened_within: OPEN_TIMEOUT }, CONNECTIONS_MAX)
    }

    fn bounded(listener: std::net::TcpListener, far: Far, max: usize) -> io::Result<Tunnel> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the tunnel; its failure shows as the program's"
        )]
        let accepting = tokio::spawn(accept(listener, Arc::new(far), max));
        Ok(Tunnel { _accepting: AbortOnDropHandle::new(accepting) })
    }
}

async fn accept(listener: TcpListener, far: Arc<Far>, max: usize) {
    let room = Arc::new(Semaphore::new(max));
    let mut pipes = tokio::task::JoinSet::new();
    loop {
        // Never closed, so there is always a permit to come.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let near = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection of a tool could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while pipes.try_join_next().is_some() {}
        let far = far.clone();
        pipes.spawn(async move {
            carry(near, &far).await;
            drop(permit);
        });
    }
}

async fn carry(mut near: TcpStream, far: &Far) {
    let _ = near.set_nodelay(true);
    let opened = tokio::time::timeout(far.opened_within, far.open()).await;
    let (mut to, first) = match opened.unwrap_or(Err(Closed::Late)) {
        Ok(opened) => opened,
        Err(closed) => {
            tracing::warn!(error = %closed, "a connection of a tool got no tunnel");
            tell(&mut near, &closed).await;
            return;
        }
    };
    let moved = async {
        near.write_all(&first).await?;
        tokio::io::copy_bidirectional_with_sizes(&mut near, &mut to, BUFFER_BYTES, BUFFER_BYTES).await
    };
    if let Err(error) = moved.await {
        tracing::debug!(%error, "a tunnel ended");
    }
}

impl Far {
    /// A connection that the gateway has taken, and what it sent behind its answer.
    async fn open(&self) -> Result<(UnixStream, Vec<u8>), Closed> {
        let mut to = UnixStream::connect(&self.socket).await?;
        let ask = format!(
            "GET {TUNNEL_PATH} HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: {TUNNEL_PROTOCOL}\r\n\
             Authorization: Bearer {}\r\n\r\n",
            self.token.expose_secret()
        );
        to.write_all(ask.as_bytes()).await?;
        let (head, rest) = head_of(&mut to).await?;
        match status(&head) {
            Some(101) => Ok((to, rest)),
            Some(other) => Err(Closed::Refused(other)),
            None => Err(Closed::Garbled),
        }
    }
}

/// Reads up to the empty line that ends a head; that head, and what came behind it.
async fn head_of(from: &mut (impl AsyncRead + Unpin)) -> Result<(Vec<u8>, Vec<u8>), Closed> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let rest = head.split_off(end + 4);
            return Ok((head, rest));
        }
        if head.len() > HEAD_MAX_BYTES {
            return Err(Closed::Garbled);
        }
        match from.read(&mut buffer).await? {
            0 => return Err(Closed::Away(io::ErrorKind::UnexpectedEof.into())),
            read => head.extend_from_slice(&buffer[..read]),
        }
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let rest = line.strip_prefix(b"HTTP/1.1 ")?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}

/// Answers the program's request, whatever it was, so that it has words to show.
async fn tell(near: &mut TcpStream, closed: &Closed) {
    let (code, name) = match closed {
        // What refuses for good is passed on; everything else is worth another try.
        Closed::Refused(code @ 400..=499) => (*code, "Refused"),
        Closed::Away(_) | Closed::Late | Closed::Garbled | Closed::Refused(_) => (503, "Service Unavailable"),
    };
    let body = format!("{closed}\n");
    let answer = format!(
        "HTTP/1.1 {code} {name}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    if near.write_all(answer.as_bytes()).await.is_err() || near.shutdown().await.is_err() {
        return;
    }
    // Closing with something unread would reset the connection, and the answer would be lost.
    let unread = async { tokio::io::copy(&mut near.take(UNREAD_MAX_BYTES), &mut tokio::io::sink()).await };
    let _ = tokio::time::timeout(UNREAD_MAX, unread).await;
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    struct World {
        dir: tempfile::TempDir,
        port: std::net::SocketAddr,
        _tunnel: Tunnel,
    }

    fn world(max: usize) -> World {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap();
        let far = Far {
            socket: dir.path().join("g.sock"),
            token: "tok-1".into(),
            opened_within: Duration::from_millis(300),
        };
        World { dir, port, _tunnel: Tunnel::bounded(listener, far, max).unwrap() }
    }

    impl World {
        fn gateway(&self) -> UnixListener {
            UnixListener::bind(self.dir.path().join("g.sock")).unwrap()
        }

        async fn tool(&self) -> TcpStream {
            TcpStream::connect(self.port).await.unwrap()
        }
    }

    async fn take(gateway: &UnixListener, answer: &[u8]) -> (String, UnixStream) {
        let (mut stream, _) = gateway.accept().await.unwrap();
        let (head, rest) = head_of(&mut stream).await.unwrap();
        assert!(rest.is_empty(), "nothing of the tool is sent before the gateway has said yes");
        stream.write_all(answer).await.unwrap();
        (String::from_utf8(head).unwrap(), stream)
    }

    const YES: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: bgagent-tunnel\r\n\r\n";

    #[tokio::test]
    async fn bytes_go_both_ways_and_each_half_closes_for_itself() {
        let w = world(4);
        let gateway = w.gateway();
        let mut tool = w.tool().await;
        tool.write_all(b"question").await.unwrap();
        tool.shutdown().await.unwrap();
        // What follows the answer in the same packet belongs to the tool.
        let (head, mut far) = take(&gateway, &[YES, b"early "].concat()).await;
        assert!(head.starts_with("GET /box/v1/tunnel HTTP/1.1\r\n"), "{head}");
        assert!(
            head.contains("Authorization: Bearer tok-1\r\n") && head.contains("Upgrade: bgagent-tunnel\r\n")
        );
        let mut asked = String::new();
        far.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, "question");
        far.write_all(b"and late").await.unwrap();
        drop(far);
        let mut answer = String::new();
        tool.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "early and late");
    }

    #[tokio::test]
    async fn a_gateway_that_is_away_silent_or_refuses_is_told_in_http() {
        async fn ask(mut tool: TcpStream) -> String {
            tool.write_all(&[b"POST /x HTTP/1.1\r\n\r\n".as_slice(), &[b'x'; 100_000]].concat())
                .await
                .unwrap();
            let mut answer = String::new();
            tool.read_to_string(&mut answer).await.unwrap();
            answer
        }
        let w = world(4);
        let answer = ask(w.tool().await).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("the gateway is away"), "{answer}");
        let gateway = w.gateway();
        let (answer, _) = tokio::join!(ask(w.tool().await), take(&gateway, b"HTTP/1.1 409 Conflict\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 409 ") && answer.contains("refused"), "{answer}");
        let (answer, _) = tokio::join!(ask(w.tool().await), take(&gateway, b"nonsense\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        let (answer, _silent) = tokio::join!(ask(w.tool().await), gateway.accept());
        assert!(answer.contains("did not answer in time"), "{answer}");
        assert!(!answer.contains("tok-1"));
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_for_one_to_end() {
        let w = world(1);
        let gateway = w.gateway();
        let mut first = w.tool().await;
        let (_, far) = take(&gateway, YES).await;
        let mut second = w.tool().await;
        let early = tokio::time::timeout(Duration::from_millis(100), gateway.accept()).await;
        assert!(early.is_err(), "only one at once");
        drop(far);
        assert_eq!(first.read(&mut [0; 1]).await.unwrap(), 0);
        drop(first);
        let (_, mut far) = take(&gateway, YES).await;
        far.write_all(b"x").await.unwrap();
        assert_eq!(second.read(&mut [0; 1]).await.unwrap(), 1);
    }
}
