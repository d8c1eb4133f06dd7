//! `bgagent cache`: what package managers downloaded for a repository, lent to its boxes.

use std::ffi::OsString;
use std::path::Path;

use clap::Subcommand;
use compute::cache::{CacheError, Caches};
use domain::RepoRef;
use serde_json::{Value, json};
use server::paths::State;
use server::warm::{Warm, WarmError, warm};

use crate::clean;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render::cache::{cache, caches};
use crate::repo;

/// Fill, list and clear the dependency caches that boxes are lent
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent cache warm . -- cargo fetch --locked
  bgagent cache list
  bgagent cache clear owner/name")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a command on the default branch in a box without an agent, and lend what it fetched to the boxes of tasks
    ///
    /// Without a command: those of compute.warm of the repository. Boxes read the cache and write to a layer of their own;
    /// only this command changes it. A task that runs keeps what it was lent.
    #[command(after_help = "Examples:
  bgagent cache warm . -- cargo fetch --locked
  bgagent cache warm owner/name -- sh -c 'npm ci --ignore-scripts && pip download -r requirements.txt -d /tmp/x'
  bgagent cache warm owner/name")]
    Warm {
        /// A repository: a folder of this machine, or OWNER/NAME
        repo: String,
        /// The command and its arguments
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Show what boxes are lent
    #[command(after_help = "Examples:
  bgagent cache list
  bgagent cache list --output json")]
    List,
    /// Lend nothing to new boxes of a repository; the space is freed when no box uses it any more
    #[command(after_help = "Examples:
  bgagent cache clear .
  bgagent cache clear owner/name")]
    Clear {
        /// A repository: a folder of this machine, or OWNER/NAME
        repo: String,
    },
}

/// Runs the command. The caches are this machine's: no server is needed.
pub async fn run(cx: &Context, args: Args) -> Result<Exit, Failure> {
    let config = cx.config()?;
    let all = Caches::new(State(config.state_dir.clone()).caches());
    match args.verb {
        Verb::Warm { repo, command } => {
            let repo = named(cx, &repo)?;
            let commands = match command.is_empty() {
                true => config.compute_of(&repo).warm,
                false => vec![line(&command)?],
            };
            if commands.is_empty() {
                return Err(Failure::usage("there is no command to fill the cache with").hint(
                    "Give one after --, or set compute.warm of the repository, as in warm = [\"cargo fetch --locked\"].",
                ));
            }
            let program = std::env::current_exe()
                .map_err(|e| Failure::new(format!("finding this program's file: {e}")))?;
            let what = Warm { repo, commands, program };
            let warmed = warm(&config, &cx.env, &what, |text| cx.note(&clean::line(text))).await;
            let warmed = warmed.map_err(failed)?;
            let told = cache(&what.repo.to_string(), &warmed.generation);
            cx.result(&json!({ "repo": what.repo.to_string(), "generation": warmed.generation }), |_| told)?;
        }
        Verb::List => {
            let found = all.list().map_err(unreadable)?;
            cx.result(&json!({ "caches": found }), |view| caches(&found, view))?;
        }
        Verb::Clear { repo } => {
            let repo = named(cx, &repo)?;
            let cleared = all.clear(&repo).map_err(unreadable)?;
            let name = repo.to_string();
            cx.result(&json!({ "repo": name, "cleared": cleared }), |_| match cleared {
                true => format!("New boxes of {} are lent nothing.", clean::line(&name)),
                false => format!("{} has no cache.", clean::line(&name)),
            })?;
        }
    }
    Ok(Exit::Done)
}

fn named(cx: &Context, text: &str) -> Result<RepoRef, Failure> {
    let home = cx.env.get("HOME").map(Path::new);
    repo::resolve(text, home)?.parse().map_err(|e: domain::repo::BadRepo| Failure::usage(e.to_string()))
}

/// The command as a line for a shell, each word as it is.
fn line(words: &[OsString]) -> Result<String, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c);
    let word = |word: &OsString| {
        let text = word.to_str().ok_or_else(|| Failure::usage("the command must be UTF-8"))?;
        let safe = !text.is_empty() && text.chars().all(plain);
        Ok(if safe { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) })
    };
    Ok(words.iter().map(word).collect::<Result<Vec<String>, Failure>>()?.join(" "))
}

fn unreadable(failure: CacheError) -> Failure {
    Failure::new(failure.to_string()).hint("The caches are in the state folder: check its permissions.")
}

fn failed(failure: WarmError) -> Failure {
    let told = Failure::new(format!("{failure}; the cache is as it was"));
    let WarmError::Failed { network, .. } = failure else { return told };
    let rule = |event: &domain::event::NewEvent| match event.kind {
        domain::EventKind::EgressDenied => {
            event.metadata.get("rule").and_then(Value::as_str).map(str::to_owned)
        }
        _other => None,
    };
    let rules: Vec<String> = network.iter().filter_map(rule).collect();
    match rules.is_empty() {
        true => told.hint("What the command printed is above. It ran without your files and with the network of the repository's boxes."),
        false => told.hint(format!("The network refused it hosts; egress.allow would allow them with {}.", rules.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        let words = ["sh", "-c", "echo 'a b' $HOME", ""].map(OsString::from);
        assert_eq!(line(&words).unwrap(), r"sh -c 'echo '\''a b'\'' $HOME' ''");
    }
}
