//! The run, stage by stage: see [`Stage`] for what each failure means.
//!
//! Whatever happens after the clone, what is committed is pushed before the end is reported: an agent that failed, hit a
//! limit or panicked leaves its work on the branch. An agent that is asked to leave has
//! its work saved on the branch. Only a stop (ended, superseded, a signal) delivers nothing.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use domain::event::preview;
use domain::report::{GateResult, Report};
use domain::{Failure, FailureCode, limit};
use protocol::box_api::{self, AttachRequest, BoxErrorCode, Started, WorkSpec};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::attachment::{self, Brought};
use crate::client::{CallError, Gateway, Patience};
use crate::deliver::{self, Telling};
use crate::harness::AgentResult;
use crate::heartbeat;
use crate::job::{Folders, Job, Way};
use crate::launch::Launcher;
use crate::mailbox::Mailbox;
use crate::notice;
use crate::reap;
use crate::repo::{self, Checkout, Identity, Remote};
use crate::saving;
use crate::spool::Spool;
use crate::stage::{Broken, Runner, Stage};
use crate::stop::{Reason, Stop};
use crate::verify::{self, BaseTree, Command, Commands, Gate, Measured, Verdict};

mod agent;

/// How long the result waits for the events before it.
const FLUSH: Duration = Duration::from_secs(600);
/// How long a cancelled worker tries to say so.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Saving the work of an agent that is stopped may take this long.
const SAVE: Duration = Duration::from_secs(45);
/// How long the last events go before the word that the work is saved.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// How long that word is tried.
const LEAVING: Duration = Duration::from_secs(10);

/// How the run ended.
#[derive(Debug)]
pub enum Ended {
    /// The result is handed over.
    Delivered,
    /// It was stopped; nothing was delivered.
    Unwanted(Reason),
    /// There is nobody to hand it to, or they do not take it.
    Undelivered(String),
}

/// Runs everything. `attached` gets the gateway as soon as it may be reported to.
pub async fn run(mut job: Job, stop: Stop, attached: Arc<OnceLock<Gateway>>) -> Ended {
    let folders = job.folders.clone();
    let spool = match Spool::open(&folders.private) {
        Ok(spool) => spool,
        Err(error) => {
            let dir = folders.private.display();
            return Ended::Undelivered(format!("opening the event spool in {dir}: {error}"));
        }
    };
    let runner = Runner::new(spool.clone(), stop.clone());
    let mut beside = JoinSet::new();
    let launcher = job.launcher.clone();
    if let Some(enforced) = job.enforced.take() {
        spool.milestone("box_ready", json!({ "enforced": enforced }));
    }
    if let Some(monitor) = job.monitor.take() {
        beside.spawn(notice::listen(monitor, launcher.notices(), spool.clone()));
    }
    // The empty repository needs nothing from the gateway, so it is made while we wait for it.
    let (answer, made) = tokio::join!(attach(&job, &stop), repo::init(&folders.repo, &launcher));
    let (gateway, spec, heartbeat) = match answer {
        Ok(answer) => answer,
        Err(ended) => return ended,
    };
    // Another attach, after a panic, is not possible: the first one stays.
    let gateway = attached.get_or_init(|| gateway).clone();
    let runner = runner.verifying_within(Duration::from_secs(spec.verify_timeout_s));
    beside.spawn(spool.clone().send_all(gateway.clone(), stop.clone()));
    beside.spawn(heartbeat::beat(gateway.clone(), heartbeat, runner.watch(), stop.clone()));
    if !launcher.is_boxed() {
        beside.spawn(reap::reap());
    }
    let mailbox = Mailbox::new(gateway.clone(), stop.clone(), spec.nudges_scripted);
    beside.spawn(heartbeat::listen(gateway.clone(), stop.clone(), mailbox.clone()));
    let Job { way, objects, .. } = job;
    let pipeline = Pipeline { folders, launcher, objects, gateway, spec, spool, stop, mailbox, runner };
    let done = match made {
        Ok(()) => pipeline.work(way).await,
        Err(failure) => Ok(Report::lost(failure)),
    };
    match done {
        Ok(report) => pipeline.hand_over(report).await,
        Err(reason) => pipeline.leave(reason).await,
    }
}

async fn attach(job: &Job, stop: &Stop) -> Result<(Gateway, WorkSpec, Duration), Ended> {
    let undelivered = |error: &dyn std::fmt::Display| Ended::Undelivered(format!("attaching: {error}"));
    let gateway = Gateway::new(job.gateway.clone(), job.bootstrap_token.clone());
    let gateway = gateway.map_err(|e| undelivered(&e))?;
    let mut instance = [0; 16];
    getrandom::fill(&mut instance).map_err(|e| undelivered(&e))?;
    let request = AttachRequest {
        task: job.task,
        attempt: job.attempt,
        instance: instance.iter().map(|byte| format!("{byte:02x}")).collect(),
        version: env!("CARGO_PKG_VERSION").into(),
        api: box_api::VERSION,
    };
    let answer = tokio::select! {
        biased;
        reason = stop.asked() => return Err(Ended::Unwanted(reason)),
        answer = gateway.attach(&request, Patience::within(limit::ATTACH_DEADLINE)) => answer,
    };
    match answer {
        Ok((gateway, answer)) => {
            Ok((gateway, answer.spec, Duration::from_secs(answer.heartbeat_interval_s.max(1))))
        }
        Err(CallError::Superseded { .. }) => Err(Ended::Unwanted(Reason::Superseded)),
        Err(CallError::Unauthorized { .. }) => Err(Ended::Unwanted(Reason::Unauthorized)),
        Err(error @ (CallError::Away { .. } | CallError::Refused { .. })) => Err(undelivered(&error)),
    }
}

struct Pipeline {
    folders: Folders,
    launcher: Launcher,
    objects: Option<std::path::PathBuf>,
    gateway: Gateway,
    spec: WorkSpec,
    spool: Spool,
    stop: Stop,
    mailbox: Mailbox,
    runner: Runner,
}

/// What was measured of the base.
#[derive(Debug, Default)]
struct Baseline {
    build: Option<Measured>,
    lint: Option<Measured>,
}

type Measuring = AbortOnDropHandle<Baseline>;

impl Pipeline {
    /// From the clone to the report. Every failure is in the report; `Err` is a stop.
    async fn work(&self, way: Way) -> Result<Report, Reason> {
        // Lives as long as the work: programs need it, and git for the push.
        let open = match way.open(self.gateway.address(), self.gateway.token()).await {
            Ok(open) => open,
            Err(error) => {
                let why = format!("opening the way to the gateway for git: {error}");
                return Ok(Report::lost(Failure::new(FailureCode::RepoSetupFailed, why)));
            }
        };
        let remote = Remote {
            url: format!("{}{}", open.base_url(), self.spec.git_path),
            token: open.needs_token().then(|| self.gateway.token().clone()),
            objects: self.objects.clone(),
        };
        let repo_dir = &self.folders.repo;
        let cloning = repo::check_out(repo_dir, &self.launcher, &remote, &self.spec);
        let cloned = self.runner.run(Stage::Repo, cloning).await;
        let checkout = match cloned {
            Ok(checkout) => checkout,
            Err(Broken::Failed(failure)) => return Ok(Report::lost(failure)),
            Err(Broken::Stopped(reason)) => return Err(reason),
        };
        let resumed = checkout.is_resumed();
        let details = json!({ "branch": checkout.branch, "base_sha": checkout.base, "resumed": resumed });
        self.spool.milestone("repo_setup_complete", details);

        let brought = match self.attachments().await {
            Ok(brought) => brought,
            Err(Broken::Failed(failure)) => return Ok(Report::lost(failure)),
            Err(Broken::Stopped(reason)) => return Err(reason),
        };
        match self.work_in(&checkout, &remote, brought).await {
            Err(Reason::Leaving) => {
                self.save(&checkout, &remote).await;
                Err(Reason::Leaving)
            }
            done => done,
        }
    }

    /// Brings what the person attached.
    async fn attachments(&self) -> Result<Vec<Brought>, Broken> {
        if self.spec.attachments.is_empty() {
            return Ok(Vec::new());
        }
        let bringing = attachment::bring(&self.gateway, &self.spec.attachments, &self.folders.attachments);
        let brought = self.runner.run(Stage::Attachments, bringing).await?;
        let bytes: u64 = brought.iter().map(|b| b.bytes).sum();
        let details = json!({ "attachment_count": brought.len(), "total_size_bytes": bytes });
        self.spool.milestone("attachments_downloaded", details);
        Ok(brought)
    }

    /// From the checkout to the report.
    async fn work_in(
        &self,
        checkout: &Checkout,
        remote: &Remote,
        brought: Vec<Brought>,
    ) -> Result<Report, Reason> {
        let commands = verify::find(
            &checkout.tree,
            self.spec.build_command.as_deref(),
            self.spec.lint_command.as_deref(),
        );
        let measuring = self.measure_base(checkout, &commands);
        if let Some(failure) = self.say_started().await? {
            return Ok(Report::lost(failure));
        }
        let agent = agent::run(self, checkout, brought);
        let notices = self.launcher.notices();
        let agent = async {
            tokio::select! {
                biased;
                failure = notices.fatal() => Err(failure),
                () = self.launcher.ended() => Err(tools_ended()),
                result = agent => result,
                never = self.keep_saving(checkout, remote) => match never {},
            }
        };
        let agent = match self.runner.run(Stage::Agent, agent).await {
            Ok(result) => result,
            Err(Broken::Failed(failure)) => agent::failed(failure),
            Err(Broken::Stopped(reason)) => return Err(reason),
        };
        let ended = json!({ "status": agent.status, "turns": agent.turns_completed });
        self.spool.milestone("agent_execution_complete", ended);
        self.deliver(checkout, remote, &commands, agent, measuring).await
    }

    /// Saves the work of the agent at work, every so often. Does not end.
    async fn keep_saving(&self, checkout: &Checkout, remote: &Remote) -> Infallible {
        if self.spec.save_interval_s == 0 {
            return std::future::pending().await;
        }
        let pause = Duration::from_secs(self.spec.save_interval_s);
        saving::keep_saving(checkout, remote, &Identity::parse(&self.spec.git_identity), pause).await
    }

    /// Saves the work of an agent that was stopped: what there is, as it is, on the task's branch. Whoever waits for it waits
    /// a few seconds; what takes longer is lost.
    async fn save(&self, checkout: &Checkout, remote: &Remote) {
        self.launcher.kill_all();
        let identity = Identity::parse(&self.spec.git_identity);
        let saving = async {
            let subject = Some("chore(agent): save the work so far");
            deliver::commit(checkout, &identity, self.spec.task, subject).await?;
            let (head, commits) = deliver::count(checkout).await?;
            if commits > 0 {
                deliver::push(checkout, remote).await?;
            }
            Ok::<_, Failure>(json!({ "head_sha": head, "commits": commits }))
        };
        match tokio::time::timeout(SAVE, saving).await {
            Ok(Ok(saved)) => self.spool.milestone("work_saved", saved),
            Ok(Err(failure)) => {
                tracing::warn!(%failure, "the work could not be saved");
                self.spool.milestone("work_not_saved", json!({ "details": failure.to_string() }));
            }
            Err(_) => {
                tracing::warn!("the work could not be saved in time");
                let details = format!("it took longer than {} s", SAVE.as_secs());
                self.spool.milestone("work_not_saved", json!({ "details": details }));
            }
        }
    }

    /// Moves the task to RUNNING. The agent must not begin before: a task that was cancelled meanwhile ends here.
    async fn say_started(&self) -> Result<Option<Failure>, Reason> {
        let started = Started { prompt_version: agent::prompt_version(&self.spec) };
        let said = tokio::select! {
            biased;
            reason = self.stop.asked() => return Err(reason),
            said = self.gateway.started(&started, Patience::within(limit::HYDRATION_DEADLINE)) => said,
        };
        match said {
            Ok(()) => Ok(None),
            Err(CallError::Superseded { .. }) => Err(Reason::Superseded),
            Err(CallError::Unauthorized { .. }) => Err(Reason::Unauthorized),
            Err(error @ CallError::Away { .. }) => {
                Ok(Some(Failure::new(FailureCode::HydrationTimedOut, error.to_string())))
            }
            Err(error @ CallError::Refused { .. }) => {
                Ok(Some(Failure::new(FailureCode::InternalError, error.to_string())))
            }
        }
    }

    /// Begins to measure the base, if there is anything to measure it with.
    fn measure_base(&self, checkout: &Checkout, commands: &Commands) -> Option<Measuring> {
        if commands.build.is_none() && commands.lint.is_none() {
            return None;
        }
        let (runner, spool) = (self.runner.clone(), self.spool.clone());
        let (checkout, commands, tree) = (checkout.clone(), commands.clone(), self.folders.baseline.clone());
        let time = Duration::from_secs(self.spec.verify_timeout_s);
        let work = async move {
            let measure = async {
                let added = BaseTree::add(&checkout, &tree).await;
                let tree = added.map_err(|e| repo::setup_failure(&e))?;
                let build = measure(&checkout.launcher, commands.build.as_ref(), tree.dir(), time).await;
                let lint = measure(&checkout.launcher, commands.lint.as_ref(), tree.dir(), time).await;
                Ok(Baseline { build, lint })
            };
            // Without one there is no usable baseline: then red counts as new, and the body says so.
            let baseline = runner.beside(Stage::Baseline, measure).await.unwrap_or_default();
            let green = |of: &Option<Measured>| of.as_ref().map(|m| *m == Measured::Green);
            let details =
                json!({ "build_before": green(&baseline.build), "lint_before": green(&baseline.lint) });
            spool.milestone("baseline_complete", details);
            baseline
        };
        #[expect(clippy::disallowed_methods, reason = "ends with its handle, which the pipeline holds")]
        let task = tokio::spawn(work);
        Some(AbortOnDropHandle::new(task))
    }

    /// Commit, push, verify: as far as each goes. The first failure stays the failure.
    async fn deliver(
        &self,
        checkout: &Checkout,
        remote: &Remote,
        commands: &Commands,
        agent: AgentResult,
        measuring: Option<Measuring>,
    ) -> Result<Report, Reason> {
        let mut failures: Vec<Failure> = agent.failure.clone().into_iter().collect();
        let mut notes = Vec::new();
        if checkout.is_resumed() {
            notes.push("This branch goes on from the work of an earlier attempt.".to_owned());
        }
        // What the agent left running is not to touch what is committed and verified. While the base is measured beside
        // it, that waits until before the verification.
        if measuring.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            self.launcher.kill_all();
        }
        // A box that its tools have filled is to hand over what they did.
        let saving = self.launcher.notices().saving();
        let identity = Identity::parse(&self.spec.git_identity);
        let subject = deliver::subject_of(&agent.final_text);
        let commit = deliver::commit(checkout, &identity, self.spec.task, subject.as_deref());
        let mut committed = kept(self.runner.run(Stage::Commit, commit).await, &mut failures)?;
        if committed.is_none() {
            // What the agent committed itself is there all the same.
            let (head, commits) = deliver::count(checkout).await.unwrap_or_default();
            committed = Some(deliver::Committed { head, commits, ..deliver::Committed::default() });
        }
        let committed = committed.unwrap_or_default();
        notes.extend(committed.notes);
        failures.extend(committed.trouble);
        let mut pushed = None;
        if committed.commits > 0 {
            let push = deliver::push(checkout, remote);
            pushed = kept(self.runner.run(Stage::Push, push).await, &mut failures)?;
            if pushed.is_some() {
                self.spool.milestone(
                    "branch_pushed",
                    json!({ "head_sha": committed.head, "commits": committed.commits }),
                );
            }
        }
        drop(saving);
        let verdicts = self.verify(checkout, commands, committed.commits > 0, measuring).await?;
        let _saving = self.launcher.notices().saving();
        let telling = Telling {
            description: &self.spec.description,
            issue: self.spec.issue_number,
            summary: &agent.final_text,
            agent: agent.status,
            verdicts: &verdicts,
            notes: &notes,
        };
        let (mut pr_title, mut pr_body) = (String::new(), String::new());
        if committed.commits > 0 {
            let (subjects, body) = match deliver::body(checkout, &committed.head, &telling).await {
                Ok(told) => told,
                Err(error) => {
                    tracing::warn!(%error, "the pull request's body is short");
                    (Vec::new(), preview(&agent.final_text, limit::PR_BODY_MAX_CHARS))
                }
            };
            pr_title = deliver::title(&subjects, &agent.final_text, &self.spec.description, &checkout.branch);
            pr_body = body;
        }
        let result =
            |gate| verdicts.iter().find(|v| v.gate == gate).map_or(GateResult::Inert, Verdict::result);
        Ok(Report {
            agent: agent.status,
            build: result(Gate::Build),
            lint: result(Gate::Lint),
            turns_attempted: agent.turns_attempted,
            turns_completed: agent.turns_completed,
            head_sha: pushed.map(|()| committed.head),
            commits: committed.commits,
            pr_title,
            pr_body,
            answer: preview(agent.final_text.trim(), limit::ANSWER_MAX_CHARS),
            failure: first_of(failures),
        })
    }

    /// The same commands again, when there is a change; else what is known of the base by now.
    async fn verify(
        &self,
        checkout: &Checkout,
        commands: &Commands,
        changed: bool,
        measuring: Option<Measuring>,
    ) -> Result<Vec<Verdict>, Reason> {
        let Some(measuring) = measuring else {
            return Ok(vec![Verdict::off(Gate::Build), Verdict::off(Gate::Lint)]);
        };
        let before = match changed || measuring.is_finished() {
            true => tokio::select! {
                biased;
                reason = self.stop.asked() => return Err(reason),
                before = measuring => before.unwrap_or_default(),
            },
            false => Baseline::default(),
        };
        let mut after = Baseline::default();
        if changed {
            self.launcher.kill_all();
            let time = Duration::from_secs(self.spec.verify_timeout_s);
            let (dir, launcher) = (&checkout.dir, &checkout.launcher);
            let measure = async {
                let build = measure(launcher, commands.build.as_ref(), dir, time).await;
                Ok(Baseline { build, lint: measure(launcher, commands.lint.as_ref(), dir, time).await })
            };
            after = match self.runner.run(Stage::Verify, measure).await {
                Ok(after) => after,
                Err(Broken::Stopped(reason)) => return Err(reason),
                Err(Broken::Failed(_)) => {
                    Baseline { build: Some(Measured::TimedOut), lint: Some(Measured::TimedOut) }
                }
            };
        }
        let verdict = |gate, command: &Option<Command>, before, after| match command {
            Some(command) => Verdict { gate, command: Some(command.clone()), before, after },
            None => Verdict::off(gate),
        };
        let verdicts = vec![
            verdict(Gate::Build, &commands.build, before.build, after.build),
            verdict(Gate::Lint, &commands.lint, before.lint, after.lint),
        ];
        let [build, lint] = [&verdicts[0], &verdicts[1]].map(Verdict::result);
        self.spool.milestone("verification_complete", json!({ "build": build, "lint": lint }));
        Ok(verdicts)
    }

    /// Events first, then the result, for as long as it takes.
    async fn hand_over(&self, report: Report) -> Ended {
        let result = async {
            if !self.spool.flush(FLUSH).await {
                tracing::warn!("some events are not taken yet; the result goes first");
            }
            let error = match self.report(&report).await {
                Ok(()) => return Ok(Ended::Delivered),
                Err(error) => error,
            };
            match error {
                CallError::Superseded { .. } => Ok(Ended::Unwanted(Reason::Superseded)),
                CallError::Unauthorized { .. } => Ok(Ended::Unwanted(Reason::Unauthorized)),
                CallError::Away { .. } | CallError::Refused { .. } => {
                    Ok(Ended::Undelivered(error.to_string()))
                }
            }
        };
        match self.runner.run(Stage::Result, result).await {
            Ok(ended) => ended,
            Err(Broken::Stopped(reason)) => self.leave(reason).await,
            Err(Broken::Failed(failure)) => Ended::Undelivered(failure.to_string()),
        }
    }

    async fn report(&self, report: &Report) -> Result<(), CallError> {
        let patience = || Patience::within(limit::TASK_LIFETIME);
        match self.gateway.result(report, patience()).await {
            // Our words are what can be wrong with it: better few words than no result.
            Err(CallError::Refused {
                code: Some(BoxErrorCode::TooLarge | BoxErrorCode::BadRequest),
                said,
                ..
            }) => {
                tracing::warn!(said, "the result was refused and is sent again with fewer words");
                let body = preview(&report.pr_body, 4_000);
                let short = Report { pr_body: body, answer: preview(&report.answer, 500), ..report.clone() };
                self.gateway.result(&short, patience()).await
            }
            other => other,
        }
    }

    async fn leave(&self, reason: Reason) -> Ended {
        match reason {
            Reason::Leaving => {
                self.spool.milestone("leave_acknowledged", json!({}));
                self.spool.flush(LAST_EVENTS).await;
                if let Err(error) = self.gateway.left(Patience::within(LEAVING)).await {
                    tracing::warn!(%error, "nobody was told that the work is saved");
                }
            }
            Reason::Cancelled => {
                self.spool.milestone("task_cancelled_acknowledged", json!({}));
                self.spool.flush(LAST_WORDS).await;
            }
            Reason::Superseded | Reason::Unauthorized | Reason::Terminated => (),
        }
        Ended::Unwanted(reason)
    }
}

fn tools_ended() -> Failure {
    let why = "the tools' layer of the box has ended, and with it every command: perhaps at its memory limit";
    Failure::new(FailureCode::WorkerCrashed, why)
}

async fn measure(
    launcher: &Launcher,
    command: Option<&Command>,
    dir: &std::path::Path,
    time: Duration,
) -> Option<Measured> {
    match command {
        Some(command) => Some(verify::measure(launcher, command, dir, time).await),
        None => None,
    }
}

/// What a stage brought; its failure joins the others.
fn kept<T>(done: Result<T, Broken>, failures: &mut Vec<Failure>) -> Result<Option<T>, Reason> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(Broken::Failed(failure)) => {
            failures.push(failure);
            Ok(None)
        }
        Err(Broken::Stopped(reason)) => Err(reason),
    }
}

/// The first failure; later ones stand in its detail.
fn first_of(failures: Vec<Failure>) -> Option<Failure> {
    let mut failures = failures.into_iter();
    let mut first = failures.next()?;
    for later in failures {
        first.detail = preview(&format!("{}; then {later}", first.detail), limit::ERROR_MESSAGE_MAX_CHARS);
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_gives_the_code_and_later_ones_the_detail() {
        let of = |code, detail: &str| Failure::new(code, detail);
        assert_eq!(first_of(Vec::new()), None);
        let all = vec![of(FailureCode::ModelUnreachable, "a"), of(FailureCode::PushRejected, "b")];
        let first = first_of(all).unwrap();
        assert_eq!(
            (first.code, first.detail.as_str()),
            (FailureCode::ModelUnreachable, "a; then PUSH_REJECTED: b")
        );
    }
}
