//! `bgagent whoami`: who the server says that you are.

use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render::identity as render;

/// Show who you are to the server, and what you may do there
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent whoami
  bgagent whoami --output json")]
pub struct Args {}

/// Runs the command.
pub async fn whoami(cx: &Context, _args: Args) -> Result<Exit, Failure> {
    let client = connect::connect(cx).await?;
    let who = client.whoami().await?;
    cx.result(&who, |_| render::whoami(&who, client.base()))?;
    Ok(Exit::Done)
}
