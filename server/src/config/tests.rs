//! Settings: what is read, what is refused, and in which words.

use super::*;

fn env(pairs: &[(&str, &str)]) -> Env {
    let mut env: Env = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    env.entry("HOME".into()).or_insert_with(|| "/home/x".into());
    env
}

fn load(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_text(text, "bgagent.toml", &env(pairs))
}

#[test]
fn nothing_is_needed_to_start() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.state_dir, PathBuf::from("/home/x/.local/state/bgagent"));
    assert!(config.model.providers.is_empty());
    assert_eq!(config.policy().per_user, 10);
}

#[test]
fn standard_variables_make_providers() {
    let config =
        load("", &[("ANTHROPIC_API_KEY", "sk-ant-1"), ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")]).unwrap();
    assert_eq!(config.model.providers.len(), 2);
    assert_eq!(config.model.default.as_deref(), Some("anthropic/claude-sonnet-4-6"));
    assert!(!config.show().contains("sk-ant-1"));
    assert!(!format!("{config:?}").contains("sk-ant-1"));
}

#[test]
fn the_environment_is_over_the_file_and_the_file_over_the_defaults() {
    let config = load("[limits]\nper_user = 3\nsystem = 7\n", &[("BGAGENT__LIMITS__PER_USER", "4")]).unwrap();
    assert_eq!((config.limits.per_user, config.limits.system, config.limits.per_repo), (4, 7, 10));
    let demo = [
        ("BGAGENT__MODEL__PROVIDERS__DEMO__KIND", "script"),
        ("BGAGENT__MODEL__PROVIDERS__DEMO__PATH", "/tmp/t.json"),
        ("BGAGENT__MODEL__DEFAULT", "demo/x"),
    ];
    let config = load("", &demo).unwrap();
    assert_eq!(config.model.providers["demo"].kind, Kind::Script);
}

#[test]
fn a_price_row_of_the_same_model_replaces_the_default() {
    let row = "[[model.prices]]\nmodel = \"gpt-5\"\nas_of = \"2026-01-01\"\ninput = 9.0\noutput = 1.0\n";
    let config = load(row, &[]).unwrap();
    let gpt: Vec<_> = config.model.prices.iter().filter(|p| p.model == "gpt-5").collect();
    assert_eq!(gpt.len(), 1);
    assert_eq!(gpt[0].input, 9.0);
}

#[test]
fn a_repository_has_limits_of_its_own_where_they_are_set() {
    let own = "[limits]\nattempts_max = 3\nlifetime_s = 60\n[repos.\"o/one\".limits]\nattempts_max = 1\n\
        lifetime_s = 7200\ntool_output_bytes = 90000\n[repos.\"o/two\".egress]\nallow = []\n";
    let policy = load(own, &[]).unwrap().policy();
    let of = |name: &str| *policy.attempts_max.of(&name.parse().unwrap());
    assert_eq!((of("o/one"), of("o/two"), of("o/other")), (1, 3, 3));
    let of = |name: &str| policy.lifetime.of(&name.parse().unwrap()).as_secs();
    assert_eq!((of("o/one"), of("o/two"), of("o/other")), (7_200, 60, 60));
    let of = |name: &str| *policy.tool_output_bytes.of(&name.parse().unwrap());
    assert_eq!((of("o/one"), of("o/two"), of("o/other")), (90_000, 30_000, 30_000));
    assert_eq!(*load("", &[]).unwrap().policy().attempts_max.of(&"o/n".parse().unwrap()), 2);
}

#[test]
fn mistakes_are_named() {
    for (text, pairs, word) in [
        ("[limits]\nper_usr = 3\n", &[][..], "per_usr"),
        ("[limits\n", &[], "bgagent.toml"),
        ("[limits]\nper_user = 0\n", &[], "limits.per_user"),
        ("[limits]\nattempts_max = 0\n", &[], "limits.attempts_max must be 1 to 10, got 0"),
        ("[repos.\"o/n\".limits]\nattempts_max = 11\n", &[], "repos.\"o/n\".limits.attempts_max"),
        ("[repos.\"o/n\".limits]\nper_user = 1\n", &[], "per_user"),
        ("[limits]\nlifetime_s = 0\n", &[], "limits.lifetime_s must be at least 1, got 0"),
        (
            "[limits]\ntool_output_bytes = 999\n",
            &[],
            "limits.tool_output_bytes must be 1000 to 500000, got 999",
        ),
        (
            "[repos.\"o/n\".limits]\ntool_output_bytes = 500001\n",
            &[],
            "repos.\"o/n\".limits.tool_output_bytes",
        ),
        ("", &[("BGAGENT__LIMITS__PER_USER", "many")], "BGAGENT__LIMITS__PER_USER"),
        ("", &[("BGAGENT__NO__SUCH", "1")], "no"),
        ("[compute]\nisolation = \"magic\"\n", &[], "magic"),
        ("state_dir = \"rel\"\n", &[], "state_dir"),
        ("[git]\nidentity = \"x\"\n", &[], "git.identity"),
        ("[[model.prices]]\nmodel = \"m\"\n", &[], "row"),
    ] {
        let error = load(text, pairs).unwrap_err().0;
        assert!(error.contains(word), "{text:?} {pairs:?}: {error}");
    }
}
