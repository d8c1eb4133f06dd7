//! Streams of bytes: counted, cut when nothing moves, and with the first bytes put back after they were looked at.

use std::io::Result;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Any stream.
pub type Io = Box<dyn Stream>;

/// When bytes moved last.
#[derive(Debug, Clone)]
pub struct Pulse {
    begin: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Pulse {
    /// Now.
    pub fn new() -> Pulse {
        Pulse { begin: Instant::now(), last_ms: Arc::default() }
    }

    fn beat(&self) {
        let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// Returns when nothing has moved for `idle`.
    pub async fn stopped(&self, idle: Duration) {
        loop {
            let last = self.begin + Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            if last.elapsed() >= idle {
                return;
            }
            tokio::time::sleep_until(last + idle).await;
        }
    }
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse::new()
    }
}

/// A stream to the network whose bytes are counted.
#[derive(Debug)]
pub struct Counted<S> {
    inner: S,
    pulse: Pulse,
    sent: metrics::Counter,
    received: metrics::Counter,
}

impl<S> Counted<S> {
    /// Counts what `inner` moves, seen from the box.
    pub fn new(inner: S, pulse: Pulse) -> Counted<S> {
        Counted {
            inner,
            pulse,
            sent: metrics::counter!("bgagent_egress_bytes_total", "direction" => "out"),
            received: metrics::counter!("bgagent_egress_bytes_total", "direction" => "in"),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.received.increment((buf.filled().len() - before) as u64);
        self.pulse.beat();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, data))?;
        self.sent.increment(written as u64);
        self.pulse.beat();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A stream of which something was read already.
#[derive(Debug)]
pub struct Rewound<S> {
    first: Bytes,
    inner: S,
}

impl<S> Rewound<S> {
    /// `first`, then what `inner` brings.
    pub fn new(first: Bytes, inner: S) -> Rewound<S> {
        Rewound { first, inner }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let n = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..n]);
        self.first.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_idle_when_nothing_moves_either_way() {
        let (idle, second) = (Duration::from_secs(300), Duration::from_secs(1));
        let (near, mut far) = tokio::io::duplex(64);
        let pulse = Pulse::new();
        let mut near = Counted::new(near, pulse.clone());
        let begin = Instant::now();
        let moves = async {
            for _ in 0..3 {
                tokio::time::sleep(idle - second).await;
                near.write_all(b"x").await.unwrap();
                tokio::time::sleep(idle - second).await;
                far.write_all(b"y").await.unwrap();
                near.read_u8().await.unwrap();
            }
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = pulse.stopped(idle) => (),
            () = moves => (),
        }
        assert_eq!(begin.elapsed().as_secs(), (idle * 7 - second * 6).as_secs());
    }

    #[tokio::test]
    async fn what_was_read_comes_first() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b" world").await.unwrap();
        drop(far);
        let mut all = String::new();
        Rewound::new(Bytes::from_static(b"hello"), near).read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "hello world");
    }
}
