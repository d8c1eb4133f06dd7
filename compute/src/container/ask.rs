//! Questions to the engine that the client library does not answer well: it does not show headers, and takes an answer
//! with a state that it does not know (Podman has more of them than Docker) for a broken one.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::ComputeError;
use crate::local::error;

/// Whether somebody is there: callers wait for it. Where nobody listens that is told at once; one that listens may be busy.
const PING: Duration = Duration::from_secs(10);
const QUESTION: Duration = Duration::from_secs(60);
const ANSWER_MAX: u64 = 16 << 20;

/// What an engine says with every answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pong {
    /// The version of the API that it speaks.
    pub(super) api: (usize, usize),
    /// Podman's own version, if it is that.
    pub(super) podman: Option<String>,
}

/// What an engine says of itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Info {
    pub(super) server_version: String,
    pub(super) security_options: Vec<String>,
    /// Podman's way to say it; Docker has it among the options.
    pub(super) rootless: bool,
    /// `1` or `2`.
    pub(super) cgroup_version: String,
    pub(super) memory_limit: bool,
    pub(super) pids_limit: bool,
}

/// A container, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) state: State,
    pub(super) config: Config,
}

/// In which state a container is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct State {
    pub(super) status: String,
    pub(super) running: bool,
    pub(super) paused: bool,
    pub(super) restarting: bool,
    #[serde(rename = "OOMKilled")]
    pub(super) oom_killed: bool,
    pub(super) exit_code: i64,
}

/// What it was made with.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Config {
    pub(super) labels: Option<HashMap<String, String>>,
}

/// A container in a list.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) labels: Option<HashMap<String, String>>,
}

impl State {
    /// Whether it was ever started.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.status.as_str(), "" | "created" | "configured" | "initialized")
    }

    /// Whether its processes live.
    pub(super) fn lives(&self) -> bool {
        self.running || self.paused || self.restarting
    }
}

impl Listed {
    /// Whether it may hold compute, now or when somebody starts it who has just made it.
    pub(super) fn lives(&self) -> bool {
        !matches!(self.state.as_str(), "" | "exited" | "dead" | "removing" | "stopped")
    }
}

/// The cheapest question there is.
pub(super) async fn ping(socket: &Path) -> io::Result<Pong> {
    let slow = |_| io::Error::new(ErrorKind::TimedOut, format!("not within {} s", PING.as_secs()));
    let answer = tokio::time::timeout(PING, get(socket, "/_ping")).await.map_err(slow)??;
    pong(&answer.head).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "this is no engine's answer"))
}

/// What the engine is.
pub(super) async fn info(socket: &Path) -> Result<Info, ComputeError> {
    Ok(json(socket, "/info", "asking the container engine what it is").await?.unwrap_or_default())
}

/// The container of this name or id, if there is one.
pub(super) async fn container(
    socket: &Path,
    id: &str,
    doing: &str,
) -> Result<Option<Container>, ComputeError> {
    json(socket, &format!("/containers/{id}/json"), doing).await
}

/// Every container with this label.
pub(super) async fn labelled(
    socket: &Path,
    name: &str,
    value: &str,
    doing: &str,
) -> Result<Vec<Listed>, ComputeError> {
    // {"label":["name=value"]}, both of letters, digits and dots.
    let filter = format!("%7B%22label%22%3A%5B%22{name}%3D{value}%22%5D%7D");
    let path = format!("/containers/json?all=true&filters={filter}");
    Ok(json(socket, &path, doing).await?.unwrap_or_default())
}

struct Answer {
    head: String,
    body: Vec<u8>,
}

async fn json<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    doing: &str,
) -> Result<Option<T>, ComputeError> {
    let failed = |e: io::Error| {
        let words = format!("the container engine at {} does not answer: {e}", socket.display());
        match e.kind() {
            ErrorKind::PermissionDenied => error::denied(doing, words),
            _other => error::unavailable(doing, words),
        }
    };
    let slow =
        |_| failed(io::Error::new(ErrorKind::TimedOut, format!("not within {} s", QUESTION.as_secs())));
    let answer = tokio::time::timeout(QUESTION, get(socket, path)).await.map_err(slow)?.map_err(failed)?;
    match answer.head.split(' ').nth(1) {
        Some("200") => serde_json::from_slice(&answer.body).map(Some).map_err(|e| failed(e.into())),
        Some("404") => Ok(None),
        // Podman's way to say it of a container that is removed while it looks.
        Some("500") if words(&answer.body).contains("no such container") => Ok(None),
        Some(code @ ("401" | "403")) => Err(error::denied(
            doing,
            format!("the container engine refuses with {code}: {}", words(&answer.body)),
        )),
        code => {
            let code = code.unwrap_or("nothing");
            Err(error::unavailable(
                doing,
                format!("the container engine answers {code}: {}", words(&answer.body)),
            ))
        }
    }
}

fn words(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(500)]).trim().to_owned()
}

/// HTTP 1.0: the answer ends with the connection, and comes in one piece.
async fn get(socket: &Path, path: &str) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n").as_bytes()).await?;
    let mut all = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut all).await?;
    let end = all.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "this is no engine's answer"))?;
    let body = all.split_off(end + 4);
    Ok(Answer { head: String::from_utf8_lossy(&all).into_owned(), body })
}

fn pong(head: &str) -> Option<Pong> {
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let api = header("Api-Version")?;
    let (major, minor) = api.split_once('.')?;
    Some(Pong { api: (major.parse().ok()?, minor.parse().ok()?), podman: header("Libpod-API-Version") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_is_stands_in_its_headers() {
        let podman = "HTTP/1.0 200 OK\r\nApi-Version: 1.41\r\nLibpod-Api-Version: 4.3.1\r\n\r\n";
        assert_eq!(pong(podman), Some(Pong { api: (1, 41), podman: Some("4.3.1".into()) }));
        let docker = "HTTP/1.1 200 OK\r\napi-version: 1.52\r\nDocker-Experimental: false\r\n\r\n";
        assert_eq!(pong(docker), Some(Pong { api: (1, 52), podman: None }));
        for other in ["", "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\nApi-Version: new\r\n\r\n"] {
            assert_eq!(pong(other), None, "{other:?}");
        }
    }

    #[test]
    fn states_that_only_podman_knows_are_understood() {
        let state = |status: &str| State { status: status.into(), ..State::default() };
        for (status, begun) in
            [("created", false), ("initialized", false), ("stopped", true), ("exited", true)]
        {
            assert_eq!(state(status).has_begun(), begun, "{status}");
        }
        let listed = |state: &str| Listed { id: "1".into(), state: state.into(), labels: None };
        for (state, lives) in [("running", true), ("created", true), ("stopping", true), ("stopped", false)] {
            assert_eq!(listed(state).lives(), lives, "{state}");
        }
    }
}
