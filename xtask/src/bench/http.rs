//! As much of an HTTP client as the benches need: one kept connection, JSON both ways, server-sent events.
//!
//! xtask carries no HTTP library, and a client that does nothing else adds least to what is measured.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// One connection to the people's API.
pub struct Client {
    stream: BufReader<TcpStream>,
    host: String,
    key: String,
}

/// One event of a stream.
pub struct Sent {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// The headers of a request or an answer that decide how to read on.
pub struct Head {
    /// The first line.
    pub first: String,
    /// Bytes of the body, where it says so.
    pub length: usize,
    /// Whether the body comes in chunks.
    pub chunked: bool,
}

impl Client {
    /// Connects to `http://host:port`.
    pub fn connect(url: &str, key: &str) -> Result<Client> {
        let host = url.strip_prefix("http://").context("the server's address is not http://")?;
        let host = host.trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(&host).with_context(|| format!("connecting to {host}"))?;
        stream.set_nodelay(true).context("sending small packets at once")?;
        Ok(Client { stream: BufReader::new(stream), host, key: key.into() })
    }

    /// Another connection to the same server, with the same key.
    pub fn again(&self) -> Result<Client> {
        Client::connect(&format!("http://{}", self.host), &self.key)
    }

    /// One request; anything but a 2xx is an error with the server's words.
    pub fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let head = self.send(method, path, body)?;
        self.answer(&head, method, path)
    }

    /// Posts a body as it is, with these headers and without the key; the same answer.
    pub fn post(&mut self, path: &str, headers: &[(&str, String)], body: &str) -> Result<Value> {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = self.request("POST", path, &headers, body)?;
        self.answer(&head, "POST", path)
    }

    fn answer(&mut self, head: &Head, method: &str, path: &str) -> Result<Value> {
        let mut bytes = Vec::new();
        if head.chunked {
            Chunks::new(&mut self.stream).read_to_end(&mut bytes).context("reading an answer in chunks")?;
        } else {
            bytes.resize(head.length, 0);
            self.stream.read_exact(&mut bytes).context("reading an answer")?;
        }
        if !head.first.contains(" 2") {
            bail!("{method} {path}: {}: {}", head.first, String::from_utf8_lossy(&bytes));
        }
        serde_json::from_slice(&bytes).with_context(|| format!("{method} {path}: the answer is not JSON"))
    }

    /// Hands every event of a stream to `each`, until the server ends it.
    pub fn events(mut self, path: &str, mut each: impl FnMut(Sent)) -> Result<()> {
        let head = self.send("GET", path, None)?;
        if !head.first.contains(" 200") {
            bail!("GET {path}: {}", head.first);
        }
        let (mut id, mut name) = (String::new(), String::new());
        for line in BufReader::new(Chunks::new(&mut self.stream)).lines() {
            let line = line.with_context(|| format!("GET {path}: reading the stream"))?;
            if let Some(value) = line.strip_prefix("id:") {
                id = value.trim().into();
            } else if let Some(value) = line.strip_prefix("event:") {
                name = value.trim().into();
            } else if line.is_empty() && !name.is_empty() {
                each(Sent { id: std::mem::take(&mut id), name: std::mem::take(&mut name) });
            }
        }
        Ok(())
    }

    /// Opens a stream behind the event `last` and hands its socket over. What of the body came with the head is
    /// lost: behind the newest event that is nothing.
    pub fn stream(mut self, path: &str, last: Option<&str>) -> Result<TcpStream> {
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let head = self.send_with("GET", path, None, &last)?;
        if !head.first.contains(" 200") {
            bail!("GET {path}: {}", head.first);
        }
        Ok(self.stream.into_inner())
    }

    fn send(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Head> {
        self.send_with(method, path, body, "")
    }

    fn send_with(&mut self, method: &str, path: &str, body: Option<&Value>, more: &str) -> Result<Head> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let headers = format!("x-api-key: {}\r\n{more}", self.key);
        self.request(method, path, &headers, &body)
    }

    fn request(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Result<Head> {
        let host = &self.host;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        let sent = self.stream.get_mut().write_all(request.as_bytes());
        sent.with_context(|| format!("sending {method} {path}"))?;
        head(&mut self.stream)?.with_context(|| format!("{method} {path}: the server closed the connection"))
    }
}

/// Reads a head; `None` when the other side has nothing more to say.
pub fn head(stream: &mut impl BufRead) -> Result<Option<Head>> {
    let mut head = Head { first: String::new(), length: 0, chunked: false };
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).context("reading a head")? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(head));
        }
        if head.first.is_empty() {
            head.first = line.into();
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name.eq_ignore_ascii_case("content-length") {
            head.length = value.trim().parse().context("reading content-length")?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
}

/// A chunked body as a plain one.
struct Chunks<'a, R> {
    from: &'a mut R,
    left: usize,
    over: bool,
}

impl<'a, R: BufRead> Chunks<'a, R> {
    fn new(from: &'a mut R) -> Self {
        Chunks { from, left: 0, over: false }
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl<R: BufRead> Read for Chunks<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.over || into.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            let size = self.line()?;
            self.left = usize::from_str_radix(&size, 16).map_err(std::io::Error::other)?;
            if self.left == 0 {
                self.over = true;
                self.line()?;
                return Ok(0);
            }
        }
        let wanted = self.left.min(into.len());
        let read = self.from.read(&mut into[..wanted])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        if self.left == 0 {
            self.line()?;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together_and_the_connection_stands_behind_them() {
        let mut bytes: &[u8] = b"4\r\nWiki\r\nb\r\npedia is us\r\n0\r\n\r\nnext";
        let mut text = String::new();
        Chunks::new(&mut bytes).read_to_string(&mut text).unwrap();
        assert_eq!(text, "Wikipedia is us");
        assert_eq!(bytes, b"next");
    }

    #[test]
    fn a_chunked_body_that_breaks_off_is_an_error() {
        let mut bytes: &[u8] = b"9\r\nWiki";
        assert!(Chunks::new(&mut bytes).read_to_string(&mut String::new()).is_err());
    }

    #[test]
    fn a_head_says_how_long_its_body_is() {
        let head = head(&mut &b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nx: y\r\n\r\n"[..]).unwrap().unwrap();
        assert_eq!((head.first.as_str(), head.length, head.chunked), ("HTTP/1.1 200 OK", 7, false));
    }
}
