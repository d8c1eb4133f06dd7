//! Where secrets come from: written in the file, or `env:NAME`, `file:/path`, `command:PROGRAM ARGS`.
//!
//! Every setting that holds a secret is listed here and read here, once, at start. An error names the setting and the
//! source, never a value; what a command wrote to its error output is not shown, since it may hold one.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use redact::Redactor;
use secrecy::{ExposeSecret as _, SecretString};
use toml::{Table, Value};

use super::{ConfigError, Env};

/// The settings that hold secrets; `*` is any name or row.
const SETTINGS: &[&str] = &[
    "api.key",
    "forge.*.token",
    "model.providers.*.api_key",
    "egress.credentials.*.value",
    "repos.*.egress.credentials.*.value",
    "screening.http.key",
    "screening.bedrock.secret_access_key",
    "screening.bedrock.session_token",
    "objects.s3.access_key_id",
    "objects.s3.secret_access_key",
    "objects.s3.session_token",
    "telemetry.headers.*",
];
/// How long a command may take.
const COMMAND_MAX: Duration = Duration::from_secs(10);
/// A secret is not longer.
const SECRET_MAX_BYTES: u64 = 64 * 1024;

/// Whose secrets are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// All: the server's.
    Server,
    /// The key for the server alone; the others stay empty, and no command is run for them.
    Client,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It is written in the configuration, or in a standard variable.
    Written,
    /// A variable of the environment.
    Variable(String),
    /// A file.
    File(PathBuf),
    /// What a program prints.
    Command(Vec<String>),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Written => f.write_str("the configuration"),
            Source::Variable(name) => write!(f, "env:{name}"),
            Source::File(path) => write!(f, "file:{}", path.display()),
            // Its arguments are not shown: someone will have put a secret there.
            Source::Command(words) => write!(f, "command:{}", words.first().map_or("", String::as_str)),
        }
    }
}

/// The secrets of a configuration, by setting.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    all: BTreeMap<String, Secret>,
}

#[derive(Debug, Clone)]
struct Secret {
    source: Source,
    value: SecretString,
}

impl Secrets {
    /// Reads every secret in the table and puts its value in its place.
    pub(super) fn read(all: &mut Table, env: &Env, need: Need) -> Result<Secrets, ConfigError> {
        let mut secrets = Secrets::default();
        let mut printed = BTreeMap::new();
        for setting in SETTINGS {
            let path: Vec<&str> = setting.split('.').collect();
            each(all, &path, &mut Vec::new(), &mut |name, slot| {
                let Value::String(text) = &*slot else { return Ok(()) };
                let source = Source::parse(text).map_err(|why| ConfigError(format!("{name}: {why}")))?;
                let value = match (&source, need) {
                    (Source::Written, _) => text.clone(),
                    (_, Need::Client) if !name.starts_with("api.") => String::new(),
                    (_, Need::Client | Need::Server) => source
                        .fetch(env, &mut printed)
                        .map_err(|why| ConfigError(format!("{name} ({source}): {why}")))?,
                };
                if !text.is_empty() {
                    let value = SecretString::from(value.clone());
                    secrets.all.insert(name, Secret { source, value });
                }
                *slot = Value::String(value);
                Ok(())
            })?;
        }
        Ok(secrets)
    }

    /// What may be said of a secret: whether it is set, and from where.
    pub fn told(&self, setting: &str) -> String {
        match self.all.get(setting).map(|secret| &secret.source) {
            None => "(not set)".into(),
            Some(Source::Written) => "(set)".into(),
            Some(source) => format!("(set, from {source})"),
        }
    }

    /// The values, to be masked wherever they would be shown.
    pub fn values(&self) -> Vec<SecretString> {
        self.all
            .values()
            .flat_map(|secret| parts(secret.value.expose_secret()))
            .map(SecretString::from)
            .collect()
    }

    /// What should be better about them: files that others can read, values that cannot be masked.
    pub fn concerns(&self) -> Vec<String> {
        let mut concerns = Vec::new();
        for (setting, Secret { source, value }) in &self.all {
            if let Source::File(path) = source
                && let Some(mode) = open_to_others(path)
            {
                concerns.push(format!(
                    "{setting}: others can read {} (mode {mode:03o}); run chmod 600 on it",
                    path.display()
                ));
            }
            if let Some(refusal) =
                Some(value.expose_secret()).filter(|v| !v.is_empty()).and_then(Redactor::refuses)
            {
                concerns.push(format!("{setting}: {refusal}"));
            }
        }
        concerns
    }
}

/// A value, and what in a header's value is the secret itself.
fn parts(value: &str) -> Vec<String> {
    let mut parts = vec![value.to_owned()];
    if let Some((scheme, rest)) = value.split_once(' ') {
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let password = decoded.and_then(|text| text.split_once(':').map(|(_, p)| p.to_owned()));
            parts.extend(password);
        }
        if ["basic", "bearer", "token"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            parts.push(rest.to_owned());
        }
    }
    parts
}

/// Calls `act` with every value at `path`, and its name.
fn each(
    table: &mut Table,
    path: &[&str],
    name: &mut Vec<String>,
    act: &mut impl FnMut(String, &mut Value) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    for (key, value) in table.iter_mut().filter(|(key, _)| *first == "*" || key == first) {
        name.push(key.clone());
        match (value, rest) {
            (value, []) => act(name.join("."), value)?,
            (Value::Table(inner), rest) => each(inner, rest, name, act)?,
            (Value::Array(rows), ["*", rest @ ..]) => {
                for (n, row) in rows.iter_mut().enumerate() {
                    name.push((n + 1).to_string());
                    if let Value::Table(row) = row {
                        each(row, rest, name, act)?;
                    }
                    name.pop();
                }
            }
            _ => (),
        }
        name.pop();
    }
    Ok(())
}

impl Source {
    /// The source that a text names; `Err` says what is wrong with it.
    fn parse(text: &str) -> Result<Source, String> {
        if let Some(name) = text.strip_prefix("env:") {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(plain) {
                return Err("env: must be followed by the name of a variable, as in env:NAME".into());
            }
            return Ok(Source::Variable(name.to_owned()));
        }
        if let Some(path) = text.strip_prefix("file:") {
            let path = PathBuf::from(path);
            if !path.is_absolute() {
                return Err("file: must be followed by an absolute path, as in file:/etc/bgagent/key".into());
            }
            return Ok(Source::File(path));
        }
        if let Some(line) = text.strip_prefix("command:") {
            let words = words(line).ok_or("command: has a quote without its end")?;
            if words.is_empty() {
                return Err("command: must be followed by a program, as in command:pass show bgagent".into());
            }
            return Ok(Source::Command(words));
        }
        Ok(Source::Written)
    }

    fn fetch(&self, env: &Env, printed: &mut BTreeMap<Vec<String>, String>) -> Result<String, String> {
        let value = match self {
            Source::Written => String::new(),
            Source::Variable(name) => {
                let value = env.get(name).map(|v| v.trim()).filter(|v| !v.is_empty());
                return value.map(str::to_owned).ok_or_else(|| {
                    format!("the variable {name} is not set; set it, or write another source")
                });
            }
            Source::File(path) => read(path)?,
            Source::Command(words) => match printed.get(words) {
                Some(value) => value.clone(),
                None => {
                    let value = run(words)?;
                    printed.insert(words.clone(), value.clone());
                    value
                }
            },
        };
        let value = value.trim();
        if value.is_empty() { Err("it is empty".into()) } else { Ok(value.to_owned()) }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(SECRET_MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|e| format!("the file cannot be read: {e}"))?;
    text(bytes)
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() as u64 > SECRET_MAX_BYTES {
        return Err(format!("it is longer than {SECRET_MAX_BYTES} bytes, so it is no secret"));
    }
    // The error of a conversion holds the bytes.
    String::from_utf8(bytes).map_err(|_| "it is not text".into())
}

/// Runs a program without a shell, and takes what it prints.
fn run(words: &[String]) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("no program is named")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Its own group, so that what it starts ends with it.
        .process_group(0)
        .spawn()
        .map_err(|e| format!("the program cannot be started: {e}"))?;
    let group = i32::try_from(child.id()).map(Pid::from_raw);
    let (done, ended) = mpsc::channel();
    let stdout = child.stdout.take();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.map(|out| out.take(SECRET_MAX_BYTES + 1).read_to_end(&mut bytes));
        let ended = child.wait();
        // Nobody listens any more when it took too long.
        let _ = done.send((read.transpose().map(|_| bytes), ended));
    });
    let ended = ended.recv_timeout(COMMAND_MAX);
    let Ok((read, status)) = ended else {
        if let Ok(group) = group {
            let _ = killpg(group, Signal::SIGKILL);
        }
        return Err(format!("the program did not end within {} s", COMMAND_MAX.as_secs()));
    };
    let status = status.map_err(|e| format!("the program cannot be waited for: {e}"))?;
    if !status.success() {
        return Err(format!("the program ended with {status}; run it yourself to see why"));
    }
    text(read.map_err(|e| format!("what the program printed cannot be read: {e}"))?)
}

/// Words as a shell would split them, with quotes, and nothing else of a shell.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// The permissions of a file that others than its owner can read.
fn open_to_others(path: &Path) -> Option<u32> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// What the sources named in a configuration's text give now, for telling whether settings have changed.
pub(super) fn present(text: &str, env: &Env) -> String {
    let mut found = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for quoted in line.split(['"', '\'']) {
            match Source::parse(quoted) {
                Ok(Source::Variable(name)) => {
                    found.push_str(&format!("\0{name}={}", env.get(&name).map_or("", String::as_str)));
                }
                Ok(Source::File(path)) => {
                    found.push_str(&format!("\0{}={}", path.display(), read(&path).unwrap_or_default()));
                }
                Ok(Source::Written | Source::Command(_)) | Err(_) => (),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
