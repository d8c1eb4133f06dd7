//! No secret of the server comes into a box, and none that came into the repository all the same goes on from there.
//!
//! The secrets are configured as people configure them. What is searched is everything that a task leaves: its kept
//! folder with all that its tools could read, its record as the API gives it, the database, the server's log, what the
//! model was sent, and the pull request.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use protocol::rest::CreateTaskRequest;
use serde_json::Value;
use testkit::platform::Platform;
use testkit::repo::TempRepo;

use crate::upstream::{KEY, Mood, Turn, Upstream};
use crate::whole::*;

/// Copies all that the tools can read into the work tree, but for programs and libraries.
const DUMP: &str = r#"mkdir -p dump; env > dump/env; set > dump/set
for p in /proc/[0-9]* /proc/self; do
  for f in environ cmdline maps status mountinfo cgroup comm limits stat; do timeout 5 cat $p/$f; done
  ls -l $p/fd; readlink $p/exe $p/cwd $p/root
done > dump/proc 2>&1
for f in /proc/net/unix /proc/net/tcp /proc/mounts /proc/keys /proc/cmdline /proc/self/mountinfo; do timeout 5 cat $f; done > dump/kernel 2>&1
git config --list --show-origin > dump/git 2>&1; git remote -v >> dump/git; git log --format=full >> dump/git
find / -xdev -type f -readable -size -2000k -not -path '/usr/*' -not -path '/proc/*' -not -path '*/dump/*' -not -path '*/.rustup/*' -not -path '*/versions/*' -not -path '/opt/*' -not -path '*/.cargo/*' > dump/list 2>/dev/null
for d in /tmp /home /box /run /var /etc /session /root; do find $d -xdev -type f -readable -size -2000k -not -path '*/dump/*' -not -path '*/.rustup/*' -not -path '*/versions/*' -not -path '*/.cargo/*'; done 2>/dev/null | head -20000 | xargs -d '\n' cat > dump/files 2>/dev/null
wc -c dump/*"#;
/// Reads what its own memory and its parents' hold.
const MEMORY: &str = r#"cat > /tmp/m.py <<'E'
import os,re
out=open('dump/memory','wb')
for p in [p for p in os.listdir('/proc') if p.isdigit()]+['self']:
    try:
        fd=os.open(f'/proc/{p}/mem',os.O_RDONLY)
        for line in open(f'/proc/{p}/maps'):
            span,mode=line.split()[:2]
            if not mode.startswith('rw'): continue
            a,b=(int(x,16) for x in span.split('-'))
            if b-a>32<<20: continue
            try: out.write(os.pread(fd,b-a,a))
            except OSError: pass
    except OSError: pass
E
/usr/bin/python3 -S /tmp/m.py; ls -l dump/memory"#;

/// A secret and all the forms in which it must not be seen.
struct Secret {
    name: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    fn new(name: &'static str, value: &str) -> Secret {
        let mut forms = vec![value.as_bytes().to_vec(), hex(value).into_bytes(), url(value).into_bytes()];
        // Where it does not begin at a multiple of three bytes, the first and last characters hold something else too.
        for before in 0..3 {
            let bytes = [vec![b'x'; before], value.as_bytes().to_vec()].concat();
            let text = base64(&bytes);
            let from = (before * 4).div_ceil(3);
            let to = bytes.len() / 3 * 4;
            let text = &text[from..to];
            forms.push(text.as_bytes().to_vec());
            forms.push(text.replace('+', "-").replace('/', "_").into_bytes());
        }
        forms.push(serde_json::to_string(value).unwrap().trim_matches('"').as_bytes().to_vec());
        Secret { name, forms }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| memchr::memmem::find(bytes, form).is_some())
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}

fn url(text: &str) -> String {
    let one = |b: u8| match b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = char::from(LETTERS[(number >> (18 - 6 * place) & 63) as usize]);
            text.push(if place <= three.len() { letter } else { '=' });
        }
    }
    text
}

const FORGE_TOKEN: &str = concat!("ghp", "_Zq8rT2mVx4Lw9KdY1sBf6NhJ3pCg7Ru0AeQi");
const REGISTRY: &str = "Bearer registry/token+with=signs-5f1c09ab37";

/// A server with every kind of secret, whose model plays these turns.
async fn configured(upstream: &Upstream, tier: &str) -> (Platform, Vec<Secret>) {
    let mut platform = platform(Path::new("/nowhere"), "none");
    platform.unset("BGAGENT__MODEL__PROVIDERS__DEMO__KIND");
    platform.unset("BGAGENT__MODEL__PROVIDERS__DEMO__PATH");
    let mut platform = platform
        .with("BGAGENT__MODEL__PROVIDERS__UP__KIND", "openai")
        .with("BGAGENT__MODEL__PROVIDERS__UP__BASE_URL", upstream.url())
        .with("BGAGENT__MODEL__PROVIDERS__UP__API_KEY", KEY)
        .with("BGAGENT__MODEL__DEFAULT", "up/scripted")
        .with("BGAGENT__FORGE__GITHUB__TOKEN", FORGE_TOKEN)
        .with("BGAGENT__EGRESS__ALLOW", r#"["registry.example.com"]"#)
        .with(
            "BGAGENT__EGRESS__CREDENTIALS",
            format!(r#"[{{host = "registry.example.com", header = "Authorization", value = "{REGISTRY}"}}]"#),
        )
        .with("BGAGENT__COMPUTE__ISOLATION", tier)
        .with("BGAGENT__COMPUTE__KEEP_SESSIONS", true)
        .with("BGAGENT__LOG__LEVEL", "debug");
    if let Some(engine) = testkit::peers::engine() {
        platform.set("DOCKER_HOST", &engine.address);
        platform.set("BGAGENT__COMPUTE__IMAGE", &engine.image);
    }
    platform.start().await.unwrap();
    let kept = |name: &str| fs::read_to_string(platform.state_dir().join(name)).unwrap().trim().to_owned();
    let secrets = vec![
        Secret::new("the model's key", KEY),
        Secret::new("the forge's token", FORGE_TOKEN),
        Secret::new("a registry's credential", REGISTRY),
        Secret::new("the owner's key", &kept("owner-key")),
        Secret::new("the key of the boxes' tokens", &kept("token-key")),
    ];
    (platform, secrets)
}

/// Fails for each secret that is in one of these, naming both.
fn hold_none<'a>(secrets: &[Secret], places: impl IntoIterator<Item = (String, std::borrow::Cow<'a, [u8]>)>) {
    let mut found = Vec::new();
    for (place, bytes) in places {
        found.extend(secrets.iter().filter(|s| s.is_in(&bytes)).map(|s| format!("{} is in {place}", s.name)));
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Every file below a folder, with its content.
fn files(folder: &Path, but: &[&str]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if but.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_dir() {
            all.extend(files(&path, but));
        } else if kind.is_file() {
            let mut bytes = Vec::new();
            // The server takes files away meanwhile (the parts of a sealed trace): what is gone is kept nowhere.
            let file = match fs::File::open(&path) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                file => file.unwrap(),
            };
            file.take(64 << 20).read_to_end(&mut bytes).unwrap();
            all.push((path.display().to_string(), bytes));
        }
    }
    all
}

/// What the outside world was given of a task: the model, readers of the API, people with the log.
async fn told(platform: &Platform, upstream: &Upstream, id: domain::TaskId) -> Vec<(String, Vec<u8>)> {
    let client = platform.client().unwrap();
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, value: Value| all.push((name.to_owned(), value.to_string().into_bytes()));
    add("the task", serde_json::to_value(client.task(id).await.unwrap()).unwrap());
    add("the events", serde_json::to_value(events(platform, id).await).unwrap());
    if let Ok(pull) = client.pull_request(id).await {
        add("the pull request's title", Value::from(pull.title));
        add("the pull request's body", Value::from(pull.body));
    }
    for (n, asked) in upstream.asked().into_iter().enumerate() {
        add(&format!("request {n} to the model"), asked);
    }
    all.push(("the server's log".into(), platform.log().into_bytes()));
    let said = types(platform, &["events", &id.to_string(), "--all"]).await;
    all.push(("what the command line prints".into(), said.out.into_bytes()));
    all
}

fn shown(all: &[(String, Vec<u8>)]) -> impl Iterator<Item = (String, std::borrow::Cow<'_, [u8]>)> {
    all.iter().map(|(name, bytes)| (name.clone(), std::borrow::Cow::Borrowed(bytes.as_slice())))
}

/// D-073: the agent could read the forge's token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_box_can_read_holds_a_secret() {
    looked_around("sandbox").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_container_can_read_holds_a_secret() {
    if testkit::peers::engine().is_some() {
        looked_around("container").await;
    }
}

async fn looked_around(tier: &str) {
    let turns = [
        Turn::Bash(DUMP),
        Turn::Bash(MEMORY),
        Turn::Bash("cat dump/env dump/git; head -c 20000 dump/proc"),
        Turn::Bash("echo dump >> .gitignore; echo one > one.txt"),
        Turn::Say("Add a file\n\nIt is there."),
    ];
    let upstream = Upstream::start(&turns, Mood::Well).await;
    let (platform, secrets) = configured(&upstream, tier).await;
    let repo = sample().await;
    let request = CreateTaskRequest { trace: Some(true), ..request(repo.path(), "Look around") };
    let task = run(&platform, &request).await;
    assert_eq!(task.status, "COMPLETED", "{task:#?}\n{}", platform.log());
    let id = task.task_id.parse().unwrap();

    let sessions = if tier == "container" { "containers" } else { "sessions" };
    let kept = files(&platform.state_dir().join(sessions), &[]);
    let dumped = |name: &str| {
        let ending = format!("dump/{name}");
        kept.iter().find(|(path, _)| path.ends_with(&ending)).map_or(0, |(_, bytes)| bytes.len())
    };
    for (name, least) in [("env", 200), ("proc", 1_000), ("git", 100), ("files", 1_000), ("memory", 100_000)]
    {
        assert!(dumped(name) > least, "dump/{name} has {} bytes: nothing was looked at", dumped(name));
    }
    hold_none(&secrets, shown(&kept));
    hold_none(&secrets, shown(&told(&platform, &upstream, id).await));
    // The keys' own files, which nobody but the owner reads.
    let state = files(&platform.state_dir(), &["owner-key", "token-key", sessions]);
    // What was written last is still in the database's log.
    let database =
        state.iter().filter(|(name, _)| name.ends_with("bgagent.db") || name.ends_with("bgagent.db-wal"));
    assert!(database.map(|(_, bytes)| bytes.len()).sum::<usize>() > 10_000, "the database was looked at");
    hold_none(&secrets, shown(&state));
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_in_the_repository_goes_no_further_than_the_box() {
    // As somebody may have committed them: as they are, in base64 and in a URL, and one over two writes.
    let leaked = format!(
        "key = {KEY}\ntoken = {FORGE_TOKEN}\nregistry = {REGISTRY}\nbasic = {}\nlink = https://x.example/?k={}\nhex = {}\n",
        base64(format!("user:{KEY}").as_bytes()),
        url(REGISTRY),
        hex(KEY),
    );
    let repo = TempRepo::new(&[("leaked.txt", &leaked), ("README.md", "# sample\n")]).await.unwrap();
    let turns = [
        Turn::Bash("cat leaked.txt"),
        Turn::Bash("cat leaked.txt >&2; false"),
        Turn::Bash("for c in $(head -1 leaked.txt | fold -w3); do printf %s \"$c\"; sleep 0.02; done"),
        Turn::Bash("echo one > one.txt"),
        Turn::Say("Add a file\n\nThe key is sk-upstream-0123456789, keep it."),
    ];
    let tiers = ["process", "sandbox"].into_iter().chain(testkit::peers::engine().map(|_| "container"));
    for tier in tiers {
        let upstream = Upstream::start(&turns, Mood::Well).await;
        let (platform, secrets) = configured(&upstream, tier).await;
        let request = CreateTaskRequest { trace: Some(true), ..request(repo.path(), "Read what is there") };
        let task = run(&platform, &request).await;
        assert_eq!(task.status, "COMPLETED", "{task:#?}\n{}", platform.log());
        let told = told(&platform, &upstream, task.task_id.parse().unwrap()).await;
        // The model's own words come back to it as it said them.
        let told: Vec<_> = told.into_iter().collect();
        assert!(
            told.iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains("registry = ")),
            "it was read"
        );
        hold_none(&secrets, shown(&told));
        let state = platform.state_dir();
        let kept = ["bgagent.db", "bgagent.db-wal", "server.log"].map(|name| state.join(name));
        let kept = kept
            .iter()
            .filter(|path| path.is_file())
            .map(|path| (path.display().to_string(), fs::read(path).unwrap()));
        // The trace holds what the model was told, in the clear but for its compression.
        let trace = state.join(format!("objects/traces/local-owner/{}.jsonl.gz", task.task_id));
        let whole = async || fs::read(&trace).ok();
        let packed = testkit::poll::until("the trace", END, whole).await.unwrap();
        let mut lines = Vec::new();
        flate2::read::MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut lines).unwrap();
        assert!(String::from_utf8_lossy(&lines).contains("registry = "), "the outputs are in it");
        let kept = kept.chain(files(&state.join("objects"), &[]));
        let kept: Vec<_> = kept.chain([(trace.display().to_string(), lines)]).collect();
        hold_none(&secrets, shown(&kept));
        platform.end(END).await.unwrap();
    }
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret = Secret::new("x", REGISTRY);
    for before in ["", "a", "ab", "abc"] {
        let text = format!("{before}{REGISTRY}and more");
        assert!(secret.is_in(base64(text.as_bytes()).as_bytes()), "{before}");
        assert!(
            secret.is_in(text.as_bytes())
                && secret.is_in(url(&text).as_bytes())
                && secret.is_in(hex(&text).as_bytes())
        );
    }
    assert!(!secret.is_in(b"Bearer registry/token+with=signs-5f1c09ab3"));
    assert_eq!(base64(b"light w"), "bGlnaHQgdw==");
}
