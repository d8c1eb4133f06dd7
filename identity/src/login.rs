//! How a person gets a token: by a code on another device ([`device`]), or in a browser on this machine ([`browser`]). And
//! how they go on having one: [`Client::refresh`].
//!
//! The client is public: it has no secret. Whatever a provider wants of somebody who signs in for the first time (a new
//! password, a second factor, consent) it asks in the browser; what it says otherwise is told with what to do.

pub mod browser;
pub mod device;
mod error;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

pub use self::error::LoginError;
use crate::discovery::{self, Metadata};
use crate::http;
use crate::settings::Shown;
use crate::token;

/// What a server says of a provider that people may sign in at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its issuer.
    pub issuer: String,
    /// The public client to sign in with.
    pub client_id: String,
    /// What to ask for.
    pub scopes: Vec<String>,
    /// What to send besides.
    pub parameters: BTreeMap<String, String>,
    /// Where a browser comes back to; any port of 127.0.0.1 when absent.
    pub redirect_url: Option<String>,
    /// Which token to show the server.
    pub token: Shown,
}

/// What a login brings.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// The one that is shown to the server.
    pub token: SecretString,
    /// The one that brings the next; absent where the provider gives none.
    pub refresh: Option<SecretString>,
    /// Until when the first is good, as far as anybody says.
    pub expires_at: Option<Timestamp>,
}

/// Speaks to one provider for one client.
#[derive(Debug)]
pub struct Client {
    provider: Provider,
    metadata: Metadata,
    http: reqwest::Client,
}

/// An answer of the token endpoint (RFC 6749, 5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: Option<String>,
    id_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<serde_json::Value>,
}

/// An answer of it that grants nothing (5.2).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct NotGranted {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

/// What an endpoint answered.
enum Answer {
    Granted(Vec<u8>),
    NotGranted(NotGranted),
}

impl Client {
    /// Asks the provider for its description.
    pub async fn discover(provider: Provider) -> Result<Client, LoginError> {
        let bad = |why: &str| LoginError::Provider { issuer: provider.issuer.clone(), why: why.to_owned() };
        let issuer = discovery::issuer(&provider.issuer).map_err(bad)?;
        let http = http::client(&issuer)?;
        let metadata = discovery::fetch(&http, &provider.issuer).await?;
        Ok(Client { provider, metadata, http })
    }

    /// Whether it gives codes for other devices.
    pub fn has_device_login(&self) -> bool {
        self.metadata.device.is_some()
    }

    /// New tokens for a refresh token. [`LoginError::Over`] when it is not good any more: a new login is needed.
    pub async fn refresh(&self, refresh: &SecretString, now: Timestamp) -> Result<Tokens, LoginError> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.expose_secret())];
        match self.post_token(&form).await? {
            Answer::Granted(body) => {
                let mut tokens = self.tokens(&body, None, now)?;
                // A provider that does not rotate them sends none: the old one goes on.
                tokens.refresh = tokens.refresh.or_else(|| Some(refresh.clone()));
                Ok(tokens)
            }
            Answer::NotGranted(NotGranted { error, .. }) if error == "invalid_grant" => Err(LoginError::Over),
            Answer::NotGranted(refused) => Err(self.refused(refused)),
        }
    }

    /// Tells the provider that a refresh token is not needed any more, if it wants to know.
    pub async fn revoke(&self, refresh: &SecretString) -> Result<(), LoginError> {
        let Some(url) = &self.metadata.revocation else { return Ok(()) };
        let form = [("token", refresh.expose_secret()), ("token_type_hint", "refresh_token")];
        match self.post(url, &form).await? {
            Answer::Granted(_) => Ok(()),
            Answer::NotGranted(refused) => Err(self.refused(refused)),
        }
    }

    async fn post_token(&self, form: &[(&str, &str)]) -> Result<Answer, LoginError> {
        let none = || LoginError::Unsupported {
            issuer: self.provider.issuer.clone(),
            what: "it names no token endpoint",
            instead: "Is it an OpenID Connect provider?",
        };
        let url = self.metadata.token.as_ref().ok_or_else(none)?;
        let mut form = form.to_vec();
        form.extend(self.parameters());
        self.post(url, &form).await
    }

    fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.provider.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    async fn post(&self, url: &Url, form: &[(&str, &str)]) -> Result<Answer, LoginError> {
        let call = self.http.post(url.clone()).header("Accept", "application/json");
        let call = call
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(encoded(&self.provider.client_id, form));
        let answer = call.send().await.map_err(|e| http::unreachable(url, &e))?;
        let status = answer.status();
        let body = http::body(url, answer).await?;
        if status.is_success() {
            return Ok(Answer::Granted(body));
        }
        match serde_json::from_slice(&body) {
            Ok(refused) if status.is_client_error() => Ok(Answer::NotGranted(refused)),
            _ => Err(discovery::FetchError::Status { url: http::shown(url), status: status.as_u16() }.into()),
        }
    }

    fn tokens(&self, body: &[u8], nonce: Option<&str>, now: Timestamp) -> Result<Tokens, LoginError> {
        let bad =
            |why: &str| LoginError::Provider { issuer: self.provider.issuer.clone(), why: why.to_owned() };
        // Not with the parser's words: they may hold a piece of a token.
        let granted: Granted =
            serde_json::from_slice(body).map_err(|_| bad("its answer with the tokens has another form"))?;
        let id =
            granted.id_token.as_deref().map(token::parse).transpose().map_err(|e| bad(&e.to_string()))?;
        if let Some(nonce) = nonce
            && let Some(id) = &id
            && id.claims.get("nonce").and_then(|n| n.as_str()) != Some(nonce)
        {
            return Err(bad("its ID token is of another login (nonce)"));
        }
        let (shown, missing) = match self.provider.token {
            Shown::Id => (&granted.id_token, "it gave no ID token; the scopes must hold openid"),
            Shown::Access => (&granted.access_token, "it gave no access token"),
        };
        let shown = shown.clone().filter(|token| !token.is_empty()).ok_or_else(|| bad(missing))?;
        let told = granted.expires_in.as_ref().and_then(|s| s.as_i64().or_else(|| s.as_str()?.parse().ok()));
        let told = told.and_then(|seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok());
        Ok(Tokens {
            expires_at: expiry(&shown).or(told),
            token: shown.into(),
            refresh: granted.refresh_token.filter(|token| !token.is_empty()).map(SecretString::from),
        })
    }

    fn refused(&self, refused: NotGranted) -> LoginError {
        let told = |text: &str| domain::event::preview(text, 300);
        LoginError::Refused {
            issuer: self.provider.issuer.clone(),
            client_id: self.provider.client_id.clone(),
            description: refused.error_description.as_deref().map(told),
            code: told(&refused.error),
        }
    }
}

fn encoded(client_id: &str, form: &[(&str, &str)]) -> String {
    let mut body = Serializer::new(String::new());
    body.append_pair("client_id", client_id).extend_pairs(form).finish()
}

/// What a token says of its end. It is only asked when to renew it; whether it is good is the server's to tell.
fn expiry(text: &str) -> Option<Timestamp> {
    let token = token::parse(text).ok()?;
    Timestamp::from_second(token.claims.get("exp")?.as_i64()?).ok()
}

/// A text that nobody can guess: 256 bits.
fn random() -> Result<String, LoginError> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| LoginError::Machine(format!("no randomness: {e}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
