//! Identity providers that nobody here wrote, as processes, and somebody with a browser who signs in at them.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::peers;

/// A script of ours around a package.
fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

/// What a provider is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its port; 0 takes any.
    pub port: u16,
    /// `RS256`, `ES256` or `EdDSA`.
    pub algorithm: &'static str,
    /// Seconds that a token is good for.
    pub lifetime_s: u32,
    /// The audience of access tokens, which are JWTs then.
    pub resource: Option<&'static str>,
    /// Name, and claims besides `sub`.
    pub people: Value,
}

impl Default for Options {
    fn default() -> Self {
        let people = json!({ "ann": { "groups": ["eng"], "name": "Ann" } });
        Self { port: 0, algorithm: "RS256", lifetime_s: 300, resource: None, people }
    }
}

/// A running provider (`oidc-provider`); it ends with this.
#[derive(Debug)]
pub struct Provider {
    /// Its issuer.
    pub issuer: String,
    /// Its id of the client that people sign in with.
    pub client_id: &'static str,
    process: Child,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Started {
    issuer: String,
}

impl Provider {
    /// Starts one; `None` where the peer is not installed.
    pub async fn start(options: &Options) -> anyhow::Result<Option<Provider>> {
        let Some(modules) = peers::node_modules("oidc") else { return Ok(None) };
        let given = json!({
            "port": options.port, "algorithm": options.algorithm, "lifetime": options.lifetime_s,
            "resource": options.resource, "people": options.people,
        });
        let mut process = Command::new("node")
            .arg(script("oidc-provider.mjs"))
            .arg(given.to_string())
            .env("PEER_MODULES", modules)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting node")?;
        let out = process.stdout.take().context("the provider has no output")?;
        let mut lines = BufReader::new(out).lines();
        // It warns of its defaults on the same output.
        let started: Started = loop {
            let line = lines.next_line().await?.context("the provider ended before it listened")?;
            if let Ok(started) = serde_json::from_str(&line) {
                break started;
            }
        };
        // It goes on printing: nobody may stop it by not reading.
        #[expect(clippy::disallowed_methods, reason = "ends with the provider's output")]
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Some(Provider { issuer: started.issuer, client_id: "bgagent", process, http }))
    }

    /// A new key signs from now on; the one before is still published.
    pub async fn rotate(&self) -> anyhow::Result<()> {
        self.told("rotate", Value::Null).await
    }

    /// Only the newest key is published.
    pub async fn retire(&self) -> anyhow::Result<()> {
        self.told("retire", Value::Null).await
    }

    /// Who signs in from now on, with which claims.
    pub async fn people(&self, people: Value) -> anyhow::Result<()> {
        self.told("people", people).await
    }

    async fn told(&self, what: &str, body: Value) -> anyhow::Result<()> {
        let url = format!("{}/test/{what}", self.issuer);
        let answer = self.http.post(url).body(body.to_string()).send().await?;
        answer.error_for_status()?;
        Ok(())
    }

    /// An access token for the provider's resource, of a client that is a program.
    pub async fn robot(&self) -> anyhow::Result<String> {
        let url = format!("{}/token", self.issuer);
        let call = self.http.post(url).basic_auth("robot", Some("robot-secret"));
        let call = call.header("Content-Type", "application/x-www-form-urlencoded");
        let answer = call.body("grant_type=client_credentials").send().await?.error_for_status()?;
        let body: Value = answer.json().await?;
        body["access_token"].as_str().map(str::to_owned).context("no access token")
    }

    /// Ends it.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("stopping the provider")
    }
}

/// What somebody does at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Signs in and agrees.
    Agree,
    /// Says no.
    Decline,
}

/// Somebody goes to an address with a browser and does what is asked there.
pub async fn browse(url: &str, person: &str, answer: Answer) -> anyhow::Result<String> {
    let mut command = Command::new("node");
    command.arg(script("browser.mjs")).arg(url).env("PERSON", person);
    if answer == Answer::Decline {
        command.env("DECLINE", "1");
    }
    let done = command.output().await.context("starting node")?;
    let page = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        bail!("the browser ended with {}: {page}{}", done.status, String::from_utf8_lossy(&done.stderr));
    }
    Ok(page)
}

/// The program that is the browser of `person`: a script at `path` for `$BROWSER`.
pub fn browser_of(person: &str, path: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let script = script("browser.mjs");
    let text = format!("#!/bin/sh\nPERSON={person} exec node '{}' \"$1\"\n", script.display());
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// A running provider that makes tokens as it is told (`oauth2-mock-server`); it ends with this.
#[derive(Debug)]
pub struct Mint {
    /// Its issuer.
    pub issuer: String,
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Mint {
    /// Starts one; `None` where the peer is not installed.
    pub async fn start() -> anyhow::Result<Option<Mint>> {
        let Some(modules) = peers::node_modules("oidc") else { return Ok(None) };
        let mut process = Command::new("node")
            .arg(script("oauth2-mock-server.mjs"))
            .env("PEER_MODULES", modules)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting node")?;
        let out = process.stdout.take().context("the provider has no output")?;
        let mut lines = BufReader::new(out).lines();
        let line = lines.next_line().await?.context("the provider ended before it listened")?;
        let Started { issuer } = serde_json::from_str(&line)?;
        Ok(Some(Mint { issuer, process, lines }))
    }

    /// A new key of this kind signs from now on.
    pub async fn key(&mut self, algorithm: &str) -> anyhow::Result<()> {
        self.told(json!({ "key": algorithm })).await.map(drop)
    }

    /// A token that says this.
    pub async fn token(&mut self, claims: Value) -> anyhow::Result<String> {
        let answer = self.told(json!({ "token": claims })).await?;
        answer["token"].as_str().map(str::to_owned).context("no token")
    }

    async fn told(&mut self, what: Value) -> anyhow::Result<Value> {
        let input = self.process.stdin.as_mut().context("the provider has no input")?;
        input.write_all(format!("{what}\n").as_bytes()).await?;
        let line = self.lines.next_line().await?.context("the provider ended")?;
        Ok(serde_json::from_str(&line)?)
    }
}
