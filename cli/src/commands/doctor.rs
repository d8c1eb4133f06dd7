//! `bgagent doctor`: whether tasks can work here, and what to do when not.

mod identity;
mod isolation;
mod objects;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use domain::IsolationTier;
use protocol::client::TaskFilter;
use secrecy::ExposeSecret as _;
use serde_json::json;
use server::Config;
use server::config::Env;
use server::paths::{self, State};
use server::registry::{self, Registry};
use tokio::process::Command;
use tokio::time::timeout;

use crate::clean;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render::doctor::{Check, Verdict, doctor as page};

/// The oldest git with everything that is used.
const GIT_MIN: (u32, u32) = (2, 30);
/// One program that is asked for its version.
const PROGRAM: Duration = Duration::from_secs(5);

/// Check git, folders, settings, model, forge and server
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent doctor
  bgagent doctor --output json | jq '.checks[] | select(.status != \"ok\")'

The exit code is 1 when a check failed.")]
pub struct Args {}

/// Runs the command.
pub async fn doctor(cx: &Context, _args: Args) -> Result<Exit, Failure> {
    let mut checks = vec![git().await];
    match cx.server_config() {
        Err(failure) => {
            let file = paths::config_file(&cx.env);
            let fix = format!("Correct it; the file is {}.", file.display());
            checks.push(check("config", Verdict::Fail, failure.message, Some(fix)));
        }
        Ok(config) => {
            checks.push(settings(cx));
            checks.extend(secrets(&config));
            checks.push(state_dir(&config.state_dir));
            checks.extend(objects::bucket(&config, &cx.env).await);
            checks.push(model(&config));
            checks.push(forge(&config));
            checks.extend(isolation(cx, &config));
            checks.extend(registries(&config, &cx.env).await);
            checks.extend(identity::providers(&config).await);
            checks.push(server(cx, &config).await);
        }
    }
    let passed = checks.iter().all(|c| c.status != Verdict::Fail);
    cx.result(&json!({ "passed": passed, "checks": checks }), |view| page(&checks, view))?;
    Ok(if passed { Exit::Done } else { Exit::Failed })
}

fn check(id: &'static str, status: Verdict, detail: impl Into<String>, fix: Option<String>) -> Check {
    Check { id, status, detail: detail.into(), fix }
}

async fn git() -> Check {
    let fix = || Some(format!("Install git {}.{} or newer.", GIT_MIN.0, GIT_MIN.1));
    let asked = Command::new("git").arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    match timeout(PROGRAM, asked).await {
        Ok(Ok(out)) if out.status.success() => {
            let text = clean::line(&String::from_utf8_lossy(&out.stdout));
            let enough = version(&text).is_some_and(|v| v >= GIT_MIN);
            check(
                "git",
                if enough { Verdict::Ok } else { Verdict::Fail },
                text,
                if enough { None } else { fix() },
            )
        }
        Ok(Ok(out)) => check("git", Verdict::Fail, format!("git --version ended with {}", out.status), fix()),
        Ok(Err(e)) => check("git", Verdict::Fail, format!("git cannot be run: {e}"), fix()),
        Err(_) => check("git", Verdict::Fail, "git --version does not end", fix()),
    }
}

/// The first two numbers of `git version 2.47.1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let word = text.split_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn settings(cx: &Context) -> Check {
    let file = paths::config_file(&cx.env);
    let overlaid = cx.env.keys().filter(|k| k.starts_with("BGAGENT__")).count();
    let read =
        if file.exists() { format!("{}", file.display()) } else { format!("no file ({})", file.display()) };
    let over =
        if overlaid == 0 { String::new() } else { format!(", {overlaid} BGAGENT__ variables over it") };
    check("config", Verdict::Ok, format!("{read}{over}"), None)
}

/// What should be better about the secrets; nothing when all is well.
fn secrets(config: &Config) -> Vec<Check> {
    let concerns = config.secrets.concerns().into_iter();
    let split = concerns.map(|text| match text.split_once("; ") {
        Some((detail, fix)) => (detail.to_owned(), Some(fix.to_owned())),
        None => (text, None),
    });
    split.map(|(detail, fix)| check("secrets", Verdict::Warn, detail, fix)).collect()
}

fn state_dir(dir: &Path) -> Check {
    let fix = || Some("Make it writable, or name another with BGAGENT__STATE_DIR.".to_owned());
    let probe = dir.join(format!(".doctor-{}", std::process::id()));
    let nearest = dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("/"));
    if nearest != dir {
        let able = nix::unistd::access(nearest, nix::unistd::AccessFlags::W_OK);
        return match able {
            Ok(()) => {
                check("state", Verdict::Ok, format!("{} (made when it is needed)", dir.display()), None)
            }
            Err(e) => check(
                "state",
                Verdict::Fail,
                format!("{} cannot be made: {}", dir.display(), e.desc()),
                fix(),
            ),
        };
    }
    match std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe)) {
        Ok(()) => check("state", Verdict::Ok, dir.display().to_string(), None),
        Err(e) => check("state", Verdict::Fail, format!("{} cannot be written: {e}", dir.display()), fix()),
    }
}

fn model(config: &Config) -> Check {
    let names: Vec<&str> = config.model.providers.keys().map(String::as_str).collect();
    let default = config.model.default.as_deref();
    match (names.as_slice(), default) {
        ([], _) => {
            let fix = "Set ANTHROPIC_API_KEY, or OPENAI_API_KEY, or OPENAI_BASE_URL for any OpenAI-compatible server. \
                       `bgagent demo` needs none.";
            check("model", Verdict::Fail, "no model provider is configured", Some(fix.into()))
        }
        ([_, _, ..], None) => {
            let detail = format!("providers {}, and none is the default", names.join(", "));
            let fix = "Set model.default = \"PROVIDER/MODEL\", or name one with --model.";
            check("model", Verdict::Warn, detail, Some(fix.into()))
        }
        (_, Some(default)) => {
            check("model", Verdict::Ok, format!("{default} (providers: {})", names.join(", ")), None)
        }
        ([one], None) => check("model", Verdict::Ok, format!("the default of {one}"), None),
    }
}

fn forge(config: &Config) -> Check {
    let github = &config.forge.github;
    if github.token.expose_secret().is_empty() {
        let fix = "Set GITHUB_TOKEN to work on repositories of GitHub; those of this machine need none.";
        return check(
            "forge",
            Verdict::Warn,
            format!("no token for {}", github.server_url),
            Some(fix.into()),
        );
    }
    check("forge", Verdict::Ok, format!("a token for {} is set", github.server_url), None)
}

fn isolation(cx: &Context, config: &Config) -> Vec<Check> {
    let found = |tier| match tier {
        IsolationTier::Process => Ok(String::new()),
        IsolationTier::Sandbox => sandbox::probe::sandbox().map(|()| String::new()),
        IsolationTier::Container => {
            // The program matters only to a start.
            let container = server::boxes::container(config, &cx.env, PathBuf::new());
            container.look().map(|facts| facts.to_string())
        }
        IsolationTier::Microvm => Err("nothing here builds it".into()),
    };
    isolation::checks(config.compute.isolation, &config.compute.tiers, found)
}

/// One line for each tool: the hosts that its name stands for in egress rules.
async fn registries(config: &Config, env: &Env) -> Vec<Check> {
    registry::registries(config, env).await.into_iter().map(registry_check).collect()
}

fn registry_check(registry: Registry) -> Check {
    let Registry { tool, named, hosts, wants, note } = registry;
    let (none, unused) = (hosts.is_empty(), if named { "" } else { " (no egress rule names it)" });
    let detail = match (&note, none) {
        (Some(note), true) => note.clone(),
        (None, true) => format!("{tool} uses no registry"),
        (_, false) => format!("boxes reach {}{unused}", hosts.join(", ")),
    };
    if !wants.is_empty() {
        let detail =
            format!("{detail}; this machine has a credential for {}, boxes have none", wants.join(", "));
        let hosts: Vec<String> = wants.iter().map(|host| format!("host = {host:?}")).collect();
        let fix = format!("Let the proxy add it: [[egress.credentials]] with {}.", hosts.join(" and "));
        return check(tool, Verdict::Warn, detail, Some(fix));
    }
    match note {
        // Nothing is missing that a box of this machine could use.
        Some(note) if none && note.ends_with("is not installed") => check(tool, Verdict::Ok, note, None),
        Some(note) if named && none => {
            check(tool, Verdict::Warn, note, Some("List its hosts in egress.allow.".into()))
        }
        Some(note) => check(tool, Verdict::Ok, format!("{detail}; {note}"), None),
        None => check(tool, Verdict::Ok, detail, None),
    }
}

async fn server(cx: &Context, config: &Config) -> Check {
    let url = match connect::named(cx, &config.api.url) {
        Ok(url) => url,
        Err(failure) => return check("server", Verdict::Fail, failure.message, failure.hint),
    };
    let state = State(config.state_dir.clone());
    let (place, client) = match url {
        Some(url) => (url.to_string(), connect::signed_in(cx, url, connect::key(cx, &config.api.key)).await),
        None => match connect::find(&state).await {
            Some(running) => {
                (format!("{} (process {})", running.url, running.pid), connect::client(&state, &running))
            }
            None => {
                let detail = "this machine's does not run; it is started when it is needed";
                return check("server", Verdict::Ok, detail, None);
            }
        },
    };
    let asked = match client {
        // With the key, so that a wrong one is found here.
        Ok(client) => client
            .list(&TaskFilter { limit: Some(1), ..TaskFilter::default() })
            .await
            .map(|_| ())
            .map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    match asked {
        Ok(()) => check("server", Verdict::Ok, place, None),
        Err(failure) => check("server", Verdict::Fail, format!("{place}: {}", failure.message), failure.hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_told_with_what_is_left_to_do() {
        let of = |hosts: &[&str], wants: &[&str], note: Option<&str>| {
            let own = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
            let told = Registry {
                tool: "pip",
                named: true,
                hosts: own(hosts),
                wants: own(wants),
                note: note.map(str::to_owned),
            };
            let check = registry_check(told);
            format!("{:?}: {} -> {}", check.status, check.detail, check.fix.unwrap_or_default())
        };
        assert_eq!(
            of(&["a.example:443", "b.example:80"], &[], None),
            "Ok: boxes reach a.example:443, b.example:80 -> "
        );
        assert_eq!(of(&[], &[], Some("pip is not installed")), "Ok: pip is not installed -> ");
        assert_eq!(
            of(&[], &[], Some("pip asked for no host")),
            "Warn: pip asked for no host -> List its hosts in egress.allow."
        );
        assert_eq!(
            of(&["a.example:443"], &["a.example:443"], None),
            "Warn: boxes reach a.example:443; this machine has a credential for a.example:443, boxes have none -> \
             Let the proxy add it: [[egress.credentials]] with host = \"a.example:443\"."
        );
    }

    #[test]
    fn versions_are_found_in_what_git_says() {
        assert_eq!(version("git version 2.47.1"), Some((2, 47)));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version("not git"), None);
    }
}
