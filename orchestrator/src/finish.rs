//! Finishing: looks at what the box pushed, hands it to the forge, opens the pull request, and decides from evidence.
//! What may not leave this server was refused when it was pushed; it is looked at again here, where nothing is between it
//! and the forge.
//!
//! Every effect is idempotent (a push of the same commit, a pull request found again), so a crash anywhere repeats the
//! whole of it. Failures that may mend themselves are tried again until the state's deadline.

use std::path::Path;
use std::time::Duration;

use domain::event::{EventKind, NewEvent};
use domain::outcome::{Evidence, Outcome, PrEvidence, infer};
use domain::report::Report;
use domain::state::State;
use domain::task::Results;
use domain::transition::after;
use domain::{Command, Failure, FailureCode, Task, limit};
use forge::mirror::BranchWork;
use forge::push::{self, Objection};
use forge::{ForgeError, PullRequest, PullRequestDraft, PushRequest, Retry};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use store::{Epoch, PullRequestRecord, StoreError};
use tracing::warn;

use crate::change::With;
use crate::engine::Onward;
use crate::{Orchestrator, fault};

/// The longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What was delivered.
struct Delivered {
    work: Option<BranchWork>,
    pr: PrEvidence,
    record: Option<PullRequestRecord>,
}

impl Orchestrator {
    pub(crate) async fn finish(&self, task: &Task, epoch: Epoch) -> Result<Onward, StoreError> {
        let State::Finalizing { since, report, .. } = &task.state else { return Ok(Onward::Over) };
        let delivered = match self.deliver(task, report).await {
            Ok(delivered) => delivered,
            Err(later) => {
                let deadline = after(*since, self.parts().policy.finalize_deadline);
                if deadline <= self.now() {
                    return self.follow(task, Command::TimeOut { failure: too_late(&later) }, epoch).await;
                }
                warn!(task.id = %task.id, error = %later, "the work could not be delivered yet; trying again");
                // One more try at the deadline, also when the host asked for a longer wait.
                return Ok(Onward::At(self.next_try(*since, later.retry).min(deadline)));
            }
        };
        let commits = delivered.work.as_ref().map_or(0, |w| w.commits);
        let evidence = Evidence {
            agent: report.agent,
            commits,
            pr: delivered.pr,
            build: report.build,
            failure: self.reported(task, report),
            read_only: false,
            answer: !report.answer.trim().is_empty(),
        };
        let outcome = infer(&evidence);
        let mut results = results(task, report, delivered.work.as_ref(), delivered.record.as_ref());
        let command = match outcome {
            Outcome::Completed { warning } => {
                results.warning = warning;
                Command::Complete { results: Box::new(results) }
            }
            Outcome::Failed(failure) => Command::Fail { failure, results: Some(Box::new(results)) },
        };
        let with = With { epoch: Some(epoch), pull_request: delivered.record };
        let done = self.apply(task, command, with).await?;
        fault::point("finish.committed");
        self.onward(task, done).await
    }

    /// Pushes the branch and opens the pull request, when there is work. `Err` is what may mend itself.
    async fn deliver(&self, task: &Task, report: &Report) -> Result<Delivered, ForgeError> {
        let parts = self.parts();
        let repo = &task.spec.repo;
        let base = task.results.base_branch.as_deref().unwrap_or_default();
        let nothing = |pr| Delivered { work: None, pr, record: None };
        // The last push is what the agent meant; what was pushed before it is a part, and stays here.
        if let Some(failure) = self.reported(task, report).filter(|f| f.code == FailureCode::PushRefused) {
            return Ok(nothing(PrEvidence::Failed(failure)));
        }
        let work = match parts.mirrors.branch_work(task.id, repo, &task.branch, base).await {
            Ok(Some(work)) if work.commits > 0 => work,
            Ok(_) => return Ok(nothing(PrEvidence::NotNeeded)),
            Err(failure) => return settle(failure).map(|f| nothing(PrEvidence::Failed(f))),
        };
        let failed = |work, failure: ForgeError| {
            settle(failure).map(|f| Delivered { work: Some(work), pr: PrEvidence::Failed(f), record: None })
        };
        let forge = parts.forges.of(repo);
        let mirror = parts.mirrors.quarantine(task.id);
        let range = push::Range { head: &work.head_sha, base: &work.base_sha, seen: None };
        let objections = match self.look_at(task, &mirror, range).await {
            Ok(objections) => objections,
            Err(failure) => return failed(work, failure),
        };
        if !objections.is_empty() {
            let refused = refused(&push::sentence(&objections));
            return Ok(Delivered { work: None, pr: PrEvidence::Failed(refused), record: None });
        }
        let push = PushRequest { repo, mirror: &mirror, head_sha: &work.head_sha, branch: &task.branch };
        if let Err(failure) = forge.push(&push).await {
            return failed(work, failure);
        }
        fault::point("finish.pushed");
        let draft = PullRequestDraft {
            branch: task.branch.clone(),
            base: base.to_owned(),
            head_sha: work.head_sha.clone(),
            title: title(task, report),
            body: body(task, report),
        };
        let pull = match forge.open_pull_request(repo, &draft).await {
            Ok(pull) => pull,
            Err(failure) => return failed(work, failure),
        };
        fault::point("finish.opened");
        let diff_stat = parts.mirrors.diff_stat(task.id, repo, &work).await.unwrap_or_default();
        let record = record(task, &work, draft, pull, diff_stat, self.now());
        Ok(Delivered { work: Some(work), pr: PrEvidence::Opened, record: Some(record) })
    }

    /// What is pushed of a task that fails before its next box is there, and the pull request for it.
    pub(crate) async fn deliver_kept(
        &self,
        task: &Task,
        failure: &Failure,
    ) -> (Option<Results>, Option<PullRequestRecord>) {
        let report = Report::lost(failure.clone());
        match self.deliver(task, &report).await {
            Ok(Delivered { work: Some(work), record, .. }) => {
                (Some(results(task, &report, Some(&work), record.as_ref())), record)
            }
            Ok(Delivered { work: None, .. }) => (None, None),
            Err(later) => {
                warn!(task.id = %task.id, error = %later, "what was pushed stays on this server");
                (None, None)
            }
        }
    }

    /// What a range of a task's repository may not bring; told as an event when there is something.
    pub async fn look_at(
        &self,
        task: &Task,
        dir: &Path,
        range: push::Range<'_>,
    ) -> Result<Vec<Objection>, ForgeError> {
        let policy = &self.parts().policy;
        let settings = policy.push.of(&task.spec.repo);
        let objections = push::look(dir, range, settings, policy.masks.all())
            .await
            .map_err(|e| forge::mirror::failed(&task.spec.repo, e))?;
        if !objections.is_empty() {
            let mut paths: Vec<&str> = objections.iter().filter_map(|o| o.place.as_deref()).collect();
            paths.dedup();
            paths.truncate(20);
            let reason = push::sentence(&objections);
            self.tell_refused(task, range.head, &reason, &paths).await;
        }
        Ok(objections)
    }

    /// Tells that a push was refused; once for each commit and reason. Telemetry: a refusal holds without it.
    pub async fn tell_refused(&self, task: &Task, head_sha: &str, reason: &str, paths: &[&str]) {
        let reason = domain::event::preview(reason, limit::PUSH_REASON_MAX_CHARS);
        let key = hex::encode(&Sha256::digest(format!("{head_sha} {reason}"))[..8]);
        let data = json!({ "reason": reason, "paths": paths, "head_sha": head_sha });
        let event = NewEvent {
            client_key: Some(format!("push-refused-{key}")),
            ..NewEvent::new(EventKind::PushRefused, data)
        };
        metrics::counter!("bgagent_push_refused_total").increment(1);
        if let Err(failure) = self.box_event(task.id, task.attempt, event).await {
            warn!(task.id = %task.id, error = %failure, "an event could not be stored");
        }
    }

    /// The first failure of the box; a rejected push that was refused here has our reason.
    fn reported(&self, task: &Task, report: &Report) -> Option<Failure> {
        let failure = report.failure.clone()?;
        match self.parts().mirrors.last_refused(task.id) {
            Some(last) if failure.code == FailureCode::PushRejected => Some(refused(&last.reason)),
            Some(_) | None => Some(failure),
        }
    }

    /// The next try: as the host said, or later and later.
    fn next_try(&self, since: Timestamp, retry: Retry) -> Timestamp {
        let now = self.now();
        let tried_for = u64::try_from(now.as_second() - since.as_second()).unwrap_or(0);
        match retry {
            Retry::After(seconds) => after(now, Duration::from_secs(seconds)),
            Retry::Never | Retry::Backoff => {
                after(now, Duration::from_secs(1 + tried_for / 2).min(BACKOFF_MAX))
            }
        }
    }
}

fn refused(reason: &str) -> Failure {
    Failure::new(FailureCode::PushRefused, reason)
}

fn too_late(last: &ForgeError) -> Failure {
    let detail = format!("the work could not be delivered in time; the last try said: {}", last.failure);
    Failure::new(FailureCode::FinalizeTimedOut, detail)
}

/// A failure nobody will mend is evidence; another is tried again.
fn settle(error: ForgeError) -> Result<domain::Failure, ForgeError> {
    match error.retry {
        Retry::Never => Ok(error.failure),
        Retry::Backoff | Retry::After(_) => Err(error),
    }
}

fn results(
    task: &Task,
    report: &Report,
    work: Option<&BranchWork>,
    pull: Option<&PullRequestRecord>,
) -> Results {
    Results {
        pr_url: pull.map(|p| p.url.clone()),
        build: Some(report.build),
        lint: Some(report.lint),
        turns_attempted: Some(turns_of(task, report)),
        turns_completed: Some(
            report
                .turns_completed
                .saturating_add(task.losses.turns.saturating_sub(task.losses.boxes))
                .min(task.spec.turns()),
        ),
        head_sha: work.map(|w| w.head_sha.clone()),
        code_changed: Some(work.is_some()),
        answer: match work {
            Some(_) => None,
            None => Some(domain::event::preview(report.answer.trim(), limit::ANSWER_MAX_CHARS))
                .filter(|a| !a.is_empty()),
        },
        warning: None,
        ..task.results.clone()
    }
}

/// Turns begun in all boxes of a task.
fn turns_of(task: &Task, report: &Report) -> u32 {
    report.turns_attempted.saturating_add(task.losses.turns)
}

fn title(task: &Task, report: &Report) -> String {
    let first = |text: &str| text.lines().map(str::trim).find(|l| !l.is_empty()).map(str::to_owned);
    let title = first(&report.pr_title).or_else(|| first(&task.spec.description));
    domain::event::preview(
        &title.unwrap_or_else(|| format!("bgagent {}", task.id)),
        limit::PR_TITLE_MAX_CHARS,
    )
}

/// The box's words, and below them what only the control plane knows.
fn body(task: &Task, report: &Report) -> String {
    let words = domain::event::preview(report.pr_body.trim(), limit::PR_BODY_MAX_CHARS - 1_000);
    let cost = match (task.spent.calls, task.spent.unpriced_calls) {
        (0, _) => "no model calls".to_owned(),
        (calls, unpriced) if calls == unpriced => "cost unknown (the model has no price)".to_owned(),
        (_, 0) => format!("cost {}", task.spent.cost),
        (calls, unpriced) => {
            format!("cost {} ({unpriced} of {calls} model calls have no price)", task.spent.cost)
        }
    };
    format!(
        "{words}\n\n---\nbgagent task `{}`, {} turns, {cost}. A person must review and merge this.\n",
        task.id,
        turns_of(task, report)
    )
}

fn record(
    task: &Task,
    work: &BranchWork,
    draft: PullRequestDraft,
    pull: PullRequest,
    diff_stat: String,
    now: Timestamp,
) -> PullRequestRecord {
    PullRequestRecord {
        task: task.id,
        repo: task.spec.repo.clone(),
        url: pull.url,
        number: pull.number,
        title: draft.title,
        body: draft.body,
        branch: draft.branch,
        base_branch: draft.base,
        head_sha: work.head_sha.clone(),
        base_sha: work.base_sha.clone(),
        diff_stat,
        created_at: now,
    }
}
