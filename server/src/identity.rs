//! Who calls. In local mode there is one owner with one key, generated into a 0600 file at first start.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use axum::http::{HeaderMap, header};
use domain::UserId;
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

/// Checks the keys of callers.
#[derive(Debug, Clone)]
pub struct Keys {
    owner: SecretString,
}

impl Keys {
    /// Only the owner's.
    pub fn new(owner: SecretString) -> Keys {
        Keys { owner }
    }

    /// The user of a request: `X-API-Key: KEY`, `Authorization: Bearer KEY`, or, as ABCA's clients send it,
    /// `Authorization: KEY`. Compared in constant time.
    pub fn user(&self, headers: &HeaderMap) -> Option<UserId> {
        let text = |v: &axum::http::HeaderValue| v.to_str().ok().map(|s| s.trim().to_owned());
        let key = headers.get("x-api-key").and_then(text).or_else(|| {
            let value = headers.get(header::AUTHORIZATION).and_then(text)?;
            // The scheme's name has no case.
            let key = match value.split_once(' ') {
                Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim().to_owned(),
                Some(_) | None => value,
            };
            Some(key)
        })?;
        let same = bool::from(key.as_bytes().ct_eq(self.owner.expose_secret().as_bytes()));
        same.then(|| UserId::new(LOCAL_OWNER))
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

    #[test]
    fn all_three_forms_of_the_key_are_taken_and_no_other() {
        let keys = Keys::new(SecretString::from("k1".to_owned()));
        let ask = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            keys.user(&headers).is_some()
        };
        assert!(ask("x-api-key", "k1") && ask("authorization", "Bearer k1") && ask("authorization", "k1"));
        assert!(!ask("x-api-key", "k2") && !ask("authorization", "Bearer ") && !ask("cookie", "k1"));
        assert!(keys.user(&HeaderMap::new()).is_none());
    }
}
