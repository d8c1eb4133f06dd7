//! Secrets of the configuration that an agent comes across: it prints them in every way there is, and nothing that the
//! platform keeps, says or logs holds them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use protocol::rest::CreateTaskRequest;
use testkit::TempRepo;

use crate::whole::*;

const TOKEN: &str = "forge-s3cret/of+this platform";
const KEY: &str = "model-s3cret-in-a-file-0123";

/// What the agent does: the repository happens to hold the values.
const PRINT: &str = "printf '\\033]0;title\\007\\033[2J\\342\\200\\256hidden\\n'; cat found.txt; base64 found.txt; base64 -w0 found.txt | tr '+/' '-_'; xxd -p found.txt || od found.txt; \
    python3 -c 'import json,urllib.parse as u; t=open(\"found.txt\").read(); print(u.quote(t)); print(u.quote_plus(t)); \
    print(json.dumps(t)); print(t.encode().hex())' || true; \
    printf 'gh%s_%s%s\\n' p aB3dE6gH9jK2mN5pQ8sT 1vW4yZ7bC0fG3hJ6; \
    while read -r l; do printf '%s' \"$l\" | head -c 9; sleep 0.1; printf '%s\\n' \"$l\" | tail -c +10; done < found.txt; \
    fold -w 11 found.txt; exit 3";

/// What must be nowhere, whatever form it is kept in.
fn traces() -> Vec<String> {
    vec![
        TOKEN.into(),
        KEY.into(),
        "forge-s3cret".into(),
        "model-s3cret".into(),
        "Zm9yZ2UtczNjcmV0".into(),
        "bW9kZWwtczNjcmV0".into(),
        "666f7267652d733363726574".into(),
        "forge-s3cret%2Fof".into(),
        "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0fG3hJ6".into(),
    ]
}

#[track_caller]
fn clean(what: &str, text: &[u8]) {
    for trace in traces() {
        let found = text.windows(trace.len()).position(|w| w == trace.as_bytes());
        if let Some(at) = found {
            let around = &text[at.saturating_sub(100)..text.len().min(at + 160)];
            panic!("{what} holds {trace:?}: {}", String::from_utf8_lossy(around));
        }
    }
}

/// Everything under a folder but git's objects and work trees, which are the repository's own.
fn search(dir: &Path) {
    // The server takes files away meanwhile: what is gone is kept nowhere.
    for entry in there(std::fs::read_dir(dir)).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let own = ["mirrors", "pushes", "repo"].iter().any(|name| entry.file_name() == *name);
        if kind.is_dir() && !own {
            search(&path);
        } else if kind.is_file() {
            clean(&path.display().to_string(), &there(std::fs::read(&path)).unwrap_or_default());
        }
    }
}

/// What was read, if it is still there.
fn there<T>(read: std::io::Result<T>) -> Option<T> {
    match read {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        read => Some(read.unwrap()),
    }
}

/// D-066: output of built-in tools was not masked.
/// D-112: escape sequences reached the terminal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_finds_is_kept_and_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let found = format!("{TOKEN}\n{KEY}\n");
    let repo = TempRepo::new(&[("README.md", "# sample\n"), ("found.txt", &found)]).await.unwrap();
    let said = format!("The key is {KEY}, the token {TOKEN}");
    let script = transcript(dir.path(), "finder", &[bash(PRINT), say(&said)]);
    let file = dir.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut platform = platform(&script, "finder")
        .with("MY_FORGE_TOKEN", TOKEN)
        .with("BGAGENT__FORGE__GITHUB__TOKEN", "env:MY_FORGE_TOKEN")
        .with("BGAGENT__MODEL__PROVIDERS__OTHER__KIND", "anthropic")
        .with("BGAGENT__MODEL__PROVIDERS__OTHER__API_KEY", format!("command:cat {}", file.display()))
        .with("BGAGENT__LOG__LEVEL", "debug");
    platform.start().await.unwrap();
    let asked =
        CreateTaskRequest { trace: Some(true), ..request(repo.path(), &format!("Find out about {TOKEN}")) };
    let id = submit(&platform, &asked).await;
    let task = platform.ended(id, END).await.unwrap_or_else(|e| panic!("{e:#}\n{}", platform.log()));

    let told = serde_json::to_string(&task).unwrap();
    clean("the task", told.as_bytes());
    assert!(told.contains("[redacted]"), "{told}");
    let all = serde_json::to_string(&events(&platform, id).await).unwrap();
    clean("an event", all.as_bytes());
    assert!(all.contains("[redacted]") && all.contains("<U+202E>hidden"), "{all}");
    for words in [
        &["status", &id.to_string()][..],
        &["events", &id.to_string()],
        &["watch", &id.to_string()],
        &["list"],
        &["config", "show"],
        &["doctor"],
    ] {
        let said = types(&platform, words).await;
        for text in [&said.out, &said.err] {
            clean(&words.join(" "), text.as_bytes());
            assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{words:?}: {text:?}");
        }
    }
    let settings = types(&platform, &["config", "show"]).await.out;
    assert!(settings.contains("forge.github.token = (set, from env:MY_FORGE_TOKEN)"), "{settings}");
    assert!(settings.contains("api_key = (set, from command:cat)"), "{settings}");
    platform.boxes_gone(END).await.unwrap();
    clean("the log", platform.log().as_bytes());
    search(&platform.state_dir());
    platform.end(END).await.unwrap();
}
