//! Who calls. There is one owner with one key, generated into a 0600 file at first start; further ways of telling who
//! somebody is are [`Verifier`]s.

pub mod api_key;
pub mod oidc;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use axum::http::{HeaderMap, header};
use domain::access::Authenticated;
use domain::{Identity, Role, UserId};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq as _;

/// The user of local mode.
pub const LOCAL_OWNER: &str = "local-owner";

/// A secret of 32 random bytes in hex behind `prefix`, read from `path` or made there with mode 0600.
pub fn secret_file(path: &Path, prefix: &str) -> std::io::Result<SecretString> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(SecretString::from(text.trim().to_owned())),
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => (),
        Err(error) => return Err(error),
    }
    let mut random = [0u8; 32];
    getrandom::fill(&mut random).map_err(|e| std::io::Error::other(e.to_string()))?;
    let secret = format!("{prefix}{}", hex::encode(random));
    // Written beside and renamed: a reader never sees half a key.
    let fresh = path.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    Ok(SecretString::from(secret))
}

/// What a request brings to show who sends it.
#[derive(Debug, Clone)]
pub struct Credential(SecretString);

impl Credential {
    /// That of a request: `X-API-Key: KEY`, which comes first, `Authorization: Bearer KEY`, or, as ABCA's clients send
    /// it, `Authorization: KEY`.
    pub fn of(headers: &HeaderMap) -> Option<Credential> {
        let text = |v: &axum::http::HeaderValue| v.to_str().ok().map(|s| s.trim().to_owned());
        let key = headers.get("x-api-key").and_then(text).or_else(|| {
            let value = headers.get(header::AUTHORIZATION).and_then(text)?;
            // The scheme's name has no case.
            Some(match value.split_once(' ') {
                Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim().to_owned(),
                Some(_) | None => value,
            })
        })?;
        Some(Credential(SecretString::from(key)))
    }

    /// The text. It is a secret: compare it in constant time, and tell nobody.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Why a credential that a verifier knows the form of is not good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// It is not, or no longer, valid: 401, with this sentence.
    Refused(String),
    /// It is valid, and opens nothing here: 403, with this sentence.
    Forbidden(String),
    /// It cannot be told now (an identity provider that does not answer): 503, with this sentence.
    Unavailable(String),
}

/// One way of telling who calls: API keys, tokens of an identity provider.
#[async_trait]
pub trait Verifier: Send + Sync + fmt::Debug {
    /// Who has this credential; `None` when it does not have the form that this verifier knows, so that the next is asked.
    async fn verify(&self, credential: &Credential, now: Timestamp) -> Result<Option<Identity>, Denied>;
}

/// Finds out who calls: the owner's key first, then each verifier in its turn.
#[derive(Debug, Clone)]
pub struct Keys {
    owner: SecretString,
    verifiers: Vec<Arc<dyn Verifier>>,
}

impl Keys {
    /// Only the owner's.
    pub fn new(owner: SecretString) -> Keys {
        Keys { owner, verifiers: Vec::new() }
    }

    /// One more way.
    #[must_use]
    pub fn and(mut self, verifier: Arc<dyn Verifier>) -> Keys {
        self.verifiers.push(verifier);
        self
    }

    /// Who sends these headers; `None` when they hold nothing that anybody knows.
    pub async fn identify(&self, headers: &HeaderMap, now: Timestamp) -> Result<Option<Identity>, Denied> {
        let Some(credential) = Credential::of(headers) else { return Ok(None) };
        if bool::from(credential.expose().as_bytes().ct_eq(self.owner.expose_secret().as_bytes())) {
            return Ok(Some(owner()));
        }
        for verifier in &self.verifiers {
            if let Some(identity) = verifier.verify(&credential, now).await? {
                return Ok(Some(identity));
            }
        }
        Ok(None)
    }
}

/// Whoever has the owner's key.
fn owner() -> Identity {
    Identity {
        user: UserId::new(LOCAL_OWNER),
        role: Role::Owner,
        teams: BTreeSet::new(),
        scopes: Role::Owner.scopes(),
        by: Authenticated::OwnerKey,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("owner-key");
        let first = secret_file(&path, "bgak_").unwrap();
        let second = secret_file(&path, "bgak_").unwrap();
        assert_eq!(first.expose_secret(), second.expose_secret());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(first.expose_secret().starts_with("bgak_") && first.expose_secret().len() == 69);
    }

    #[tokio::test]
    async fn all_three_forms_of_the_key_are_taken_and_no_other() {
        let keys = Keys::new(SecretString::from("k1".to_owned()));
        let ask = async |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            keys.identify(&headers, Timestamp::UNIX_EPOCH).await.unwrap()
        };
        for (name, value) in [("x-api-key", "k1"), ("authorization", "Bearer k1"), ("authorization", "k1")] {
            assert_eq!(ask(name, value).await, Some(owner()), "{name}: {value}");
        }
        for (name, value) in [("x-api-key", "k2"), ("authorization", "Bearer "), ("cookie", "k1")] {
            assert_eq!(ask(name, value).await, None, "{name}: {value}");
        }
        assert_eq!(keys.identify(&HeaderMap::new(), Timestamp::UNIX_EPOCH).await, Ok(None));
    }

    /// Knows credentials that begin with its name.
    #[derive(Debug)]
    struct Named(&'static str, Denied);

    #[async_trait]
    impl Verifier for Named {
        async fn verify(&self, credential: &Credential, _now: Timestamp) -> Result<Option<Identity>, Denied> {
            match credential.expose().strip_prefix(self.0) {
                Some("!") => Err(self.1.clone()),
                Some(user) => Ok(Some(Identity { user: UserId::new(user), ..owner() })),
                None => Ok(None),
            }
        }
    }

    #[tokio::test]
    async fn verifiers_are_asked_in_turn_and_the_one_that_knows_the_form_decides() {
        let refused = Denied::Refused("it has expired".into());
        let away = Denied::Unavailable("the provider does not answer".into());
        let keys = Keys::new(SecretString::from("k1".to_owned()))
            .and(Arc::new(Named("a-", refused.clone())))
            .and(Arc::new(Named("a-b-", away.clone())))
            .and(Arc::new(Named("c-", away.clone())));
        let ask = async |key: &str| {
            let headers =
                HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap())]);
            keys.identify(&headers, Timestamp::UNIX_EPOCH)
                .await
                .map(|who| who.map(|who| who.user.to_string()))
        };
        assert_eq!(ask("a-ann").await, Ok(Some("ann".into())));
        assert_eq!(ask("a-b-x").await, Ok(Some("b-x".into())), "the first that knows it");
        assert_eq!(ask("c-cleo").await, Ok(Some("cleo".into())));
        assert_eq!(ask("a-!").await, Err(refused), "nobody else is asked");
        assert_eq!(ask("c-!").await, Err(away));
        assert_eq!(ask("d-dan").await, Ok(None));
    }
}
