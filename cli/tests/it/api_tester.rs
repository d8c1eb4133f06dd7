//! The running server against its own description: a property-based tester nobody here wrote sends what the description
//! allows and what it does not, and finds no 5xx, no status that is not documented, and no answer of another shape.

use std::time::Duration;

use testkit::{peers, platform::Platform};

use crate::BINARY;
use crate::whole::small_work;

/// Examples for each operation; the seed makes a run the same every time.
const EXAMPLES: u32 = 15;
const SEED: u64 = 4;
/// How long the long run goes on, each round with another seed.
const LONG: Duration = Duration::from_secs(30 * 60);
/// Examples for each operation in one round of it.
const LONG_EXAMPLES: u32 = 150;

struct Tester {
    program: std::path::PathBuf,
    folder: tempfile::TempDir,
    platform: Platform,
}

impl Tester {
    async fn start() -> Option<Tester> {
        let program = peers::program("schemathesis", "schemathesis")?;
        let folder = tempfile::tempdir().unwrap();
        // Nothing that is submitted gets far: local repositories are off, and nobody answers for GitHub.
        let mut platform = Platform::new(BINARY, &small_work(folder.path()), "small")
            .unwrap()
            .with("BGAGENT__FORGE__LOCAL__ENABLED", false)
            .with("BGAGENT__FORGE__GITHUB__API_URL", "http://127.0.0.1:9")
            // It tries bad credentials on every route, and wants to hear the same each time.
            .with("BGAGENT__RATE__LOGIN__PER_MINUTE", 0);
        platform.start().await.unwrap_or_else(|e| panic!("{e:#}"));
        Some(Tester { program, folder, platform })
    }

    /// One round; what the tester said.
    async fn round(&self, seed: u64, examples: u32, within: Duration) -> String {
        let url = self.platform.client().unwrap().base().clone();
        let key = std::fs::read_to_string(self.platform.state_dir().join("owner-key")).unwrap();
        let (examples, seed) = (examples.to_string(), seed.to_string());
        // Streams of tasks that have not ended do not end: the server's own tests have them.
        let mut tester = tokio::process::Command::new(&self.program);
        tester
            .current_dir(self.folder.path())
            .env("NO_COLOR", "1")
            .arg("run")
            .arg(format!("{url}v1/openapi.json"))
            .args(["--url", url.as_str().trim_end_matches('/')])
            .args(["--header", &format!("X-API-Key:{}", key.trim())])
            .args(["--phases", "examples,coverage,fuzzing", "-n", &examples, "--seed", &seed])
            .args(["--generation-deterministic", "--workers", "2"])
            // What a description cannot say (tokens are signed, git has rules for branches) is refused though it allows it.
            .args(["--exclude-checks", "positive_data_acceptance"])
            .args(["--exclude-path-regex", "/stream$", "--warnings", "off", "--request-timeout", "40"])
            .kill_on_drop(true);
        let output = tokio::time::timeout(within, tester.output()).await.expect("it ends").unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "seed {seed}: {said}\n{errors}\n{}", self.platform.log());
        assert!(said.contains("passed") || said.contains("No issues found"), "{said}");
        said
    }
}

#[tokio::test]
async fn schemathesis_finds_nothing_in_the_running_server() {
    let Some(mut tester) = Tester::start().await else { return };
    tester.round(SEED, EXAMPLES, Duration::from_secs(280)).await;
    tester.platform.kill().await.unwrap();
}

#[tokio::test]
#[ignore = "takes half an hour: cargo nextest run -p cli --run-ignored only half_an_hour --no-capture"]
async fn schemathesis_finds_nothing_in_half_an_hour() {
    let Some(mut tester) = Tester::start().await else { return };
    let begun = std::time::Instant::now();
    let mut seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    while begun.elapsed() < LONG {
        let said = tester.round(seed, LONG_EXAMPLES, Duration::from_secs(1_800)).await;
        let tail: Vec<&str> =
            said.lines().filter(|line| line.contains("generated") || line.contains("passed")).collect();
        eprintln!("seed {seed}, {} s: {}", begun.elapsed().as_secs(), tail.join("; "));
        seed += 1;
    }
    tester.platform.kill().await.unwrap();
}
