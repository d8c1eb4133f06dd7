//! `bgagent config`: where settings are read from and what they are.

use clap::Subcommand;
use secrecy::ExposeSecret as _;
use serde_json::json;
use server::paths::{self, State};

use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// Show where settings are read from, what they are, and the owner's key
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent config path
  bgagent config show
  BGAGENT_API_URL=http://127.0.0.1:7878 BGAGENT_API_KEY=$(bgagent config owner-key) bgagent list")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// The file that is read, whether it exists or not
    #[command(after_help = "Examples:
  bgagent config path
  $EDITOR \"$(bgagent config path)\"")]
    Path,
    /// All settings; of secrets only whether they are set
    #[command(after_help = "Examples:
  bgagent config show
  BGAGENT__LIMITS__PER_USER=3 bgagent config show")]
    Show,
    /// The key of this machine's server; made when there is none yet
    #[command(after_help = "Examples:
  KEY=$(bgagent config owner-key)
  curl -H \"X-API-Key: $(bgagent config owner-key)\" http://127.0.0.1:7878/v1/tasks")]
    OwnerKey,
}

/// Runs the command.
pub fn config(cx: &Context, args: Args) -> Result<Exit, Failure> {
    match args.what {
        What::Path => {
            let path = paths::config_file(&cx.env);
            let exists = path.exists();
            cx.result(&json!({ "path": path, "exists": exists }), |_| clean::line(&path.to_string_lossy()))?;
        }
        What::Show => {
            let shown = cx.config()?.show();
            cx.result(&json!({ "settings": shown.lines().collect::<Vec<_>>() }), |_| clean::block(&shown))?;
        }
        What::OwnerKey => {
            let key = connect::owner_key_made(&State(cx.config()?.state_dir))?;
            cx.result(&json!({ "owner_key": key.expose_secret() }), |_| clean::line(key.expose_secret()))?;
        }
    }
    Ok(Exit::Done)
}
