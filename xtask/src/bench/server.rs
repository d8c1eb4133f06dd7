//! A server of our own, with a home and a small repository: what a bench talks to.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Bed,
    http::{Client, Sent},
    process,
};
use crate::step;

const TO_START: Duration = Duration::from_secs(20);
const TO_SETTLE: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
const STILL_FOR: usize = 5;
/// Files of the small repository.
const FILES: usize = 20;

/// A server, killed when dropped together with what it started.
pub struct Server {
    child: Child,
    home: TempDir,
    url: String,
}

/// One connection of a person.
pub struct Person(Client);

impl Server {
    /// Starts the binary in a home of its own; `settings` are variables of its environment.
    pub fn start(bed: &Bed, settings: &[(String, String)]) -> Result<Server> {
        let home = TempDir::with_prefix("bgagent-bench-").context("making a home for the server")?;
        Server::start_in(bed, home, settings)
    }

    /// The same, in a home that was made ready.
    pub fn start_in(bed: &Bed, home: TempDir, settings: &[(String, String)]) -> Result<Server> {
        let mut command = Command::new(&bed.binary);
        command.args(["serve", "--listen", "127.0.0.1:0"]).current_dir(home.path());
        for variable in ["HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
            command.env(variable, home.path());
        }
        for variable in ["BGAGENT_API_URL", "BGAGENT_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"] {
            command.env_remove(variable);
        }
        command.envs(settings.iter().map(|(name, value)| (name, value)));
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
        let mut server = Server { child, home, url: String::new() };
        server.url = said_address(&lines)?;
        Ok(server)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it keeps is below this folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A connection with the owner's key.
    pub fn person(&self) -> Result<Person> {
        let file = self.home().join("bgagent/owner-key");
        let key = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        self.person_with(key.trim())
    }

    /// A connection with another key.
    pub fn person_with(&self, key: &str) -> Result<Person> {
        Ok(Person(Client::connect(&self.url, key)?))
    }

    /// A repository with a few small files and one commit.
    pub fn repository(&self) -> Result<PathBuf> {
        let folder = self.home().join("small");
        fs::create_dir_all(&folder).context("making the small repository")?;
        for number in 0..FILES {
            let text = format!("line of file {number}\n").repeat(40);
            fs::write(folder.join(format!("file-{number}.txt")), text).context("filling the repository")?;
        }
        let commit =
            ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "--quiet", "-m", "x"];
        for words in [&["init", "--quiet", "-b", "main"][..], &["add", "."], &commit] {
            step::read(Command::new("git").args(words).current_dir(&folder).env("HOME", self.home()))?;
        }
        Ok(folder)
    }

    /// Resident memory in KiB once it no longer moves: the same value, within one percent, for a second.
    pub fn settled(&mut self) -> Result<u64> {
        let deadline = Instant::now() + TO_SETTLE;
        let mut seen = vec![process::status(self.pid(), "VmRSS")?];
        loop {
            pause(BETWEEN_LOOKS);
            if let Some(status) = self.child.try_wait().context("looking after the server")? {
                bail!("the server ended with {status} while it was measured");
            }
            seen.push(process::status(self.pid(), "VmRSS")?);
            let last = &seen[seen.len().saturating_sub(STILL_FOR + 1)..];
            let (low, high) = (last.iter().min().copied(), last.iter().max().copied());
            if let (Some(low), Some(high)) = (low, high)
                && last.len() > STILL_FOR
                && high - low <= high / 100
            {
                return Ok(high);
            }
            if Instant::now() > deadline {
                bail!("the server's memory still moves after {TO_SETTLE:?}: {last:?} KiB");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good: the figures are taken or the error is on its way.
        drop(self.child.kill());
        drop(self.child.wait());
        // Workers survive their server by design; those of a bench have nobody to come back to.
        for pid in process::workers_below(self.home.path()).unwrap_or_default() {
            drop(Command::new("kill").args(["-KILL", &pid.to_string()]).status());
        }
    }
}

impl Person {
    /// Gives a task of a repository and a description, and returns its id.
    pub fn submit(&mut self, repository: &Path, description: &str) -> Result<String> {
        self.give(&json!({ "repo": repository, "task_description": description }))
    }

    /// Follows a task to its end: completed, or, which is the rule where nothing was committed, without a deliverable.
    pub fn finish(mut self, id: &str) -> Result<()> {
        let other = self.again()?;
        other.watch(id, |_| ())?;
        let task = self.0.call("GET", &format!("/v1/tasks/{id}"), None)?;
        let code = task["data"]["error_classification"]["code"].as_str().unwrap_or_default();
        match task["data"]["status"].as_str() {
            Some("COMPLETED") => Ok(()),
            Some("FAILED") if code == "DELIVERABLE_LOST" => Ok(()),
            other => bail!("task {id} ended as {other:?}: {}", task["data"]["error_message"]),
        }
    }

    /// Hands over the task's events as they come.
    pub fn watch(self, id: &str, each: impl FnMut(Sent)) -> Result<()> {
        self.0.events(&format!("/v1/tasks/{id}/stream"), each)
    }

    /// The first hundred events of a task.
    pub fn events(&mut self, id: &str) -> Result<Vec<Value>> {
        let page = self.0.call("GET", &format!("/v1/tasks/{id}/events?limit=100"), None)?;
        Ok(page["data"].as_array().cloned().unwrap_or_default())
    }

    /// Any request; the whole answer.
    pub fn call(&mut self, method: &str, path: &str) -> Result<Value> {
        self.0.call(method, path, None)
    }

    /// Any request with a body; the whole answer.
    pub fn ask(&mut self, method: &str, path: &str, body: &Value) -> Result<Value> {
        self.0.call(method, path, Some(body))
    }

    /// Posts as somebody who has no key.
    pub fn deliver(&mut self, path: &str, headers: &[(&str, String)], body: &str) -> Result<Value> {
        self.0.post(path, headers, body)
    }

    /// Opens a stream and hands its socket over, after the head of the answer.
    pub fn stream(self, path: &str, last: Option<&str>) -> Result<TcpStream> {
        self.0.stream(path, last)
    }

    fn again(&self) -> Result<Person> {
        Ok(Person(self.0.again()?))
    }

    /// What a task said last, for errors.
    pub fn last_words(&mut self, id: &str) -> String {
        match self.events(id) {
            Ok(events) => match events.last() {
                Some(last) => format!("task {id} last said {last}"),
                None => format!("task {id} said nothing"),
            },
            Err(error) => format!("task {id} cannot be asked: {error:#}"),
        }
    }

    /// Gives a task as it is written, and returns its id.
    pub fn give(&mut self, task: &Value) -> Result<String> {
        let answer = self.0.call("POST", "/v1/tasks", Some(task))?;
        let id = answer["data"]["task_id"].as_str().context("a task without an id")?;
        Ok(id.to_owned())
    }
}

/// Waits; nothing else would run meanwhile.
#[expect(clippy::disallowed_methods, reason = "a bench on its own thread; nothing else would run meanwhile")]
pub fn pause(time: Duration) {
    thread::sleep(time);
}

/// Waits for the line that says where it listens.
fn said_address(lines: &mpsc::Receiver<String>) -> Result<String> {
    let deadline = Instant::now() + TO_START;
    let mut said = Vec::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
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

fn forward(stream: impl Read + Send + 'static, to: mpsc::Sender<String>) {
    thread::spawn(move || {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Scale;

    #[test]
    fn the_address_is_found_in_text_and_in_json() {
        assert_eq!(address("listening on http://127.0.0.1:8080"), Some("http://127.0.0.1:8080".into()));
        assert_eq!(address(r#"{"url":"http://127.0.0.1:1/","pid":2}"#), Some("http://127.0.0.1:1/".into()));
        assert_eq!(address("starting"), None);
    }

    #[test]
    fn a_server_is_measured_once_it_is_up_and_still() {
        let mut server =
            played("echo starting >&2; echo 'on http://127.0.0.1:9/'; exec tail -f /dev/null").unwrap();
        assert_eq!(server.url, "http://127.0.0.1:9/");
        let settled = server.settled().unwrap();
        assert!(settled > 0 && settled <= process::status(server.pid(), "VmHWM").unwrap(), "{settled} KiB");
    }

    #[test]
    fn a_server_that_does_not_start_is_quoted() {
        let error = played("echo 'port in use' >&2; exit 1").err().unwrap().to_string();
        assert_eq!(error, "the server ended without saying an address; it said:\nport in use");
    }

    /// A shell in the place of the binary: it runs `serve` of its working folder.
    fn played(script: &str) -> Result<Server> {
        let home = TempDir::new().unwrap();
        fs::write(home.path().join("serve"), script).unwrap();
        let bed = Bed { binary: "/bin/sh".into(), scale: Scale::Full, profile: "dev".into() };
        Server::start_in(&bed, home, &[])
    }
}
