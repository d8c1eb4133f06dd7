//! `bgagent webhook`: let other systems submit tasks with signed requests.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use domain::WebhookId;
use protocol::access::{CreateWebhookRequest, RotateWebhookRequest};
use protocol::client::ClientError;
use serde_json::{Map, Value, json};
use server::webhook::Secret;

use super::key::held;
use super::number;
use super::span::span;
use crate::args::Output;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render::access;

/// Where a secret is read from when no file is named.
const SECRET: &str = "BGAGENT_WEBHOOK_SECRET";

/// Let other systems submit tasks with signed requests
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent webhook create --name CI
  BGAGENT_WEBHOOK_SECRET=whsec_... bgagent webhook test 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent webhook rotate 01ARZ3NDEKTSV4RRFFQ69G5FAV --overlap 1h")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a webhook; prints where deliveries go, and the secret, once
    #[command(after_help = "Examples:
  bgagent webhook create --name CI
  bgagent webhook create --name \"old CI\" --signature plain
  bgagent webhook create --name CI --output json | jq -r .secret > secret")]
    Create {
        /// What people call it: letters, digits, spaces, dashes and underscores
        #[arg(long)]
        name: String,
        /// How deliveries are signed: strict (Standard Webhooks: once, and within 5 minutes) or plain (the body alone)
        #[arg(long, default_value = "strict", value_parser = ["strict", "plain"])]
        signature: String,
    },
    /// Show webhooks, newest first, without their secrets
    #[command(after_help = "Examples:
  bgagent webhook list --include-revoked
  bgagent webhook list --all --output json")]
    List {
        /// Also those that were revoked
        #[arg(long)]
        include_revoked: bool,
        /// Everybody's; for owners
        #[arg(long)]
        all: bool,
        /// Rows, 1 to 100
        #[arg(long, value_name = "N", value_parser = number::task_rows)]
        limit: Option<u32>,
    },
    /// Give a webhook a new secret, printed once; the one of now stays good for a while
    #[command(after_help = "Examples:
  bgagent webhook rotate 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent webhook rotate 01ARZ3NDEKTSV4RRFFQ69G5FAV --overlap 0s")]
    Rotate {
        /// The webhook
        webhook: WebhookId,
        /// How long the secret of now stays good: 0s to 7d; a day when absent
        #[arg(long, value_name = "SPAN", value_parser = span)]
        overlap: Option<Duration>,
    },
    /// Refuse a webhook's deliveries from now on, for good
    #[command(after_help = "Example:
  bgagent webhook revoke 01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Revoke {
        /// The webhook
        webhook: WebhookId,
    },
    /// Send a signed delivery, as the other system would; makes no task unless told to
    ///
    /// The secret is read from BGAGENT_WEBHOOK_SECRET or a file, never from the command line, where others could see it.
    #[command(after_help = "Examples:
  BGAGENT_WEBHOOK_SECRET=whsec_... bgagent webhook test 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent webhook test 01ARZ3NDEKTSV4RRFFQ69G5FAV --secret-file secret --repo octo/cat --task \"Fix the build\"
  bgagent webhook test 01ARZ3NDEKTSV4RRFFQ69G5FAV --secret-file - --repo octo/cat --task \"Fix the build\" --create < secret")]
    Test {
        /// The webhook
        webhook: WebhookId,
        /// File with the secret; - is standard input
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// Check also whether a task on this repository would be accepted
        #[arg(long, value_name = "REPO", requires = "task")]
        repo: Option<String>,
        /// What that task would be
        #[arg(long, value_name = "TEXT", requires = "repo")]
        task: Option<String>,
        /// Make the task
        #[arg(long, requires = "task")]
        create: bool,
    },
}

/// Runs the command.
pub async fn webhook(cx: &Context, args: Args) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Create { name, signature } => {
            let request = CreateWebhookRequest { name: Some(name), signature: Some(signature) };
            let made = connect::connect(cx).await?.webhook_create(&request).await?;
            cx.result(&made, |_| access::webhook_secret(&made))?;
            once(cx);
        }
        Verb::List { include_revoked, all, limit } => {
            let page = connect::connect(cx).await?.webhooks(&held(include_revoked, all, limit)).await?;
            match cx.output {
                Output::Json => page.data.iter().try_for_each(|webhook| cx.json(webhook))?,
                Output::Text => cx.text(&access::webhooks(&page.data, &cx.view()))?,
            }
            if page.pagination.has_more {
                cx.note("(More webhooks: raise --limit)");
            }
        }
        Verb::Rotate { webhook, overlap } => {
            let request = RotateWebhookRequest { overlap_s: overlap.map(|span| span.as_secs()) };
            let client = connect::connect(cx).await?;
            let made = client.webhook_rotate(&webhook.to_string(), &request).await?;
            cx.result(&made, |_| access::webhook_secret(&made))?;
            once(cx);
        }
        Verb::Revoke { webhook } => {
            let revoked = connect::connect(cx).await?.webhook_revoke(&webhook.to_string()).await?;
            let (id, at) = (&revoked.webhook_id, revoked.revoked_at.as_deref());
            cx.result(&revoked, |_| access::revoked("Webhook", id, at))?;
        }
        Verb::Test { webhook, secret_file, repo, task, create } => {
            let secret = secret(cx, secret_file)?;
            let body = body(repo, task, create).to_string();
            let now = cx.view().now;
            // A name of its own for each try: the server takes none twice.
            let headers =
                secret.sign(&format!("test-{}", now.as_nanosecond()), now.as_second(), body.as_bytes());
            let client = connect::connect(cx).await?;
            let answer = client.webhook_deliver(&webhook.to_string(), &headers, body).await;
            let answer = answer.map_err(refused)?;
            cx.result(&answer, |_| access::tested(&answer))?;
        }
    }
    Ok(Exit::Done)
}

fn once(cx: &Context) {
    if cx.output == Output::Text {
        cx.note("The secret is not shown again. `bgagent webhook test ID` tries it.");
    }
}

fn body(repo: Option<String>, task: Option<String>, create: bool) -> Value {
    let mut body = Map::new();
    body.extend(repo.map(|repo| ("repo".to_owned(), json!(repo))));
    body.extend(task.map(|task| ("task_description".to_owned(), json!(task))));
    if !create {
        body.insert("dry_run".into(), json!(true));
    }
    Value::Object(body)
}

fn secret(cx: &Context, file: Option<PathBuf>) -> Result<Secret, Failure> {
    let (text, from) = match file {
        Some(path) if path.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|e| Failure::new(format!("reading the secret from standard input: {e}")))?;
            (text, "standard input".to_owned())
        }
        Some(path) => {
            let shown = path.display().to_string();
            let text = std::fs::read_to_string(&path).map_err(|e| {
                Failure::usage(format!("reading the secret from {shown}: {e}"))
                    .hint("Name a file that holds the secret and nothing else; - is standard input.")
            })?;
            (text, shown)
        }
        None => {
            let text = cx.env.get(SECRET).cloned().ok_or_else(|| {
                Failure::usage("there is no secret to sign with")
                    .hint(format!("Set {SECRET}, or name a file with --secret-file."))
            })?;
            (text, SECRET.to_owned())
        }
    };
    Secret::read(&text).ok_or_else(|| {
        Failure::usage(format!(
            "what {from} holds is no webhook secret: it is whsec_ and base64, or 64 hex digits"
        ))
        .hint("`bgagent webhook rotate ID` makes a new one when the old one is lost.")
    })
}

/// A refused delivery is about the signature, not about the person's own key.
fn refused(error: ClientError) -> Failure {
    match &error {
        ClientError::Api { status: 401, .. } => Failure::new(error.to_string()).hint(
            "`bgagent webhook list` shows the webhooks; `bgagent webhook rotate ID` makes a new secret.",
        ),
        _ => Failure::from(error),
    }
}
