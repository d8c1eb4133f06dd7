//! Sources, as a person writes them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use secrecy::ExposeSecret as _;

use super::*;
use crate::config::Config;

fn env(pairs: &[(&str, &str)]) -> Env {
    let mut env: Env = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    env.entry("HOME".into()).or_insert_with(|| "/home/x".into());
    env
}

fn load(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_text(text, "bgagent.toml", &env(pairs))
}

fn provider(key: &str) -> String {
    format!("[model.providers.a]\nkind = \"anthropic\"\napi_key = {key:?}\n")
}

fn key(config: &Config) -> &str {
    config.model.providers["a"].api_key.as_ref().unwrap().expose_secret()
}

fn file(dir: &Path, text: &str, mode: u32) -> String {
    let path = dir.join("key");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    format!("file:{}", path.display())
}

#[test]
fn a_secret_is_read_from_where_the_setting_says() {
    let dir = tempfile::tempdir().unwrap();
    let from_file = file(dir.path(), "the-key-in-a-file\n", 0o600);
    for (written, value, told) in [
        ("the-key-as-it-is", "the-key-as-it-is", "(set)".to_owned()),
        ("env:MY_KEY", "the-key-of-a-variable", "(set, from env:MY_KEY)".to_owned()),
        (&from_file, "the-key-in-a-file", format!("(set, from {from_file})")),
        ("command:printf '%s key\\n' 'a printed'", "a printed key", "(set, from command:printf)".to_owned()),
    ] {
        let config = load(&provider(written), &[("MY_KEY", " the-key-of-a-variable\n")]).unwrap();
        assert_eq!(key(&config), value);
        let shown = config.show();
        assert!(shown.contains(&format!("api_key = {told}")), "{shown}");
        assert!(!shown.contains(value) && !format!("{config:?}").contains(value), "{shown}");
        assert_eq!(config.secrets.concerns(), Vec::<String>::new());
        assert_eq!(config.secrets.values().iter().map(|v| v.expose_secret()).collect::<Vec<_>>(), [value]);
    }
}

#[test]
fn a_source_that_gives_nothing_is_named_and_nothing_of_it_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let empty = file(dir.path(), "\n", 0o600);
    for (written, words) in [
        ("env:MY_KEY", &["model.providers.a.api_key", "env:MY_KEY", "not set"][..]),
        ("env:", &["model.providers.a.api_key", "env:NAME"]),
        ("file:relative", &["model.providers.a.api_key", "absolute"]),
        ("file:/nonexistent/key", &["model.providers.a.api_key", "file:/nonexistent/key", "cannot be read"]),
        (&empty, &["model.providers.a.api_key", "empty"]),
        ("command:", &["model.providers.a.api_key", "program"]),
        ("command:sh -c 'unended", &["model.providers.a.api_key", "quote"]),
        ("command:/nonexistent/program x", &["command:/nonexistent/program", "cannot be started"]),
        ("command:sh -c 'echo s3cret-out; echo s3cret-err >&2; exit 3'", &["command:sh", "exit status: 3"]),
    ] {
        let error = load(&provider(written), &[]).unwrap_err().0;
        assert!(words.iter().all(|word| error.contains(word)), "{written}: {error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_file_that_others_can_read_and_a_value_too_short_to_mask_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let open = file(dir.path(), "long-enough", 0o644);
    let concerns = load(&provider(&open), &[]).unwrap().secrets.concerns();
    assert!(concerns.len() == 1 && concerns[0].contains("mode 644"), "{concerns:?}");
    let concerns = load(&provider("short"), &[]).unwrap().secrets.concerns();
    assert!(concerns.len() == 1 && concerns[0].contains("shorter than 8"), "{concerns:?}");
}

#[test]
fn a_client_runs_no_command_for_secrets_that_it_does_not_need() {
    let dir = tempfile::tempdir().unwrap();
    let ran = dir.path().join("ran");
    let touch = format!("command:sh -c 'touch {}; echo the-secret-value'", ran.display());
    let text = format!("[forge.github]\ntoken = {touch:?}\n[api]\nkey = \"env:MY_KEY\"\n");
    let config =
        Config::read_text(&text, "bgagent.toml", &env(&[("MY_KEY", "the-api-key")]), Need::Client).unwrap();
    assert!(!ran.exists());
    assert_eq!(config.api.key.expose_secret(), "the-api-key");
    assert!(config.show().contains("forge.github.token = (set, from command:sh)"), "{}", config.show());
    let config = load(&text, &[("MY_KEY", "the-api-key")]).unwrap();
    assert!(ran.exists());
    assert_eq!(config.forge.github.token.expose_secret(), "the-secret-value");
}

#[test]
fn of_a_header_the_credential_itself_is_a_secret_too() {
    assert_eq!(parts("Bearer abcdefgh"), ["Bearer abcdefgh", "abcdefgh"]);
    let basic = format!("Basic {}", STANDARD.encode("me:pass-word"));
    assert_eq!(parts(&basic)[1..], ["pass-word".to_owned(), STANDARD.encode("me:pass-word")]);
    assert_eq!(parts("plain value"), ["plain value"]);
}

#[test]
fn a_secret_that_changes_where_it_is_kept_changes_the_settings() {
    let text = "[forge.github]\ntoken = \"env:MY_KEY\"\n# api_key = \"env:OTHER\"\n";
    assert_ne!(present(text, &env(&[("MY_KEY", "a")])), present(text, &env(&[("MY_KEY", "b")])));
    assert_eq!(present(text, &env(&[("OTHER", "a")])), present(text, &env(&[("OTHER", "b")])));
}

#[test]
fn credentials_of_the_proxy_are_found_in_rows_and_in_repositories() {
    let mut table: Table =
        "[[egress.credentials]]\nvalue = \"env:A\"\n[[egress.credentials]]\nvalue = \"written-value\"\n\
         [[repos.\"a/b\".egress.credentials]]\nvalue = \"env:B\"\n"
            .parse()
            .unwrap();
    let pairs = [("A", "value-of-a"), ("B", "value-of-b")];
    let secrets = Secrets::read(&mut table, &env(&pairs), Need::Server).unwrap();
    let names: Vec<&str> = secrets.all.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["egress.credentials.1.value", "egress.credentials.2.value", "repos.a/b.egress.credentials.1.value"]
    );
    assert_eq!(table["egress"]["credentials"][0]["value"].as_str(), Some("value-of-a"));
    assert_eq!(table["repos"]["a/b"]["egress"]["credentials"][0]["value"].as_str(), Some("value-of-b"));
}
