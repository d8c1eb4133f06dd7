//! What a push may bring, tried by real git. Each refusal is told, is an event, and changes nothing.

use domain::report::{AgentStatus, GateResult, Report};
use domain::{EventKind, FailureCode, PerRepo, State};
use forge::push::{Globs, Settings};
use serde_json::Value;
use store::{EventCursor, EventQuery};

use super::*;

/// Nobody's key, of the shape of one.
fn key() -> String {
    ["AKIA", "Z3XQ7M2P", "L5VKR4TW"].concat()
}

fn globs(patterns: &[&str]) -> Globs {
    Globs::try_from(patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).unwrap()
}

async fn served(change: impl FnOnce(&mut Settings)) -> Served {
    let mut settings = Settings::default();
    change(&mut settings);
    Served::over(World::with(|policy| policy.push = PerRepo::new(settings)).await).await
}

impl Served {
    /// Runs a script in a clone as the box's agent would.
    fn agent(&self, dir: &Path, script: &str) {
        let ran = std::process::Command::new("sh")
            .current_dir(dir)
            .args(["-ec", script])
            .env("GIT_AUTHOR_NAME", "A Box")
            .env("GIT_AUTHOR_EMAIL", "box@example.org")
            .env("GIT_COMMITTER_NAME", "A Box")
            .env("GIT_COMMITTER_EMAIL", "box@example.org")
            .env("KEY", key())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    async fn events(&self, task: domain::TaskId) -> Vec<Value> {
        let query = EventQuery { task, from: EventCursor::Start, limit: 500 };
        let page = self.world.orchestrator.store().events_read(query).await.unwrap();
        page.into_iter().filter(|e| e.kind == EventKind::PushRefused).map(|e| e.metadata).collect()
    }

    /// A push of what the script did is refused, in words that hold these, and leaves nothing behind.
    async fn refused(&self, script: &str, words: &[&str]) {
        let me = self.world.boxed().await;
        let branch = self.world.task(me.task).await.branch;
        let dir = self.clone(&me, &me.task.to_string(), &[]).await;
        self.agent(&dir, script);
        let before = self.refs().await;
        let failed = self.push(&me, &dir, &[&branch]).await.expect_err(script);
        let events = self.events(me.task).await;
        let told = format!("{failed} {events:?}");
        for word in words {
            assert!(told.contains(word), "{script}\n{word}\n{told}");
        }
        assert!(!told.contains(&key()), "the secret itself is told: {told}");
        assert_eq!(events.len(), 1, "{script}: {events:?}");
        assert!(events[0]["reason"].as_str().is_some_and(|r| !r.is_empty()), "{events:?}");
        assert_eq!(self.refs().await, before, "{script}");
        let incoming = std::fs::read_dir(self.quarantine(me.task).join("incoming"));
        assert_eq!(incoming.map(Iterator::count).unwrap_or(0), 0, "nothing is left of it: {script}");
        let packs = std::fs::read_dir(self.quarantine(me.task).join("objects/pack")).unwrap().count();
        assert_eq!(packs, 0, "no object of it was taken: {script}");
        // Whose branch is as it was can still push what is right.
        self.agent(&dir, "git checkout -q --force main && git branch -f work && git checkout -q work && echo ok > ok && git add ok && git commit -qm ok");
        self.push(&me, &dir, &[&format!("work:refs/heads/{branch}")]).await.expect(script);
        self.world.cancel(me.task).await;
    }

    async fn accepted(&self, script: &str) {
        let me = self.world.boxed().await;
        let branch = self.world.task(me.task).await.branch;
        let dir = self.clone(&me, &me.task.to_string(), &[]).await;
        self.agent(&dir, script);
        self.push(&me, &dir, &[&branch]).await.expect(script);
        assert_eq!(self.events(me.task).await, Vec::<Value>::new(), "{script}");
        self.world.cancel(me.task).await;
    }
}

const COMMIT: &str = "git add -A && git commit -qm c";

#[tokio::test]
async fn protected_paths_are_refused_in_every_commit_and_every_disguise() {
    let served = served(|_| ()).await;
    served.world.source.commit("owners", &[("CODEOWNERS", "* @one\n"), ("dir/a", "a\n")]).await.unwrap();
    served.world.source.commit("owners", &[("CODEOWNERS", "* @one @two\n")]).await.unwrap();
    let workflow = "mkdir -p .github/workflows && echo x > .github/workflows/ci.yml";
    for script in [
        format!("{workflow} && {COMMIT}"),
        format!("{workflow} && {COMMIT} && git rm -qr .github && git commit -qm gone"),
        format!("mkdir -p .GitHub/WORKFLOWS && echo x > .GitHub/WORKFLOWS/ci.yml && {COMMIT}"),
        format!("mkdir -p dir/workflows && echo x > dir/workflows/a.yml && ln -s dir .github && {COMMIT}"),
        format!("echo x > .github && {COMMIT}"),
        "git rm -q CODEOWNERS && git commit -qm gone".to_owned(),
        "git mv CODEOWNERS OWNERS && git commit -qm moved".to_owned(),
        // Only the merge itself brings it.
        format!(
            "git checkout -qb side && echo s > s && {COMMIT} && git checkout -q - && echo t > t && {COMMIT} && \
                 git merge -q --no-commit side && {workflow} && git add -A && git commit -qm merged"
        ),
        // A merge that takes an older state of the base, which each of its parents explains.
        "old=$(git rev-parse main~1) && git reset -q --hard \
         $(git commit-tree -p HEAD -p $old -m merged $old^{tree})"
            .to_owned(),
    ] {
        served.refused(&script, &["push.allow_protected", "protected path"]).await;
    }
    served.accepted(&format!("mkdir -p .github && echo x > .github/dependabot.yml && {COMMIT}")).await;
}

#[tokio::test]
async fn secrets_are_refused_wherever_they_are_and_are_not_told() {
    let served = served(|settings| settings.allow_secrets = globs(&["fixtures/**"])).await;
    for (script, place) in [
        (format!("printf 'a\\nkey = %s\\n' $KEY > config && {COMMIT}"), "config line 2"),
        (format!("echo $KEY > a && {COMMIT} && echo - > a && {COMMIT}"), "a line 1"),
        (format!("printf 'x\\0y\\n%s\\n' $KEY > image.bin && {COMMIT}"), "image.bin line 2"),
        (format!("printf '%s' $KEY | sed 's/./&\\x00/g' > wide && {COMMIT}"), "wide line 1"),
        (format!("echo '* -diff -text binary' > .gitattributes && echo $KEY > a && {COMMIT}"), "a line 1"),
        ("git commit -q --allow-empty -m \"use $KEY\"".to_owned(), "the message of commit"),
        (format!("echo x > $KEY && {COMMIT}"), "the name of a file"),
        (
            format!(
                "git checkout -qb side && echo s > s && {COMMIT} && git checkout -q - && echo t > t && \
                     {COMMIT} && git merge -q --no-commit side && echo $KEY > m && git add -A && git commit -qm merged"
            ),
            "m line 1",
        ),
    ] {
        served.refused(&script, &[place, "an AWS access key", "push.allow_secrets"]).await;
    }
    served.accepted(&format!("mkdir fixtures && echo $KEY > fixtures/a && {COMMIT}")).await;
}

#[tokio::test]
async fn a_secret_that_was_there_before_is_nobodys_new_one() {
    let served = served(|_| ()).await;
    let old = format!("one\ntwo\nthree\nfour\nkey = {}\n", key());
    served.world.source.commit("old", &[("fixture", &old)]).await.unwrap();
    served.accepted(&format!("echo more >> fixture && {COMMIT}")).await;
    served.accepted(&format!("git mv fixture moved && {COMMIT} && echo more >> moved && {COMMIT}")).await;
    served.refused(&format!("sed -i s/key/KEY/ fixture && {COMMIT}"), &["fixture line 5"]).await;
}

#[tokio::test]
async fn links_out_and_submodules_are_refused_unless_allowed() {
    let module = "git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,lib && git commit -qm c";
    let modules = format!(
        "printf '[submodule \"a\"]\\n\\tpath = a\\n\\turl = https://example.org/a\\n' > .gitmodules && {COMMIT}"
    );
    let links = ["/etc/passwd", "../../x", ".git/hooks", "a/../../x"];
    let link = |to: &str| format!("ln -s {to} link && {COMMIT}");
    let strict = served(|_| ()).await;
    for to in links {
        strict.refused(&link(to), &["push.allow_outside_links", "link"]).await;
    }
    strict.refused(module, &["push.allow_submodules", "lib"]).await;
    strict.refused(&modules, &["push.allow_submodules", ".gitmodules"]).await;
    strict.accepted(&format!("mkdir d && ln -s ../README.md d/link && {COMMIT}")).await;
    let lax = served(|settings| {
        settings.allow_outside_links = true;
        settings.allow_submodules = true;
    })
    .await;
    lax.accepted(&link("/etc/passwd")).await;
    lax.accepted(module).await;
    lax.accepted(&modules).await;
    // What git itself would run is never taken.
    let option =
        format!("printf '[submodule \"a\"]\\n\\tpath = a\\n\\turl = -u./run\\n' > .gitmodules && {COMMIT}");
    lax.refused(&option, &["unpack"]).await;
    let linked = "blob=$(printf README.md | git hash-object -w --stdin) && \
                  tree=$(printf '120000 blob %s\t.gitmodules\n' $blob | git mktree) && \
                  git update-ref HEAD $(git commit-tree -p HEAD -m c $tree)";
    lax.refused(linked, &["unpack"]).await;
}

#[tokio::test]
async fn sizes_are_bounded() {
    let served = served(|settings| {
        settings.max_file_mib = 1;
        settings.max_files = 10;
        settings.max_mib = 3;
    })
    .await;
    let zeros = |mib: u32| format!("head -c {mib}M /dev/zero > zeros && {COMMIT}");
    served.refused(&zeros(2), &["zeros has 2 MiB; a file may have 1", "push.max_file_mib"]).await;
    served.accepted(&zeros(1)).await;
    let many = |n: u32| format!("for n in $(seq {n}); do echo $n > f$n; done && {COMMIT}");
    served.refused(&many(11), &["11 files differ from the base; 10 may"]).await;
    served.accepted(&many(10)).await;
    served.refused(&format!("head -c 4M /dev/urandom > noise && {COMMIT}"), &["push.max_mib"]).await;
}

#[tokio::test]
async fn a_few_objects_that_unfold_to_endless_paths_are_refused() {
    let served = served(|_| ()).await;
    let bomb = "object=$(echo x | git hash-object -w --stdin); kind='100644 blob'; for level in 1 2 3 4 5; do \
                object=$(for n in $(seq 60); do printf '%s %s\\t%s-%s\\n' \"$kind\" $object $level $n; done | git mktree); \
                kind='040000 tree'; done; git update-ref HEAD $(git commit-tree -p HEAD -m bomb $object)";
    served.refused(bomb, &["it changes more paths than can be listed"]).await;
}

#[tokio::test]
async fn a_refused_push_can_be_mended() {
    let served = served(|_| ()).await;
    let me = served.world.boxed().await;
    let branch = served.world.task(me.task).await.branch;
    let dir = served.clone(&me, "mended", &[]).await;
    served.agent(&dir, &format!("echo $KEY > a && {COMMIT}"));
    let failed = served.push(&me, &dir, &[&branch]).await.unwrap_err();
    assert_eq!(failed.kind, GitErrorKind::Rejected, "{failed}");
    assert!(failed.stderr.contains("remote: take it out of every commit"), "{failed}");
    let mirrors = &served.world.orchestrator.parts().mirrors;
    assert!(mirrors.last_refused(me.task).is_some_and(|r| r.reason.contains("a line 1")));
    served.agent(&dir, "echo nothing > a && git commit -qa --amend -m c");
    served.push(&me, &dir, &[&branch]).await.unwrap();
    assert_eq!(mirrors.last_refused(me.task), None);
    let event = &served.events(me.task).await[0];
    assert_eq!(event["paths"], serde_json::json!(["a"]));
}

#[tokio::test]
async fn tasks_of_one_repository_do_not_see_what_the_others_pushed() {
    let served = Served::new().await;
    let (me, other) = (served.world.boxed().await, served.world.boxed().await);
    let dir = served.clone(&me, "mine", &[]).await;
    let head = served.commit(&me, &dir, "a", b"mine").await;
    served.push(&me, &dir, &[&served.world.task(me.task).await.branch]).await.unwrap();
    assert_eq!(git::rev_parse(&served.mirror(), &head).await.unwrap(), None, "it is in no shared object");
    let theirs = served.clone(&other, "theirs", &[]).await;
    let fetch = served.run(&other, &theirs, &["fetch", "origin", &head]).await.unwrap_err();
    assert!(fetch.stderr.contains("not our ref"), "{fetch}");
    served.run(&me, &theirs, &["fetch", &served.remote(me.task), &head]).await.unwrap();
}

fn report(failure: Option<domain::Failure>) -> Report {
    Report {
        agent: AgentStatus::Success,
        build: GateResult::Passed,
        lint: GateResult::Inert,
        turns_attempted: 1,
        turns_completed: 1,
        head_sha: None,
        commits: 1,
        pr_title: "t".into(),
        pr_body: "b".into(),
        answer: String::new(),
        failure,
    }
}

#[tokio::test]
async fn a_push_after_the_report_is_too_late() {
    let served = Served::new().await;
    let me = served.world.boxed().await;
    let branch = served.world.task(me.task).await.branch;
    let dir = served.clone(&me, "late", &[]).await;
    served.commit(&me, &dir, "a", b"a").await;
    served.push(&me, &dir, &[&branch]).await.unwrap();
    let orchestrator = &served.world.orchestrator;
    let _ = orchestrator.box_started(me.task, me.attempt, None).await.unwrap();
    let _ = orchestrator.box_reported(me.task, me.attempt, report(None)).await.unwrap();
    assert!(matches!(served.world.task(me.task).await.state, State::Finalizing { .. }));
    served.commit(&me, &dir, "b", b"b").await;
    let before = served.refs().await;
    let late = served.push(&me, &dir, &[&branch]).await.unwrap_err();
    assert!(late.stderr.contains("the task is being finished"), "{late}");
    assert_eq!(served.refs().await, before);
    served.world.drive(me.task).await;
    assert_eq!(served.world.task(me.task).await.status().as_str(), "COMPLETED");
}

/// D-049: a failed push counted as a change.
#[tokio::test]
async fn a_report_of_a_refused_push_fails_with_the_reason() {
    let served = Served::new().await;
    let me = served.world.boxed().await;
    let branch = served.world.task(me.task).await.branch;
    let dir = served.clone(&me, "refused", &[]).await;
    served.commit(&me, &dir, "fine", b"fine").await;
    served.push(&me, &dir, &[&branch]).await.unwrap();
    served.agent(&dir, &format!("echo x > CODEOWNERS && {COMMIT}"));
    served.push(&me, &dir, &[&branch]).await.unwrap_err();
    let orchestrator = &served.world.orchestrator;
    let _ = orchestrator.box_started(me.task, me.attempt, None).await.unwrap();
    let rejected = domain::Failure::new(FailureCode::PushRejected, "! [remote rejected]");
    let _ = orchestrator.box_reported(me.task, me.attempt, report(Some(rejected))).await.unwrap();
    served.world.drive(me.task).await;
    let State::Failed { failure, .. } = served.world.task(me.task).await.state else { panic!("it failed") };
    assert_eq!(failure.code, FailureCode::PushRefused);
    assert!(failure.detail.starts_with("CODEOWNERS is a protected path"), "{failure}");
}

#[tokio::test]
async fn what_came_past_the_gateway_is_looked_at_before_it_goes_out() {
    let served = Served::new().await;
    let me = served.world.boxed().await;
    let branch = served.world.task(me.task).await.branch;
    let dir = served.clone(&me, "past", &[]).await;
    served.agent(&dir, &format!("echo $KEY > a && {COMMIT} && echo > a && {COMMIT}"));
    let refspec = format!("HEAD:refs/heads/{branch}");
    git::fetch(served.quarantine(me.task), &dir.display().to_string(), None, &[&refspec]).await.unwrap();
    let orchestrator = &served.world.orchestrator;
    let _ = orchestrator.box_started(me.task, me.attempt, None).await.unwrap();
    let _ = orchestrator.box_reported(me.task, me.attempt, report(None)).await.unwrap();
    served.world.drive(me.task).await;
    let State::Failed { failure, .. } = served.world.task(me.task).await.state else { panic!("it failed") };
    assert_eq!(failure.code, FailureCode::PushRefused, "{failure}");
    assert!(failure.detail.contains("a line 1") && !failure.detail.contains(&key()), "{failure}");
    assert_eq!(served.events(me.task).await.len(), 1);
    assert!(served.world.forge.branch(&repo(), &branch).is_none(), "nothing went out");
}

#[tokio::test]
async fn a_delivered_quarantine_ends_and_its_work_can_still_be_shown() {
    let served = Served::new().await;
    let (me, idle) = (served.world.boxed().await, served.world.boxed().await);
    let branch = served.world.task(me.task).await.branch;
    let dir = served.clone(&me, "done", &[]).await;
    let head = served.commit(&me, &dir, "a", b"the work\n").await;
    served.push(&me, &dir, &[&branch]).await.unwrap();
    let orchestrator = &served.world.orchestrator;
    let _ = orchestrator.box_started(me.task, me.attempt, None).await.unwrap();
    assert_eq!(orchestrator.sweep_quarantines().await, 0, "both tasks are at work");
    let _ = orchestrator.box_reported(me.task, me.attempt, report(None)).await.unwrap();
    served.world.drive(me.task).await;
    served.world.cancel(idle.task).await;
    assert_eq!(orchestrator.sweep_quarantines().await, 2, "one is delivered, one pushed nothing");
    assert_eq!(orchestrator.sweep_quarantines().await, 0);
    assert!(!served.quarantine(me.task).exists() && !served.quarantine(idle.task).exists());
    let base_sha = git::rev_parse(&served.mirror(), "refs/heads/main").await.unwrap().unwrap();
    let work = forge::mirror::BranchWork { head_sha: head, base_sha, commits: 1 };
    let (diff, cut) = orchestrator.parts().mirrors.diff(me.task, &repo(), &work).await.unwrap();
    assert!(diff.contains("+the work") && !cut, "{diff}");
}

#[tokio::test]
async fn pushed_work_that_was_not_delivered_is_kept() {
    let served = Served::new().await;
    let me = served.world.boxed().await;
    let branch = served.world.task(me.task).await.branch;
    let dir = served.clone(&me, "kept", &[]).await;
    let head = served.commit(&me, &dir, "a", b"a").await;
    served.push(&me, &dir, &[&branch]).await.unwrap();
    served.world.cancel(me.task).await;
    assert_eq!(served.world.orchestrator.sweep_quarantines().await, 0);
    let kept = git::branch_head(served.quarantine(me.task), &branch).await.unwrap();
    assert_eq!(kept, Some(head));
    served.world.clock.advance(domain::limit::RECORD_RETENTION + std::time::Duration::from_secs(1));
    // However old: the purge removes it, with the record of the task and not before it.
    assert_eq!(served.world.orchestrator.sweep_quarantines().await, 0);
    assert!(served.quarantine(me.task).exists());
}

/// Work that is saved on the way is kept beside the branch, whatever it holds; as work it is looked at all the same.
#[tokio::test]
async fn what_is_saved_is_taken_beside_the_branch_and_looked_at_when_it_is_pushed_as_work() {
    let served = served(|_| ()).await;
    let me = served.world.boxed().await;
    let branch = served.world.task(me.task).await.branch;
    let dir = served.clone(&me, &me.task.to_string(), &[]).await;
    let saved = async |quarantine: &Path| git::rev_parse(quarantine, "refs/bgagent/saved").await.unwrap();
    let quarantine = served.quarantine(me.task);
    served.agent(&dir, &format!("echo \"$KEY\" > key && {COMMIT}"));
    served.push(&me, &dir, &["HEAD:refs/bgagent/saved"]).await.unwrap();
    let first = saved(&quarantine).await.unwrap();
    assert_eq!(served.events(me.task).await, Vec::<Value>::new(), "nothing is told of it");
    assert_eq!(git::branch_head(&quarantine, &branch).await.unwrap(), None);
    // Neither back nor away, and no other ref.
    served.agent(&dir, "git checkout -q --detach HEAD~1 && git commit -q --allow-empty -m other");
    for refspec in
        ["+HEAD:refs/bgagent/saved", ":refs/bgagent/saved", "HEAD:refs/bgagent/saved2", "HEAD:refs/bgagent/x"]
    {
        served.push(&me, &dir, &[refspec]).await.expect_err(refspec);
    }
    assert_eq!(saved(&quarantine).await.as_ref(), Some(&first));
    // The same commit as work.
    let told = served.push(&me, &dir, &[&format!("{first}:refs/heads/{branch}")]).await.unwrap_err();
    assert!(told.stderr.contains("secret"), "{told}");
    assert_eq!(git::branch_head(&quarantine, &branch).await.unwrap(), None);
    // An attempt that is over saves nothing.
    served.world.cancel(me.task).await;
    served.push(&me, &dir, &["HEAD:refs/bgagent/saved"]).await.unwrap_err();
    assert_eq!(saved(&quarantine).await, Some(first));
}
