//! The tokens of boxes. Both kinds are derived from one key with HMAC-SHA-256, so nothing secret is stored: a restarted
//! control plane makes the same bootstrap token again when it repeats `start`, and checks any token without a look-up.
//! Whether the attempt is still the current one is the store's to say, on every call.

use std::fmt;

use domain::{Attempt, TaskId};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The key that tokens are derived from: 32 random bytes in hex, kept in a 0600 file.
#[derive(Clone)]
pub struct TokenKey(SecretString);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey([REDACTED])")
    }
}

/// What a session token says, once its signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoxIdentity {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// The worker process.
    pub instance: String,
}

impl TokenKey {
    /// Wraps a key.
    pub fn new(key: SecretString) -> TokenKey {
        TokenKey(key)
    }

    /// The one-time token that the box of (task, attempt) attaches with.
    pub fn bootstrap(&self, task: TaskId, attempt: Attempt) -> SecretString {
        let text = format!("bgb_{task}_{attempt}");
        SecretString::from(format!("{text}_{}", self.sign(&text)))
    }

    /// Whether `token` is the bootstrap token of (task, attempt). Constant time.
    pub fn is_bootstrap(&self, token: &str, task: TaskId, attempt: Attempt) -> bool {
        same(self.bootstrap(task, attempt).expose_secret(), token)
    }

    /// The token of a session, bound to (task, attempt, instance).
    pub fn session(&self, identity: &BoxIdentity) -> SecretString {
        let text = format!("bgs_{}_{}_{}", identity.task, identity.attempt, identity.instance);
        SecretString::from(format!("{text}_{}", self.sign(&text)))
    }

    /// Who a session token speaks for; `None` when it is not one of ours.
    pub fn verify_session(&self, token: &str) -> Option<BoxIdentity> {
        let (text, signature) = token.rsplit_once('_')?;
        if !same(&self.sign(text), signature) {
            return None;
        }
        let mut parts = text.strip_prefix("bgs_")?.splitn(3, '_');
        let task = parts.next()?.parse().ok()?;
        let attempt = Attempt(parts.next()?.parse().ok()?);
        Some(BoxIdentity { task, attempt, instance: parts.next()?.to_owned() })
    }

    fn sign(&self, text: &str) -> String {
        // HMAC takes a key of any length, so this cannot fail; an empty tag would never verify.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.expose_secret().as_bytes()) else {
            return String::new();
        };
        mac.update(text.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
}

fn same(a: &str, b: &str) -> bool {
    !a.is_empty() && bool::from(a.as_bytes().ct_eq(b.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> TokenKey {
        TokenKey::new(SecretString::from(text.to_owned()))
    }

    #[test]
    fn a_token_speaks_for_one_instance_of_one_attempt() {
        let who = BoxIdentity { task: TaskId::from_bits(9), attempt: Attempt(2), instance: "ab12".into() };
        let token = key("k").session(&who);
        assert_eq!(key("k").verify_session(token.expose_secret()), Some(who.clone()));
        assert_eq!(key("other").verify_session(token.expose_secret()), None);
        let forged = token.expose_secret().replace("_2_ab12_", "_3_ab12_");
        assert_eq!(key("k").verify_session(&forged), None);
        assert_eq!(key("k").verify_session("bgs_x"), None);
        assert_eq!(key("k").verify_session(""), None);
    }

    #[test]
    fn bootstrap_tokens_are_per_attempt_and_not_session_tokens() {
        let task = TaskId::from_bits(9);
        let token = key("k").bootstrap(task, Attempt(1));
        assert!(key("k").is_bootstrap(token.expose_secret(), task, Attempt(1)));
        assert!(!key("k").is_bootstrap(token.expose_secret(), task, Attempt(2)));
        assert_eq!(key("k").verify_session(token.expose_secret()), None);
    }
}
