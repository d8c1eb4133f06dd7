//! Receiving a push: the head is read, git receives and checks the rest in a place of its own, what it brings is looked
//! at, and only then the task's quarantine takes it over. Whatever is refused is told in git's own words, so that the
//! agent reads the reason and can mend it, and as an event, so that people do.

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{self, Path};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use domain::{State, Task, limit};
use forge::mirror::incoming::Incoming;
use forge::mirror::quarantine::RefusedPush;
use forge::push;
use futures_util::StreamExt as _;
use git::{Bounds, Git, GitError};
use protocol::box_api::SAVED_REF;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tracing::{info, warn};

use super::pkt::{self, Commands, Update};
use super::{Refused, answer, complaints, refuse, serve, task_of, unavailable};
use crate::Gateway;
use crate::auth::{Caller, Refusal};

/// Objections that are told one by one.
const TOLD: usize = 20;
/// What git checks of each object that comes, beyond what it checks by itself: these are no more than notes to it.
const STRICT: &[&str] = &["gitmodulesSymlink", "gitattributesSymlink", "gitignoreSymlink", "mailmapSymlink"];

pub(super) async fn receive_pack(
    extract::State(gateway): extract::State<Gateway>,
    caller: Result<Caller, Refusal>,
    Path(repo): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let caller = caller?;
    let task = task_of(&gateway, &caller, &repo).await?;
    let mut pushed = Pushed::read(body).await?;
    let own = format!("refs/heads/{}", task.branch);
    let saves = pushed.commands.updates.iter().any(|update| update.name == SAVED_REF);
    let refused = match allowed(&pushed.commands, &own) {
        Err(why) => Some(why),
        Ok(()) => over(&task),
    };
    if let Some(why) = refused {
        return pushed.refuse(&gateway, &task, &why).await;
    }
    let Some(update) = pushed.commands.updates.first().cloned() else {
        // A client that only asks whether it may: there is nothing to receive.
        return Ok(answer("git-receive-pack", "result", Body::empty()));
    };
    let mirrors = &gateway.orchestrator().parts().mirrors;
    let incoming = mirrors.incoming(task.id).await.map_err(|e| unavailable(&e))?;
    let bytes_max = bytes_max(&gateway, &task);
    let said = match pushed.receive(strict(&incoming, &headers, bytes_max), bytes_max).await? {
        Received::All(said) => said,
        Received::TooMuch => {
            let why = format!("a push may have {} MiB (push.max_mib)", bytes_max / MIB);
            if !saves {
                gateway.orchestrator().tell_refused(&task, &update.new, &why, &[]).await;
                note(&gateway, &task, &update, &why);
            }
            return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
    };
    let name = update.name.as_str();
    if incoming.head(name).await.map_err(|e| unavailable(&e))?.as_deref() != Some(update.new.as_str()) {
        if saves {
            return Ok(answer("git-receive-pack", "result", Body::from(said)));
        }
        // git refused it, and says why.
        let why = pkt::reason(&said).unwrap_or_else(|| "git refused it".into());
        gateway.orchestrator().tell_refused(&task, &update.new, &why, &[]).await;
        if why.contains("unpack") {
            note(&gateway, &task, &update, "an object is broken or could do harm (git's fsck refused it)");
        }
        return Ok(answer("git-receive-pack", "result", Body::from(said)));
    }
    // git holds branches to that by itself, and no other refs.
    if saves && !update.creates() {
        let grows = git::is_ancestor(incoming.path(), &update.old, &update.new).await;
        if !grows.map_err(|e| unavailable(&e))? {
            let why = format!("{SAVED_REF} only grows: what it holds must be an ancestor of what is pushed");
            return pushed.told(&why, std::slice::from_ref(&why));
        }
    }
    // What is saved goes to no forge: it is looked at when it is pushed as work.
    let objections = match saves {
        true => Vec::new(),
        false => look(&gateway, &task, &incoming, &update).await?,
    };
    if !objections.is_empty() {
        let reason = push::sentence(&objections);
        note(&gateway, &task, &update, &reason);
        return pushed.told(&reason, &in_lines(&objections));
    }
    // Looking took its time: whose task has ended meanwhile has pushed too late.
    let now = task_of(&gateway, &still(&gateway, &caller).await?, &repo).await?;
    if let Some(why) = over(&now) {
        return pushed.refuse(&gateway, &task, &why).await;
    }
    if let Err(failure) = incoming.accept(name, &update.old, &update.new).await {
        warn!(task.id = %task.id, error = %failure, "a push could not be taken over");
        let why = "the branch has moved meanwhile; fetch it and push again";
        return pushed.told(why, &[why.to_owned()]);
    }
    if !saves && let Err(error) = mirrors.note_refused(task.id, None) {
        warn!(task.id = %task.id, %error, "an old refusal could not be removed");
    }
    Ok(answer("git-receive-pack", "result", Body::from(said)))
}

/// Objections for the agent to read, one on each line, and what to do.
fn in_lines(objections: &[push::Objection]) -> Vec<String> {
    let mut lines = vec!["this push is refused, nothing of it was taken:".to_owned()];
    lines.extend(objections.iter().take(TOLD).map(|o| format!("- {o}")));
    if objections.len() > TOLD {
        lines.push(format!("- and {} more", objections.len() - TOLD));
    }
    lines.push("take it out of every commit (git commit --amend, git rebase) and push again".into());
    lines
}

/// Bytes in a MiB.
const MIB: u64 = 1024 * 1024;

/// Bytes that one push may have.
fn bytes_max(gateway: &Gateway, task: &Task) -> u64 {
    let settings = gateway.orchestrator().parts().policy.push.of(&task.spec.repo);
    limit::PUSH_MAX_BYTES.min(settings.max_mib.saturating_mul(MIB))
}

/// `receive-pack` where a push arrives: nothing is unpacked, everything is checked, nothing goes back.
fn strict(incoming: &Incoming, headers: &HeaderMap, bytes_max: u64) -> Git {
    let git = serve(incoming.path(), headers)
        .bounded(Bounds::UNPACK)
        .config("receive.denyDeletes", "true")
        .config("receive.denyNonFastForwards", "true")
        .config("receive.fsckObjects", "true")
        .config("receive.maxInputSize", bytes_max.to_string())
        // New bounds of history would be the box's to set.
        .config("receive.shallowUpdate", "false")
        .config("receive.unpackLimit", "1")
        .config("receive.advertisePushOptions", "false");
    let git = STRICT.iter().fold(git, |git, what| git.config(format!("receive.fsck.{what}"), "error"));
    git.args(["receive-pack", "--stateless-rpc", "."])
}

/// What a push that has arrived may not bring.
async fn look(
    gateway: &Gateway,
    task: &Task,
    incoming: &Incoming,
    update: &Update,
) -> Result<Vec<push::Objection>, Refused> {
    let base = task.results.base_branch.as_deref().unwrap_or_default();
    let base = incoming.head(&format!("refs/heads/{base}")).await.map_err(|e| unavailable(&e))?;
    let Some(base) = base else {
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "the base branch is not here; try again later"));
    };
    let seen = Some(update.old.as_str()).filter(|_| !update.creates());
    let range = push::Range { head: &update.new, base: &base, seen };
    gateway.orchestrator().look_at(task, incoming.path(), range).await.map_err(|failure| {
        warn!(task.id = %task.id, error = %failure, "a push could not be looked at");
        refuse(StatusCode::SERVICE_UNAVAILABLE, "what was pushed could not be looked at; try again")
    })
}

/// The caller again, if its attempt still counts.
async fn still(gateway: &Gateway, caller: &Caller) -> Result<Caller, Refused> {
    let Caller(identity) = caller;
    let orchestrator = gateway.orchestrator();
    match orchestrator.box_is_current(identity.task, identity.attempt, &identity.instance).await {
        Ok(true) => Ok(caller.clone()),
        Ok(false) => Err(Refusal::superseded().into()),
        Err(failure) => Err(Refusal::from(failure).into()),
    }
}

/// The rule: the task's branch, or what is saved of the work beside it, created or moved, once, and nothing else.
fn allowed(commands: &Commands, own: &str) -> Result<(), String> {
    for command in &commands.updates {
        if command.name != own && command.name != SAVED_REF {
            return Err(format!("this task may push {own} only, not {}", command.name));
        }
        if command.deletes() {
            return Err(format!("{} may not be deleted", command.name));
        }
    }
    match commands.updates.len() {
        0 | 1 => Ok(()),
        _ => Err(format!("{own} may be pushed once at a time")),
    }
}

/// Why nothing more may be pushed: what is delivered is what was there when the task began to be finished.
fn over(task: &Task) -> Option<String> {
    match task.state {
        State::Finalizing { .. } => Some("the task is being finished; nothing more can be pushed".into()),
        State::Completed { .. } | State::Failed { .. } | State::Cancelled { .. } | State::TimedOut { .. } => {
            Some("the task is over; nothing more can be pushed".into())
        }
        State::PendingUploads { .. }
        | State::Queued { .. }
        | State::Submitted { .. }
        | State::Hydrating { .. }
        | State::Running { .. }
        | State::AwaitingApproval { .. } => None,
    }
}

/// Keeps why a push was refused, for the end of the task.
fn note(gateway: &Gateway, task: &Task, update: &Update, reason: &str) {
    info!(task.id = %task.id, reason, "a push was refused");
    let refused = RefusedPush { head_sha: update.new.clone(), reason: reason.to_owned() };
    if let Err(error) = gateway.orchestrator().parts().mirrors.note_refused(task.id, Some(&refused)) {
        warn!(task.id = %task.id, %error, "a refusal could not be noted");
    }
}

/// A push whose head has been read.
struct Pushed {
    commands: Commands,
    head: Vec<u8>,
    rest: BodyDataStream,
}

/// What came of receiving it.
enum Received {
    /// All of it, with git's answer to the client.
    All(Vec<u8>),
    /// Not all: it is too large.
    TooMuch,
}

impl Pushed {
    async fn read(body: Body) -> Result<Pushed, Refused> {
        let mut rest = body.into_data_stream();
        let (mut head, mut reader) = (Vec::new(), pkt::Reader::default());
        loop {
            match reader.read(&head) {
                Ok(Some(commands)) => return Ok(Pushed { commands, head, rest }),
                Ok(None) => (),
                Err(why) => return Err(refuse(StatusCode::BAD_REQUEST, why)),
            }
            match rest.next().await {
                Some(Ok(chunk)) => head.extend_from_slice(&chunk),
                Some(Err(_)) | None => {
                    return Err(refuse(StatusCode::BAD_REQUEST, "the push ended in its head"));
                }
            }
        }
    }

    /// Refuses it before it was received, with an event.
    async fn refuse(mut self, gateway: &Gateway, task: &Task, why: &str) -> Result<Response, Refused> {
        info!(task.id = %task.id, reason = why, "a push was refused");
        let head = self.commands.updates.first().map_or("", |update| update.new.as_str());
        gateway.orchestrator().tell_refused(task, head, why, &[]).await;
        // A client that is still sending would take an early answer for a broken connection.
        let mut total = 0;
        while let Some(Ok(chunk)) = self.rest.next().await {
            total += chunk.len() as u64;
            if total > limit::PUSH_MAX_BYTES {
                return Err(refuse(StatusCode::FORBIDDEN, why));
            }
        }
        self.told(why, &[why.to_owned()])
    }

    /// The answer that tells why, as the client asked to be told.
    fn told(&self, why: &str, lines: &[String]) -> Result<Response, Refused> {
        match pkt::refusal(&self.commands, why, lines) {
            Some(said) => Ok(answer("git-receive-pack", "result", Body::from(said))),
            None => Err(refuse(StatusCode::FORBIDDEN, why)),
        }
    }

    /// Gives all of it to git.
    async fn receive(&mut self, git: Git, bytes_max: u64) -> Result<Received, Refused> {
        let mut process = git.spawn().map_err(|e: GitError| unavailable(&e))?;
        let (Some(mut stdin), Some(mut stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "git could not be started"));
        };
        let complaints = complaints(process.stderr.take());
        let (head, rest) = (Bytes::from(std::mem::take(&mut self.head)), &mut self.rest);
        let mut total = head.len() as u64;
        let feed = async {
            if stdin.write_all(&head).await.is_err() {
                return true;
            }
            while let Some(Ok(chunk)) = rest.next().await {
                total += chunk.len() as u64;
                if total > bytes_max {
                    return false;
                }
                if stdin.write_all(&chunk).await.is_err() {
                    break;
                }
            }
            drop(stdin);
            true
        };
        let mut said = Vec::new();
        let (whole, read, ()) = tokio::join!(feed, stdout.read_to_end(&mut said), complaints);
        if !whole {
            return Ok(Received::TooMuch);
        }
        if read.is_err() {
            return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "git broke off"));
        }
        let _ = process.wait().await;
        Ok(Received::All(said))
    }
}
