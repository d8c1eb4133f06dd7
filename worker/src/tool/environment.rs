//! The environment commands run with: this machine's, without anything that opens a door, and without a person.

use std::ffi::OsString;

/// Marks every process of a session, so that a sweep finds them; the only variable of ours that is passed on.
pub const SESSION_MARKER: &str = "BGAGENT_SESSION";

/// Parts of names that hold secrets somewhere in the world.
const SECRET_PARTS: [&str; 13] = [
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "API_KEY",
    "APIKEY",
    "PRIVATE_KEY",
    "ACCESS_KEY",
    "ASKPASS",
    "AUTH_SOCK",
    "COOKIE",
];
/// Prefixes of names that configure access to something.
const SECRET_PREFIXES: [&str; 9] =
    ["ANTHROPIC_", "OPENAI_", "BGAGENT_", "AWS_", "GITHUB_", "GH_", "GITLAB_", "GIT_CONFIG", "AZURE_"];
/// What makes programs neither ask, page nor paint.
const SETTINGS: [(&str, &str); 10] = [
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_PAGER", "cat"),
    ("GIT_EDITOR", "true"),
    ("PAGER", "cat"),
    ("EDITOR", "true"),
    ("TERM", "dumb"),
    ("NO_COLOR", "1"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("PIP_NO_INPUT", "1"),
    ("PYTHONUNBUFFERED", "1"),
];

/// Variables for commands.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: Vec<(OsString, OsString)>,
}

impl Environment {
    /// Keeps of `variables` what is harmless, and adds the settings of a machine without a person.
    pub fn clean(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut kept: Vec<(OsString, OsString)> = variables
            .into_iter()
            .filter(|(name, value)| harmless(&name.to_string_lossy(), &value.to_string_lossy()))
            .filter(|(name, _)| !SETTINGS.iter().any(|(setting, _)| name == setting))
            .collect();
        kept.extend(SETTINGS.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
        Self { variables: kept }
    }

    /// These variables and no others.
    pub fn variables(&self) -> &[(OsString, OsString)] {
        &self.variables
    }

    /// The same with this one set.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.retain(|(key, _)| key != name);
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The value of a variable that was kept.
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

fn harmless(name: &str, value: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    if upper == SESSION_MARKER {
        return true;
    }
    let named = SECRET_PARTS.iter().any(|part| upper.contains(part))
        || SECRET_PREFIXES.iter().any(|prefix| upper.starts_with(prefix));
    !named && !holds_password(value)
}

/// `scheme://user:password@host`, as proxies and databases are often given.
fn holds_password(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_a_door_is_left_out() {
        let keep =
            ["PATH=/bin", "HOME=/root", "BGAGENT_SESSION=t-1", "HTTP_PROXY=http://proxy:80", "KEYBOARD=us"];
        let drop = [
            "ANTHROPIC_API_KEY=k",
            "npm_token=x",
            "BGAGENT_API_KEY=x",
            "SSH_AUTH_SOCK=/s",
            "GIT_CONFIG_COUNT=1",
            "DATABASE_URL=postgres://u:p@h/db",
            "AWS_PROFILE=p",
            "GIT_ASKPASS=/a",
            "MyPassword=1",
        ];
        let split = |line: &&str| line.split_once('=').map(|(n, v)| (n.into(), v.into()));
        let env = Environment::clean(keep.iter().chain(&drop).filter_map(split));
        for line in keep {
            assert!(env.get(line.split('=').next().unwrap()).is_some(), "{line} was dropped");
        }
        for line in drop {
            assert!(env.get(line.split('=').next().unwrap()).is_none(), "{line} was kept");
        }
        assert_eq!(env.get("GIT_TERMINAL_PROMPT").unwrap(), "0");
    }
}
