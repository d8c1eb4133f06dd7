//! What `bgagent login` brought, kept in a file that only its owner can read. A secret each: never printed.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use identity::login::{Provider, Tokens};
use identity::settings::Shown;
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use server::config::Env;
use server::paths;
use url::Url;

use crate::failure::Failure;

/// A token is renewed so long before it expires, or a fifth of its life before when that is less.
const RENEW_S: i64 = 300;

/// All logins.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Credentials {
    /// The server that commands talk to when none is named.
    #[serde(default)]
    pub current: Option<String>,
    /// By server.
    #[serde(default)]
    servers: BTreeMap<String, Login>,
}

/// One login.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Login {
    /// Who the server says that this is.
    pub user: String,
    /// The provider's name at the server.
    pub provider: String,
    issuer: String,
    client_id: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    shown: Shown,
    #[serde(serialize_with = "exposed")]
    token: SecretString,
    #[serde(default, serialize_with = "exposed_if")]
    refresh_token: Option<SecretString>,
    /// Until when the token is good; unknown where nobody says.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    obtained_at: Timestamp,
}

fn exposed<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

fn exposed_if<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => exposed(secret, serializer),
        None => serializer.serialize_none(),
    }
}

/// How far a token is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Good, with time to spare.
    Fresh,
    /// Still good, but to be renewed.
    Ending,
    /// Over.
    Over,
}

impl Login {
    /// A login at a provider.
    pub fn new(provider: &str, at: &Provider, user: &str, tokens: Tokens, now: Timestamp) -> Login {
        Login {
            user: user.to_owned(),
            provider: provider.to_owned(),
            issuer: at.issuer.clone(),
            client_id: at.client_id.clone(),
            scopes: at.scopes.clone(),
            parameters: at.parameters.clone(),
            shown: at.token,
            token: tokens.token,
            refresh_token: tokens.refresh,
            expires_at: tokens.expires_at,
            obtained_at: now,
        }
    }

    /// The same of a user that the server has told.
    pub fn of(self, user: &str) -> Login {
        Login { user: user.to_owned(), ..self }
    }

    /// With newer tokens.
    pub fn renewed(self, tokens: Tokens, now: Timestamp) -> Login {
        Login {
            token: tokens.token,
            refresh_token: tokens.refresh,
            expires_at: tokens.expires_at,
            obtained_at: now,
            ..self
        }
    }

    /// The token for the server.
    pub fn token(&self) -> &SecretString {
        &self.token
    }

    /// The token that brings the next.
    pub fn refresh_token(&self) -> Option<&SecretString> {
        self.refresh_token.as_ref()
    }

    /// Where it is renewed.
    pub fn at(&self) -> Provider {
        Provider {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            scopes: self.scopes.clone(),
            parameters: self.parameters.clone(),
            redirect_url: None,
            token: self.shown,
        }
    }

    /// How far its token is from its end.
    pub fn age(&self, now: Timestamp) -> Age {
        let Some(end) = self.expires_at else { return Age::Fresh };
        let left = end.as_second() - now.as_second();
        let life = end.as_second() - self.obtained_at.as_second();
        match left {
            ..=0 => Age::Over,
            left if left <= RENEW_S.min(life / 5) => Age::Ending,
            _ => Age::Fresh,
        }
    }
}

impl Credentials {
    /// What is kept; nothing when there is no file.
    pub fn load(env: &Env) -> Result<Credentials, Failure> {
        let path = paths::credentials_file(env);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Credentials::default()),
            Err(error) => return Err(failed("reading", &path, &error)),
        };
        closed(&path).map_err(|e| failed("closing to others", &path, &e))?;
        // Without the parser's words: they may hold a piece of a token.
        serde_json::from_slice(&text).map_err(|_| {
            Failure::new(format!("{} is damaged", path.display()))
                .hint("Remove it and run `bgagent login` again.")
        })
    }

    /// The login at a server.
    pub fn login(&self, server: &Url) -> Option<&Login> {
        self.servers.get(&name(server))
    }

    /// Keeps a login, and makes its server the one that is meant when none is named.
    pub fn put(&mut self, server: &Url, login: Login) {
        self.current = Some(name(server));
        self.servers.insert(name(server), login);
    }

    /// The same without making it the one that is meant.
    pub fn renew(&mut self, server: &Url, login: Login) {
        self.servers.insert(name(server), login);
    }

    /// Forgets a login.
    pub fn remove(&mut self, server: &Url) -> Option<Login> {
        let name = name(server);
        if self.current.as_deref() == Some(&name) {
            self.current = None;
        }
        self.servers.remove(&name)
    }
}

/// All logins, to be changed: nobody else changes them meanwhile.
#[derive(Debug)]
pub struct Locked {
    /// As they are now.
    pub all: Credentials,
    path: PathBuf,
    _lock: Flock<File>,
}

impl Locked {
    /// Waits for whoever changes them. Two processes that renew one token at once would have the provider end both: it
    /// takes the second use of a refresh token for theft.
    pub async fn open(env: &Env) -> Result<Locked, Failure> {
        let path = paths::credentials_file(env);
        let at = path.with_extension("lock");
        let opened = tokio::task::spawn_blocking(move || -> std::io::Result<Flock<File>> {
            if let Some(folder) = at.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&at)?;
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
        });
        let lock = opened.await.map_err(std::io::Error::other).and_then(|lock| lock);
        let lock = lock.map_err(|e| failed("locking", &path, &e))?;
        Ok(Locked { all: Credentials::load(env)?, path, _lock: lock })
    }

    /// Writes them: beside, and renamed, so that a reader never sees half of them.
    pub fn save(self) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(&self.all)?;
        let fresh = self.path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let _ = std::fs::remove_file(&fresh);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&fresh, &self.path)
        };
        write().map_err(|e| failed("writing", &self.path, &e))
    }
}

/// Takes a file away from others who could read it.
fn closed(path: &Path) -> std::io::Result<()> {
    if std::fs::metadata(path)?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{doing} {}: {error}", path.display()))
        .hint("It is kept in the configuration folder: make it yours, or name another with XDG_CONFIG_HOME.")
}

/// A server's name here: its address without what stands at its end.
fn name(server: &Url) -> String {
    let mut server = server.clone();
    server.set_query(None);
    server.set_fragment(None);
    server.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests;
