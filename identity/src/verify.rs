//! From a token to a person: the claims first, which cost nothing, then the signature, which may need the provider.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::cache::{KeyCache, KeyError};
use crate::claim::{self, Person, Refusal};
use crate::discovery::FetchError;
use crate::settings::Settings;
use crate::token;

/// Why a token does not let anybody in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is not good.
    #[error("{0}")]
    Refused(Refusal),
    /// It is good, but whose it is has no role here.
    #[error("{0}")]
    NoRole(Refusal),
    /// It cannot be told now.
    #[error(
        "the identity provider {provider} does not answer now, and the key of this token is not known yet; try again in {retry_after_s} s"
    )]
    Unavailable {
        /// Its name in the configuration.
        provider: String,
        /// Seconds until it makes sense to ask again.
        retry_after_s: u64,
    },
}

/// Verifies tokens of the configured providers.
#[derive(Debug)]
pub struct Verifier {
    providers: Vec<Provider>,
}

#[derive(Debug)]
struct Provider {
    name: String,
    settings: Settings,
    keys: KeyCache,
}

impl Verifier {
    /// For these providers, by name. Asks none of them yet. `Err` names the provider, the setting and what to write.
    pub fn new(providers: &BTreeMap<String, Settings>) -> Result<Verifier, String> {
        let provider = |(name, settings): (&String, &Settings)| {
            let keys = settings.check().and_then(|()| KeyCache::new(name, settings));
            let keys = keys.map_err(|why| format!("{name}: {why}"))?;
            Ok(Provider { name: name.clone(), settings: settings.clone(), keys })
        };
        Ok(Verifier { providers: providers.iter().map(provider).collect::<Result<_, String>>()? })
    }

    /// Whose token this is.
    pub async fn verify(&self, text: &str, now: Timestamp) -> Result<Person, Denied> {
        let token = token::parse(text).map_err(Denied::Refused)?;
        let (provider, expires_at) = self.meant(&token.claims, now).map_err(Denied::Refused)?;
        provider.keys.signed(&token, now).await.map_err(|error| match error {
            KeyError::UnknownKey => Denied::Refused(Refusal::UnknownKey),
            KeyError::Wrong => Denied::Refused(Refusal::Signature),
            KeyError::Unavailable { retry_after_s } => {
                Denied::Unavailable { provider: provider.name.clone(), retry_after_s }
            }
        })?;
        claim::person(&provider.name, &provider.settings, &token.claims, expires_at).map_err(|refusal| {
            match &refusal {
                Refusal::NoRole { .. } => Denied::NoRole(refusal),
                _ => Denied::Refused(refusal),
            }
        })
    }

    /// The provider that a token must be of. Of several with one issuer, the first that it is for.
    fn meant(
        &self,
        claims: &serde_json::Map<String, serde_json::Value>,
        now: Timestamp,
    ) -> Result<(&Provider, Timestamp), Refusal> {
        let issuer = claim::issuer(claims)?;
        let mut refused = Refusal::Issuer { issuer: domain::event::preview(issuer, 200) };
        for provider in self.providers.iter().filter(|provider| provider.settings.issuer == issuer) {
            match claim::admissible(&provider.settings, claims, now) {
                Ok(expires_at) => return Ok((provider, expires_at)),
                Err(refusal) => refused = refusal,
            }
        }
        Err(refused)
    }

    /// Asks every provider for its keys, and tells what came of it: how many keys, or why none.
    pub async fn fetch(&self, now: Timestamp) -> Vec<(&str, Result<usize, FetchError>)> {
        let mut told = Vec::new();
        for provider in &self.providers {
            told.push((provider.name.as_str(), provider.keys.fetch(now).await));
        }
        told
    }
}

#[cfg(test)]
mod tests;
