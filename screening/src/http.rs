//! Any classifier that takes `{"source", "text"}` as JSON by POST and answers `{"action": "pass" | "warn" | "block",
//! "reason"}`.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::send::send;
use crate::{Screen, ScreenError, Source, Verdict};

/// Characters of a reason that are shown.
const REASON_MAX_CHARS: usize = 300;

/// Where it is.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Where to post to.
    pub url: Url,
    /// Sent as `Authorization: Bearer`; empty for none.
    pub key: SecretString,
    /// For one try.
    pub timeout: Duration,
}

/// A classifier behind HTTP.
#[derive(Debug)]
pub struct HttpClassifier {
    settings: HttpSettings,
    http: reqwest::Client,
}

#[derive(Debug, Deserialize)]
struct Answer {
    action: Action,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Pass,
    Warn,
    Block,
}

impl HttpClassifier {
    /// Does not connect yet.
    pub fn new(settings: HttpSettings) -> Result<HttpClassifier, ScreenError> {
        let http = reqwest::Client::builder()
            .timeout(settings.timeout)
            // What was configured is what is asked.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| ScreenError { screen: "the classifier".into(), reason: e.to_string() })?;
        Ok(HttpClassifier { settings, http })
    }

    fn name(&self) -> String {
        format!("the classifier at {}", self.settings.url.host_str().unwrap_or("?"))
    }
}

#[async_trait]
impl Screen for HttpClassifier {
    async fn screen(&self, source: Source, text: &str) -> Result<Verdict, ScreenError> {
        let body = json!({ "source": source.as_str(), "text": text });
        let key = self.settings.key.expose_secret();
        let answer = send(&self.name(), || {
            let request = self.http.post(self.settings.url.clone()).json(&body);
            Ok(if key.is_empty() { request } else { request.bearer_auth(key) })
        })
        .await?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(|e| ScreenError {
            screen: self.name(),
            reason: format!("its answer is not {{\"action\": \"pass\" | \"warn\" | \"block\"}}: {e}"),
        })?;
        let reason = answer.reason.unwrap_or_else(|| "the classifier gave no reason".into());
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_MAX_CHARS).collect();
        Ok(match answer.action {
            Action::Pass => Verdict::Passed,
            Action::Warn => Verdict::Warned(reason),
            Action::Block => Verdict::Blocked(reason),
        })
    }
}
