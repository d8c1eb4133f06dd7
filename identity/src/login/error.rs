//! Why somebody is not signed in, and what to do about it.

use crate::discovery::FetchError;

/// Why somebody is not signed in. No text of these holds a token or a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The provider could not be asked.
    #[error("{0}")]
    Fetch(#[from] FetchError),
    /// The provider said something that makes no sense.
    #[error("the identity provider {issuer}: {why}")]
    Provider {
        /// Its issuer.
        issuer: String,
        /// What.
        why: String,
    },
    /// The provider has no such login.
    #[error("the identity provider {issuer} cannot do this: {what}")]
    Unsupported {
        /// Its issuer.
        issuer: String,
        /// What it lacks.
        what: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// The provider said no.
    #[error("the identity provider refused: {code}{}", description.as_deref().map(|d| format!(" ({d})")).unwrap_or_default())]
    Refused {
        /// Its issuer.
        issuer: String,
        /// The client that asked.
        client_id: String,
        /// The code of RFC 6749, RFC 8628 or OpenID Connect.
        code: String,
        /// The provider's own words.
        description: Option<String>,
    },
    /// Nobody came.
    #[error("nobody signed in within {minutes} minutes")]
    TooLate {
        /// How long it was waited.
        minutes: u64,
    },
    /// The refresh token is not good any more.
    #[error("the session has expired")]
    Over,
    /// This machine could not do its part.
    #[error("{0}")]
    Machine(String),
}

impl LoginError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            LoginError::Fetch(FetchError::Unreachable { .. }) => {
                "Check your connection to the identity provider, then try again.".into()
            }
            LoginError::Fetch(_) | LoginError::Provider { .. } => {
                "Ask whoever runs the server: its [identity.oidc] section names the provider and the client."
                    .into()
            }
            LoginError::Unsupported { instead, .. } => (*instead).into(),
            LoginError::Refused { issuer, client_id, code, .. } => refused(issuer, client_id, code),
            LoginError::TooLate { .. } => "Run `bgagent login` again when you are ready to sign in.".into(),
            LoginError::Over => "Run `bgagent login` to sign in again.".into(),
            LoginError::Machine(_) => "Try `bgagent login --device` on this machine.".into(),
        }
    }
}

/// First logins are where a provider wants something else first; each of its words with what to do about it.
fn refused(issuer: &str, client_id: &str, code: &str) -> String {
    match code {
        "access_denied" => "The sign-in was declined, or the provider does not let your account use this client. Try again, or ask whoever runs the provider to assign you to it.".into(),
        "interaction_required" | "login_required" | "consent_required" | "account_selection_required" => format!(
            "The provider wants something of you first: a new password, a second factor, or consent. Sign in once at {issuer} in a browser, then run `bgagent login` again."
        ),
        "invalid_client" | "unauthorized_client" | "unsupported_grant_type" => format!(
            "The client {client_id:?} must exist at {issuer} as a public client (no secret) that may use the device code, or the authorization code with PKCE, and refresh tokens."
        ),
        "invalid_scope" => "The client may not ask for one of the scopes; whoever runs the server can set `scopes` in [identity.oidc.NAME], without offline_access say.".into(),
        "invalid_request" | "invalid_target" => "The provider wants other parameters; whoever runs the server can set `parameters` and `redirect_url` in [identity.oidc.NAME].".into(),
        "expired_token" | "invalid_grant" => "The code has expired or was used already. Run `bgagent login` again.".into(),
        "temporarily_unavailable" | "server_error" | "slow_down" => "The provider is busy. Try again in a minute.".into(),
        _ => "Ask whoever runs the identity provider what it means.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_first_login_meets_is_told_with_what_to_do() {
        for (code, word) in [
            ("interaction_required", "a new password"),
            ("login_required", "https://id.example"),
            ("consent_required", "consent"),
            ("access_denied", "assign"),
            ("invalid_client", "public client"),
            ("unauthorized_client", "\"cli\""),
            ("invalid_scope", "offline_access"),
            ("expired_token", "bgagent login"),
            ("whatever", "identity provider"),
        ] {
            let refused = LoginError::Refused {
                issuer: "https://id.example".into(),
                client_id: "cli".into(),
                code: code.into(),
                description: Some("words".into()),
            };
            assert!(refused.hint().contains(word), "{code}: {}", refused.hint());
            assert!(refused.to_string().contains(&format!("{code} (words)")), "{refused}");
        }
    }
}
