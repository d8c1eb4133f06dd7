//! Which commands build and lint a repository: the configured ones, else what its files say.

use serde_json::Value;

use crate::tool::Environment;
use crate::tree::Tree;

/// Bytes of a file that is looked at.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Where a command comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Settings of the repository on the server.
    Configured,
    /// This file of the repository.
    File(&'static str),
}

/// A command line for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The line.
    pub line: String,
    /// Where it comes from.
    pub source: Source,
}

/// The commands of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    /// Build and tests.
    pub build: Option<Command>,
    /// Lint.
    pub lint: Option<Command>,
}

/// The commands of a work tree; configured ones win. A configured empty command turns the gate off.
pub fn find(tree: &Tree, build: Option<&str>, lint: Option<&str>) -> Commands {
    let configured = |line: &str| {
        let line = line.trim();
        (!line.is_empty()).then(|| Command { line: line.to_owned(), source: Source::Configured })
    };
    let files = Files(tree);
    Commands {
        build: build.map_or_else(|| files.build(), configured),
        lint: lint.map_or_else(|| files.lint(), configured),
    }
}

/// The program of a command line, when it is not installed. Only where the line begins with a plain name.
pub(super) fn missing_program(line: &str, environment: &Environment) -> Option<String> {
    let first = line.split_whitespace().find(|word| !is_assignment(word))?;
    let plain = first.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+'));
    const BUILT_IN: [&str; 14] = [
        "cd", "set", "export", "if", "for", "while", "test", "true", "false", "source", ".", "exec", "eval",
        "command",
    ];
    if !plain || BUILT_IN.contains(&first) {
        return None;
    }
    let path = environment.get("PATH")?;
    let found = std::env::split_paths(path).any(|folder| folder.join(first).is_file());
    (!found).then(|| first.to_owned())
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

struct Files<'a>(&'a Tree);

impl Files<'_> {
    fn build(&self) -> Option<Command> {
        self.target("test")
            .or_else(|| self.package_script("test"))
            .or_else(|| self.when("Cargo.toml", "cargo test"))
            .or_else(|| self.when("go.mod", "go test ./..."))
            .or_else(|| self.python_tests())
            .or_else(|| self.when("gradlew", "./gradlew test"))
            .or_else(|| self.when("pom.xml", "mvn -q test"))
    }

    fn lint(&self) -> Option<Command> {
        self.target("lint").or_else(|| self.package_script("lint")).or_else(|| self.ruff())
    }

    fn when(&self, file: &'static str, line: &str) -> Option<Command> {
        self.has(file).then(|| Command { line: line.to_owned(), source: Source::File(file) })
    }

    /// A recipe of a justfile, or a target of a makefile.
    fn target(&self, name: &str) -> Option<Command> {
        let runners =
            [("justfile", "just"), ("Justfile", "just"), ("Makefile", "make"), ("makefile", "make")];
        runners.into_iter().find_map(|(file, program)| {
            let text = self.text(file)?;
            let defines = |line: &str| {
                let Some(rest) = line.strip_prefix(name) else { return false };
                let Some((before, after)) = rest.split_once(':') else { return false };
                // `test := x` sets a variable; `test arg:` is a recipe with parameters that just must be given.
                before.trim().is_empty() && !after.starts_with('=')
            };
            let line = format!("{program} {name}");
            text.lines().any(defines).then_some(Command { line, source: Source::File(file) })
        })
    }

    fn package_script(&self, name: &str) -> Option<Command> {
        let package: Value = serde_json::from_str(&self.text("package.json")?).ok()?;
        let script = package["scripts"][name].as_str()?;
        // What `npm init` writes.
        if script.trim().is_empty() || script.contains("no test specified") {
            return None;
        }
        let managers =
            [("pnpm-lock.yaml", "pnpm"), ("yarn.lock", "yarn"), ("bun.lockb", "bun"), ("bun.lock", "bun")];
        let manager =
            managers.into_iter().find(|(lock, _)| self.has(lock)).map_or("npm", |(_, manager)| manager);
        let line = format!("{manager} run {name}");
        Some(Command { line, source: Source::File("package.json") })
    }

    fn python_tests(&self) -> Option<Command> {
        let pytest = |source| Command { line: "python3 -m pytest -q".into(), source: Source::File(source) };
        let says = |file: &str, words: &str| self.text(file).is_some_and(|text| text.contains(words));
        if self.has("pytest.ini") {
            return Some(pytest("pytest.ini"));
        }
        if says("pyproject.toml", "[tool.pytest") || (self.has("pyproject.toml") && self.has_tests()) {
            return Some(pytest("pyproject.toml"));
        }
        if says("setup.cfg", "[tool:pytest]") || (self.has("setup.cfg") && self.has_tests()) {
            return Some(pytest("setup.cfg"));
        }
        if self.has("setup.py") && self.has_tests() {
            return Some(pytest("setup.py"));
        }
        self.when("tox.ini", "tox -q")
    }

    fn has_tests(&self) -> bool {
        ["tests", "test", "testing"].iter().any(|folder| self.0.has_folder(folder))
    }

    fn ruff(&self) -> Option<Command> {
        let line = "ruff check .";
        self.when("ruff.toml", line).or_else(|| self.when(".ruff.toml", line)).or_else(|| {
            let text = self.text("pyproject.toml")?;
            text.contains("[tool.ruff")
                .then(|| Command { line: line.into(), source: Source::File("pyproject.toml") })
        })
    }

    fn has(&self, file: &str) -> bool {
        self.0.has_file(file)
    }

    fn text(&self, file: &str) -> Option<String> {
        self.0.text(file, FILE_MAX_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> (String, String) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let commands = find(&Tree::open(dir.path()).unwrap(), None, None);
        let line = |command: Option<Command>| command.map_or("-".into(), |c| c.line);
        (line(commands.build), line(commands.lint))
    }

    fn check(files: &[(&str, &str)], build: &str, lint: &str) {
        assert_eq!(found(files), (build.to_owned(), lint.to_owned()), "{files:?}");
    }

    /// D-047: the build command was written into prompts.
    #[test]
    fn files_tell_the_commands() {
        check(&[], "-", "-");
        check(&[("Cargo.toml", "")], "cargo test", "-");
        check(&[("Cargo.toml", ""), ("justfile", "test:\n  x\nlint: test\n  y\n")], "just test", "just lint");
        check(&[("Makefile", "test := 3\nlatest: x\n")], "-", "-");
        check(&[("Makefile", "test: build\n\ttrue\n")], "make test", "-");
        check(&[("go.mod", "")], "go test ./...", "-");
        check(
            &[("package.json", r#"{"scripts":{"test":"jest","lint":"eslint ."}}"#)],
            "npm run test",
            "npm run lint",
        );
        check(
            &[("package.json", r#"{"scripts":{"test":"echo \"Error: no test specified\" && exit 1"}}"#)],
            "-",
            "-",
        );
        check(&[("package.json", r#"{"scripts":{"test":"x"}}"#), ("yarn.lock", "")], "yarn run test", "-");
        check(&[("package.json", "not json"), ("pytest.ini", "")], "python3 -m pytest -q", "-");
        check(
            &[("pyproject.toml", "[tool.ruff]\n"), ("tests/a.py", "")],
            "python3 -m pytest -q",
            "ruff check .",
        );
        check(&[("pyproject.toml", "[project]\n")], "-", "-");
        check(&[("tox.ini", "")], "tox -q", "-");
    }

    #[test]
    fn configured_commands_win_and_an_empty_one_turns_the_gate_off() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("Cargo.toml"), "").unwrap();
        let commands = find(&Tree::open(dir.path()).unwrap(), Some("./ci"), Some("  "));
        assert_eq!(commands.build, Some(Command { line: "./ci".into(), source: Source::Configured }));
        assert_eq!(commands.lint, None);
    }

    #[test]
    fn only_plain_names_are_looked_up() {
        let environment = Environment::clean([("PATH".into(), "/usr/bin:/bin".into())]);
        let of = |line: &str| missing_program(line, &environment);
        assert_eq!(of("A=1 no-such-x y"), Some("no-such-x".into()));
        assert_eq!(of("sh -c x"), None);
        assert_eq!(of("./gradlew test"), None);
        assert_eq!(of("(cd a && b)"), None);
        assert_eq!(of("cd a && b"), None);
    }
}
