//! Programs through the tools' first process, which is a process of its own here as it is in a box; and git through it.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use sandbox::tools::ToolBox;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use worker::boxed;
use worker::launch::{Launcher, Layer, Start};
use worker::notice::Notices;
use worker::tool::process::{Background, End, Shell};

struct World {
    dir: tempfile::TempDir,
    launcher: Launcher,
    first: Child,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("tools.sock");
    // `target/debug/deps/it-…` and `target/debug/examples/tools` are built together.
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/tools");
    let first = std::process::Command::new(program)
        .arg(&socket)
        .env("GITHUB_TOKEN", "not-for-tools")
        .env("HARMLESS", "1")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let line = boxed::wait_for_tools(&socket).await.unwrap();
    assert!(!socket.exists(), "nobody else gets in");
    let (tools, listener, _) = ToolBox::connect(line).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let environment = boxed::environment(tools.environment(), &[], port);
    let ended = CancellationToken::new();
    let layer = Layer { tools, environment, notices: Notices::default(), ended };
    World { dir, launcher: Launcher::Boxed(Arc::new(layer)), first }
}

impl World {
    async fn run(&self, line: &str, background: &Background) -> (End, String) {
        let environment = self.launcher.environment();
        let shell = Shell {
            command: line,
            directory: self.dir.path().to_owned(),
            environment: &environment,
            launcher: &self.launcher,
            timeout: Duration::from_secs(20),
            output_max: 10_000,
        };
        let done = shell.run(&CancellationToken::new(), background, &|_| ()).await.unwrap();
        (done.end, done.output.render())
    }

    fn background(&self) -> Background {
        Background::of(self.launcher.clone())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_there_with_its_environment_and_its_code() {
    let w = world().await;
    let (end, out) = w.run("echo $HTTPS_PROXY; echo err >&2; env; exit 7", &w.background()).await;
    assert_eq!(end, End::Exited(7));
    assert!(out.starts_with("http://127.0.0.1:") && out.contains("\nerr\n"), "{out}");
    assert!(out.contains("CARGO_HOME=/box/cache/cargo"), "{out}");
    assert!(out.contains("HARMLESS=1") && !out.contains("not-for-tools"), "{out}");
    let (end, _) = w.run("kill -KILL $$", &w.background()).await;
    assert_eq!(end, End::Exited(137));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_running_is_kept_and_ended_with_the_work() {
    let w = world().await;
    let background = w.background();
    assert_eq!(w.run("sleep 300 > /dev/null 2>&1 & echo $! > pid", &background).await.0, End::Exited(0));
    assert_eq!(background.count().await, 1);
    assert_eq!(w.run("true", &background).await.0, End::Exited(0));
    assert_eq!(background.count().await, 1, "what ended is forgotten");
    background.stop();
    let pid = std::fs::read_to_string(w.dir.path().join("pid")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while Path::new("/proc").join(pid.trim()).exists() {
        assert!(Instant::now() < deadline, "it lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_can_be_ended_and_the_layer_stays() {
    let w = world().await;
    let background = w.background();
    w.run("sleep 300 > /dev/null 2>&1 &", &background).await;
    w.launcher.kill_all();
    let deadline = Instant::now() + Duration::from_secs(10);
    while background.count().await > 0 {
        assert!(Instant::now() < deadline, "it lives on");
    }
    assert_eq!(w.run("echo on", &background).await.1, "on\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_dropped_or_signalled_ends_with_its_group() {
    let w = world().await;
    let start = |line: &str| {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let start = Start {
            program: "sh".into(),
            args: vec!["-c".into(), line.into()],
            env: w.launcher.environment().variables().to_vec(),
            dir: w.dir.path().to_owned(),
            stdin: None,
            stdout: writer.try_clone().unwrap().into(),
            stderr: writer.into(),
        };
        let ended = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()).unwrap());
        (start, ended)
    };
    let (command, ended) = start("sleep 300 & sleep 300");
    drop(w.launcher.start(command).await.unwrap());
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().unwrap();
    let (command, ended) = start("sleep 300 & sleep 300");
    let mut running = w.launcher.start(command).await.unwrap();
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait().await.unwrap(), 143);
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().unwrap();
    let (command, _) = start("true");
    let absent = Start { program: "no-such-program-x".into(), ..command };
    assert_eq!(w.launcher.start(absent).await.unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_and_files_are_placed_and_run_there() {
    let w = world().await;
    let file = w.dir.path().join("a b/c/file");
    boxed::place(&w.launcher, &[(file.clone(), "some: $text\n".into())]).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "some: $text\n");
    let nowhere = [("/proc/x/y".into(), "x".into())];
    let error = boxed::place(&w.launcher, &nowhere).await.unwrap_err().to_string();
    assert!(error.contains("/proc/x"), "{error}");
    let at = w.launcher.at(w.dir.path());
    git::Git::new().at(at.clone()).args(["init", "--quiet"]).run().await.unwrap();
    let show = git::Git::new().at(at).args(["-c", "alias.e=!env", "e"]).run().await.unwrap().text();
    assert!(show.contains("no_proxy=localhost") && !show.contains("HARMLESS"), "{show}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_ends_is_noticed_by_whoever_uses_it() {
    let mut w = world().await;
    w.first.kill().unwrap();
    w.first.wait().unwrap();
    let mut command = Box::pin(async {
        loop {
            let environment = w.launcher.environment();
            let shell = Shell {
                command: "true",
                directory: "/".into(),
                environment: &environment,
                launcher: &w.launcher,
                timeout: Duration::from_secs(5),
                output_max: 10,
            };
            let background = Background::of(w.launcher.clone());
            if shell.run(&CancellationToken::new(), &background, &|_| ()).await.is_err() {
                break;
            }
        }
    });
    tokio::time::timeout(Duration::from_secs(20), &mut command).await.unwrap();
    tokio::time::timeout(Duration::from_secs(1), w.launcher.ended()).await.unwrap();
    assert!(w.launcher.is_boxed());
}
