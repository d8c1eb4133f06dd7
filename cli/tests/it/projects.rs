//! The whole path on three projects that nobody of ours wrote, as a person runs it: `bgagent run` on a repository, then
//! `git log`. They are fetched by `cargo xtask peers projects`; `testkit/projects/<name>.json` says what the model does.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use testkit::platform::Platform;

use crate::whole::{Said, belongings, branches, platform, types};

/// What one project is expected to give.
struct Expected {
    name: &'static str,
    build: &'static str,
    title: &'static str,
    /// In the diff.
    changed: &'static [&'static str],
    /// Whether the build passed before the work.
    before: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_library() {
    check(&Expected {
        name: "rust",
        build: "cargo test --offline",
        title: "Add normalized_osa_distance",
        changed: &[
            "+pub fn normalized_osa_distance(a: &str, b: &str) -> f64 {",
            "CHANGELOG.md",
            "tests/lib.rs",
        ],
        before: true,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_framework_of_almost_seven_thousand_files() {
    check(&Expected {
        name: "python",
        build: "PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD:$PWD/vendor python3 tests/runtests.py \
                --settings=test_sqlite --parallel=1 utils_tests.test_text",
        title: "Accept any iterable in get_text_list()",
        changed: &["+    list_ = list(list_)", "tests/utils_tests/test_text.py", "makemessages.py"],
        before: true,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_module_whose_tests_fail_before_the_work() {
    check(&Expected {
        name: "node",
        build: "node --test",
        title: "Keep falsy values in warnings and spies",
        changed: &["index.js", "test/falsy-values.test.js"],
        before: false,
    })
    .await;
}

async fn check(expected: &Expected) {
    let Some(origin) = testkit::peers::project(expected.name) else { return };
    let folder = TempDir::with_prefix("bgagent-project-").unwrap();
    let repo = folder.path().join(expected.name);
    let clone = git::Git::new().args(["clone", "--quiet", "--no-hardlinks"]).arg(&origin).arg(&repo).run();
    clone.await.unwrap();
    let before = belongings(&repo).await;

    let mut platform = platform_with_tools();
    platform.start().await.unwrap();
    let model = format!("demo/{}", expected.name);
    let repo_arg = repo.display().to_string();
    let words = [
        "run",
        "--output",
        "json",
        "--repo",
        &repo_arg,
        "--model",
        &model,
        "--build-command",
        expected.build,
        "Do what the transcript does",
    ];
    let said = types(&platform, &words).await;
    assert_eq!(said.code, 0, "{}\n{}", said.err, platform.log());
    let lines: Vec<Value> = said.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let task = lines.last().unwrap();
    assert_eq!((task["status"].as_str(), task["build_passed"].as_bool()), (Some("COMPLETED"), Some(true)));

    let milestone = |name: &str| {
        let found = lines.iter().find(|l| l["metadata"]["milestone"] == name).map(|l| l["metadata"].clone());
        found.unwrap_or_else(|| panic!("there is no milestone {name}: {}", said.out))
    };
    assert_eq!(milestone("baseline_complete")["build_before"], expected.before);
    assert_eq!(milestone("verification_complete")["build"], "passed");

    let branch = task["branch_name"].as_str().unwrap();
    assert_eq!(branches(&repo).await, [branch]);
    let log = git::Git::new().dir(&repo).args(["log", "--format=%s", &format!("main..{branch}")]).run();
    assert_eq!(log.await.unwrap().text(), expected.title, "one commit beyond main");
    assert_eq!(belongings(&repo).await, before, "the person's own things are as they were");
    look_at(&platform, task, expected).await;
    platform.end(crate::whole::END).await.unwrap();
}

async fn look_at(platform: &Platform, task: &Value, expected: &Expected) {
    let id = task["task_id"].as_str().unwrap();
    let Said { code, out, err } = types(platform, &["pr", "show", id]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(expected.title), "{out}");
    for part in expected.changed {
        assert!(out.contains(part), "{part} is missing: {out}");
    }
    let Said { out, .. } = types(platform, &["pr", "show", id, "--output", "json"]).await;
    let record: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(record["diff_truncated"], false);
    assert_eq!(record["head_sha"], task["head_sha"]);
}

/// A platform whose boxes find the person's Rust toolchain: its home is an empty one.
fn platform_with_tools() -> Platform {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/projects");
    let mut platform = platform(&scripts, "rust");
    let home = std::env::var_os("HOME").map(PathBuf::from);
    for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        let set = std::env::var_os(name).map(PathBuf::from);
        if let Some(path) = set.or_else(|| home.as_ref().map(|home| home.join(folder))) {
            platform.set(name, path.display());
        }
    }
    platform
}
