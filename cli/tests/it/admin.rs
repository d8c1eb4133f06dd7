//! `bgagent admin` with a real server.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::person::Person;

fn json(out: &str) -> Value {
    serde_json::from_str(out.trim()).unwrap_or_else(|e| panic!("{e}: {out}"))
}

fn stop(person: &Person) {
    let file = person.home.path().join(".local/state/bgagent/server.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let pid = serde_json::from_str::<Value>(&text).unwrap()["pid"].as_i64().unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGTERM).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while file.exists() || person.types(&["admin", "restore", "/nowhere"]).2.contains("a server uses") {
        assert!(Instant::now() < deadline, "the server is still there");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_backup_of_a_running_server_is_put_back() {
    let person = Person::new();
    let backup = person.home.path().join("backup");
    let to = backup.to_str().unwrap();
    let repo = person.home.path().join("repository");
    std::fs::create_dir(&repo).unwrap();
    let git = |words: &[&str]| {
        let done = std::process::Command::new("git").arg("-C").arg(&repo).args(words).status().unwrap();
        assert!(done.success(), "git {words:?}");
    };
    git(&["init", "-q"]);
    let me = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
    git(&[&me[..], &["commit", "-q", "--allow-empty", "-m", "first"]].concat());
    let (code, first, err) =
        person.types(&["submit", "--repo", repo.to_str().unwrap(), "--output", "json", "fix it"]);
    assert_eq!(code, 0, "{err}");
    let first = json(&first)["task_id"].as_str().unwrap().to_owned();

    let (code, out, err) = person.types(&["admin", "backup", to]);
    assert!(code == 0 && out.contains("It holds the server's keys"), "{out}{err}");
    person.is_told(&["admin", "backup", to], 1, "is there already");
    let (code, out, _) = person.types(&["admin", "verify", to]);
    assert!(code == 0 && out.contains("is sound"), "{out}");
    let (code, out, _) = person.types(&["admin", "verify", "--output", "json"]);
    assert_eq!((code, &json(&out)["sound"]), (0, &Value::Bool(true)), "{out}");
    let (_, owner_key, _) = person.types(&["config", "owner-key"]);

    let (code, _, err) = person.types(&["submit", "--repo", repo.to_str().unwrap(), "and this"]);
    assert_eq!(code, 0, "{err}");
    person.is_told(&["admin", "restore", to], 1, "a server uses");
    stop(&person);
    person.is_told(&["admin", "restore", to], 1, "give --force to move it");
    let (code, out, err) = person.types(&["admin", "restore", to, "--force"]);
    assert!(code == 0 && out.contains("What was there is now in"), "{out}{err}");
    let (_, out, err) = person.types(&["list", "--output", "json"]);
    let tasks: Vec<Value> = out.lines().map(json).collect();
    assert_eq!(tasks.len(), 1, "{out}{err}");
    assert_eq!(tasks[0]["task_id"], first.as_str());
    assert_eq!(person.types(&["config", "owner-key"]).1, owner_key);

    std::fs::write(backup.join("state/owner-key"), "another").unwrap();
    let (code, out, _) = person.types(&["admin", "verify", to]);
    assert!(code == 1 && out.contains("owner-key is not what was backed up"), "{out}");
    let (code, out, err) = person.types(&["admin", "obligations"]);
    assert!(code == 0 && out.contains("Nothing is owed"), "{out}{err}");
    stop(&person);
}

#[test]
fn wrong_words_are_told() {
    let person = Person::new();
    person.is_told(&["admin", "purge"], 2, "--ended-before");
    person.is_told(&["admin", "purge", "--ended-before", "yesterday"], 2, "give a day");
    person.is_told(&["admin", "purge", "--erase-user"], 2, "--user");
    person.is_told(&["admin", "verify", "/nowhere"], 1, "is no backup");
    person.is_told(&["admin", "backup", "/tmp/x/y"], 1, "holds no database of bgagent");
}
