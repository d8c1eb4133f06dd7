//! Masking a text that comes in pieces.

use std::sync::Arc;

use crate::MASK;
use crate::net::Net;
use crate::shape::End;
use crate::walk::{Walk, joined};

/// Masks a text that comes in pieces, cut anywhere: all that [`push`](Stream::push) and [`finish`](Stream::finish) give
/// is what masking the whole gives. Holds back only what may still become a secret, some kilobytes at most.
#[derive(Clone)]
pub struct Stream {
    net: Arc<Net>,
    walk: Walk,
    buffer: Vec<u8>,
    /// Whether the last that was given out is a mask: a secret that touches it needs no other.
    masked: bool,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    pub(crate) fn new(net: Arc<Net>) -> Stream {
        let walk = Walk::new(&net);
        Stream { net, walk, buffer: Vec::new(), masked: false }
    }

    /// The next piece; what is clear by now comes back.
    pub fn push(&mut self, text: &str) -> String {
        self.buffer.extend_from_slice(text.as_bytes());
        self.walk.read(&self.net, &self.buffer, End::Open);
        let clear = self.walk.clear(&self.net, &self.buffer);
        self.give(clear)
    }

    /// There is no further piece: the rest. The stream is then as new.
    pub fn finish(&mut self) -> String {
        self.walk.read(&self.net, &self.buffer, End::Final);
        let rest = self.give(self.buffer.len());
        *self = Stream::new(Arc::clone(&self.net));
        rest
    }

    fn give(&mut self, clear: usize) -> String {
        let mut out = Vec::with_capacity(clear);
        let mut at = 0;
        for secret in joined(&self.walk.spans) {
            if secret.start >= clear && secret.start > 0 {
                break;
            }
            if secret.start > at {
                out.extend_from_slice(&self.buffer[at..secret.start]);
                self.masked = false;
            }
            if !self.masked && secret.start < clear {
                out.extend_from_slice(MASK.as_bytes());
                self.masked = true;
            }
            at = secret.end.min(clear);
        }
        if at < clear {
            out.extend_from_slice(&self.buffer[at..clear]);
            self.masked = false;
        }
        self.walk.drop(&self.buffer, clear);
        self.buffer.drain(..clear);
        // Cut at characters, since every secret is one text and pieces come as texts.
        String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }
}
