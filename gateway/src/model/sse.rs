//! Server-sent events, read and written. Reading cuts a byte stream into whole events, wherever the chunks end, and
//! keeps each event's own bytes so that it can be passed on unchanged.
//!
//! The model proxy passes on whole events only. A client can do nothing with half of one, and a connection that breaks
//! in the middle then leaves a stream to which an `error` event can still be added.

use bytes::{Bytes, BytesMut};
use serde_json::Value;

/// One event larger than this is refused; no provider sends one.
const EVENT_MAX_BYTES: usize = 32 * 1024 * 1024;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The value of its last `event:` line, empty without one.
    pub name: String,
    /// Its `data:` lines, joined by line feeds. Empty for a comment, which servers send to keep a connection alive.
    pub data: String,
    /// The bytes it came in, with the blank line that ends it.
    pub raw: Bytes,
}

/// An event grew beyond every bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stream holds a server-sent event of more than {EVENT_MAX_BYTES} bytes")]
pub struct EventTooLarge;

/// Cuts bytes into events.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: BytesMut,
    /// Bytes at the start of `buffer` known to hold no end of an event, so that a long one is not scanned again.
    looked: usize,
}

impl Splitter {
    /// Takes the next chunk. Call [`Splitter::next_event`] until it is `None` before the next one.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), EventTooLarge> {
        self.buffer.extend_from_slice(chunk);
        if self.buffer.len() > EVENT_MAX_BYTES { Err(EventTooLarge) } else { Ok(()) }
    }

    /// The next whole event; `None` until more bytes come.
    pub fn next_event(&mut self) -> Option<Event> {
        match event_end(&self.buffer, self.looked) {
            Some(end) => {
                self.looked = 0;
                Some(parse(self.buffer.split_to(end).freeze()))
            }
            None => {
                // The last three bytes may be the start of a blank line.
                self.looked = self.buffer.len().saturating_sub(3);
                None
            }
        }
    }

    /// What is left when the stream has ended: some servers leave out the last blank line.
    pub fn finish(&mut self) -> Option<Event> {
        self.looked = 0;
        let rest = self.buffer.split().freeze();
        (!rest.iter().all(u8::is_ascii_whitespace)).then(|| parse(rest))
    }
}

/// One event with JSON data, in the shape Anthropic writes it.
pub fn write(name: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

/// A keepalive that clients of Anthropic's streams know and skip.
pub fn ping() -> Bytes {
    Bytes::from_static(b"event: ping\ndata: {\"type\": \"ping\"}\n\n")
}

/// Where the first event ends: after two line ends in a row.
fn event_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < bytes.len() {
        let Some(first) = line_end(bytes, at) else {
            at += 1;
            continue;
        };
        at += first;
        if let Some(second) = line_end(bytes, at) {
            return Some(at + second);
        }
    }
    None
}

/// The length of the line end at `at`. A carriage return that is the last byte so far is not one yet: its line feed
/// may still come.
fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    match (bytes.get(at)?, bytes.get(at + 1)) {
        (b'\n', _) => Some(1),
        (b'\r', Some(b'\n')) => Some(2),
        (b'\r', Some(_)) => Some(1),
        _ => None,
    }
}

fn parse(raw: Bytes) -> Event {
    let text = String::from_utf8_lossy(&raw);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let (mut name, mut data, mut lines) = (String::new(), String::new(), 0);
    for line in text.split(['\n', '\r']) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => {
                if lines > 0 {
                    data.push('\n');
                }
                data.push_str(value);
                lines += 1;
            }
            _ => {}
        }
    }
    Event { name, data, raw }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<Event> {
        let (mut splitter, mut events) = (Splitter::default(), vec![]);
        for chunk in chunks {
            splitter.push(chunk).unwrap();
            while let Some(event) = splitter.next_event() {
                events.push(event);
            }
        }
        events.extend(splitter.finish());
        events
    }

    fn names_and_data(text: &str) -> Vec<(String, String)> {
        split(&[text.as_bytes()]).into_iter().map(|e| (e.name, e.data)).collect()
    }

    #[test]
    fn every_kind_of_line_end_ends_an_event() {
        for eol in ["\n", "\r\n", "\r"] {
            let text =
                format!("event: a{eol}data: 1{eol}{eol}: comment{eol}{eol}data:2{eol}data: 3{eol}{eol}");
            let seen = names_and_data(&text);
            let want = [("a", "1"), ("", ""), ("", "2\n3")].map(|(a, b)| (a.to_owned(), b.to_owned()));
            assert_eq!(seen, want, "{eol:?}");
        }
    }

    #[test]
    fn a_stream_without_its_last_blank_line_is_read_to_the_end() {
        assert_eq!(names_and_data("data: [DONE]"), [(String::new(), "[DONE]".to_owned())]);
        assert_eq!(names_and_data("\n\n  \n").iter().filter(|(_, d)| !d.is_empty()).count(), 0);
    }

    proptest! {
        /// Any text, cut anywhere, yields the same events, and their bytes together are the text.
        #[test]
        fn chunk_borders_do_not_matter(
            pieces in prop::collection::vec(prop_oneof![
                Just("\n"), Just("\r\n"), Just("\r"), Just("data: {\"a\":1}"), Just("event: x"), Just(":"), Just("é"), Just("data:"),
            ], 0..40),
            cuts in prop::collection::vec(0usize..400, 0..12),
        ) {
            let text = pieces.concat();
            let whole = split(&[text.as_bytes()]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.sort_unstable();
            let (mut chunks, mut last) = (vec![], 0);
            for cut in cuts {
                chunks.push(&text.as_bytes()[last..cut]);
                last = cut;
            }
            chunks.push(&text.as_bytes()[last..]);
            prop_assert_eq!(&split(&chunks), &whole);
            let raw: Vec<u8> = whole.iter().flat_map(|e| e.raw.to_vec()).collect();
            prop_assert!(text.as_bytes().starts_with(&raw));
            prop_assert!(text[raw.len()..].bytes().all(|b| b.is_ascii_whitespace()));
        }
    }
}
