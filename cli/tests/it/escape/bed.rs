//! Runs the attempts of one area in one tier: a server, a task that only lies there as a victim, and a task whose model
//! tries one attempt a turn. What each came to is left in a file for the tests of the other attempts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::{Attempt as Number, TaskId};
use orchestrator::token::{BoxIdentity, TokenKey};
use protocol::rest::{CreateTaskRequest, EventRecord};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::platform::Platform;
use testkit::poll;
use testkit::repo::TempRepo;

use super::host::Host;
use super::outcome::Outcome;
use super::table::{Attempt, Tier};
use crate::whole::{self, NOBODY, bash, say, transcript};

/// For a whole area.
const END: Duration = Duration::from_secs(280);
/// For one attempt.
const ATTEMPT_MS: u64 = 60_000;
const PROBE: &str = include_str!("probe.py");
/// What has to work in a box: an attempt that is stopped because nothing works would prove nothing.
const CONTROL: &str = include_str!("control.py");

/// Which attempts, and where.
#[derive(Debug, Clone, Copy)]
pub struct Bed {
    pub tier: Tier,
    pub area: &'static str,
    pub attempts: &'static [Attempt],
}

/// By attempt.
pub type Outcomes = BTreeMap<String, Outcome>;

/// The outcomes, from the run of the whole area that this or another test of it made; `None` where the machine cannot
/// have the tier.
pub fn outcomes(bed: Bed) -> Option<Outcomes> {
    let folder = run_folder();
    fs::create_dir_all(&folder).unwrap();
    let name = format!("{}-{}", bed.tier.name(), bed.area);
    let turn = fs::File::create(folder.join(format!("{name}.lock"))).unwrap();
    turn.lock().unwrap();
    let file = folder.join(format!("{name}.json"));
    if let Ok(text) = fs::read(&file) {
        return serde_json::from_slice(&text).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ran = catch_unwind(AssertUnwindSafe(|| runtime.block_on(bed.run())));
    let outcomes = ran.unwrap_or_else(|panic| {
        // A run that fails is not repeated by each of its tests.
        let why =
            panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "see the first test of it".into());
        Some(Outcomes::from([("the run".to_owned(), Outcome { said: why, ..Outcome::default() })]))
    });
    fs::write(&file, serde_json::to_vec_pretty(&outcomes).unwrap()).unwrap();
    outcomes
}

/// Where the tests of one run leave what they found: nextest gives its runs an id; the tests of `cargo test` are one
/// process.
#[expect(clippy::disallowed_methods, reason = "the id of the run is told nowhere else")]
fn run_folder() -> PathBuf {
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| std::process::id().to_string());
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("escape");
    let old = |entry: &fs::DirEntry| {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        age.is_some_and(|age| age > Duration::from_secs(3600))
    };
    for entry in fs::read_dir(&all).into_iter().flatten().flatten().filter(old) {
        let _ = fs::remove_dir_all(entry.path());
    }
    all.join(run)
}

impl Bed {
    /// The attempts that are tried in this tier.
    fn tried(&self) -> impl Iterator<Item = &'static Attempt> + use<> {
        let bare = self.tier == Tier::Process;
        self.attempts.iter().filter(move |a| !(bare && matches!(a.bare, super::table::Bare::Untried(_))))
    }

    async fn run(&self) -> Option<Outcomes> {
        if self.tier == Tier::Ordinary && !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: whoever runs this is no root: the tests of `sandbox` show the same");
            return None;
        }
        let scripts = tempfile::tempdir().unwrap();
        let (_open, platform) = self.platform(scripts.path());
        let mut platform = whole::quick(platform)
            .with("BGAGENT__COMPUTE__ISOLATION", self.tier.isolation())
            // A box that an attack ends is to be seen.
            .with("BGAGENT__LIMITS__ATTEMPTS_MAX", 1)
            .with("BGAGENT_TEST_SECRET", "none");
        if self.tier == Tier::Container {
            let engine = testkit::peers::engine()?;
            platform.set("DOCKER_HOST", engine.address);
            platform.set("BGAGENT__COMPUTE__IMAGE", engine.image);
        }
        let home = platform.state_dir().parent().unwrap().join("home");
        let names: Vec<_> = self.tried().map(|a| a.name).collect();
        let mut host = Host::plant(&home, &names, self.user());
        platform.set("BGAGENT_TEST_SECRET", &host.canary);
        transcript(scripts.path(), "attempts", &self.turns(&host));
        self.configure(&mut platform, &host);
        let other = TempRepo::new(&[("secret.txt", &host.canary)]).await.unwrap();
        if let Some(id) = self.user() {
            platform = platform.as_user(id).unwrap();
        }
        self.give(scripts.path());
        self.give(other.path().parent().unwrap());
        platform.start().await.unwrap();
        let (victim, port) = self.victim(&platform, scripts.path(), &other, &host.canary).await?;

        let origin = TempRepo::new(&[("README.md", "# sample\n")]).await.unwrap();
        let facts = self.facts(&platform, &home, &host, &other, &origin, (victim, port)).await;
        let mut files = vec![
            (".escape/probe.py".to_owned(), PROBE.to_owned()),
            (".escape/facts.json".to_owned(), facts.to_string()),
            (".escape/control.py".to_owned(), CONTROL.to_owned()),
        ];
        let script =
            |a: &Attempt| (format!(".escape/{}.py", a.name), format!("from probe import *\n\n{}\n", a.run));
        files.extend(self.tried().map(script));
        let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        origin.commit("what is tried", &files).await.unwrap();
        self.give(origin.path().parent().unwrap());

        let cache = platform.state_dir().join("caches/other/1");
        fs::create_dir_all(&cache).unwrap();
        fs::write(cache.join("package"), "a package of another repository").unwrap();
        let before = whole::belongings(origin.path()).await;
        let id = whole::submit(&platform, &self.request(origin.path(), "attempts")).await;
        let task = platform.ended(id, END).await.unwrap_or_else(|e| panic!("{e:#}"));
        assert_eq!(task.isolation.as_deref(), Some(self.tier.isolation()), "{task:#?}");
        let events = whole::events(&platform, id).await;
        let mut outcomes = self.said(&events);
        self.see(&mut outcomes, &platform, &mut host, &[&origin, &other]).await;
        let after = whole::belongings(origin.path()).await;
        assert!(
            self.tier == Tier::Process || before == after,
            "the person's repository was changed:\n{before}\n{after}"
        );
        platform.client().unwrap().cancel(victim).await.unwrap();
        platform.ended(victim, END).await.unwrap();
        // Not `end`, which fails for what is left: that was looked at.
        platform.kill().await.unwrap();
        Some(outcomes)
    }

    /// A platform that is not started yet, and the folder that it needs, if it needs one.
    fn platform(&self, scripts: &Path) -> (Option<TempDir>, Platform) {
        // Not below /tmp, which a box has one of its own of: that would hide it alone.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let platform = Platform::new_in(folder, crate::BINARY, scripts, "attempts").unwrap();
        if self.user().is_none() {
            return (None, platform);
        }
        let (folder, program) = whole::open_folder(platform.binary());
        let platform = Platform::new_in(folder.path(), crate::BINARY, scripts, "attempts").unwrap();
        (Some(folder), platform.run_by(&program))
    }

    /// Who the server runs as, when it is not who runs this.
    fn user(&self) -> Option<u32> {
        (self.tier == Tier::Ordinary).then_some(NOBODY)
    }

    fn give(&self, path: &Path) {
        if let Some(id) = self.user() {
            testkit::platform::give(path, id).unwrap();
        }
    }

    fn configure(&self, platform: &mut Platform, host: &Host) {
        if self.tier == Tier::Process {
            return;
        }
        // One site that may be reached although it is of this machine, by address; and a name that may be reached and
        // leads where nothing may go.
        let (site, tcp) = (host.site, host.tcp);
        platform.set(
            "BGAGENT__EGRESS__ALLOW",
            format!(r#"["127.0.0.1:{site}", "localhost:{tcp}", "*.example.com"]"#),
        );
        platform.set("BGAGENT__EGRESS__PRIVATE", format!(r#"["127.0.0.1:{site}"]"#));
        if self.area == "limits" {
            for (limit, value) in super::limits::LIMITS {
                platform.set(&format!("BGAGENT__COMPUTE__LIMITS__{limit}"), value);
            }
        }
    }

    fn request(&self, repo: &Path, script: &str) -> CreateTaskRequest {
        CreateTaskRequest {
            trace: Some(true),
            max_turns: Some(500),
            model: Some(format!("demo/{script}")),
            ..whole::request(repo, "Try to get out")
        }
    }

    /// Another box of the same tier, on another repository, with a secret in its work tree, in a process and behind a
    /// listener. `None` when the machine cannot have the tier.
    async fn victim(
        &self,
        platform: &Platform,
        scripts: &Path,
        repo: &TempRepo,
        canary: &str,
    ) -> Option<(TaskId, u16)> {
        let port = victim_port();
        let serve = format!(
            "import os,socket\ns=socket.create_server(('127.0.0.1',{port}))\nopen('victim.txt','w').write('{canary}')\n\
             while True:\n c,_=s.accept()\n c.recv(99)\n c.sendall(b'{canary}')\n c.close()"
        );
        let mut hold = bash(&format!("VICTIMS_SECRET={canary} exec /usr/bin/python3 -c \"{serve}\""));
        hold["content"][0]["input"]["timeout_ms"] = 600_000.into();
        transcript(scripts, "victim", &[hold, say("Done")]);
        self.give(scripts);
        let request = self.request(repo.path(), "victim");
        let id = match platform.client().unwrap().create_task(&request, None).await {
            Ok((task, _)) => task.task_id.parse().unwrap(),
            Err(error) => panic!("the victim was not taken: {error:#}"),
        };
        let sessions = platform.state_dir().join(match self.tier {
            Tier::Process | Tier::Sandbox | Tier::Ordinary => "sessions",
            Tier::Container => "containers",
        });
        let lies = async || {
            let task = platform.client().unwrap().task(id).await.ok();
            let ended = task
                .filter(|t| ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"].contains(&t.status.as_str()));
            let there = find(&sessions, "victim.txt", 6);
            (ended.is_some() || there.is_some()).then_some(ended)
        };
        let ended = poll::until("the victim to lie there", Duration::from_secs(90), lies).await;
        match ended.unwrap_or_else(|e| panic!("{e:#}\n{}", platform.log())) {
            None => Some((id, port)),
            Some(task) if self.tier == Tier::Container && unavailable(&task) => {
                eprintln!("skipped: no containers here: {:?}", task.error_message);
                None
            }
            Some(task) => panic!("the victim ended: {task:#?}\n{}", platform.log()),
        }
    }

    async fn facts(
        &self,
        platform: &Platform,
        home: &Path,
        host: &Host,
        other: &TempRepo,
        origin: &TempRepo,
        (victim, victim_port): (TaskId, u16),
    ) -> Value {
        let state = platform.state_dir();
        let key = fs::read_to_string(state.join("token-key")).unwrap().trim().to_owned();
        let key = TokenKey::new(SecretString::from(key));
        let forged =
            BoxIdentity { task: victim, attempt: Number(1), instance: "another0instance0of0it".into() };
        let server: Value = serde_json::from_slice(&fs::read(state.join("server.json")).unwrap()).unwrap();
        json!({
            "home": home, "state": state, "origin": origin.path(), "other": other.path(),
            "gateway": [state.join("gateway/open/gateway.sock"), state.join("gateway.sock")],
            "server_pid": platform.pid(), "server": server["url"],
            "victim": victim.to_string(), "victim_port": victim_port,
            "old_token": key.session(&forged).expose_secret(),
            "other_blob": other.git(&["rev-parse", "HEAD:secret.txt"]).await.unwrap(),
            "tcp": host.tcp, "tcp6": host.tcp6, "udp": host.udp, "site": host.site,
            "lan": host.lan.map(|a| json!([a.ip().to_string(), a.port()])),
            "unix": host.unix, "abstract": host.abstract_name, "shm": host.shared(),
            "files": host.files,
            "pids": host.processes.iter().map(|(name, child)| (*name, child.id())).collect::<BTreeMap<_, _>>(),
        })
    }

    /// The control, and then a turn for each attempt and each further call of it.
    fn turns(&self, host: &Host) -> Vec<Value> {
        let script = |name: &str| {
            let mut turn = bash(&format!("/usr/bin/python3 -S -B .escape/{name}.py"));
            turn["content"][0]["input"]["timeout_ms"] = ATTEMPT_MS.into();
            turn
        };
        let mut turns = vec![script("control")];
        for attempt in self.tried() {
            turns.push(script(attempt.name));
            for (tool, input) in attempt.then {
                let input = input.replace("{file}", &host.files[attempt.name].display().to_string());
                let input: Value = serde_json::from_str(&input).unwrap();
                turns.push(json!({ "content": [{ "type": "tool_use", "name": tool, "input": input }] }));
            }
        }
        turns.push(say("Nothing came of it"));
        turns
    }

    /// What the tools answered.
    fn said(&self, events: &[EventRecord]) -> Outcomes {
        let mut answers = events.iter().filter(|e| e.event_type == "agent_tool_result").map(|e| {
            let said = e.metadata["content_preview"].as_str().unwrap_or_default();
            let error = if e.metadata["is_error"] == true { "[an error]\n" } else { "" };
            (format!("{said}\n{error}"), e.metadata["duration_ms"].as_u64().unwrap_or_default())
        });
        // The last attempt may end the task itself: then the task's end is what it came to. Work that was saved is
        // delivered all the same, with a warning.
        let last = self.tried().last().map_or("", |attempt| attempt.name);
        let end = events.iter().rfind(|e| ["task_failed", "task_completed"].contains(&e.event_type.as_str()));
        let mut next = |what: &str| {
            answers.next().unwrap_or_else(|| match end {
                Some(end) if what == last => {
                    let why =
                        ["error_message", "warning"].iter().find_map(|field| end.metadata[field].as_str());
                    let why = why.unwrap_or_default();
                    (format!("the task ended: {why}"), 0)
                }
                _ => panic!("the task ended before {what}: {:#?}", events.last_chunk::<12>()),
            })
        };
        let (control, _) = next("the control");
        assert!(
            control.contains("control: well"),
            "nothing that is stopped in this box proves anything: {control}"
        );
        let mut outcomes = Outcomes::new();
        for attempt in self.tried() {
            let (mut said, mut took_ms) = next(attempt.name);
            for (tool, _) in attempt.then {
                let (more, took) = next(attempt.name);
                said.push_str(&format!("{tool}: {more}"));
                took_ms += took;
            }
            outcomes.insert(attempt.name.to_owned(), Outcome { said, took_ms, seen: Vec::new() });
        }
        outcomes
    }

    /// What is seen from outside, once all of it is over.
    async fn see(&self, outcomes: &mut Outcomes, platform: &Platform, host: &mut Host, repos: &[&TempRepo]) {
        let refs = refs(&platform.state_dir(), repos).await;
        let survivors = survivors().await;
        let heard = [host.heard(), host.at_site.lock().unwrap().clone()].concat();
        for (name, outcome) in outcomes.iter_mut() {
            let mut see = |what: &str| outcome.seen.push(what.to_owned());
            if fs::read_to_string(&host.files[name.as_str()]).ok() != Some(format!("{}\n", host.canary)) {
                see("its file of the host was changed");
            }
            let child = host.processes.get_mut(name.as_str()).unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                see(&format!("its process of the host was ended by signal {:?}", status.signal()));
            }
            for folder in ["/dev/shm", "/tmp", "/var/tmp", "/usr/local/bin"] {
                if fs::remove_file(Path::new(folder).join(format!("escaped-{name}"))).is_ok() {
                    see(&format!("it left a file in {folder} of the host"));
                }
            }
            // In a handshake it is spelt as host names are.
            let marks = [format!("~{name}~"), format!("x{}x", name.replace('_', "-"))];
            if heard.iter().any(|said| marks.iter().any(|mark| said.contains(mark))) {
                see("a listener of the host heard it");
            }
            if refs.contains(&format!("escaped-{name}")) {
                see("it made a reference in another place than its branch");
            }
            if survivors.contains(&format!("survives-{name}")) {
                see("a process of it lives on after the task");
            }
            if outcome.said.contains(&host.canary) {
                see("the planted secret is in what it printed");
            }
        }
        let names: Vec<_> = outcomes.keys().map(|name| format!("~{name}~")).collect();
        let unknown = |said: &&String| !names.iter().any(|name| said.contains(name));
        let stray: Vec<_> = host.heard().into_iter().filter(|s| unknown(&s)).collect();
        assert!(self.tier == Tier::Process || stray.is_empty(), "listeners heard somebody: {stray:?}");
    }
}

fn victim_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether a task failed since the machine has no such boxes.
fn unavailable(task: &protocol::rest::TaskDetail) -> bool {
    ["ISOLATION", "UNSUPPORTED", "UNAVAILABLE"].iter().any(|word| whole::code(task).contains(word))
}

/// The first file of that name below a folder.
fn find(folder: &Path, name: &str, depth: usize) -> Option<PathBuf> {
    let mut below = Vec::new();
    for entry in fs::read_dir(folder).ok()?.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => below.push(entry.path()),
            Ok(_) if entry.file_name() == name => return Some(entry.path()),
            Ok(_) | Err(_) => (),
        }
    }
    below.iter().find_map(|folder| find(folder, name, depth - 1))
}

/// The references of every repository there is, as text.
async fn refs(state: &Path, repos: &[&TempRepo]) -> String {
    let bare = ["mirrors", "pushes"].map(|folder| state.join(folder));
    let bare = bare.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path());
    let mut text = String::new();
    for repo in repos.iter().map(|repo| repo.path().to_owned()).chain(bare) {
        let all = git::Git::new().dir(&repo).args(["for-each-ref", "--format=%(refname)"]).exits(&[0, 128]);
        text.push_str(&all.run().await.unwrap().text());
        text.push('\n');
    }
    text
}

/// The command lines of this machine in which a process says that it means to survive; given a moment to die.
async fn survivors() -> String {
    let lines = || {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let lines = pids.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|l| l.contains("survives-"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let none = async || lines().is_empty().then_some(());
    match poll::until("nothing to survive", Duration::from_secs(30), none).await {
        Ok(()) => String::new(),
        Err(_) => lines(),
    }
}
