//! Package managers in the box: the three projects that nobody of ours wrote are built with what their real tools fetch
//! from this machine's registries, a private mirror works without a credential in the box, and a registry that is on
//! no list is refused in words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use protocol::rest::{CreateTaskRequest, EventRecord};
use tempfile::TempDir;
use testkit::platform::Platform;
use testkit::repo::TempRepo;

use crate::whole::{bash, code, events, platform, request, run, say, submit, transcript, types};

/// Package managers and a busy machine take their time.
const LONG: Duration = Duration::from_secs(400);

/// Runs one command of an agent in a sandbox on `repo`; the build that is verified is `build`.
struct Run<'a> {
    repo: &'a Path,
    command: &'a str,
    build: &'a str,
}

/// What came of it.
struct Came {
    platform: Platform,
    task: String,
    events: Vec<EventRecord>,
    /// What the agent's command printed.
    output: String,
    built: Option<bool>,
}

impl Run<'_> {
    async fn go(self, settings: &[(&str, &str)]) -> Came {
        let scripts = TempDir::with_prefix("bgagent-script-").unwrap();
        let command =
            format!("( {} ) > said.txt 2>&1; echo \"ended with $?\" >> said.txt; cat said.txt", self.command);
        let script =
            transcript(scripts.path(), "fetch", &[bash(&command), say("Say what was fetched\n\nDone.")]);
        let mut platform =
            with_tools(platform(&script, "fetch")).with("BGAGENT__COMPUTE__ISOLATION", "sandbox");
        for (name, value) in settings {
            platform.set(name, value);
        }
        platform.start().await.unwrap();
        let build = Some(self.build.to_owned());
        let wanted = CreateTaskRequest { build_command: build, ..request(self.repo, "Fetch what is needed") };
        let task = submit(&platform, &wanted).await;
        let task = platform.ended(task, LONG).await.unwrap_or_else(|e| panic!("{e:#}"));
        assert_eq!((task.status.as_str(), code(&task)), ("COMPLETED", ""), "{}", platform.log());
        let events = events(&platform, task.task_id.parse().unwrap()).await;
        let shown =
            git::Git::new().dir(self.repo).args(["show", &format!("{}:said.txt", task.branch_name)]).run();
        let output = shown.await.unwrap().text();
        Came { platform, events, output, built: task.build_passed, task: task.task_id }
    }
}

impl Came {
    /// `rule host:port` of each event of that kind.
    fn network(&self, kind: &str) -> Vec<String> {
        let of_kind = self.events.iter().filter(|e| e.event_type == kind).map(|e| &e.metadata);
        let text = |v: &serde_json::Value| v.as_str().unwrap_or("-").to_owned();
        of_kind.map(|m| format!("{} {}:{}", text(&m["rule"]), text(&m["host"]), m["port"])).collect()
    }

    /// All that left the box went to hosts of this group, and something did.
    fn used_only(&self, group: &str) {
        let allowed = self.network("egress_allowed");
        assert!(!allowed.is_empty(), "nothing left the box: {}", self.output);
        assert!(allowed.iter().all(|line| line.starts_with(&format!("{group} "))), "{allowed:?}");
        assert_eq!(self.network("egress_denied"), [] as [&str; 0], "{}", self.output);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cargo_fetches_and_tests_a_rust_library() {
    let Some(repo) = project("rust").await else { return };
    let came = Run {
        repo: repo.path(),
        command: "cargo add --dev itoa@1 && cargo fetch && cargo test --offline && git checkout -- Cargo.toml",
        build: "cargo test --offline",
    };
    let came = came.go(&[]).await;
    assert!(
        came.output.contains("ended with 0") && came.output.contains("test result: ok"),
        "{}",
        came.output
    );
    assert_eq!(came.built, Some(true));
    came.used_only("cargo");
    suggests(&came, "\"cargo\",").await;
    came.platform.end(crate::whole::END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pip_installs_what_the_tests_of_a_python_framework_need() {
    let Some(repo) = project("python").await else { return };
    let install = "python3 -m venv /tmp/venv && /tmp/venv/bin/pip install asgiref==3.10.0 sqlparse==0.5.3";
    let test = "PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD /tmp/venv/bin/python tests/runtests.py \
                --settings=test_sqlite --parallel=1 utils_tests.test_text";
    let command = format!("{install} && {test}");
    // Installing twice more, for the builds before and after, would show nothing new.
    let came = Run { repo: repo.path(), command: &command, build: "true" }.go(&[]).await;
    assert!(
        came.output.contains("ended with 0") && came.output.contains("Successfully installed"),
        "{}",
        came.output
    );
    assert!(came.output.contains("Ran 20 tests") && came.output.contains("OK"), "{}", came.output);
    came.used_only("pip");
    came.platform.end(crate::whole::END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_installs_from_a_lock_file_for_a_node_module() {
    let Some(repo) = project("node").await else { return };
    let came = Run {
        repo: repo.path(),
        command: "npm pkg delete devDependencies && npm install --save-dev is-odd@3.0.1 && rm -r node_modules && npm ci && \
                  node -e 'process.exit(require(\"is-odd\")(3) ? 0 : 1)' && node --test test/emit-once-only.test.js; \
                  code=$?; rm -rf node_modules; git checkout -- package.json; exit $code",
        build: "node --test test/emit-once-only.test.js",
    };
    let came = came.go(&[]).await;
    assert!(came.output.contains("ended with 0") && came.output.contains("added "), "{}", came.output);
    assert_eq!(came.built, Some(true));
    came.used_only("npm");
    came.platform.end(crate::whole::END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_no_rule_names_is_refused_with_what_would_allow_it() {
    let repo = TempRepo::new(&[("README.md", "# sample\n")]).await.unwrap();
    let came = Run {
        repo: repo.path(),
        command: "curl -sS -i http://registry.example/simple/; curl -sS https://registry.example/; \
                  pip download --no-cache-dir --retries 0 --index-url https://packages.example:8443/simple/ x; \
                  npm view --fetch-retries=0 --registry https://npm.example/ x; true",
        build: "true",
    };
    let came = came.go(&[]).await;
    assert!(came.output.contains("403"), "{}", came.output);
    for words in ["registry.example", "egress.allow"] {
        assert!(came.output.contains(words), "{words} is not in what the tool was told: {}", came.output);
    }
    let mut denied = came.network("egress_denied");
    denied.sort();
    assert_eq!(
        denied,
        [
            "npm.example npm.example:443",
            "packages.example:8443 packages.example:8443",
            "registry.example registry.example:443",
            "registry.example registry.example:80",
        ]
    );
    assert_eq!(came.network("egress_allowed"), [] as [&str; 0]);
    suggests(&came, "\"packages.example:8443\",  # was refused").await;
    came.platform.end(crate::whole::END).await.unwrap();
}

/// What the mirror of the next test takes.
const PASSWORD: &str = "Basic bWU6czNjcmV0LWZvci1waXA=";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_mirror_is_used_without_its_password_in_the_box() {
    let Some(name) = name_of_this_machine().await else { return };
    let files = TempDir::with_prefix("bgagent-wheel-").unwrap();
    let wheel = wheel(files.path()).await;
    let mirror = Router::new()
        .route("/simple/pip/", get(|| async { "<a href=\"/files/x.whl\">x</a>" }))
        .route("/simple/{name}/", get(index))
        .route("/files/{name}", get(file))
        .with_state(wheel);
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let place = format!("{name}:{}", listener.local_addr().unwrap().port());
    #[expect(clippy::disallowed_methods, reason = "ends with the test")]
    let serving = tokio::spawn(async move { axum::serve(listener, mirror).await });

    let repo = TempRepo::new(&[("README.md", "# sample\n")]).await.unwrap();
    let config = TempDir::with_prefix("bgagent-config-").unwrap();
    let file = config.path().join("bgagent.toml");
    let credential = format!(
        "[[egress.credentials]]\nhost = \"{place}\"\ntls = false\nheader = \"Authorization\"\nvalue = \"{PASSWORD}\"\n"
    );
    std::fs::write(&file, credential).unwrap();
    let came = Run {
        repo: repo.path(),
        command: "python3 -m venv /tmp/venv && /tmp/venv/bin/pip install bgagent-sample && \
                  /tmp/venv/bin/python -c 'import bgagent_sample; print(bgagent_sample.WORDS)'; env; cat ~/.npmrc",
        build: "true",
    };
    let index = format!("http://me:s3cret-for-pip@{place}/simple/");
    let settings =
        [("BGAGENT_CONFIG", file.to_str().unwrap()), ("PIP_INDEX_URL", &index), ("PIP_TRUSTED_HOST", &name)];
    let came = came.go(&settings).await;
    assert!(came.output.contains("from the mirror"), "{}", came.output);
    assert!(!came.output.contains("s3cret") && !came.output.contains("bWU6czNjcmV0"), "{}", came.output);
    assert_eq!(came.network("egress_allowed"), [format!("pip {place}")]);
    came.platform.end(crate::whole::END).await.unwrap();
    serving.abort();
}

async fn index(
    State(wheel): State<PathBuf>,
    headers: HeaderMap,
) -> Result<axum::response::Html<String>, StatusCode> {
    let name = wheel.file_name().unwrap().to_string_lossy().into_owned();
    allowed(&headers)?;
    Ok(axum::response::Html(format!("<a href=\"/files/{name}\">{name}</a>")))
}

async fn file(State(wheel): State<PathBuf>, headers: HeaderMap) -> Result<Vec<u8>, StatusCode> {
    allowed(&headers)?;
    std::fs::read(wheel).map_err(|_| StatusCode::NOT_FOUND)
}

fn allowed(headers: &HeaderMap) -> Result<(), StatusCode> {
    let given = headers.get("authorization").is_some_and(|value| value == PASSWORD);
    if given { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) }
}

/// The smallest wheel there is.
async fn wheel(folder: &Path) -> PathBuf {
    let file = folder.join("bgagent_sample-1.0-py3-none-any.whl");
    let script = "import sys, zipfile\n\
                  with zipfile.ZipFile(sys.argv[1], 'w') as z:\n    \
                  z.writestr('bgagent_sample.py', 'WORDS = \"from the mirror\"\\n')\n    \
                  d = 'bgagent_sample-1.0.dist-info/'\n    \
                  z.writestr(d + 'METADATA', 'Metadata-Version: 2.1\\nName: bgagent-sample\\nVersion: 1.0\\n')\n    \
                  z.writestr(d + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n    \
                  z.writestr(d + 'RECORD', '')\n";
    let made =
        tokio::process::Command::new("python3").args(["-c", script]).arg(&file).status().await.unwrap();
    assert!(made.success());
    file
}

/// A name of this machine that its own resolver knows, so that a box's request for it leaves the box.
async fn name_of_this_machine() -> Option<String> {
    let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let known = tokio::net::lookup_host((name.as_str(), 80)).await.is_ok();
    if !known || name == "localhost" {
        eprintln!("skipped: this machine's name {name} has no address");
        return None;
    }
    Some(name)
}

async fn suggests(came: &Came, line: &str) {
    let said = types(&came.platform, &["egress", "suggest", &came.task]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.lines().any(|l| l.trim() == line), "{line}: {}", said.out);
    let _: toml::Table = said.out.parse().unwrap();
}

/// A clone of one of the projects that `cargo xtask peers projects` fetches.
async fn project(name: &str) -> Option<Cloned> {
    let origin = testkit::peers::project(name)?;
    let folder = TempDir::with_prefix("bgagent-project-").unwrap();
    let repo = folder.path().join(name);
    let clone = git::Git::new().args(["clone", "--quiet", "--no-hardlinks"]).arg(&origin).arg(&repo).run();
    clone.await.unwrap();
    Some(Cloned { _folder: folder, repo })
}

struct Cloned {
    _folder: TempDir,
    repo: PathBuf,
}

impl Cloned {
    fn path(&self) -> &Path {
        &self.repo
    }
}

/// A platform that finds the person's toolchains: its home is an empty one.
fn with_tools(platform: Platform) -> Platform {
    let mut platform = platform;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup"), ("PYENV_ROOT", ".pyenv")] {
        let set = std::env::var_os(name).map(PathBuf::from);
        let there = set.or_else(|| home.as_ref().map(|home| home.join(folder))).filter(|path| path.is_dir());
        if let Some(path) = there {
            platform.set(name, path.display());
        }
    }
    for name in ["SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"] {
        if let Some(value) = std::env::var_os(name) {
            platform.set(name, value.display());
        }
    }
    platform
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warmed_cache_is_lent_to_tasks_and_no_task_changes_it() {
    let manifest = "[package]\nname = \"sample\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nitoa = \"1\"\n";
    let repo = TempRepo::new(&[("Cargo.toml", manifest), ("src/lib.rs", "")]).await.unwrap();
    let scripts = TempDir::with_prefix("bgagent-script-").unwrap();
    let command = "( cargo check --offline && echo poison > /box/cache/cargo/registry/poison && ls /box/cache/cargo/registry \
                   ) > said.txt 2>&1; echo \"ended with $?\" >> said.txt; rm -rf target Cargo.lock";
    let script = transcript(scripts.path(), "offline", &[bash(command), say("Build offline\n\nDone.")]);
    let mut platform = with_tools(platform(&script, "offline"))
        .with("BGAGENT__COMPUTE__ISOLATION", "sandbox")
        .with("BGAGENT__EGRESS__ALLOW", "[\"cargo\"]");
    let path = repo.path().display().to_string();
    let warmed = types(&platform, &["cache", "warm", &path, "--", "cargo", "fetch"]).await;
    assert_eq!(warmed.code, 0, "{}", warmed.err);
    assert!(warmed.out.contains("generation 1"), "{}", warmed.out);
    let refused =
        types(&platform, &["cache", "warm", &path, "--", "curl", "-sSf", "https://not.example/"]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("egress.allow would allow them with not.example"), "{}", refused.err);

    // Without a network: everything must come from the cache.
    platform.set("BGAGENT__EGRESS__ALLOW", "[]");
    platform.start().await.unwrap();
    let task = run(&platform, &request(repo.path(), "Build offline")).await;
    assert_eq!((task.status.as_str(), code(&task)), ("COMPLETED", ""), "{}", platform.log());
    let shown =
        git::Git::new().dir(repo.path()).args(["show", &format!("{}:said.txt", task.branch_name)]).run();
    let output = shown.await.unwrap().text();
    assert!(output.contains("ended with 0") && output.contains("poison"), "{output}");

    let listed = types(&platform, &["cache", "list", "--output", "json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let generation = listed["caches"][0]["current"]["path"].as_str().unwrap();
    assert!(Path::new(generation).join("cargo/registry").is_dir());
    assert!(
        !Path::new(generation).join("cargo/registry/poison").exists(),
        "a task has changed what others are lent"
    );
    let cleared = types(&platform, &["cache", "clear", &path]).await;
    assert!(cleared.out.contains("are lent nothing"), "{}", cleared.out);
    platform.end(crate::whole::END).await.unwrap();
}
