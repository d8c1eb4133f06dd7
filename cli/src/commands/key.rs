//! `bgagent key`: API keys for programs and other people.

use std::time::Duration;

use clap::Subcommand;
use domain::{ApiKeyId, transition};
use protocol::access::CreateApiKeyRequest;
use protocol::client::HeldQuery;

use super::number;
use super::span::span;
use crate::args::Output;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render::access;

/// Make, list and revoke API keys
#[derive(Debug, clap::Args)]
#[command(
    alias = "api-key",
    after_help = "Examples:
  bgagent key create --name CI --scopes tasks:read,tasks:create --expires-in 90d
  bgagent key list
  bgagent key revoke 01ARZ3NDEKTSV4RRFFQ69G5FAV"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key; it is printed once, and the server keeps only its hash
    #[command(
        after_help = "Scopes: tasks:read, tasks:create, tasks:steer, tasks:cancel, approvals:decide, usage:read, webhooks:manage;
for owners also audit:read and server:manage.

Examples:
  bgagent key create --name CI --scopes tasks:read,tasks:create --expires-in 90d
  bgagent key create --name \"for Bob\" --user bob@example.com --scopes tasks:read,tasks:create,tasks:steer,tasks:cancel
  BGAGENT_API_KEY=$(bgagent key create --name dash --scopes tasks:read --output json | jq -r .key) bgagent list"
    )]
    Create {
        /// What people call it: letters, digits, spaces, dashes and underscores
        #[arg(long)]
        name: String,
        /// What it may be used for, separated by commas; webhooks:manage when absent
        #[arg(long, value_delimiter = ',', value_name = "SCOPES")]
        scopes: Option<Vec<String>>,
        /// After how long it is no good: 12h, 90d; never when absent
        #[arg(long, value_name = "SPAN", value_parser = span, conflicts_with = "expires_at")]
        expires_in: Option<Duration>,
        /// From when on it is no good: 2027-01-31T12:00:00Z
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// Whom it speaks for; yourself when absent, others only as owner
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// What they are when they come with it: owner, member or viewer
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
    },
    /// Show keys, newest first, without their secrets
    #[command(after_help = "Examples:
  bgagent key list --include-revoked
  bgagent key list --all --output json")]
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
    /// Refuse a key from now on, for good
    #[command(after_help = "Example:
  bgagent key revoke 01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Revoke {
        /// The key's id: the part between the two underscores
        key: ApiKeyId,
    },
}

/// Runs the command.
pub async fn key(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let client = connect::connect(cx).await?;
    match args.verb {
        Verb::Create { name, scopes, expires_in, expires_at, user, role } => {
            let expires_in = expires_in.map(|span| transition::after(cx.view().now, span).to_string());
            let request = CreateApiKeyRequest {
                name: Some(name),
                scopes,
                expires_at: expires_at.or(expires_in),
                user,
                role,
            };
            let made = client.api_key_create(&request).await?;
            cx.result(&made, |_| access::key_made(&made))?;
            if cx.output == Output::Text {
                cx.note("The key is not shown again. Give it to programs as BGAGENT_API_KEY, or as the header X-API-Key.");
            }
        }
        Verb::List { include_revoked, all, limit } => {
            let page = client.api_keys(&held(include_revoked, all, limit)).await?;
            match cx.output {
                Output::Json => page.data.iter().try_for_each(|key| cx.json(key))?,
                Output::Text => cx.text(&access::keys(&page.data, &cx.view()))?,
            }
            if page.pagination.has_more {
                cx.note("(More keys: raise --limit)");
            }
        }
        Verb::Revoke { key } => {
            let revoked = client.api_key_revoke(&key.to_string()).await?;
            cx.result(&revoked, |_| access::revoked("Key", &revoked.key_id, revoked.revoked_at.as_deref()))?;
        }
    }
    Ok(Exit::Done)
}

/// The list that was asked for.
pub(super) fn held(include_revoked: bool, all: bool, limit: Option<u32>) -> HeldQuery {
    HeldQuery {
        include_revoked: include_revoked.then_some(true),
        whose: all.then(|| "all".to_owned()),
        limit,
        next_token: None,
    }
}
