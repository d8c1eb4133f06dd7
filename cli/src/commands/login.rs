//! `bgagent login`: sign in at a server's identity provider.

use std::process::Stdio;
use std::sync::Arc;

use identity::login::{Client as Provider, LoginError, Provider as At, Tokens};
use identity::settings::Shown;
use protocol::client::{Client, ClientError};
use protocol::identity::IdentityProvider;
use server::config::Env;
use url::{Host, Url};

use crate::clean;
use crate::connect;
use crate::context::{Context, now};
use crate::credentials::{Locked, Login};
use crate::failure::{Exit, Failure};
use crate::render::identity as render;
use crate::session::Session;

/// Sign in at a server, by a code on any device or in a browser
///
/// The server says which identity provider knows its people. What the provider wants of somebody who signs in for the first
/// time (a new password, a second factor, consent) it asks in the browser. Commands without --api-url talk to this server
/// from then on, until `bgagent logout`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent login --api-url https://bgagent.example.com
  bgagent login --device
  bgagent login --provider corp --browser")]
pub struct Args {
    /// The provider, where the server has several
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// With a code that is entered on any device
    #[arg(long, conflicts_with = "browser")]
    device: bool,
    /// With a browser on this machine
    #[arg(long)]
    browser: bool,
    /// Send the token over http:// to another machine, where everybody between can read it
    #[arg(long)]
    plain_http: bool,
}

/// How to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Device,
    Browser,
}

/// Runs the command.
pub async fn login(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let config = cx.config()?;
    let url = connect::named(cx, &config.api.url)?.ok_or_else(|| {
        Failure::usage("there is no server to sign in at").hint(
            "Name it with --api-url. This machine's own server needs no login: its owner's key is here.",
        )
    })?;
    if !private(&url) && !args.plain_http {
        return Err(Failure::usage(format!(
            "{url} is not encrypted: everybody on the way could read your token"
        ))
        .hint("Use its https:// address, or say --plain-http if you trust the network."));
    }
    let client = Client::new(url, None)?;
    let provider = choose(offered(&client).await?, args.provider.as_deref())?;
    let at = at(&provider)?;
    let speaker = Provider::discover(at.clone()).await.map_err(failed)?;
    let asked = match (args.device, args.browser) {
        (true, _) => Some(Way::Device),
        (false, true) => Some(Way::Browser),
        (false, false) => None,
    };
    cx.note(&clean::line(&format!("Signing in at {} ({}).", provider.issuer, provider.name)));
    let tokens = match asked.unwrap_or_else(|| way(&cx.env, speaker.has_device_login())) {
        Way::Device => by_device(cx, &speaker).await?,
        Way::Browser => by_browser(cx, &speaker).await?,
    };
    keep(cx, client, Login::new(&provider.name, &at, "", tokens, now())).await
}

async fn offered(client: &Client) -> Result<Vec<IdentityProvider>, Failure> {
    let none = || {
        Failure::new(format!("the server at {} has no sign-in; it takes keys alone", client.base()))
            .hint("Ask whoever runs it for a key, and set BGAGENT_API_KEY to it.")
    };
    match client.identity().await {
        Ok(told) if told.providers.is_empty() => Err(none()),
        Ok(told) => Ok(told.providers),
        Err(ClientError::Api { status: 404, .. }) => Err(none()),
        Err(error) => Err(error.into()),
    }
}

fn choose(mut all: Vec<IdentityProvider>, name: Option<&str>) -> Result<IdentityProvider, Failure> {
    let names: Vec<_> = all.iter().map(|provider| clean::line(&provider.name)).collect();
    let found = match (name, all.len()) {
        (None, 1) => Some(0),
        (None, _) => None,
        (Some(name), _) => all.iter().position(|provider| provider.name == name),
    };
    match (found, name) {
        (Some(n), _) => Ok(all.swap_remove(n)),
        (None, Some(name)) => Err(Failure::usage(format!("the server has no identity provider {name:?}"))
            .hint(format!("It has {}.", names.join(", ")))),
        (None, None) => Err(Failure::usage("the server has several identity providers")
            .hint(format!("Say which with --provider: {}.", names.join(", ")))),
    }
}

fn at(provider: &IdentityProvider) -> Result<At, Failure> {
    let token = match provider.token.as_str() {
        "id" => Shown::Id,
        "access" => Shown::Access,
        other => {
            return Err(Failure::new(format!(
                "the server wants a token of kind {other:?}, which is not known here"
            ))
            .hint("It is newer than this program: get the newer one."));
        }
    };
    Ok(At {
        issuer: provider.issuer.clone(),
        client_id: provider.client_id.clone(),
        scopes: provider.scopes.clone(),
        parameters: provider.parameters.clone(),
        redirect_url: provider.redirect_url.clone(),
        token,
    })
}

/// A browser where a person sits before a screen of this machine; else a code.
fn way(env: &Env, device: bool) -> Way {
    let set = |name: &str| env.get(name).is_some_and(|value| !value.is_empty());
    let screen = set("BROWSER") || set("DISPLAY") || set("WAYLAND_DISPLAY") || cfg!(target_os = "macos");
    if device && (!screen || set("SSH_CONNECTION")) { Way::Device } else { Way::Browser }
}

async fn by_device(cx: &Context, provider: &Provider) -> Result<Tokens, Failure> {
    let device = provider.device().await.map_err(failed)?;
    cx.note(&render::code(&device.verification_url, &device.user_code, device.complete_url.as_ref()));
    provider.entered(&device, now).await.map_err(failed)
}

async fn by_browser(cx: &Context, provider: &Provider) -> Result<Tokens, Failure> {
    let browser = provider.browser().await.map_err(failed)?;
    cx.note(&render::browser(&browser.url));
    open(&cx.env, &browser.url);
    provider.returned(browser, now).await.map_err(failed)
}

/// Opens a browser, if there is one: the address is on the screen all the same.
fn open(env: &Env, url: &Url) {
    let usual = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let program =
        env.get("BROWSER").map(String::as_str).filter(|program| !program.is_empty()).unwrap_or(usual);
    let mut command = std::process::Command::new(program);
    let _ =
        command.arg(url.as_str()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
}

/// Keeps the login, and asks the server who that is: it may be somebody who has no role yet.
async fn keep(cx: &Context, client: Client, login: Login) -> Result<Exit, Failure> {
    let server = client.base().clone();
    let mut locked = Locked::open(&cx.env).await?;
    locked.all.put(&server, login.clone());
    locked.save()?;
    let Some(session) = Session::of(cx, &server)? else {
        return Err(
            Failure::new("the login was removed while it was made").hint("Run `bgagent login` again.")
        );
    };
    let who = client.with_bearer(Arc::new(session)).whoami().await;
    let who = who.map_err(|error| {
        let failure = Failure::from(error);
        let message = format!("you are signed in, but the server does not let you in: {}", failure.message);
        Failure { message, ..failure }
    })?;
    let mut locked = Locked::open(&cx.env).await?;
    // Its token may have been renewed meanwhile.
    let login = locked.all.login(&server).cloned().unwrap_or(login);
    let login = login.of(&who.user);
    locked.all.put(&server, login.clone());
    locked.save()?;
    let told = render::SignedIn {
        server: server.as_str().trim_end_matches('/').to_owned(),
        provider: login.provider.clone(),
        user: who.user,
        role: who.role,
        teams: who.teams,
        expires_at: login.expires_at,
        renewed: login.refresh_token().is_some(),
    };
    cx.result(&told, |_| render::signed_in(&told))?;
    Ok(Exit::Done)
}

fn failed(error: LoginError) -> Failure {
    Failure::new(error.to_string()).hint(error.hint())
}

/// Encrypted, or not leaving this machine.
fn private(url: &Url) -> bool {
    url.scheme() == "https"
        || match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_where_nobody_sits_before_a_screen() {
        for (set, device, want) in [
            (&[][..], true, Way::Device),
            (&[], false, Way::Browser),
            (&["DISPLAY"], true, Way::Browser),
            (&["WAYLAND_DISPLAY"], true, Way::Browser),
            (&["BROWSER"], true, Way::Browser),
            (&["DISPLAY", "SSH_CONNECTION"], true, Way::Device),
            (&["DISPLAY", "SSH_CONNECTION"], false, Way::Browser),
        ] {
            let env = set.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
            if !cfg!(target_os = "macos") {
                assert_eq!(way(&env, device), want, "{set:?} {device}");
            }
        }
    }

    #[test]
    fn tokens_leave_this_machine_encrypted() {
        for (url, good) in [
            ("https://a.example", true),
            ("http://a.example", false),
            ("http://10.0.0.1", false),
            ("http://127.0.0.1:7878", true),
            ("http://localhost:7878", true),
            ("http://[::1]:7878", true),
            ("http://localhost.evil.example", false),
        ] {
            assert_eq!(private(&Url::parse(url).unwrap()), good, "{url}");
        }
    }
}
