//! A provider's keys as last fetched.
//!
//! - Fresh keys are used as they are; older ones are renewed by one request, while the others go on with what is there.
//! - A token with a key that is not there has the keys fetched at once: a rotation drops nobody. Whoever sends tokens with
//!   made-up keys gets no more than [`UNPLANNED_MAX`] requests a minute out of us, and what was just looked up and not
//!   found is not looked up again for a while.
//! - A provider that is away changes nothing for the keys we have, until they are too old to be believed. What cannot be
//!   told without it is [`KeyError::Unavailable`], never a refusal.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use reqwest::Client;
use tracing::{info, warn};
use url::Url;

use crate::discovery::{self, FetchError};
use crate::http;
use crate::key::{KeySet, Signed};
use crate::settings::Settings;
use crate::token::Unverified;

/// Younger keys are used without a question: a key that a provider withdraws is believed for so long at most.
pub const FRESH_S: i64 = 600;
/// Older keys are not used, even if nobody tells us of newer ones.
pub const KEPT_S: i64 = 24 * 3_600;
/// Requests for keys of tokens that name an unknown one, in [`WINDOW_S`].
pub const UNPLANNED_MAX: usize = 5;
/// See [`UNPLANNED_MAX`].
pub const WINDOW_S: i64 = 60;
/// A provider that was away is left alone for so long.
pub const AWAY_S: i64 = 10;
/// A key that was not found is not looked for again for so long.
const NOT_FOUND_S: i64 = 15;
/// So many of those are remembered.
const NOT_FOUND_MAX: usize = 64;

/// Why a token's signature is not good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// The provider does not publish its key.
    UnknownKey,
    /// The key it names did not sign it.
    Wrong,
    /// It cannot be told without the provider; ask again after so many seconds.
    Unavailable {
        /// Seconds.
        retry_after_s: u64,
    },
}

/// The keys of one provider.
#[derive(Debug)]
pub struct KeyCache {
    provider: String,
    issuer: String,
    jwks: Option<Url>,
    http: Client,
    held: RwLock<Held>,
    fetching: tokio::sync::Mutex<Unplanned>,
}

#[derive(Debug, Clone, Default)]
struct Held {
    keys: Option<Keys>,
    away_since: Option<Timestamp>,
}

/// One answer of the provider.
#[derive(Debug, Clone)]
struct Keys {
    set: Arc<KeySet>,
    /// Counts the answers.
    number: u64,
    at: Timestamp,
}

/// Whoever fetches holds this.
#[derive(Debug, Default)]
struct Unplanned {
    fetched: VecDeque<Timestamp>,
    not_found: VecDeque<(Option<String>, Timestamp)>,
}

impl KeyCache {
    /// Of a provider; asks nobody yet.
    pub fn new(provider: &str, settings: &Settings) -> Result<KeyCache, String> {
        let issuer = discovery::issuer(&settings.issuer)?;
        let jwks = settings.jwks_url.as_deref().map(|url| discovery::endpoint(&issuer, url)).transpose()?;
        Ok(KeyCache {
            provider: provider.to_owned(),
            issuer: settings.issuer.clone(),
            jwks,
            http: http::client(&issuer).map_err(|e| e.to_string())?,
            held: RwLock::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// Whether the provider signed the token.
    pub async fn signed(&self, token: &Unverified<'_>, now: Timestamp) -> Result<(), KeyError> {
        let keys = self.current(now).await?;
        let keys = match keys.set.check(token) {
            Signed::Yes => return Ok(()),
            // A provider set up anew may give a new key an old name; a forger gets no requests out of us for it.
            Signed::Wrong if age(keys.at, now) < WINDOW_S => return Err(KeyError::Wrong),
            said @ (Signed::Wrong | Signed::UnknownKey) => self.newer(keys.number, said, token, now).await?,
        };
        match keys.set.check(token) {
            Signed::Yes => Ok(()),
            Signed::Wrong => Err(KeyError::Wrong),
            Signed::UnknownKey => Err(KeyError::UnknownKey),
        }
    }

    /// Fetches the keys, planned or not; says how many there are.
    pub async fn fetch(&self, now: Timestamp) -> Result<usize, FetchError> {
        let _one_at_a_time = self.fetching.lock().await;
        self.refresh(now).await.map(|keys| keys.set.len())
    }

    fn held(&self) -> Held {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys to begin with.
    async fn current(&self, now: Timestamp) -> Result<Keys, KeyError> {
        let held = self.held();
        if let Some(keys) = held.keys.filter(|keys| age(keys.at, now) < KEPT_S) {
            let fresh = age(keys.at, now) < FRESH_S || away(held.away_since, now).is_some();
            // Somebody else is renewing them: go on with these.
            let Some(_one_at_a_time) = (!fresh).then(|| self.fetching.try_lock().ok()).flatten() else {
                return Ok(keys);
            };
            return Ok(self.refresh(now).await.unwrap_or(keys));
        }
        let _one_at_a_time = self.fetching.lock().await;
        let held = self.held();
        match held.keys {
            Some(keys) if age(keys.at, now) < FRESH_S => Ok(keys),
            Some(_) | None => match away(held.away_since, now) {
                Some(retry_after_s) => Err(KeyError::Unavailable { retry_after_s }),
                None => self.refresh(now).await.map_err(|_| again()),
            },
        }
    }

    /// Newer keys than these, for a token that these do not know.
    async fn newer(
        &self,
        than: u64,
        said: Signed,
        token: &Unverified<'_>,
        now: Timestamp,
    ) -> Result<Keys, KeyError> {
        let mut unplanned = self.fetching.lock().await;
        let held = self.held();
        if let Some(keys) = held.keys.filter(|keys| keys.number > than) {
            return Ok(keys);
        }
        if unplanned.looked_for(&token.key_id, now) {
            return Err(if said == Signed::Wrong { KeyError::Wrong } else { KeyError::UnknownKey });
        }
        if let Some(retry_after_s) = away(held.away_since, now).or_else(|| unplanned.take(now)) {
            return Err(KeyError::Unavailable { retry_after_s });
        }
        let keys = self.refresh(now).await.map_err(|_| again())?;
        if keys.set.check(token) != Signed::Yes {
            unplanned.not_found(token.key_id.clone(), now);
        }
        Ok(keys)
    }

    /// Asks the provider. The caller holds `fetching`.
    async fn refresh(&self, now: Timestamp) -> Result<Keys, FetchError> {
        let fetched = self.ask().await;
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        match fetched {
            Ok(set) => {
                let number = held.keys.as_ref().map_or(1, |keys| keys.number + 1);
                let keys = Keys { set: Arc::new(set), number, at: now };
                *held = Held { keys: Some(keys.clone()), away_since: None };
                info!(
                    provider = self.provider,
                    keys = keys.set.len(),
                    "fetched the keys of an identity provider"
                );
                Ok(keys)
            }
            Err(failure) => {
                held.away_since = Some(now);
                let old = held.keys.as_ref().map(|keys| age(keys.at, now));
                warn!(provider = self.provider, error = %failure, age_s = old, "the keys of an identity provider could not be fetched");
                Err(failure)
            }
        }
    }

    async fn ask(&self) -> Result<KeySet, FetchError> {
        let url = match &self.jwks {
            Some(url) => url.clone(),
            None => discovery::fetch(&self.http, &self.issuer).await?.jwks,
        };
        let body = http::get(&self.http, &url).await?;
        KeySet::parse(&body).map_err(|why| FetchError::Answer { url: http::shown(&url), why })
    }
}

impl Unplanned {
    /// Counts a request; seconds to wait when there were too many.
    fn take(&mut self, now: Timestamp) -> Option<u64> {
        self.fetched.retain(|at| age(*at, now) < WINDOW_S);
        if self.fetched.len() >= UNPLANNED_MAX {
            let oldest = self.fetched.front().map_or(0, |at| age(*at, now));
            return Some((WINDOW_S - oldest).clamp(1, WINDOW_S).unsigned_abs());
        }
        self.fetched.push_back(now);
        None
    }

    fn looked_for(&self, key_id: &Option<String>, now: Timestamp) -> bool {
        self.not_found.iter().any(|(id, at)| id == key_id && age(*at, now) < NOT_FOUND_S)
    }

    fn not_found(&mut self, key_id: Option<String>, now: Timestamp) {
        self.not_found.retain(|(id, at)| *id != key_id && age(*at, now) < NOT_FOUND_S);
        self.not_found.truncate(NOT_FOUND_MAX - 1);
        self.not_found.push_front((key_id, now));
    }
}

/// Seconds since; none when the clock was set back.
fn age(at: Timestamp, now: Timestamp) -> i64 {
    now.as_second().saturating_sub(at.as_second()).max(0)
}

/// For how long a provider that was away is still left alone.
fn away(since: Option<Timestamp>, now: Timestamp) -> Option<u64> {
    let left = AWAY_S - age(since?, now);
    (left > 0).then_some(left.unsigned_abs())
}

fn again() -> KeyError {
    KeyError::Unavailable { retry_after_s: AWAY_S.unsigned_abs() }
}
