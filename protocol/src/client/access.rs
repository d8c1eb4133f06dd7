//! Keys, webhooks and the audit log.

use reqwest::Method;
use serde::Serialize;

use super::{ANSWER, Client, ClientError};
use crate::access::*;
use crate::rest::{Data, Page};

/// Which keys or webhooks to list.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HeldQuery {
    /// `true`: also what was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_revoked: Option<bool>,
    /// `mine` or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whose: Option<String>,
    /// Rows of a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the last page said to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Which lines of the audit log to read.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AuditQuery {
    /// Only what this user did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Only this action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Only what was done to this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Rows of a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the last page said to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

impl Client {
    /// Makes an API key.
    pub async fn api_key_create(&self, request: &CreateApiKeyRequest) -> Result<CreatedApiKey, ClientError> {
        let call = self.request(Method::POST, "v1/api-keys")?.json(request).timeout(ANSWER);
        Ok(self.body::<Data<_>>(self.send(call).await?, "the new key").await?.data)
    }

    /// One page of API keys, newest first.
    pub async fn api_keys(&self, query: &HeldQuery) -> Result<Page<ApiKeyDetail>, ClientError> {
        let call = self.request(Method::GET, "v1/api-keys")?.query(query).timeout(ANSWER);
        self.body(self.send(call).await?, "the list of keys").await
    }

    /// Revokes an API key.
    pub async fn api_key_revoke(&self, key: &str) -> Result<ApiKeyDetail, ClientError> {
        let call = self.request(Method::DELETE, &format!("v1/api-keys/{key}"))?.timeout(ANSWER);
        Ok(self.body::<Data<_>>(self.send(call).await?, "the revoked key").await?.data)
    }

    /// Makes a webhook.
    pub async fn webhook_create(&self, request: &CreateWebhookRequest) -> Result<WebhookSecret, ClientError> {
        let call = self.request(Method::POST, "v1/webhooks")?.json(request).timeout(ANSWER);
        Ok(self.body::<Data<_>>(self.send(call).await?, "the new webhook").await?.data)
    }

    /// One page of webhooks, newest first.
    pub async fn webhooks(&self, query: &HeldQuery) -> Result<Page<WebhookDetail>, ClientError> {
        let call = self.request(Method::GET, "v1/webhooks")?.query(query).timeout(ANSWER);
        self.body(self.send(call).await?, "the list of webhooks").await
    }

    /// Revokes a webhook.
    pub async fn webhook_revoke(&self, webhook: &str) -> Result<WebhookDetail, ClientError> {
        let call = self.request(Method::DELETE, &format!("v1/webhooks/{webhook}"))?.timeout(ANSWER);
        Ok(self.body::<Data<_>>(self.send(call).await?, "the revoked webhook").await?.data)
    }

    /// Gives a webhook a new secret.
    pub async fn webhook_rotate(
        &self,
        webhook: &str,
        request: &RotateWebhookRequest,
    ) -> Result<WebhookSecret, ClientError> {
        let path = format!("v1/webhooks/{webhook}/rotate");
        let call = self.request(Method::POST, &path)?.json(request).timeout(ANSWER);
        Ok(self.body::<Data<_>>(self.send(call).await?, "the new secret").await?.data)
    }

    /// Sends a signed delivery, as another system would: without a key, and the body as it was signed. Answers with the
    /// payload.
    pub async fn webhook_deliver(
        &self,
        webhook: &str,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Result<serde_json::Value, ClientError> {
        let mut url = self.url("v1/webhooks/tasks")?;
        url.query_pairs_mut().append_pair("webhook_id", webhook);
        let mut call = self.http.post(url).header("content-type", "application/json");
        for (name, value) in headers {
            call = call.header(*name, value);
        }
        let call = call.body(body).timeout(ANSWER);
        Ok(self.body::<Data<_>>(self.send(call).await?, "the delivery").await?.data)
    }

    /// One page of the audit log, newest first.
    pub async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditLine>, ClientError> {
        let call = self.request(Method::GET, "v1/audit")?.query(query).timeout(ANSWER);
        self.body(self.send(call).await?, "the audit log").await
    }
}
