//! Tokens of the configured identity providers.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::identity::{Denied as Why, Settings, token};
use async_trait::async_trait;
use domain::access::Authenticated;
use domain::{Identity, UserId};
use jiff::Timestamp;
use tracing::{info, warn};

use super::{Credential, Denied, LOCAL_OWNER, Verifier};

/// Knows credentials that have the form of a token.
#[derive(Debug, Clone)]
pub struct Oidc(Arc<::identity::Verifier>);

impl Oidc {
    /// For these providers; `None` where there are none. `Err` names the provider, the setting and what to write.
    pub fn new(providers: &BTreeMap<String, Settings>) -> Result<Option<Oidc>, String> {
        let known = |name: &&String| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
            !name.is_empty() && name.chars().all(plain)
        };
        if let Some(name) = providers.keys().find(|name| !known(name)) {
            return Err(format!("{name:?}: a provider's name has small letters, digits, - and _ only"));
        }
        let verifier = ::identity::Verifier::new(providers)?;
        Ok((!providers.is_empty()).then(|| Oidc(Arc::new(verifier))))
    }

    /// Asks every provider for its keys, so that a wrong address is in the log at the start and not at the first login.
    pub async fn look(&self, now: Timestamp) {
        for (provider, found) in self.0.fetch(now).await {
            match found {
                Ok(keys) => info!(provider, keys, "an identity provider is there"),
                Err(failure) => {
                    warn!(provider, error = %failure, "an identity provider cannot be used now; its users cannot sign in");
                }
            }
        }
    }
}

#[async_trait]
impl Verifier for Oidc {
    async fn verify(&self, credential: &Credential, now: Timestamp) -> Result<Option<Identity>, Denied> {
        if !token::looks_like_one(credential.expose()) {
            return Ok(None);
        }
        let person = self.0.verify(credential.expose(), now).await.map_err(|why| match &why {
            Why::Refused(_) => Denied::Refused(why.to_string()),
            Why::NoRole(_) => Denied::Forbidden(why.to_string()),
            Why::Unavailable { .. } => Denied::Unavailable(why.to_string()),
        })?;
        // Possible only where a provider's users have no prefix.
        if person.user == LOCAL_OWNER {
            return Err(Denied::Forbidden(format!(
                "{LOCAL_OWNER} is the name of the owner's key; give the provider a user_prefix"
            )));
        }
        Ok(Some(Identity {
            user: UserId::new(person.user),
            role: person.role,
            teams: person.teams,
            scopes: person.role.scopes(),
            by: Authenticated::Oidc { issuer: person.issuer },
        }))
    }
}
