//! Who the caller is, and the token of whoever is signed in.

use std::fmt;

use futures_util::future::BoxFuture;
use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret as _, SecretString};

use super::{ANSWER, Client, ClientError};
use crate::identity::{IdentityInfo, Whoami};
use crate::rest::Data;

/// Has a token for the server, and renews it when it is about to expire: asked before every call.
pub trait Bearer: fmt::Debug + Send + Sync {
    /// The token to show now. An error is [`ClientError::SignedOut`].
    fn token(&self) -> BoxFuture<'_, Result<SecretString, ClientError>>;
}

impl Client {
    /// The same with the token of somebody who has signed in.
    #[must_use]
    pub fn with_bearer(mut self, bearer: std::sync::Arc<dyn Bearer>) -> Client {
        self.bearer = Some(bearer);
        self
    }

    pub(super) async fn signed(&self, call: RequestBuilder) -> Result<RequestBuilder, ClientError> {
        Ok(match &self.bearer {
            Some(bearer) => call.bearer_auth(bearer.token().await?.expose_secret()),
            None => call,
        })
    }

    /// Where people sign in. Sends no key: that is asked before there is one.
    pub async fn identity(&self) -> Result<IdentityInfo, ClientError> {
        let call = self.http.get(self.url("v1/identity")?).timeout(ANSWER);
        let answer = self.send_open(call).await?;
        Ok(self.body::<Data<_>>(answer, "where to sign in").await?.data)
    }

    /// Who the server says that we are.
    pub async fn whoami(&self) -> Result<Whoami, ClientError> {
        let answer = self.send(self.request(Method::GET, "v1/whoami")?.timeout(ANSWER)).await?;
        Ok(self.body::<Data<_>>(answer, "who you are").await?.data)
    }
}
