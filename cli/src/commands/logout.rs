//! `bgagent logout`: forget a login.

use identity::login::Client as Provider;
use serde_json::json;

use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::credentials::Locked;
use crate::failure::{Exit, Failure};

/// Sign out of a server: the token is given back to its provider and forgotten here
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent logout
  bgagent logout --api-url https://bgagent.example.com")]
pub struct Args {}

/// Runs the command.
pub async fn logout(cx: &Context, _args: Args) -> Result<Exit, Failure> {
    let config = cx.config()?;
    let Some(url) = connect::named(cx, &config.api.url)? else {
        cx.result(&json!({ "server": null, "signed_out": false }), |_| "Nobody is signed in.".into())?;
        return Ok(Exit::Done);
    };
    let mut locked = Locked::open(&cx.env).await?;
    let removed = locked.all.remove(&url);
    locked.save()?;
    let server = url.as_str().trim_end_matches('/');
    let Some(login) = removed else {
        cx.result(&json!({ "server": server, "signed_out": false }), |_| {
            clean::line(&format!("Nobody is signed in at {server}."))
        })?;
        return Ok(Exit::Done);
    };
    // What is forgotten here is forgotten, whether the provider can be told or not.
    if let Some(refresh) = login.refresh_token() {
        let told = async { Provider::discover(login.at()).await?.revoke(refresh).await };
        if let Err(error) = told.await {
            cx.note(&clean::line(&format!(
                "! The provider could not be told ({error}); the session there ends by itself."
            )));
        }
    }
    cx.result(&json!({ "server": server, "signed_out": true, "user": login.user }), |_| {
        clean::line(&format!("Signed out of {server} ({}).", login.user))
    })?;
    Ok(Exit::Done)
}
