//! The whole worker as a process, against a gateway of the tests with real git.

use std::process::ExitCode;
use std::time::Duration;

use domain::FailureCode;
use domain::report::{AgentStatus, GateResult};
use worker::WorkerArgs;

use crate::gateway::{BRANCH, Gateway, Reply, git};

/// Not a test of its own: the process that the others start.
#[test]
fn worker_process() {
    let Some(session_dir) = std::env::var_os("WORKER_TEST_SESSION") else { return };
    let exit = std::path::Path::new(&session_dir).join("exit");
    let code = worker::run(WorkerArgs { session_dir: session_dir.clone().into(), tools_socket: None });
    let left = std::fs::read_to_string(exit).ok().and_then(|text| text.parse().ok());
    std::process::exit(left.unwrap_or(if code == ExitCode::SUCCESS { 0 } else { 1 }));
}

fn bash(command: &str) -> Reply {
    Reply::Bash(command.into())
}

const MAKEFILE: &str = "test:\n\t! grep -q broken a\n";

#[tokio::test]
async fn a_task_goes_all_the_way() {
    let mut g = Gateway::start(
        &[("a", "1\n"), ("Makefile", MAKEFILE), (".gitignore", "*.log\n")],
        vec![
            bash("echo 2 > a; mkdir -p new; echo x > new/file; echo x > b.log"),
            Reply::Done("Changed a.\n\nAll good."),
        ],
    );
    g.spec.issue_number = Some(7);
    assert_eq!(g.run().await, 0, "{}", g.log());
    let report = g.report();
    assert_eq!(
        (report.agent, report.build, report.lint),
        (AgentStatus::Success, GateResult::Passed, GateResult::Inert)
    );
    assert_eq!((report.commits, report.failure.clone()), (1, None), "{}", g.log());
    assert_eq!(report.head_sha.as_deref(), Some(git(&g.repo(), &["rev-parse", BRANCH]).as_str()));
    assert_eq!(report.pr_title, "Changed a");
    for words in [
        "All good.",
        "Resolves #7",
        "new/file",
        "`make test` (found in Makefile). Before: green. After: green.",
    ] {
        assert!(report.pr_body.contains(words), "{words} is not in\n{}", report.pr_body);
    }
    assert_eq!(
        g.pushed(),
        [".gitignore", "Makefile", "a", "new/file"],
        "untracked files are there, ignored ones not"
    );
    let author = git(&g.repo(), &["log", "-1", "--format=%an %ae %(trailers:key=Task-Id,valueonly)", BRANCH]);
    assert_eq!(author, format!("Bot bot@example {}", g.spec.task));
    assert_eq!(g.seen().started, 1);
    let milestones = g.milestones();
    for name in [
        "stage_started",
        "repo_setup_complete",
        "baseline_complete",
        "agent_execution_complete",
        "branch_pushed",
    ] {
        assert!(milestones.iter().any(|m| m == name), "{name} is not in {milestones:?}");
    }
    let log = g.log();
    assert!(!log.contains("session-token") && !log.contains("bootstrap-token"), "{log}");
    assert!(!g.session().join("bootstrap").exists() && !g.session().join("baseline").exists());
}

#[tokio::test]
async fn objects_that_are_lent_are_used_where_they_are() {
    let files = [("a", "1\n"), ("b", "2\n")];
    let mut g = Gateway::start(&files, vec![bash("echo 3 > a"), Reply::Done("Done.")]);
    g.objects = Some(g.repo().join("objects"));
    assert_eq!(g.run().await, 0, "{}", g.log());
    let report = g.report();
    assert_eq!((report.commits, report.failure), (1, None), "{}", g.log());
    let repo = g.session().join("repo");
    // The commit, its tree and the changed file: what the base holds was not copied.
    assert!(git(&repo, &["count-objects"]).starts_with("3 objects"), "{}", git(&repo, &["count-objects"]));
    assert_eq!(std::fs::read_dir(repo.join(".git/objects/pack")).unwrap().count(), 0);
    assert_eq!(git(&repo, &["rev-parse", "origin/main"]), git(&g.repo(), &["rev-parse", "main"]));
    assert_eq!(git(&g.repo(), &["rev-list", "--count", BRANCH]), "2");
}

#[tokio::test]
async fn objects_that_do_not_do_are_fetched() {
    let mut g = Gateway::start(&[("a", "1\n")], vec![bash("echo 2 > a"), Reply::Done("Done.")]);
    let empty = g.root().join("empty.git/objects");
    std::fs::create_dir_all(&empty).unwrap();
    g.objects = Some(empty);
    assert_eq!(g.run().await, 0, "{}", g.log());
    assert_eq!((g.report().commits, g.report().failure), (1, None), "{}", g.log());
    assert!(g.log().contains("fetched instead"), "{}", g.log());
    assert!(!g.session().join("repo/.git/objects/info/alternates").exists());
}

#[tokio::test]
async fn an_answer_without_a_change_is_no_branch() {
    let g = Gateway::start(&[("a", "1\n")], vec![Reply::Done("It is 1.")]);
    assert_eq!(g.run().await, 0);
    let report = g.report();
    assert_eq!((report.commits, report.head_sha, report.answer.as_str()), (0, None, "It is 1."));
    assert_eq!(
        (report.agent, report.build, report.pr_body.as_str()),
        (AgentStatus::Success, GateResult::Inert, "")
    );
    assert!(!g.has_branch());
}

#[tokio::test]
async fn what_was_red_before_is_not_blamed_and_what_turns_red_is() {
    let files = [("a", "broken\n"), ("Makefile", MAKEFILE)];
    let g = Gateway::start(&files, vec![bash("echo x > n"), Reply::Done("Done.")]);
    assert_eq!(g.run().await, 0);
    let report = g.report();
    assert_eq!(report.build, GateResult::FailedAsBefore);
    assert!(report.pr_body.contains("FAIL, as before this change"), "{}", report.pr_body);

    let g = Gateway::start(
        &[("a", "1\n"), ("Makefile", MAKEFILE)],
        vec![bash("echo broken > a"), Reply::Done("Done.")],
    );
    assert_eq!(g.run().await, 0);
    assert_eq!(g.report().build, GateResult::Failed);
}

#[tokio::test]
async fn work_up_to_the_turn_limit_is_pushed() {
    let mut g = Gateway::start(&[("a", "1\n")], vec![bash("echo x > n")]);
    g.spec.max_turns = 2;
    assert_eq!(g.run().await, 0);
    let report = g.report();
    assert_eq!((report.agent, report.commits), (AgentStatus::MaxTurns, 1));
    assert!(report.pr_body.contains("turn limit"), "{}", report.pr_body);
    assert_eq!(g.pushed(), ["a", "n"]);
}

#[tokio::test]
async fn a_refused_push_is_a_typed_failure_with_the_reason() {
    let g = Gateway::start(&[("a", "1\n")], vec![bash("echo x > n"), Reply::Done("Done.")]);
    g.refuse_pushes();
    assert_eq!(g.run().await, 0);
    let report = g.report();
    let failure = report.failure.unwrap();
    assert_eq!((failure.code, report.head_sha), (FailureCode::PushRejected, None), "{failure}");
    assert!(failure.detail.contains("secrets were found"), "{failure}");
}

#[tokio::test]
async fn a_push_that_the_gateway_forbids_is_not_tried_for_ever() {
    for status in [403, 413] {
        let g = Gateway::start(&[("a", "1\n")], vec![bash("echo x > n"), Reply::Done("Done.")]);
        g.seen().push_status = Some(status);
        assert_eq!(g.run().await, 0);
        let failure = g.report().failure.unwrap();
        assert_eq!(failure.code, FailureCode::PushRejected, "{failure}");
        assert!(failure.detail.contains(&status.to_string()), "{failure}");
    }
}

#[tokio::test]
async fn large_work_travels_and_a_file_no_forge_takes_stays_behind() {
    let make = "head -c 5000000 /dev/urandom > big; truncate -s 101M huge; setsid true";
    let g = Gateway::start(&[("a", "1\n")], vec![bash(make), Reply::Done("Done.")]);
    assert_eq!(g.run().await, 0, "{}", g.log());
    assert_eq!(g.pushed(), ["a", "big"]);
    let report = g.report();
    assert_eq!(report.failure, None);
    assert!(report.pr_body.contains("`huge` (101 MiB)"), "{}", report.pr_body);
}

#[tokio::test]
async fn a_later_attempt_goes_on_from_what_was_pushed() {
    let g =
        Gateway::start(&[("a", "1\n")], vec![bash("test -f first && echo x > second"), Reply::Done("Done.")]);
    let source = g.root().join("source");
    git(&source, &["checkout", "-qb", BRANCH]);
    std::fs::write(source.join("first"), "x").unwrap();
    git(&source, &["add", "-A"]);
    git(&source, &["commit", "-qm", "first"]);
    git(&source, &["push", "-q", "../t.git", BRANCH]);
    assert_eq!(g.run().await, 0);
    assert_eq!(g.report().commits, 2);
    assert_eq!(g.pushed(), ["a", "first", "second"]);
}

/// D-029: a short outage ended the record.
#[tokio::test]
async fn a_control_plane_that_goes_away_loses_and_doubles_nothing() {
    let g = Gateway::start(
        &[("a", "1\n")],
        vec![
            bash("while [ ! -e go ]; do sleep 0.02; done; rm go; echo x > n"),
            bash("echo y > m"),
            Reply::Done("Done."),
        ],
    );
    let mut child = g.worker().await;
    g.until("the first tool call", |seen| seen.events.iter().any(|e| e.event_type == "agent_tool_call"))
        .await;
    g.seen().away = Some("/");
    std::fs::write(g.session().join("repo/go"), "").unwrap();
    g.until("calls while away", |seen| seen.refused_while_away > 5).await;
    g.seen().away = None;
    assert_eq!(g.end_of(&mut child).await, 0, "{}", g.log());
    assert_eq!(g.report().commits, 1);
    assert_eq!(g.pushed(), ["a", "m", "n"]);
    let seen = g.seen();
    let keys: Vec<String> = seen.events.iter().map(|e| e.key.clone()).collect();
    let expected: Vec<String> = (1..=keys.len()).map(|n| format!("e{n:06}")).collect();
    assert_eq!(keys, expected, "no hole, in order");
    assert_eq!(seen.events.iter().filter(|e| e.event_type == "agent_tool_result").count(), 2);
}

/// D-040: the last write was tried once.
#[tokio::test]
async fn push_and_result_wait_for_a_control_plane_that_is_away() {
    for away in ["/git", "/box/v1/result", "/box/v1/events"] {
        let wait = "while [ ! -e go ]; do sleep 0.02; done; rm go; echo x > n";
        let g = Gateway::start(&[("a", "1\n")], vec![bash(wait), Reply::Done("Done.")]);
        let mut child = g.worker().await;
        g.until("the agent", |seen| seen.model_calls == 1).await;
        g.seen().away = Some(away);
        std::fs::write(g.session().join("repo/go"), "").unwrap();
        g.until("calls while away", |seen| seen.refused_while_away > 2).await;
        assert!(g.seen().results.is_empty(), "{away}: the result came before what it waits for");
        g.seen().away = None;
        assert_eq!(g.end_of(&mut child).await, 0, "{away}: {}", g.log());
        let report = g.report();
        assert_eq!((report.commits, report.failure), (1, None), "{away}");
        assert_eq!(g.pushed(), ["a", "n"], "{away}");
    }
}

#[tokio::test]
async fn a_superseded_worker_ends_quietly() {
    let g = Gateway::start(&[("a", "1\n")], vec![bash("echo x > n; sleep 600")]);
    let mut child = g.worker().await;
    g.until("the agent", |seen| seen.model_calls == 1).await;
    g.seen().superseded = true;
    assert_eq!(g.end_of(&mut child).await, 0);
    assert!(g.seen().results.is_empty() && !g.has_branch());
}

#[tokio::test]
async fn a_cancelled_worker_kills_its_tools_and_delivers_nothing() {
    let g = Gateway::start(&[("a", "1\n")], vec![bash("echo $$ > pid; echo x > n; sleep 600")]);
    let mut child = g.worker().await;
    let pid_file = g.session().join("repo/pid");
    g.until("the tool", |_| std::fs::read_to_string(&pid_file).is_ok_and(|t| t.ends_with('\n'))).await;
    let pid = std::fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    g.seen().cancel = true;
    assert_eq!(g.end_of(&mut child).await, 0);
    assert!(g.seen().results.is_empty() && !g.has_branch());
    assert!(g.milestones().iter().any(|m| m == "task_cancelled_acknowledged"));
    let ended = |_: &crate::gateway::Seen| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    };
    g.until("the tool's end", ended).await;
}

#[tokio::test]
async fn a_signal_ends_it_at_once() {
    let g = Gateway::start(&[("a", "1\n")], vec![bash("sleep 600")]);
    let mut child = g.worker().await;
    g.until("the agent", |seen| seen.model_calls == 1).await;
    let pid = nix::unistd::Pid::from_raw(child.id().unwrap().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
    assert_eq!(ended.expect("it does not wait for the tool").unwrap().code(), Some(143));
    assert_eq!(std::fs::read_to_string(g.session().join("exit")).unwrap(), "143");
}

#[tokio::test]
async fn a_server_left_running_does_not_hold_the_end() {
    let left = "setsid sleep 600 & echo $! > ../left.pid; nohup sleep 600 >/dev/null 2>&1 & echo x > n";
    let g = Gateway::start(&[("a", "1\n")], vec![bash(left), Reply::Done("Done.")]);
    assert_eq!(g.run().await, 0, "{}", g.log());
    assert_eq!(g.pushed(), ["a", "n"]);
    let pid: i32 = std::fs::read_to_string(g.session().join("left.pid")).unwrap().trim().parse().unwrap();
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

#[tokio::test]
async fn a_base_branch_that_is_not_there_is_told_by_name() {
    let mut g = Gateway::start(&[("a", "1\n")], Vec::new());
    g.spec.base_branch = "nope".into();
    assert_eq!(g.run().await, 0);
    let failure = g.report().failure.unwrap();
    assert_eq!((failure.code, failure.resource.as_deref()), (FailureCode::BaseBranchNotFound, Some("nope")));
}

#[tokio::test]
async fn a_worker_that_is_asked_to_leave_stops_its_tools_at_once_and_saves_the_work() {
    let g = Gateway::start(&[("a", "1\n")], vec![bash("echo $$ > ../pid; echo x > n; sleep 600")]);
    let mut child = g.worker().await;
    let pid_file = g.session().join("pid");
    g.until("the tool", |_| std::fs::read_to_string(&pid_file).is_ok_and(|t| t.ends_with('\n'))).await;
    let pid = std::fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    g.seen().leave = Some("cancel".into());
    let ended = |_: &crate::gateway::Seen| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    };
    let noticed = std::time::Instant::now();
    g.until("the tool's end", ended).await;
    // 2 s are promised, on a machine that is not loaded; the poll alone could take 25.
    assert!(noticed.elapsed() < Duration::from_secs(15), "{:?}", noticed.elapsed());
    assert_eq!(g.end_of(&mut child).await, 0, "{}", g.log());
    assert_eq!(g.pushed(), ["a", "n"]);
    assert_eq!(g.orders_and_results(), (1, 0));
    let milestones = g.milestones();
    let saved = milestones.iter().position(|m| m == "work_saved");
    assert!(
        saved.is_some() && saved < milestones.iter().position(|m| m == "leave_acknowledged"),
        "{milestones:?}"
    );
}

/// D-051: a cancel waited for builds.
#[tokio::test]
async fn defect_1_a_build_is_left_at_once_too() {
    let mut g = Gateway::start(&[("a", "1\n")], vec![bash("echo x > n"), Reply::Done("Done.")]);
    g.spec.build_command = Some("test ! -e n || { echo $$ > ../pid; sleep 600; }".into());
    let mut child = g.worker().await;
    let pid_file = g.session().join("pid");
    g.until("the build", |_| std::fs::read_to_string(&pid_file).is_ok_and(|t| t.ends_with('\n'))).await;
    g.seen().leave = Some("pause".into());
    assert_eq!(g.end_of(&mut child).await, 0, "{}", g.log());
    assert_eq!((g.pushed(), g.orders_and_results()), (vec!["a".into(), "n".into()], (1, 0)));
}

/// D-059: a nudge was said again after a restart.
#[tokio::test]
async fn a_nudge_is_injected_once_however_often_the_gateway_tells_of_it() {
    let g = Gateway::start(
        &[("a", "1\n")],
        vec![bash("touch ../heard; sleep 1"), bash("true"), Reply::Done("Done.")],
    );
    let mut child = g.worker().await;
    let heard = g.session().join("heard");
    g.until("the tool", |_| heard.exists()).await;
    g.seen().nudges.push(protocol::box_api::TakenNudge {
        id: domain::NudgeId::from_bits(5),
        submitted_at: jiff::Timestamp::UNIX_EPOCH,
        text: "use tabs".into(),
    });
    assert_eq!(g.end_of(&mut child).await, 0, "{}", g.log());
    let last = g.seen().model_bodies.last().unwrap().clone();
    assert_eq!(last.matches("use tabs").count(), 1, "{last}");
    assert_eq!(g.seen().taken, 1);
}
