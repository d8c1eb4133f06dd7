//! What an operator says about models: providers, the default model, prices. Plain data; `server` embeds it in its
//! configuration file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use domain::money::Price;
use secrecy::SecretString;
use serde::Deserialize;

/// The `[model]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// The model of tasks that name none: `provider/model`, or a model alone.
    pub default: Option<String>,
    /// Providers by the name that model strings use.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// The dated price table. A row's `model` is `provider/model` or a model alone; a prefix ends in `*`.
    pub prices: Vec<Price>,
}

/// One provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Which wire it speaks.
    pub kind: Kind,
    /// Where it is. For `anthropic` without the `/v1` (as `ANTHROPIC_BASE_URL`), for `openai` with it (as
    /// `OPENAI_BASE_URL`).
    #[serde(default)]
    pub base_url: Option<String>,
    /// The key; none for servers that want none.
    #[serde(default)]
    pub api_key: Option<SecretString>,
    /// How the key is sent.
    #[serde(default)]
    pub auth_style: Option<AuthStyle>,
    /// For `script`: a transcript file, or a folder where the model `x` is the file `x.json`.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// The only models tasks may use here; empty for any.
    #[serde(default)]
    pub models: Vec<String>,
    /// The model when a task or the default says only the provider's name.
    #[serde(default)]
    pub default_model: Option<String>,
    /// Tokens the models here can see at once; 200,000 for `anthropic` and `script`, 128,000 for `openai` when unset.
    #[serde(default)]
    pub context_window: Option<u64>,
    /// Output tokens asked for in one turn; 16,384, for `openai` 8,192, when unset.
    #[serde(default)]
    pub max_output_tokens: Option<u64>,
    /// For `openai`: the name of the request field that limits the answer.
    #[serde(default)]
    pub max_tokens_field: MaxTokensField,
    /// For `openai`: fields added to every request, such as `reasoning_effort`.
    #[serde(default)]
    pub extra_body: serde_json::Map<String, serde_json::Value>,
    /// How long to wait for what.
    #[serde(default)]
    pub timeouts: Timeouts,
}

impl ProviderConfig {
    /// A provider of `kind` with everything else unset.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            base_url: None,
            api_key: None,
            auth_style: None,
            path: None,
            models: vec![],
            default_model: None,
            context_window: None,
            max_output_tokens: None,
            max_tokens_field: MaxTokensField::default(),
            extra_body: serde_json::Map::new(),
            timeouts: Timeouts::default(),
        }
    }
}

/// The wire of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Chat Completions.
    Openai,
    /// A transcript file; no network.
    Script,
}

/// How a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthStyle {
    /// `x-api-key: KEY`; what `anthropic` providers get when nothing is said.
    ApiKey,
    /// `Authorization: Bearer KEY`; what `openai` providers get when nothing is said.
    Bearer,
}

/// The request field of Chat Completions that limits the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// Understood by nearly every server.
    #[default]
    MaxTokens,
    /// Demanded by OpenAI's reasoning models.
    MaxCompletionTokens,
}

impl MaxTokensField {
    /// The field's name.
    pub fn as_str(self) -> &'static str {
        match self {
            MaxTokensField::MaxTokens => "max_tokens",
            MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// How long to wait for a provider, in seconds unless the name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To connect.
    pub connect_s: u64,
    /// From the request to the head of the answer; without streaming that is the whole generation.
    pub response_s: u64,
    /// Between two chunks of an answer.
    pub idle_s: u64,
    /// In all, over the waits that the provider asked for (429, 529, 503 with `Retry-After`).
    pub limited_max_s: u64,
    /// In all, while nothing answers at the provider's address.
    pub unreachable_max_s: u64,
    /// The first pause before a retry; it doubles, up to a minute.
    pub backoff_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_s: 10,
            response_s: 600,
            idle_s: 120,
            limited_max_s: 1_800,
            unreachable_max_s: 120,
            backoff_ms: 1_000,
        }
    }
}

impl Timeouts {
    pub(super) fn connect(&self) -> Duration {
        Duration::from_secs(self.connect_s)
    }
    pub(super) fn response(&self) -> Duration {
        Duration::from_secs(self.response_s)
    }
    pub(super) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_s)
    }
    pub(super) fn limited_max(&self) -> Duration {
        Duration::from_secs(self.limited_max_s)
    }
    pub(super) fn unreachable_max(&self) -> Duration {
        Duration::from_secs(self.unreachable_max_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_field_is_refused_and_a_key_is_never_printed() {
        let bad = serde_json::json!({"providers": {"a": {"kind": "anthropic", "apikey": "k"}}});
        assert!(serde_json::from_value::<ModelConfig>(bad).unwrap_err().to_string().contains("apikey"));
        let good = serde_json::json!({"providers": {"a": {"kind": "anthropic", "api_key": "sk-secret-1"}}});
        let config: ModelConfig = serde_json::from_value(good).unwrap();
        assert!(!format!("{config:?}").contains("sk-secret-1"));
    }
}
