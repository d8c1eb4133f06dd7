//! Repositories that are not there, are none, are empty, or are not as they should be.

use std::path::Path;

use protocol::rest::CreateTaskRequest;
use testkit::repo::TempRepo;

use super::{printed, snapshot, told};
use crate::whole::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_cannot_be_worked_on_fails_the_task_before_a_box_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let mut platform = platform(&small_work(dir.path()), "small")
        .with("BGAGENT__FORGE__GITHUB__API_URL", "http://127.0.0.1:9/api");
    platform.start().await.unwrap();
    let plain = dir.path().join("plain");
    std::fs::create_dir_all(plain.join("inner")).unwrap();
    std::fs::write(plain.join("file"), "x").unwrap();
    let empty = sample().await;
    empty.git(&["update-ref", "-d", "HEAD"]).await.unwrap();
    let folder_in = TempRepo::new(&[("src/a.txt", "a\n")]).await.unwrap();
    let detached = sample().await;
    detached.git(&["checkout", "--quiet", "--detach"]).await.unwrap();
    let branches_of = sample().await;
    branches_of.git(&["branch", "release-1"]).await.unwrap();

    let with_base = CreateTaskRequest {
        base_branch: Some("release-2".into()),
        ..request(branches_of.path(), "Starts from a branch that is not there")
    };
    let on_github = CreateTaskRequest { repo: Some("octo/cat".into()), ..request(Path::new(""), "x") };
    let mut text = String::new();
    for (name, request) in [
        ("not there", request(Path::new("/no/such/repository"), "x")),
        ("a file", request(&plain.join("file"), "x")),
        ("not git", request(&plain, "x")),
        ("a folder in a repository", request(&folder_in.path().join("src"), "x")),
        ("no commit", request(empty.path(), "x")),
        ("detached", request(detached.path(), "x")),
        ("no such base", with_base),
        ("GitHub without a token", on_github),
    ] {
        let task = run(&platform, &request).await;
        assert_eq!(task.status, "FAILED", "{task:#?}");
        text.push_str(&told(name, &task));
    }
    snapshot("repository", &text, &platform);
    assert!(!platform.state_dir().join("sessions").read_dir().is_ok_and(|mut d| d.next().is_some()));

    let mut text = String::new();
    for repo in ["/no/such/repository", plain.to_str().unwrap()] {
        let said = types(&platform, &["run", "--repo", repo, "x"]).await;
        assert!(said.code == 2 && said.out.is_empty(), "{said:?}");
        text.push_str(&printed("bgagent run", &said));
    }
    let empty = empty.path().to_str().unwrap();
    let said = types(&platform, &["run", "--repo", empty, "x"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    snapshot("repository_commands", &text, &platform);
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_odd_about_a_repository_is_said_and_the_work_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut platform = platform(&small_work(dir.path()), "small");
    platform.start().await.unwrap();

    let dirty = sample().await;
    std::fs::write(dirty.path().join("README.md"), "# changed\n").unwrap();
    std::fs::write(dirty.path().join("staged.txt"), "staged\n").unwrap();
    dirty.git(&["add", "staged.txt"]).await.unwrap();
    std::fs::write(dirty.path().join("untracked.txt"), "untracked\n").unwrap();

    let detached = sample().await;
    detached.git(&["checkout", "--quiet", "--detach"]).await.unwrap();

    let origin = sample().await;
    origin.commit("second", &[("b.txt", "b\n")]).await.unwrap();
    let shallow = dir.path().join("shallow");
    let url = format!("file://{}", origin.path().display());
    let clone = git::Git::new().args(["clone", "--quiet", "--depth", "1", &url]).arg(&shallow);
    clone.run().await.unwrap();

    let modules = "[submodule \"lib\"]\n\tpath = lib\n\turl = https://example.invalid/lib.git\n";
    let outside = TempRepo::new(&[
        (".gitmodules", modules),
        (".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n"),
    ])
    .await
    .unwrap();
    let link = format!("160000,{},lib", outside.head("HEAD").await.unwrap());
    outside.git(&["update-index", "--add", "--cacheinfo", &link]).await.unwrap();
    outside.git(&["commit", "--quiet", "-m", "a submodule"]).await.unwrap();

    let main =
        |path: &Path| CreateTaskRequest { base_branch: Some("main".into()), ..request(path, "Add a file") };
    let mut text = String::new();
    for (name, request) in [
        ("dirty", request(dirty.path(), "Add a file")),
        ("detached, with a base", main(detached.path())),
        ("shallow", request(&shallow, "Add a file")),
        ("submodules and git-lfs", request(outside.path(), "Add a file")),
    ] {
        let path = Path::new(request.repo.as_ref().unwrap()).to_owned();
        let before = belongings(&path).await;
        let task = run(&platform, &request).await;
        assert_eq!(task.status, "COMPLETED", "{name}: {task:#?}\n{}", platform.log());
        assert_eq!(belongings(&path).await, before, "{name}");
        assert_eq!(branches(&path).await, [task.branch_name.as_str()], "{name}");
        let range = format!("main..{}", task.branch_name);
        let log = git::Git::new().dir(&path).args(["log", "--name-only", "--format=%an <%ae> %s", &range]);
        // Nobody has told git who they are here: the home of the platform is an empty folder.
        let log = log.run().await.unwrap().text();
        assert_eq!(log, "bgagent <bgagent@localhost> Add a file\n\none.txt", "{name}");
        let events = events(&platform, task.task_id.parse().unwrap()).await;
        for warning in events.iter().filter(|e| e.event_type == "preflight_warning") {
            text.push_str(&format!("{name}: {}\n", warning.metadata));
        }
    }
    snapshot("odd_repository", &text, &platform);
    platform.end(END).await.unwrap();
}
