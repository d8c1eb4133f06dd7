//! A person with an empty home who types commands.

use assert_cmd::Command;
use tempfile::TempDir;

pub struct Person {
    pub home: TempDir,
}

impl Person {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    pub fn types(&self, words: &[&str]) -> (i32, String, String) {
        self.types_with(words, &[])
    }

    pub fn types_with(&self, words: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
        let mut command = Command::cargo_bin("bgagent").unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", self.home.path()).current_dir(self.home.path());
        let out = command.envs(env.iter().copied()).args(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
    }

    /// Exit code 2 or 1, an error with these words, and a hint.
    pub fn is_told(&self, words: &[&str], code: i32, told: &str) {
        let (got, out, err) = self.types(words);
        assert_eq!(got, code, "{words:?}: {err}");
        assert!(out.is_empty(), "{words:?}: {out}");
        assert!(err.starts_with("Error: ") && err.contains("\nHint: "), "{words:?}: {err}");
        assert!(err.contains(told), "{words:?} should say {told:?}: {err}");
    }
}
