//! API keys: `bgak_<key id>_<64 hex digits>`. Only the SHA-256 of the secret part is kept, so whoever reads the database
//! has no key. A key is looked up at each use: what is revoked is refused from the next request on.

use async_trait::async_trait;
use domain::access::Authenticated;
use domain::{ApiKeyId, Identity, limit};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use store::{ApiKeyRecord, Store, StoreError};
use subtle::ConstantTimeEq as _;
use tracing::warn;

use super::{Credential, Denied, Verifier};

const PREFIX: &str = "bgak_";
/// Hex digits of the secret part.
const SECRET_CHARS: usize = 64;

/// A new secret part, and the hash to keep of it.
pub fn new_secret() -> Result<(SecretString, [u8; 32]), getrandom::Error> {
    let mut random = [0u8; SECRET_CHARS / 2];
    getrandom::fill(&mut random)?;
    let secret = hex::encode(random);
    let hash = hash(&secret);
    Ok((SecretString::from(secret), hash))
}

/// The key as its holder writes it.
pub fn written(id: ApiKeyId, secret: &SecretString) -> SecretString {
    SecretString::from(format!("{PREFIX}{id}_{}", secret.expose_secret()))
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// The id and the secret part of what has the form of a key.
fn parse(text: &str) -> Option<(ApiKeyId, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let hex = secret.len() == SECRET_CHARS
        && secret.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    Some((id.parse().ok()?, secret)).filter(|_| hex)
}

/// Knows API keys.
#[derive(Debug, Clone)]
pub struct ApiKeys {
    store: Store,
}

impl ApiKeys {
    /// Those of this store.
    pub fn new(store: Store) -> ApiKeys {
        ApiKeys { store }
    }

    /// Notes the use of a key, not more often than it is worth a write.
    async fn note(&self, key: &ApiKeyRecord, now: Timestamp) {
        let step = i64::try_from(limit::LAST_USED_STEP.as_secs()).unwrap_or(i64::MAX);
        if key.last_used_at.is_none_or(|at| now.as_second() - at.as_second() >= step)
            && let Err(failure) = self.store.api_key_used(key.id, now).await
        {
            warn!(key.id = %key.id, error = %failure, "the use of a key could not be noted");
        }
    }
}

#[async_trait]
impl Verifier for ApiKeys {
    async fn verify(&self, credential: &Credential, now: Timestamp) -> Result<Option<Identity>, Denied> {
        let Some((id, secret)) = parse(credential.expose()) else { return Ok(None) };
        let key = self.store.api_key_get(id).await.map_err(unreadable)?;
        // As much work for an id that there is not.
        let kept = key.as_ref().map_or([0; 32], |key| key.hash);
        let same = bool::from(hash(secret).ct_eq(&kept));
        // Only who has the secret is told what became of the key.
        let Some(key) = key.filter(|_| same) else { return Ok(None) };
        if let Some(at) = key.revoked_at {
            return Err(Denied::Refused(format!("API key {id} was revoked at {at:.0}; use another")));
        }
        if let Some(at) = key.expires_at.filter(|at| *at <= now) {
            return Err(Denied::Refused(format!("API key {id} expired at {at:.0}; make another")));
        }
        self.note(&key, now).await;
        Ok(Some(Identity {
            user: key.user,
            role: key.role,
            teams: Default::default(),
            scopes: key.scopes,
            by: Authenticated::ApiKey(id),
        }))
    }
}

fn unreadable(failure: StoreError) -> Denied {
    tracing::error!(error = %failure, "a key could not be looked up");
    Denied::Unavailable("keys cannot be looked up now; nothing was done, try again".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let id: ApiKeyId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let (secret, kept) = new_secret().unwrap();
        let key = written(id, &secret);
        let (read, part) = parse(key.expose_secret()).unwrap();
        assert_eq!((read, hash(part)), (id, kept));
        assert_eq!(key.expose_secret().len(), 5 + 26 + 1 + 64);
        let hex = "a".repeat(64);
        for bad in [
            String::new(),
            "bgak_".into(),
            format!("bgak_{hex}"),
            format!("bgak_{id}"),
            format!("bgak_{id}_"),
            format!("bgak_{id}_{}", &hex[1..]),
            format!("bgak_{id}_{hex}a"),
            format!("bgak_{id}_{}", hex.to_uppercase()),
            format!("bgak_{id}_{}g", &hex[1..]),
            format!("bgak_x_{hex}"),
            format!("{id}_{hex}"),
            format!("BGAK_{id}_{hex}"),
            format!("bgak_{id}_{hex} "),
        ] {
            assert!(parse(&bad).is_none(), "{bad}");
        }
    }
}
