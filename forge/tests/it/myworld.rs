//! GitHub's API as somebody else simulates it: `myworld`, from PyPI. It has no git, so the branches are in its seed.

use std::io::BufRead;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use forge::conformance::{self, GitSide, Pulls, Subject};
use forge::github::{Config, GitHub};
use forge::{Forge, PullRequestDraft};

const SEED: &str = r##"
name: forge
task: none
servers:
  github:
    seed:
      viewer: octo
      repos:
        - name: octo/cat
          files: {README.md: "# cat\n", .gitmodules: "[submodule \"x\"]\n"}
          branches:
            bgagent/t/a-slug: {files: {new.txt: "new\n"}, message: "Add new"}
            bgagent/t/found: {files: {other.txt: "new\n"}}
          pulls:
            - {title: "By hand", head: bgagent/t/found, base: main, author: octo}
"##;

struct MyWorld {
    url: String,
    token: String,
    process: Child,
}

impl Drop for MyWorld {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(program: &Path, dir: &Path) -> MyWorld {
    std::fs::write(dir.join("seed.yaml"), SEED).unwrap();
    let (port, gateway) = (testkit::port::for_later().to_string(), testkit::port::for_later().to_string());
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut process = Command::new(program)
        .current_dir(dir)
        .args([
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            &port,
            "--gateway",
            &gateway,
            "--gateway-bind",
            "127.0.0.1",
        ])
        .args(["--no-passthrough", "--ca-dir", "ca", "--env", "seed.yaml"])
        .env("PYTHONUNBUFFERED", "1")
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let token = lines.find_map(|l| l.split_once("export GH_TOKEN=").map(|(_, t)| t.to_owned()));
    let token = token.expect("myworld prints a token when it starts");
    // It prints on; with nobody to read that, it would end.
    std::thread::spawn(move || lines.for_each(drop));
    let address = format!("127.0.0.1:{port}");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while std::net::TcpStream::connect(&address).is_err() {
        assert!(
            std::time::Instant::now() < deadline,
            "myworld does not listen: see {}",
            dir.join("log").display()
        );
        assert!(process.try_wait().unwrap().is_none(), "myworld ended: see {}", dir.join("log").display());
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    MyWorld { url: format!("http://{address}/gw/api.github.com"), token, process }
}

fn forge(host: &MyWorld) -> GitHub {
    let token = Some(host.token.as_str().into());
    GitHub::new(Config { api_url: host.url.clone(), server_url: host.url.clone(), token }).unwrap()
}

#[tokio::test]
async fn github_conforms_on_a_simulator_that_is_not_ours() {
    let Some(program) = testkit::peers::program("myworld", "myworld") else { return };
    let dir = tempfile::tempdir().unwrap();
    let host = start(&program, dir.path());
    let subject = Subject {
        forge: Box::new(forge(&host)),
        repo: "octo/cat".parse().unwrap(),
        missing: "octo/dog".parse().unwrap(),
        default_branch: "main".into(),
        git: GitSide::ApiOnly { branch: "bgagent/t/a-slug".into(), head_sha: "0".repeat(40) },
        pulls: Pulls::Kept,
    };
    conformance::check(&subject, dir.path()).await;

    let forge = forge(&host);
    let info = forge.inspect(&subject.repo, None, true).await.unwrap();
    assert!(info.warnings.iter().any(|w| w.contains("submodules")), "{:?}", info.warnings);
    let draft = |branch: &str| PullRequestDraft {
        branch: branch.into(),
        base: "main".into(),
        head_sha: "0".repeat(40),
        title: "t".into(),
        body: String::new(),
    };
    let found = forge.open_pull_request(&subject.repo, &draft("bgagent/t/found")).await.unwrap();
    assert!(found.found && found.number.is_some(), "{found:?}");
    let wrong = GitHub::new(Config {
        api_url: host.url.clone(),
        server_url: host.url.clone(),
        token: Some("x".into()),
    });
    let error = wrong.unwrap().inspect(&subject.repo, None, true).await.unwrap_err();
    assert_eq!(error.failure.code, domain::FailureCode::GithubTokenScopes, "{error}");
}
