//! How much memory an idle server keeps.
//!
//! The server gets a state folder of its own and any free port. Its resident memory is read once it stopped moving:
//! the same value, within one percent, for a second.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{Bed, Bench, Figure};

/// Resident memory of an idle server.
pub const BENCH: Bench = Bench { name: "memory", about: "resident memory of an idle server", run };

const KIB_PER_MIB: f64 = 1024.0;
const TO_START: Duration = Duration::from_secs(20);
const TO_SETTLE: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
const STILL_FOR: usize = 5;

fn run(bed: &Bed) -> Result<Vec<Figure>> {
    let home = TempDir::with_prefix("bgagent-bench-").context("making a home for the server")?;
    let mut server = Server::start(bed, &home)?;
    let url = server.url()?;
    let settled = server.settled()?;
    let peak = server.status("VmHWM")?;
    let command =
        |field: &str| format!("bgagent serve --listen 127.0.0.1:0 & grep {field} /proc/$!/status   # {url}");
    let figure = |what: &str, kib: u64, field| Figure {
        what: what.into(),
        value: kib as f64 / KIB_PER_MIB,
        unit: "MiB",
        command: command(field),
    };
    Ok(vec![
        figure("idle server, resident", settled, "VmRSS"),
        figure("of that, not shared with other processes", server.status("RssAnon")?, "RssAnon"),
        figure("idle server, resident peak", peak, "VmHWM"),
    ])
}

/// A server of our own, killed when dropped.
struct Server {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Server {
    fn start(bed: &Bed, home: &TempDir) -> Result<Server> {
        let mut command = Command::new(&bed.binary);
        command.args(["serve", "--listen", "127.0.0.1:0"]).current_dir(home.path());
        for variable in ["HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
            command.env(variable, home.path());
        }
        for variable in ["BGAGENT_API_URL", "BGAGENT_API_KEY"] {
            command.env_remove(variable);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", bed.binary.display()))?;
        let (send, lines) = mpsc::channel();
        // Both streams are read to their end: a server that cannot write its log stands still.
        forward(child.stdout.take().context("reading the server's output")?, send.clone());
        forward(child.stderr.take().context("reading the server's log")?, send);
        Ok(Server { child, lines })
    }

    /// Waits for the line that says where it listens.
    fn url(&self) -> Result<String> {
        let deadline = Instant::now() + TO_START;
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match address(&line) {
                    Some(url) => return Ok(url),
                    None => said.push(line),
                },
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the server said no address within {TO_START:?}; it said:\n{}", said.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the server ended without saying an address; it said:\n{}", said.join("\n"))
                }
            }
        }
    }

    /// Resident memory in KiB once it no longer moves.
    #[expect(
        clippy::disallowed_methods,
        reason = "a bench on its own thread; nothing else would run meanwhile"
    )]
    fn settled(&mut self) -> Result<u64> {
        let deadline = Instant::now() + TO_SETTLE;
        let mut seen = vec![self.status("VmRSS")?];
        loop {
            std::thread::sleep(BETWEEN_LOOKS);
            if let Some(status) = self.child.try_wait().context("looking after the server")? {
                bail!("the server ended with {status} while it was measured");
            }
            seen.push(self.status("VmRSS")?);
            let last = &seen[seen.len().saturating_sub(STILL_FOR + 1)..];
            let (low, high) = (last.iter().min().copied(), last.iter().max().copied());
            if let (Some(low), Some(high)) = (low, high)
                && last.len() > STILL_FOR
                && high - low <= high / 100
            {
                return Ok(high);
            }
            if Instant::now() > deadline {
                bail!("the idle server's memory still moves after {TO_SETTLE:?}: {last:?} KiB");
            }
        }
    }

    /// A field of the server's `/proc/<pid>/status`, in KiB.
    fn status(&self, field: &str) -> Result<u64> {
        let file = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
        kib(&text, field).with_context(|| format!("finding {field} in {file}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good: the figures are taken or the error is on its way.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn forward(stream: impl Read + Send + 'static, to: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            drop(to.send(line)); // nobody listens any more once the address is known
        }
    });
}

fn address(line: &str) -> Option<String> {
    let from = line.find("http://")?;
    let url = line[from..].split(|c: char| c.is_whitespace() || "\"',<>)\u{1b}".contains(c)).next()?;
    Some(url.to_string())
}

fn kib(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_text_and_in_json() {
        assert_eq!(address("listening on http://127.0.0.1:8080"), Some("http://127.0.0.1:8080".into()));
        assert_eq!(address(r#"{"url":"http://127.0.0.1:1/","pid":2}"#), Some("http://127.0.0.1:1/".into()));
        assert_eq!(address("starting"), None);
    }

    #[test]
    fn a_server_is_measured_once_it_is_up_and_still() {
        let home = TempDir::new().unwrap();
        let mut server =
            played(&home, "echo starting >&2; echo 'on http://127.0.0.1:9/'; exec tail -f /dev/null");
        assert_eq!(server.url().unwrap(), "http://127.0.0.1:9/");
        let settled = server.settled().unwrap();
        assert!(settled > 0 && settled <= server.status("VmHWM").unwrap(), "{settled} KiB");
    }

    #[test]
    fn a_server_that_does_not_start_is_quoted() {
        let home = TempDir::new().unwrap();
        let error = played(&home, "echo 'port in use' >&2; exit 1").url().unwrap_err().to_string();
        assert_eq!(error, "the server ended without saying an address; it said:\nport in use");
    }

    /// A shell in the place of the binary: it runs `serve` of its working folder.
    fn played(home: &TempDir, script: &str) -> Server {
        fs::write(home.path().join("serve"), script).unwrap();
        Server::start(&Bed { binary: "/bin/sh".into() }, home).unwrap()
    }

    #[test]
    fn a_field_is_read_from_the_kernels_table() {
        let status = "Name:\tx\nVmHWM:\t   10 kB\nVmRSS:\t  2048 kB\n";
        assert_eq!(kib(status, "VmRSS"), Some(2048));
        assert_eq!(kib(status, "VmSwap"), None);
    }
}
