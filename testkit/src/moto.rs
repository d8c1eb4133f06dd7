//! An S3 service that nobody here wrote (`moto`), as a process.

use std::process::Stdio;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::peers;

/// Keys in one page of a list: few, so that lists of tests have pages.
const PAGE: &str = "5";
/// It does not look whether a signature is right, but whether there is one.
const SIGNED: &str =
    "AWS4-HMAC-SHA256 Credential=TEST/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// A running service; it ends with this.
#[derive(Debug)]
pub struct Moto {
    /// Where it listens: `http://127.0.0.1:port`.
    pub url: String,
    process: Child,
    http: reqwest::Client,
}

/// Whose requests it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Everybody's.
    Open,
    /// After so many from the start, only of keys that it knows, which are none.
    KnownAfter(u32),
}

impl Moto {
    /// Starts one; `None` where tests run without peers.
    pub async fn start(auth: Auth) -> anyhow::Result<Option<Moto>> {
        let Some(program) = peers::required("moto", "moto_server")? else { return Ok(None) };
        let mut command = Command::new(program);
        if let Auth::KnownAfter(requests) = auth {
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", requests.to_string());
        }
        let mut process = command
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("MOTO_S3_DEFAULT_MAX_KEYS", PAGE)
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting moto")?;
        let mut lines = BufReader::new(process.stderr.take().context("moto has no output")?).lines();
        let url = loop {
            let line = lines.next_line().await?.context("moto ended before it listened")?;
            if let Some((_, url)) = line.split_once("Running on ") {
                break url.trim().to_owned();
            }
        };
        // It goes on printing: nobody may stop it by not reading.
        #[expect(clippy::disallowed_methods, reason = "ends with moto's output")]
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Some(Moto { url, process, http }))
    }

    /// Makes a bucket.
    pub async fn bucket(&self, name: &str) -> anyhow::Result<()> {
        let answer =
            self.http.put(format!("{}/{name}", self.url)).header("Content-Length", "0").send().await?;
        let (status, body) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("making the bucket {name}: {status}: {body}");
        }
        Ok(())
    }

    /// What it answers to `GET /path`, as a program of somebody else sees it: `bucket/key`, or `bucket?uploads`.
    pub async fn get(&self, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        let call = self.http.get(format!("{}/{path}", self.url)).header("Authorization", SIGNED);
        let answer = call.send().await?;
        Ok((answer.status().as_u16(), answer.bytes().await?.to_vec()))
    }

    /// Puts an object, or removes it, behind everybody's back.
    pub async fn set(&self, path: &str, body: Option<&'static str>) -> anyhow::Result<()> {
        let url = format!("{}/{path}", self.url);
        let call = match body {
            Some(body) => self.http.put(url).body(body),
            None => self.http.delete(url),
        };
        call.header("Authorization", SIGNED).send().await?.error_for_status()?;
        Ok(())
    }

    /// Ends it.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("stopping moto")
    }
}
