//! A way to the gateway's socket for programs that speak only TCP: git. Bytes in, bytes out.
//!
//! It listens on a port of the loopback interface that the system chose, and lives as long as the worker. It adds no
//! credential: whoever connects must bring one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpListener, UnixStream};
use tokio_util::task::AbortOnDropHandle;

/// After a failed accept (no file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Forwards until dropped.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Forwarder {
    /// Starts to forward to the socket at `path`, which need not be there yet.
    pub async fn start(path: PathBuf) -> io::Result<Forwarder> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        #[expect(clippy::disallowed_methods, reason = "ends with the forwarder; its failure shows as git's")]
        let accepting = tokio::spawn(accept(listener, path));
        Ok(Forwarder { address, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// `http://127.0.0.1:port`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn accept(listener: TcpListener, path: PathBuf) {
    let mut pipes = tokio::task::JoinSet::new();
    loop {
        let mut from = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the gateway could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while pipes.try_join_next().is_some() {}
        let path = path.clone();
        pipes.spawn(async move {
            // While nobody listens there, the connection ends at once, which git reports and its caller retries.
            let Ok(mut to) = UnixStream::connect(&path).await else { return };
            let _ = from.set_nodelay(true);
            if let Err(error) = tokio::io::copy_bidirectional(&mut from, &mut to).await {
                tracing::debug!(%error, "a forwarded connection ended");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UnixListener};

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_and_an_absent_socket_ends_the_connection() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.sock");
        let forwarder = Forwarder::start(path.clone()).await.unwrap();
        let target = forwarder.base_url().trim_start_matches("http://").to_owned();

        let mut early = TcpStream::connect(&target).await.unwrap();
        assert_eq!(early.read(&mut [0; 1]).await.unwrap_or(0), 0);

        let listener = UnixListener::bind(&path).unwrap();
        let mut client = TcpStream::connect(&target).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"ask").await.unwrap();
        let mut got = [0; 3];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ask");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
    }
}
