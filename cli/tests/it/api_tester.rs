//! The running server against its own description: a property-based tester nobody here wrote sends what the description
//! allows and what it does not, and finds no 5xx, no status that is not documented, and no answer of another shape.

use std::time::Duration;

use testkit::{peers, platform::Platform};

use crate::BINARY;
use crate::whole::small_work;

/// Examples for each operation; the seed makes a run the same every time.
const EXAMPLES: &str = "15";
const SEED: &str = "4";

#[tokio::test]
async fn schemathesis_finds_nothing_in_the_running_server() {
    let Some(program) = peers::program("schemathesis", "schemathesis") else { return };
    let dir = tempfile::tempdir().unwrap();
    // Nothing that is submitted gets far: local repositories are off, and nobody answers for GitHub.
    let mut platform = Platform::new(BINARY, &small_work(dir.path()), "small")
        .unwrap()
        .with("BGAGENT__FORGE__LOCAL__ENABLED", false)
        .with("BGAGENT__FORGE__GITHUB__API_URL", "http://127.0.0.1:9");
    let url = platform.start().await.unwrap_or_else(|e| panic!("{e:#}")).base().clone();
    let key = std::fs::read_to_string(platform.state_dir().join("owner-key")).unwrap();
    // Streams of tasks that have not ended do not end: the server's own tests have them.
    let mut tester = tokio::process::Command::new(program);
    tester
        .current_dir(dir.path())
        .env("NO_COLOR", "1")
        .arg("run")
        .arg(format!("{url}v1/openapi.json"))
        .args(["--url", url.as_str().trim_end_matches('/')])
        .args(["--header", &format!("X-API-Key:{}", key.trim())])
        .args(["--phases", "examples,coverage,fuzzing", "-n", EXAMPLES, "--seed", SEED])
        .args(["--generation-deterministic", "--workers", "2"])
        // What a description cannot say (tokens are signed, git has rules for branches) is refused though it allows it.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .args(["--exclude-path-regex", "/stream$", "--warnings", "off", "--request-timeout", "40"])
        .kill_on_drop(true);
    let output =
        tokio::time::timeout(Duration::from_secs(280), tester.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}\n{}", platform.log());
    assert!(said.contains("passed") || said.contains("No issues found"), "{said}");
    platform.kill().await.unwrap();
}
