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

    /// With the token, if the call goes to the server that it is for: whatever another address is made of, it gets none.
    pub(super) async fn signed(&self, call: RequestBuilder) -> Result<RequestBuilder, ClientError> {
        let Some(bearer) = &self.bearer else { return Ok(call) };
        let (http, request) = call.build_split();
        let request = request.map_err(|e| self.transport(e))?;
        let ours = request.url().origin() == self.base.origin();
        let call = RequestBuilder::from_parts(http, request);
        Ok(if ours { call.bearer_auth(bearer.token().await?.expose_secret()) } else { call })
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::http::{HeaderMap, header};
    use futures_util::FutureExt as _;
    use url::Url;

    use super::*;

    #[derive(Debug)]
    struct Signed;

    impl Bearer for Signed {
        fn token(&self) -> BoxFuture<'_, Result<SecretString, ClientError>> {
            async { Ok(SecretString::from("the-token".to_owned())) }.boxed()
        }
    }

    /// A server that answers with the authorization it was sent.
    async fn echo() -> Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let app = Router::new().fallback(|headers: HeaderMap| async move {
            let sent = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or("nothing");
            format!("{{\"data\":{sent:?}}}")
        });
        #[expect(clippy::disallowed_methods, reason = "the test's own server; ends with its runtime")]
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        url
    }

    #[tokio::test]
    async fn the_token_goes_to_its_server_and_nowhere_else() {
        let (ours, other) = (echo().await, echo().await);
        let client = Client::new(ours.clone(), None).unwrap().with_bearer(Arc::new(Signed));
        let sent: Data<String> = client.get("v1/x", "it").await.unwrap();
        assert_eq!(sent.data, "Bearer the-token");
        for (url, want) in [(ours.clone(), "Bearer the-token"), (other, "nothing")] {
            let answer = client.send(client.http.get(url.join("v1/x").unwrap())).await.unwrap();
            assert!(answer.text().await.unwrap().contains(want), "{url}");
        }
        let answer = client.send_open(client.http.get(ours)).await.unwrap();
        assert!(answer.text().await.unwrap().contains("nothing"));
    }
}
