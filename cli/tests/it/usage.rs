//! Help, wrong usage and errors: no server is needed for any of these, and none is started.

use crate::person::Person;

const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const COMMANDS: &[&str] = &[
    "run",
    "submit",
    "list",
    "status",
    "watch",
    "events",
    "egress",
    "cache",
    "nudge",
    "ask",
    "cancel",
    "pause",
    "resume",
    "retry",
    "pr",
    "usage",
    "key",
    "webhook",
    "admin",
    "demo",
    "doctor",
    "box",
    "serve",
    "config",
    "completions",
    "worker",
];

#[test]
fn every_command_has_help_with_an_example() {
    let person = Person::new();
    for &command in COMMANDS {
        let (code, out, err) = person.types(&[command, "--help"]);
        assert_eq!((code, err.as_str()), (0, ""), "{command}");
        assert!(out.contains("Example") || command == "worker", "{command}: {out}");
        assert!(out.contains("bgagent"), "{command}: {out}");
    }
    let (code, out, _) = person.types(&["--help"]);
    assert_eq!(code, 0);
    assert!(COMMANDS.iter().all(|c| out.contains(*c)) && out.contains("Exit codes: 0 done"), "{out}");
}

/// D-100: 42abc was a number.
#[test]
fn numbers_are_read_whole_and_their_bounds_told() {
    let person = Person::new();
    person.is_told(&["run", "--max-turns", "42abc", "x"], 2, "from 1 to 500");
    person.is_told(&["run", "--max-turns", "501", "x"], 2, "from 1 to 500");
    person.is_told(&["submit", "--max-budget", "0.001", "x"], 2, "0.01 to 100");
    person.is_told(&["submit", "--max-budget", "5usd", "x"], 2, "0.01 to 100");
    person.is_told(&["submit", "--issue", "42abc", "x"], 2, "number of an issue");
    person.is_told(&["list", "--limit", "101"], 2, "from 1 to 100");
    person.is_told(&["status", ID, "--wait", "--max-wait", "1h"], 2, "whole number");
}

/// D-099: an unknown form of output was text.
#[test]
fn wrong_words_are_told_with_what_is_right() {
    let person = Person::new();
    person.is_told(&["list", "--output", "yaml"], 2, "text, json");
    person.is_told(&["list", "--status", "RUNING"], 2, "RUNING is no state; the states are");
    person.is_told(&["status", "not-an-id"], 2, "ULID");
    person.is_told(&["status", ID, "--max-wait", "5"], 2, "--wait");
    person.is_told(&["watch", ID, "--tui"], 2, "--tui needs a terminal");
    person.is_told(&["watch", ID, "--tui", "--output", "json"], 2, "exclude each other");
    person.is_told(&["events", ID, "--all", "--desc"], 2, "cannot be used with");
    person.is_told(&["nudge", ID, "  "], 2, "the message is empty");
    person.is_told(&["ask", ID, "--no-wait", "--max-wait", "5", "x?"], 2, "cannot be used with");
    person.is_told(&["key", "create", "--name", "x", "--expires-in", "90"], 2, "with a unit");
    person.is_told(&["key", "revoke", "x"], 2, "ULID");
    person.is_told(&["webhook", "create", "--name", "x", "--signature", "none"], 2, "strict, plain");
    person.is_told(&["webhook", "test", ID], 2, "there is no secret to sign with");
    person.is_told(&["webhook", "test", ID, "--secret-file", "/nonexistent"], 2, "reading the secret");
    person.is_told(&["webhook", "test", ID, "--create"], 2, "--task");
    person.is_told(&["frobnicate"], 2, "frobnicate");
    person.is_told(&["run"], 2, "nothing to do");
    person.is_told(&["run", "--idempotency-key", "a b", "x"], 2, "--idempotency-key must be");
    person.is_told(&["run", "--repo", "./no-such", "x"], 2, "cannot be found");
    person.is_told(&["run", "x"], 2, "is not in a git repository");
    person.is_told(&["run", &"x".repeat(10_001)], 2, "10001 characters, 10000 are allowed");
    let (code, _, _) = person.types(&[]);
    assert_eq!(code, 2);
}

#[test]
fn a_server_that_is_not_there_and_a_bad_address_are_told() {
    let person = Person::new();
    let url = "http://127.0.0.1:9";
    let (code, _, err) =
        person.types_with(&["list"], &[("BGAGENT_API_URL", url), ("BGAGENT_API_KEY", "secret-1")]);
    assert_eq!(code, 1);
    assert!(err.contains("does not answer") && err.contains("Hint: ") && !err.contains("secret-1"), "{err}");
    person.is_told(&["list", "--api-url", "localhost"], 2, "no server address");
    person.is_told(&["list", "--api-url", "ftp://x"], 1, "http://");
    assert!(!person.home.path().join(".local").exists(), "no server was started");
}

/// D-103: a damaged configuration was a parser's message.
#[test]
fn a_damaged_configuration_is_told_with_its_place() {
    let person = Person::new();
    let file = person.home.path().join(".config/bgagent/bgagent.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "[limits]\nper_usr = 1\n").unwrap();
    person.is_told(&["list"], 1, "per_usr");
    let (code, out, _) = person.types(&["config", "path"]);
    assert_eq!((code, out.trim()), (0, file.to_str().unwrap()));
    let (code, out, _) = person.types(&["doctor"]);
    assert_eq!(code, 1);
    assert!(out.contains("fail  config"), "{out}");
}

#[test]
fn the_doctor_says_what_is_missing_and_what_the_box_does_not_do() {
    let person = Person::new();
    let (code, out, _) = person.types(&["doctor", "--output", "json"]);
    assert_eq!(code, 1, "no model is configured");
    assert_eq!(out.lines().count(), 1, "one object a line");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let of = |id: &str| report["checks"].as_array().unwrap().iter().find(|c| c["id"] == id).unwrap().clone();
    assert_eq!((of("git")["status"].as_str(), of("model")["status"].as_str()), (Some("ok"), Some("fail")));
    assert!(of("model")["fix"].as_str().unwrap().contains("ANTHROPIC_API_KEY"));
    let detail = |id: &str| of(id)["detail"].as_str().unwrap().to_owned();
    assert!(detail("process").contains("no isolation"), "{report:#}");
    assert!(detail("sandbox").contains("namespaces"), "{report:#}");

    let key = [("ANTHROPIC_API_KEY", "sk-ant-secret")];
    for command in [&["doctor"][..], &["config", "show"]] {
        let (code, out, err) = person.types_with(command, &key);
        assert_eq!(code, 0, "{out}{err}");
        assert!(!out.contains("sk-ant-secret") && !out.contains('\u{1b}'), "{out}");
    }
}

/// D-114: there was no completion.
#[test]
fn completions_are_printed_for_shells() {
    let person = Person::new();
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = person.types(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(out.contains("bgagent") && out.contains("submit"), "{shell}");
    }
}

#[test]
fn a_worker_without_a_session_says_who_starts_it() {
    let person = Person::new();
    person.is_told(&["worker"], 2, "--session");
    person.is_told(&["worker", "--session"], 2, "--session");
}

/// D-101: verbose was not heard by nested commands.
#[test]
fn verbose_is_heard_wherever_it_stands() {
    let person = Person::new();
    let url = [("BGAGENT_API_URL", "http://127.0.0.1:9"), ("BGAGENT_API_KEY", "k")];
    for words in [
        &["--verbose", "trace", "download", ID][..],
        &["trace", "--verbose", "download", ID],
        &["trace", "download", ID, "--verbose"],
        &["webhook", "list", "-v"],
        &["key", "list", "-v"],
        &["status", ID, "-v"],
    ] {
        let (code, out, err) = person.types_with(words, &url);
        assert_eq!((code, out.as_str()), (1, ""), "{words:?}: {err}");
        assert!(err.contains("using the server at http://127.0.0.1:9"), "{words:?}: {err}");
    }
}

/// D-104: secrets were given on the command line.
#[test]
fn no_secret_is_given_on_the_command_line() {
    let person = Person::new();
    let verbs = [
        ("webhook", &["create", "list", "rotate", "revoke", "test"][..]),
        ("key", &["create", "list", "revoke"]),
        ("config", &["show", "owner-key"]),
        ("trace", &["download"]),
        ("replay", &["run"]),
    ];
    let nested = verbs.iter().flat_map(|(noun, verbs)| verbs.iter().map(|verb| vec![*noun, *verb]));
    let flat = COMMANDS.iter().chain(&["login", "logout", "whoami"]).map(|command| vec![*command]);
    for words in flat.chain(nested) {
        let mut asked = words.clone();
        asked.push("--help");
        let (code, out, err) = person.types(&asked);
        assert_eq!(code, 0, "{words:?}: {err}");
        for flag in out.split_whitespace().filter(|word| word.starts_with("--")) {
            let named = |secret: &str| flag.trim_end_matches(['=', ',', '.']).ends_with(secret);
            // A file, or the name of a variable, is fine.
            let secret = ["--password", "--secret", "--token", "--api-key", "--client-secret", "--key"];
            assert!(!secret.iter().any(|s| named(s)), "{words:?} takes {flag} from the command line");
        }
    }
}
