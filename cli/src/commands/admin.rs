//! `bgagent admin`: what operators do: back up, look, forget.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use protocol::admin::PurgeRequest;
use protocol::client::AuditQuery;
use serde_json::json;
use server::backup::{self, BackupError, Objects, Old};
use server::config::objects::Kind;
use server::paths::State;

use super::number;
use crate::args::Output;
use crate::connect;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::render;

/// Back up and restore the server's state, see who did what, what is owed and which boxes live, and forget what is over
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bgagent admin backup /backups/bgagent-2026-11-28
  bgagent admin verify /backups/bgagent-2026-11-28
  bgagent admin purge --ended-before 2026-01-01 --dry-run")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Copy the state of this machine's server to a new folder; the server may run
    ///
    /// The copy holds the database as of one moment, traces, artifacts and attachments, what was pushed and is
    /// on no forge, and the keys of the server: keep it as you keep those. Objects in a bucket are copied from there. Mirrors
    /// and dependency caches are made again and are not in it.
    #[command(after_help = "Examples:
  bgagent admin backup /backups/bgagent-2026-11-28
  bgagent admin backup /backups/$(date +%F) --output json | jq .bytes")]
    Backup {
        /// The folder to make
        to: PathBuf,
    },
    /// Put a backup back as the state of this machine's server, which must not run
    ///
    /// The backup is checked first. Objects go where the configuration keeps them: to the folder or the bucket. Tasks that ran
    /// when it was made have lost their boxes: each begins another attempt when the server starts, if `limits.attempts_max`
    /// leaves it one.
    #[command(after_help = "Examples:
  bgagent admin restore /backups/bgagent-2026-11-28
  bgagent admin restore /backups/bgagent-2026-11-28 --force")]
    Restore {
        /// The backup
        from: PathBuf,
        /// Move state that is there to a folder beside it
        #[arg(long)]
        force: bool,
    },
    /// Check a backup, or the database of this machine's server, which may run
    #[command(after_help = "Examples:
  bgagent admin verify
  bgagent admin verify /backups/bgagent-2026-11-28")]
    Verify {
        /// The backup; without it, the database of this machine
        backup: Option<PathBuf>,
    },
    /// Show what must happen and has not yet: boxes to stop, traces to put together
    #[command(after_help = "Examples:
  bgagent admin obligations
  bgagent admin obligations --output json | jq 'select(.alarm)'")]
    Obligations,
    /// Show the boxes that live
    #[command(after_help = "Examples:
  bgagent admin sessions
  bgagent admin sessions --output json | jq 'select(.wanted | not)'")]
    Sessions,
    /// Show who did what, newest first
    ///
    /// With --output json: one line of the log a line.
    #[command(after_help = "Examples:
  bgagent admin audit --limit 100
  bgagent admin audit --object 01ARZ3NDEKTSV4RRFFQ69G5FAV
  bgagent admin audit --action api_key.create --output json | jq -r .actor")]
    Audit {
        /// Only what this user did
        #[arg(long, value_name = "USER")]
        actor: Option<String>,
        /// Only this: task.cancel, api_key.create
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
        /// Only what was done to this: the id of a task, key or webhook
        #[arg(long, value_name = "ID")]
        object: Option<String>,
        /// Rows, 1 to 100
        #[arg(long, value_name = "N", value_parser = number::task_rows)]
        limit: Option<u32>,
    },
    /// Remove tasks that have ended, with their events, traces, artifacts and attachments; or all that is known of a user
    #[command(after_help = "Examples:
  bgagent admin purge --ended-before 2026-01-01 --dry-run
  bgagent admin purge --ended-before 2026-01-01
  bgagent admin purge --user ann
  bgagent admin purge --user ann --erase-user")]
    Purge {
        /// Tasks that ended before this day (UTC) or time
        #[arg(long, value_name = "TIME", value_parser = moment, required_unless_present = "user")]
        ended_before: Option<String>,
        /// Only tasks of this user
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// Remove the user's keys and webhooks too, and their name from usage and the audit log
        #[arg(long, requires = "user", conflicts_with = "ended_before")]
        erase_user: bool,
        /// Count only
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs the command.
pub async fn admin(cx: &Context, args: Args) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Backup { to } => backup(cx, to).await,
        Verb::Restore { from, force } => restore(cx, from, force).await,
        Verb::Verify { backup } => verify(cx, backup).await,
        Verb::Obligations => {
            let rows = connect::connect(cx).await?.obligations().await?;
            match cx.output {
                Output::Json => rows.iter().try_for_each(|row| cx.json(row))?,
                Output::Text => cx.text(&render::admin::obligations(&rows, &cx.view()))?,
            }
            Ok(Exit::Done)
        }
        Verb::Sessions => {
            let rows = connect::connect(cx).await?.sessions().await?;
            match cx.output {
                Output::Json => rows.iter().try_for_each(|row| cx.json(row))?,
                Output::Text => cx.text(&render::admin::sessions(&rows, &cx.view()))?,
            }
            Ok(Exit::Done)
        }
        Verb::Audit { actor, action, object, limit } => {
            audit(cx, AuditQuery { actor, action, object, limit, next_token: None }).await
        }
        Verb::Purge { ended_before, user, erase_user, dry_run } => {
            let request = PurgeRequest {
                ended_before,
                user,
                erase_user: erase_user.then_some(true),
                dry_run: dry_run.then_some(true),
            };
            let purged = connect::connect(cx).await?.purge(&request).await?;
            match cx.output {
                Output::Json => cx.json(&purged)?,
                Output::Text => cx.text(&render::admin::purged(&purged))?,
            }
            Ok(Exit::Done)
        }
    }
}

async fn audit(cx: &Context, query: AuditQuery) -> Result<Exit, Failure> {
    let page = connect::connect(cx).await?.audit(&query).await?;
    match cx.output {
        Output::Json => page.data.iter().try_for_each(|line| cx.json(line))?,
        Output::Text => cx.text(&render::access::audit(&page.data, &cx.view()))?,
    }
    if page.pagination.has_more {
        cx.note("(More lines: narrow them with --actor, --action or --object, or raise --limit)");
    }
    Ok(Exit::Done)
}

async fn backup(cx: &Context, to: PathBuf) -> Result<Exit, Failure> {
    let state = state(cx)?;
    cx.passing("Copying ...");
    let (at, target, objects) = (cx.view().now, to.clone(), objects(cx)?);
    let manifest = blocking(move || backup::backup(&state, &objects, &target, at)).await?;
    cx.passing("");
    let (files, bytes) = (manifest.files.len(), manifest.bytes());
    match cx.output {
        Output::Json => {
            cx.json(
                &json!({ "backup": to, "created_at": manifest.created_at, "files": files, "bytes": bytes }),
            )?;
        }
        Output::Text => cx.text(&format!(
            "Backed up to {}: {files} files, {}. It holds the server's keys: keep it private.",
            crate::clean::line(&to.display().to_string()),
            render::admin::size(bytes)
        ))?,
    }
    Ok(Exit::Done)
}

async fn restore(cx: &Context, from: PathBuf, force: bool) -> Result<Exit, Failure> {
    let state = state(cx)?;
    let _lock = lock(&state)?;
    cx.passing("Checking and copying ...");
    let old = if force { Old::MoveAside } else { Old::Refuse };
    let (at, source, objects) = (cx.view().now, from.clone(), objects(cx)?);
    let place = state.0.clone();
    let (manifest, aside) = blocking(move || backup::restore(&source, &state, &objects, old, at)).await?;
    cx.passing("");
    match cx.output {
        Output::Json => cx.json(&json!({
            "restored_to": place, "created_at": manifest.created_at, "files": manifest.files.len(),
            "moved_aside_to": aside,
        }))?,
        Output::Text => {
            let mut text = format!(
                "Restored {} of {} to {}.",
                crate::clean::line(&from.display().to_string()),
                manifest.created_at,
                crate::clean::line(&place.display().to_string())
            );
            if let Some(aside) = aside {
                text.push_str(&format!("\nWhat was there is now in {}.", aside.display()));
            }
            cx.text(&text)?;
        }
    }
    Ok(Exit::Done)
}

async fn verify(cx: &Context, of: Option<PathBuf>) -> Result<Exit, Failure> {
    cx.passing("Checking ...");
    let (what, problems) = match of {
        Some(path) => {
            let what = path.display().to_string();
            (what, blocking(move || backup::verify(&path)).await?.1)
        }
        None => {
            let state = state(cx)?;
            let what = state.database().display().to_string();
            (what, blocking(move || backup::verify_state(&state)).await?)
        }
    };
    cx.passing("");
    match cx.output {
        Output::Json => {
            cx.json(&json!({ "checked": what, "sound": problems.is_empty(), "problems": problems }))?
        }
        Output::Text if problems.is_empty() => {
            cx.text(&format!("{} is sound.", crate::clean::line(&what)))?
        }
        Output::Text => {
            let list: Vec<String> =
                problems.iter().map(|p| format!("  - {}", crate::clean::line(p))).collect();
            cx.text(&format!("{} is damaged:\n{}", crate::clean::line(&what), list.join("\n")))?;
        }
    }
    Ok(if problems.is_empty() { Exit::Done } else { Exit::Failed })
}

fn state(cx: &Context) -> Result<State, Failure> {
    Ok(State(cx.config()?.state_dir))
}

/// Where the server keeps its objects.
fn objects(cx: &Context) -> Result<Objects, Failure> {
    // The secrets are only read for a bucket.
    if cx.config()?.objects.kind == Kind::Local {
        return Ok(Objects::InState);
    }
    let bucket = server::objects::bucket(&cx.server_config()?, &cx.env)?;
    Ok(bucket.map_or(Objects::InState, |bucket| Objects::Elsewhere(Arc::new(bucket))))
}

/// Keeps a server from starting meanwhile, and fails while one runs.
fn lock(state: &State) -> Result<Option<Flock<File>>, Failure> {
    let path = state.lock();
    let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else { return Ok(None) };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err(_) => Err(Failure::new(format!("a server uses {}", state.0.display()))
            .hint("stop it first; its running tasks fail with the restore")),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|e| Failure::new(e.to_string()).hint(hint(&e))),
        Err(e) => Err(Failure::new(format!("the work was interrupted: {e}")).hint("repeat it")),
    }
}

fn hint(failure: &BackupError) -> &'static str {
    match failure {
        BackupError::File { .. } => "look at the space and the permissions there, and repeat it",
        BackupError::Store(_) => "repeat it; when it fails again, `bgagent admin verify` says more",
        BackupError::Exists { .. } => "a backup is never written over",
        BackupError::Object(_) => "`bgagent doctor` looks at the bucket; repeat it when it is in order",
        BackupError::NoState { .. } => "BGAGENT__STATE_DIR names another folder",
        BackupError::NoBackup { .. } => "name the folder that `bgagent admin backup` made",
        BackupError::NotEmpty { .. } => "nothing was changed",
        BackupError::Damaged { .. } => {
            "take an older backup, or restore the file from where the backup was copied to"
        }
    }
}

/// A day, which begins at midnight UTC, or a time.
fn moment(text: &str) -> Result<String, String> {
    if let Some(day) = domain::Day::parse(text) {
        return Ok(day.start().to_string());
    }
    match text.parse::<Timestamp>() {
        Ok(at) => Ok(at.to_string()),
        Err(_) => Err("give a day (2026-11-28) or a time (2026-11-28T12:00:00Z)".into()),
    }
}
