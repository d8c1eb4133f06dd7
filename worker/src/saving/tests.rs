//! Saving beside an agent at work, and beginning where it was.

use std::path::{Path, PathBuf};

use protocol::box_api::WorkSpec;
use serde_json::json;

use super::*;

fn git(dir: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=Agent", "-c", "user.email=a@x", "-c", "init.defaultBranch=main"];
    let out =
        std::process::Command::new("git").arg("-C").arg(dir).args(identity).args(args).output().unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}

/// The gateway's repository of a task, and folders for boxes.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("source");
        std::fs::create_dir(&source).unwrap();
        git(&source, &["init", "-q"]);
        for (name, text) in [("a", "1\n"), ("b", "1\n"), ("c", "1\n"), (".gitignore", "*.log\n")] {
            std::fs::write(source.join(name), text).unwrap();
        }
        git(&source, &["add", "-A"]);
        git(&source, &["commit", "-qm", "base"]);
        git(root.path(), &["clone", "-q", "--bare", "source", "t.git"]);
        Place { root }
    }

    fn repo(&self) -> PathBuf {
        self.root.path().join("t.git")
    }

    fn remote(&self) -> Remote {
        Remote { url: self.repo().display().to_string(), token: None, objects: None }
    }

    /// A new box.
    async fn check_out(&self, name: &str) -> Checkout {
        let dir = self.root.path().join(name);
        let spec: WorkSpec = serde_json::from_value(json!({
            "task": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "attempt": 1, "repo": "o/n", "git_path": "/git/t.git",
            "base_branch": "main", "branch": "work", "description": "x", "notes": [], "max_turns": 9, "model": "m",
            "context_window": 1, "max_output_tokens": 1, "verify_timeout_s": 1, "trace": false,
            "harness": "native", "git_identity": "Bot <bot@x>",
        }))
        .unwrap();
        repo::init(&dir, &Launcher::Direct).await.unwrap();
        repo::check_out(&dir, &Launcher::Direct, &self.remote(), &spec).await.unwrap()
    }

    async fn save(&self, checkout: &Checkout, last: Option<&Saved>) -> Option<Saved> {
        save(checkout, &self.remote(), &Identity::parse("Bot <bot@x>"), last).await.unwrap()
    }

    fn saved(&self) -> String {
        git(&self.repo(), &["rev-parse", SAVED_REF])
    }
}

fn write(checkout: &Checkout, path: &str, text: &str) {
    std::fs::write(checkout.dir.join(path), text).unwrap();
}

#[tokio::test]
async fn the_next_box_begins_where_the_lost_one_was_saved() {
    let place = Place::new();
    let first = place.check_out("first").await;
    assert!(!first.is_resumed());
    assert_eq!(place.save(&first, None).await, None, "nothing was done yet");
    write(&first, "a", "committed\n");
    git(&first.dir, &["commit", "-qam", "one step"]);
    write(&first, "a", "staged\n");
    git(&first.dir, &["add", "a"]);
    write(&first, "a", "at work\n");
    write(&first, "new.txt", "new\n");
    write(&first, "noise.log", "ignored\n");
    std::fs::remove_file(first.dir.join("b")).unwrap();
    let (status, head) =
        (git(&first.dir, &["status", "--porcelain"]), git(&first.dir, &["rev-parse", "HEAD"]));
    let saved = place.save(&first, None).await.unwrap();
    assert_eq!(git(&first.dir, &["status", "--porcelain"]), status, "the agent's index is as it was");
    assert_eq!(git(&first.dir, &["rev-parse", "HEAD"]), head);
    assert_eq!(place.saved(), saved.commit);
    assert_eq!(place.save(&first, Some(&saved)).await, None, "nothing new");

    let second = place.check_out("second").await;
    assert!(second.is_resumed());
    assert_eq!((second.saved.as_deref(), &second.start), (Some(saved.commit.as_str()), &head));
    assert_eq!(
        git(&second.dir, &["log", "--format=%s"]),
        "one step\nbase",
        "the agent's own commits and no other"
    );
    assert_eq!(git(&second.dir, &["branch", "--show-current"]), "work");
    let text = |name: &str| std::fs::read_to_string(second.dir.join(name)).ok();
    assert_eq!(text("a").as_deref(), Some("at work\n"));
    assert_eq!(text("new.txt").as_deref(), Some("new\n"));
    assert_eq!((text("b"), text("c").as_deref(), text("noise.log")), (None, Some("1\n"), None));
    // It saves on from there, without force.
    let last = before(&second).await;
    assert_eq!(last, Some(saved));
    assert_eq!(place.save(&second, last.as_ref()).await, None);
    write(&second, "c", "2\n");
    let more = place.save(&second, last.as_ref()).await.unwrap();
    assert_eq!(place.saved(), more.commit);
    let third = place.check_out("third").await;
    assert_eq!(std::fs::read_to_string(third.dir.join("c")).unwrap(), "2\n");
    assert_eq!(std::fs::read_to_string(third.dir.join("a")).unwrap(), "at work\n");
}

/// What was pushed as work is the last word: a box that ended after its push is not set back to before it.
#[tokio::test]
async fn what_is_on_the_branch_is_newer_than_what_was_saved_before_it() {
    let place = Place::new();
    let first = place.check_out("first").await;
    write(&first, "a", "half\n");
    let saved = place.save(&first, None).await.unwrap();
    write(&first, "a", "whole\n");
    git(&first.dir, &["commit", "-qam", "all of it"]);
    git(&first.dir, &["push", "-q", "origin", "work"]);
    let second = place.check_out("second").await;
    assert_eq!((&second.saved, second.is_resumed()), (&None, true));
    assert_eq!(std::fs::read_to_string(second.dir.join("a")).unwrap(), "whole\n");
    assert_eq!(git(&second.dir, &["status", "--porcelain"]), "");
    assert_eq!(before(&second).await, Some(saved), "and later saves go on from the old one");
    // An agent that then goes on is saved again.
    write(&second, "a", "more\n");
    let last = before(&second).await;
    place.save(&second, last.as_ref()).await.unwrap();
    let third = place.check_out("third").await;
    assert_eq!(std::fs::read_to_string(third.dir.join("a")).unwrap(), "more\n");
}

#[tokio::test]
async fn what_cannot_be_saved_is_told_and_harms_nothing() {
    let place = Place::new();
    let first = place.check_out("first").await;
    write(&first, "a", "2\n");
    let nowhere =
        Remote { url: place.root.path().join("gone.git").display().to_string(), token: None, objects: None };
    let identity = Identity::parse("Bot <bot@x>");
    assert!(save(&first, &nowhere, &identity, None).await.is_err());
    assert_eq!(git(&first.dir, &["status", "--porcelain"]), " M a");
    assert!(place.save(&first, None).await.is_some(), "the next try does");
}
