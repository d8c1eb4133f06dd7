use super::*;

fn sh(dir: &Path, script: &str) {
    let ran = std::process::Command::new("sh").current_dir(dir).args(["-ec", script]).output().unwrap();
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test]
async fn a_failure_tells_operation_code_words_and_kind() {
    let dir = tempfile::tempdir().unwrap();
    let error = Git::new().dir(&dir).args(["log", "-1"]).doing("reading the log").run().await.unwrap_err();
    assert_eq!((error.kind, error.code), (GitErrorKind::NotARepository, Some(128)));
    assert!(error.to_string().starts_with("reading the log: fatal: not a git repository"), "{error}");
}

#[tokio::test]
async fn a_missing_directory_is_not_taken_for_a_missing_git() {
    let dir = tempfile::tempdir().unwrap();
    let error = Git::new().dir(dir.path().join("gone")).arg("status").run().await.unwrap_err();
    assert_eq!(error.kind, GitErrorKind::NotARepository, "{error}");
}

#[tokio::test]
async fn our_environment_is_not_inherited() {
    let dir = tempfile::tempdir().unwrap();
    let out =
        Git::new().dir(&dir).args(["-c", "alias.show-env=!env", "show-env"]).run().await.unwrap().text();
    assert!(out.contains("HOME=/dev/null"), "{out}");
    let inherited =
        |line: &&str| line.starts_with("CARGO") || line.starts_with("GIT_DIR=") && !line.ends_with('=');
    assert_eq!(out.lines().find(inherited), None);
}

#[tokio::test]
async fn what_runs_too_long_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let alias = format!("alias.hang=!sleep 600 & echo $! > {}; wait", pid_file.display());
    let error = Git::new()
        .dir(&dir)
        .args(["-c", &alias, "hang"])
        .timeout(Duration::from_secs(5))
        .run()
        .await
        .unwrap_err();
    assert_eq!(error.kind, GitErrorKind::Timeout);
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert!(!pid.trim().is_empty(), "it had begun");
    let gone = || match std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !gone() {
        assert!(std::time::Instant::now() < deadline, "process {pid} outlived its command");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn too_much_output_is_an_error_not_memory() {
    let dir = tempfile::tempdir().unwrap();
    let error = Git::new()
        .dir(&dir)
        .args(["-c", "alias.flood=!yes", "flood"])
        .stdout_max(1_000)
        .run()
        .await
        .unwrap_err();
    assert_eq!(error.kind, GitErrorKind::OutputTooLarge);
}

#[tokio::test]
async fn stdin_reaches_the_command() {
    let dir = tempfile::tempdir().unwrap();
    sh(dir.path(), "git init -q .");
    let out = Git::new().dir(&dir).args(["hash-object", "--stdin"]).stdin("hello\n").run().await.unwrap();
    assert_eq!(out.text(), "ce013625030ba8dba906f756967f9e9ca394464a");
}

#[tokio::test]
async fn a_credential_is_in_neither_argv_nor_errors_nor_debug() {
    let dir = tempfile::tempdir().unwrap();
    let secret = SecretString::from("x-access-token:ghs_verysecret");
    let coded = "eC1hY2Nlc3MtdG9rZW46Z2hzX3ZlcnlzZWNyZXQ=";
    // The alias prints the header it was given, and the whole argv of git, to stderr, and fails.
    let alias = "alias.leak=!git config --get-urlmatch http.extraHeader https://forge.example/a/b.git >&2; \
                 tr '\\0' ' ' </proc/$PPID/cmdline >&2; exit 3";
    let git = Git::new().dir(&dir).args(["-c", alias, "leak"]).auth("https://forge.example/a/b.git", &secret);
    let debug = format!("{git:?}");
    let process = git.spawn().unwrap();
    let argv = std::fs::read(format!("/proc/{}/cmdline", process.id().unwrap())).unwrap();
    assert!(!contains_secret(&String::from_utf8_lossy(&argv)));
    drop(process);
    let error = git.run().await.unwrap_err();
    assert!(error.stderr.contains("Authorization: Basic ***"), "the header reached the child: {error}");
    for text in [debug, error.to_string(), format!("{error:?}")] {
        assert!(!contains_secret(&text), "{text}");
    }
    fn contains_secret(text: &str) -> bool {
        text.contains("verysecret") || text.contains("eC1hY2Nlc3MtdG9rZW46")
    }
    assert_eq!(encoded(&secret), coded);
}

#[tokio::test]
async fn a_streamed_upload_pack_advertises_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    sh(dir.path(), "git init -q --bare .");
    let git = Git::new().dir(&dir).args(["upload-pack", "--stateless-rpc", "--advertise-refs", "."]);
    let mut process = git.spawn().unwrap();
    drop(process.stdin.take());
    let mut out = Vec::new();
    process.stdout.take().unwrap().read_to_end(&mut out).await.unwrap();
    assert!(process.wait().await.unwrap().success());
    assert!(String::from_utf8_lossy(&out).contains("capabilities^{}"), "{}", String::from_utf8_lossy(&out));
}

#[tokio::test]
async fn a_bounded_command_cannot_grow_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    sh(dir.path(), "git init -q .");
    let ask = Git::new().dir(&dir).args(["cat-file", "--batch"]);
    let limit = |process: &Process, what: &str| {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id().unwrap())).unwrap();
        let line = limits.lines().find(|l| l.starts_with(what)).unwrap().to_owned();
        line[what.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit(&ask.spawn().unwrap(), "Max cpu time"), "unlimited");
    let bounded = ask.bounded(Bounds::READ).spawn().unwrap();
    assert_eq!(limit(&bounded, "Max address space"), (1_u64 << 30).to_string());
    assert_eq!(limit(&bounded, "Max cpu time"), "60");
}

/// A place whose programs are this machine's; it notes what was started.
#[derive(Debug, Default)]
struct Elsewhere(std::sync::Mutex<Vec<Start>>);

struct Child(tokio::process::Child);

#[async_trait::async_trait]
impl Running for Child {
    async fn wait(&mut self) -> std::io::Result<i32> {
        self.0.wait().await.map(|status| status.code().unwrap_or(255))
    }
}

#[async_trait::async_trait]
impl Spawn for Elsewhere {
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let path = std::env::var_os("PATH").unwrap();
        vec![("PATH".into(), path), ("no_proxy".into(), "there".into()), ("SECRET".into(), "x".into())]
    }

    async fn spawn(&self, start: Start) -> std::io::Result<Box<dyn Running>> {
        let copy = |fd: &std::os::fd::OwnedFd| fd.try_clone().map(Stdio::from);
        let mut command = Command::new(&start.program);
        command.args(&start.args).env_clear().envs(start.env.iter().cloned()).kill_on_drop(true);
        command.stdin(copy(&start.stdin)?).stdout(copy(&start.stdout)?).stderr(copy(&start.stderr)?);
        command.current_dir(start.dir.as_ref().unwrap());
        let child = command.spawn()?;
        drop(command);
        let Start { program, args, env, dir, .. } = start;
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        let (stdin, stdout, stderr) = (null(), null(), null());
        self.0.lock().unwrap().push(Start { program, args, env, dir, stdin, stdout, stderr });
        Ok(Box::new(Child(child)))
    }
}

#[tokio::test]
async fn a_command_of_another_place_runs_there_with_its_environment() {
    let dir = tempfile::tempdir().unwrap();
    let place = Arc::new(Elsewhere::default());
    let at = At::new(dir.path(), Some(place.clone()));
    let git = || Git::new().at(at.clone());
    git().args(["init", "--quiet"]).run().await.unwrap();
    let hash = git().args(["hash-object", "-w", "--stdin"]).stdin("a\n").run().await.unwrap();
    assert_eq!(hash.text(), "78981922613b2afb6025042ff6bd878ac1994e85");
    let env = git().args(["-c", "alias.e=!env", "e"]).env("GIT_ADVICE", "1").run().await.unwrap().text();
    assert!(env.contains("no_proxy=there") && env.contains("HOME=/dev/null"), "{env}");
    assert!(env.contains("GIT_ADVICE=1") && !env.contains("SECRET"), "{env}");
    let error = git().args(["log", "-1"]).doing("reading the log").run().await.unwrap_err();
    assert_eq!((error.kind, error.code), (GitErrorKind::Other, Some(128)), "{error}");
    let started = place.0.lock().unwrap();
    assert_eq!(started.len(), 4, "each ran there");
    assert!(started.iter().all(|s| s.env.iter().filter(|(k, _)| k == "GIT_ADVICE").count() == 1));
}
