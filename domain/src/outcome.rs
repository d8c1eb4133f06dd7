//! Success or failure, inferred from evidence.
//!
//! What the control plane counted (commits, pull request) decides; what the box said only adds to it. Success is never
//! inferred from silence, and the first failure is never masked by a later one: it gives the code, later ones stand in
//! the detail.

use crate::failure::{Failure, FailureCode};
use crate::report::{AgentStatus, GateResult};

/// What came of the pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrEvidence {
    /// It is open, and holds the commits.
    Opened,
    /// This task needs none: the branch is the deliverable.
    NotNeeded,
    /// It could not be opened, the branch could not be pushed, or what is on it could not be counted.
    Failed(Failure),
}

/// What is known when a task is finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// How the agent said that it ended.
    pub agent: AgentStatus,
    /// Commits beyond the base, as the control plane counted them.
    pub commits: u32,
    /// The pull request.
    pub pr: PrEvidence,
    /// The build against its baseline.
    pub build: GateResult,
    /// The first failure that the box reported.
    pub failure: Option<Failure>,
    /// The task changes nothing: an answer is its deliverable.
    pub read_only: bool,
    /// The agent gave an answer.
    pub answer: bool,
}

/// What the task has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is a deliverable.
    Completed {
        /// What people should know before they trust it.
        warning: Option<String>,
    },
    /// There is none, or it must not be trusted.
    Failed(Failure),
}

/// Decides. Total: every combination of evidence has one outcome.
pub fn infer(evidence: &Evidence) -> Outcome {
    let gate = gate(evidence.build);
    let delivery = delivery(evidence);
    match evidence.agent {
        AgentStatus::Success => match join([evidence.failure.clone(), gate.clone(), delivery.clone()]) {
            Some(failure) if gate.is_some() || delivery.is_some() => Outcome::Failed(failure),
            reported => Outcome::Completed {
                warning: reported.map(|f| format!("the agent met a problem and went on: {f}")),
            },
        },
        AgentStatus::Error => {
            let ended = Failure::new(
                FailureCode::AgentErrored,
                format!("the agent ended with an error; {}", saved(evidence)),
            );
            let first = evidence.failure.clone().unwrap_or(ended);
            let opened = evidence.pr == PrEvidence::Opened && evidence.commits > 0;
            match gate {
                None if opened => Outcome::Completed {
                    warning: Some(format!("the agent ended with an error after it had delivered: {first}")),
                },
                gate => failed(first, [gate, pr_failure(evidence)]),
            }
        }
        AgentStatus::MaxTurns => {
            let stopped = stopped(evidence, FailureCode::MaxTurns, "the agent reached its limit of turns");
            failed(stopped, [evidence.failure.clone(), gate])
        }
        AgentStatus::MaxBudget => {
            let stopped = stopped(evidence, FailureCode::MaxBudget, "the agent reached its budget");
            failed(stopped, [evidence.failure.clone(), gate])
        }
        AgentStatus::Unknown => {
            let silent = Failure::new(
                FailureCode::AgentStreamEnded,
                format!("the agent ended without saying how; {}", saved(evidence)),
            );
            failed(evidence.failure.clone().unwrap_or(silent), [gate, pr_failure(evidence)])
        }
    }
}

/// The build's verdict: only these three stop a task.
fn gate(build: GateResult) -> Option<Failure> {
    match build {
        GateResult::Passed | GateResult::FailedAsBefore | GateResult::Inert => None,
        GateResult::Failed => Some(Failure::new(
            FailureCode::BuildRegressed,
            "the build fails with the change; the work is kept",
        )),
        GateResult::TimedOut => {
            Some(Failure::new(FailureCode::BuildTimedOut, "the build did not end in time; the work is kept"))
        }
        GateResult::Infra => Some(Failure::new(
            FailureCode::BuildInfra,
            "the machine stopped the build, so the change is unverified; the work is kept",
        )),
    }
}

/// What is missing of the deliverable, for an agent that said that it was done.
fn delivery(evidence: &Evidence) -> Option<Failure> {
    match (evidence.commits, &evidence.pr) {
        (0, _) if evidence.read_only && evidence.answer => None,
        (_, PrEvidence::Failed(why)) => Some(why.clone()),
        (0, _) if evidence.read_only => {
            Some(Failure::new(FailureCode::DeliverableLost, "the agent said it was done but gave no answer"))
        }
        (0, _) => Some(Failure::new(
            FailureCode::DeliverableLost,
            "the agent said it was done but there are no commits",
        )),
        (_, PrEvidence::Opened | PrEvidence::NotNeeded) => None,
    }
}

/// The limit that stopped the agent. The box's own words of it are better than ours: it knows what the agent was at.
fn stopped(evidence: &Evidence, code: FailureCode, words: &str) -> Failure {
    let words = match &evidence.failure {
        Some(reported) if reported.code == code => reported.detail.as_str(),
        _ => words,
    };
    Failure::new(code, format!("{words}; {}", saved(evidence)))
}

/// Where the work so far is.
fn saved(evidence: &Evidence) -> String {
    match (evidence.commits, &evidence.pr) {
        (0, PrEvidence::Failed(why)) => format!("the work so far could not be delivered: {why}"),
        (0, _) => "no commits were saved".to_owned(),
        (n, PrEvidence::Opened) => format!("the pull request holds the work so far ({n} commits)"),
        (n, PrEvidence::NotNeeded) => format!("the branch holds the work so far ({n} commits)"),
        (n, PrEvidence::Failed(why)) => {
            format!("the work so far ({n} commits) could not be delivered: {why}")
        }
    }
}

fn pr_failure(evidence: &Evidence) -> Option<Failure> {
    match &evidence.pr {
        PrEvidence::Failed(why) => Some(why.clone()),
        PrEvidence::Opened | PrEvidence::NotNeeded => None,
    }
}

fn failed<const N: usize>(first: Failure, later: [Option<Failure>; N]) -> Outcome {
    let all = std::iter::once(first.clone()).chain(later.into_iter().flatten());
    Outcome::Failed(join(all.map(Some)).unwrap_or(first))
}

/// The first failure, with those after it in its detail. One that says the same or has the same code is not repeated.
fn join(failures: impl IntoIterator<Item = Option<Failure>>) -> Option<Failure> {
    let mut failures = failures.into_iter().flatten();
    let mut first = failures.next()?;
    let mut seen = vec![first.code];
    for next in failures {
        if !seen.contains(&next.code) && !first.detail.contains(&next.to_string()) {
            seen.push(next.code);
            let detail = format!("{}; then {next}", first.detail);
            first = Failure { resource: first.resource, ..Failure::new(first.code, detail) };
        }
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENTS: [AgentStatus; 5] = [
        AgentStatus::Success,
        AgentStatus::MaxTurns,
        AgentStatus::MaxBudget,
        AgentStatus::Error,
        AgentStatus::Unknown,
    ];
    const BUILDS: [GateResult; 6] = [
        GateResult::Passed,
        GateResult::Failed,
        GateResult::FailedAsBefore,
        GateResult::TimedOut,
        GateResult::Infra,
        GateResult::Inert,
    ];

    fn push_rejected() -> PrEvidence {
        PrEvidence::Failed(Failure::new(FailureCode::PushRejected, "hook declined"))
    }

    fn evidence(agent: AgentStatus, commits: u32, pr: PrEvidence) -> Evidence {
        Evidence {
            agent,
            commits,
            pr,
            build: GateResult::Passed,
            failure: None,
            read_only: false,
            answer: false,
        }
    }

    fn every_evidence() -> Vec<Evidence> {
        let reported = Failure::new(FailureCode::BlockedEgressDenied, "blocked").resource("host");
        let mut all = Vec::new();
        for agent in AGENTS {
            for commits in [0, 2] {
                for pr in [PrEvidence::Opened, PrEvidence::NotNeeded, push_rejected()] {
                    for build in BUILDS {
                        for failure in [None, Some(reported.clone())] {
                            for (read_only, answer) in
                                [(false, false), (false, true), (true, false), (true, true)]
                            {
                                let (pr, failure) = (pr.clone(), failure.clone());
                                all.push(Evidence { agent, commits, pr, build, failure, read_only, answer });
                            }
                        }
                    }
                }
            }
        }
        all
    }

    #[test]
    fn completed_means_a_deliverable_and_a_build_that_may_be_trusted() {
        let completed: Vec<_> =
            every_evidence().into_iter().filter(|e| matches!(infer(e), Outcome::Completed { .. })).collect();
        assert!(!completed.is_empty());
        for e in completed {
            let answered = e.read_only && e.answer && e.commits == 0;
            let changed = e.commits > 0 && !matches!(e.pr, PrEvidence::Failed(_));
            assert!(answered || changed, "no deliverable: {e:?}");
            assert!(
                matches!(e.build, GateResult::Passed | GateResult::FailedAsBefore | GateResult::Inert),
                "{e:?}"
            );
            assert!(matches!(e.agent, AgentStatus::Success | AgentStatus::Error), "{e:?}");
            if e.agent == AgentStatus::Error {
                assert!(e.pr == PrEvidence::Opened && e.commits > 0, "{e:?}");
            }
        }
    }

    #[test]
    fn success_with_a_deliverable_and_no_red_gate_always_completes() {
        for e in every_evidence() {
            let delivered = match e.commits {
                0 => e.read_only && e.answer,
                _ => !matches!(e.pr, PrEvidence::Failed(_)),
            };
            if e.agent == AgentStatus::Success && delivered && gate(e.build).is_none() {
                let warned = e.failure.is_some();
                let Outcome::Completed { warning } = infer(&e) else { panic!("{e:?}") };
                assert_eq!(warning.is_some(), warned, "{e:?}");
            }
        }
    }

    #[test]
    fn a_limit_is_always_a_failure_that_says_where_the_work_is() {
        for e in every_evidence() {
            let code = match e.agent {
                AgentStatus::MaxTurns => FailureCode::MaxTurns,
                AgentStatus::MaxBudget => FailureCode::MaxBudget,
                AgentStatus::Success | AgentStatus::Error | AgentStatus::Unknown => continue,
            };
            let Outcome::Failed(failure) = infer(&e) else { panic!("{e:?}") };
            assert_eq!(failure.code, code, "{e:?}");
            let place = match (e.commits, &e.pr) {
                (_, PrEvidence::Failed(_)) => "PUSH_REJECTED: hook declined",
                (0, _) => "no commits",
                (_, PrEvidence::Opened) => "the pull request holds the work so far",
                (_, PrEvidence::NotNeeded) => "the branch holds the work so far",
            };
            assert!(failure.detail.contains(place), "{}", failure.detail);
        }
    }

    #[test]
    fn what_the_box_reported_first_is_never_masked() {
        for e in every_evidence() {
            let Some(reported) = &e.failure else { continue };
            match infer(&e) {
                Outcome::Completed { warning } => {
                    assert!(warning.unwrap().contains(&reported.to_string()), "{e:?}");
                }
                Outcome::Failed(failure) => match e.agent {
                    AgentStatus::MaxTurns | AgentStatus::MaxBudget => {
                        assert!(failure.detail.contains(&reported.to_string()), "{e:?}");
                    }
                    AgentStatus::Success | AgentStatus::Error | AgentStatus::Unknown => {
                        assert_eq!(
                            (failure.code, &failure.resource),
                            (reported.code, &reported.resource),
                            "{e:?}"
                        );
                    }
                },
            }
        }
    }

    #[test]
    fn a_red_gate_is_never_lost_from_the_story() {
        for e in every_evidence() {
            let Some(gate) = gate(e.build) else { continue };
            let Outcome::Failed(failure) = infer(&e) else { panic!("completed with a red gate: {e:?}") };
            assert!(failure.to_string().contains(gate.code.as_str()), "{e:?}: {failure}");
        }
    }

    #[test]
    fn what_went_wrong_in_delivering_is_told_too() {
        for e in every_evidence() {
            if let (Outcome::Failed(failure), PrEvidence::Failed(why)) = (infer(&e), &e.pr)
                && !(e.read_only && e.answer && e.commits == 0)
            {
                assert!(failure.to_string().contains(&why.to_string()), "{e:?}: {failure}");
            }
        }
    }

    /// D-085: a build that took too long had a general title.
    #[test]
    fn each_rule_gives_its_code() {
        use AgentStatus::*;
        use PrEvidence::*;
        let code = |e: Evidence| match infer(&e) {
            Outcome::Completed { warning } => Err(warning.is_some()),
            Outcome::Failed(failure) => Ok(failure.code),
        };
        assert_eq!(code(evidence(Success, 2, Opened)), Err(false));
        assert_eq!(code(evidence(Success, 2, NotNeeded)), Err(false));
        assert_eq!(code(evidence(Success, 2, push_rejected())), Ok(FailureCode::PushRejected));
        assert_eq!(
            code(evidence(Success, 0, push_rejected())),
            Ok(FailureCode::PushRejected),
            "not: no commits"
        );
        assert_eq!(code(evidence(Success, 0, Opened)), Ok(FailureCode::DeliverableLost));
        assert_eq!(code(evidence(Success, 0, NotNeeded)), Ok(FailureCode::DeliverableLost));
        assert_eq!(code(evidence(Error, 2, Opened)), Err(true));
        assert_eq!(code(evidence(Error, 2, NotNeeded)), Ok(FailureCode::AgentErrored));
        assert_eq!(code(evidence(Error, 0, Opened)), Ok(FailureCode::AgentErrored));
        assert_eq!(code(evidence(Unknown, 2, Opened)), Ok(FailureCode::AgentStreamEnded));
        assert_eq!(code(evidence(Unknown, 0, NotNeeded)), Ok(FailureCode::AgentStreamEnded));
        for (build, expected) in [
            (GateResult::Passed, Err(false)),
            (GateResult::FailedAsBefore, Err(false)),
            (GateResult::Inert, Err(false)),
            (GateResult::Failed, Ok(FailureCode::BuildRegressed)),
            (GateResult::TimedOut, Ok(FailureCode::BuildTimedOut)),
            (GateResult::Infra, Ok(FailureCode::BuildInfra)),
        ] {
            assert_eq!(code(Evidence { build, ..evidence(Success, 2, Opened) }), expected, "{build:?}");
        }
    }

    #[test]
    fn the_boxs_own_words_of_a_limit_are_kept_once() {
        let spinning = Failure::new(FailureCode::MaxTurns, "spinning on failing tool calls: cargo test");
        let e =
            Evidence { failure: Some(spinning), ..evidence(AgentStatus::MaxTurns, 2, PrEvidence::Opened) };
        let Outcome::Failed(failure) = infer(&e) else { panic!("{e:?}") };
        assert_eq!(
            failure.detail,
            "spinning on failing tool calls: cargo test; the pull request holds the work so far (2 commits)"
        );
    }
}
