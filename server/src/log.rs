//! The server's log lines on their way out: no secret of the configuration in any of them, and nothing that a terminal
//! obeys but colours.

use std::io::{self, Stderr, Write};

use redact::Redactor;
use tracing_subscriber::fmt::MakeWriter;

use crate::Config;

/// Where log lines go: stderr, which a service manager or the command that started the server keeps.
#[derive(Debug, Clone)]
pub struct Lines {
    redactor: Redactor,
}

impl Lines {
    /// Without the secrets of this configuration, and what has the shape of a token.
    pub fn of(config: &Config) -> Lines {
        Lines { redactor: Redactor::new(&config.secrets.values()) }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<Stderr>;

    fn make_writer(&'a self) -> Line<Stderr> {
        Line { redactor: self.redactor.clone(), out: io::stderr() }
    }
}

/// Writes one line. A log line comes in one piece.
#[derive(Debug)]
pub struct Line<W> {
    redactor: Redactor,
    out: W,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.out.write_all(domain::text::painted(&self.redactor.mask(&text)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn a_line_has_its_colours_and_nothing_else() {
        let redactor = Redactor::new(&[SecretString::from("the-configured-value".to_owned())]);
        let mut line = Line { redactor, out: Vec::new() };
        line.write_all(b"\x1b[32mINFO\x1b[0m said: the-configured-value \x1b]0;title\x07\n").unwrap();
        assert_eq!(
            String::from_utf8(line.out).unwrap(),
            "\x1b[32mINFO\x1b[0m said: [redacted] \u{241b}]0;title\u{2407}\n"
        );
    }
}
