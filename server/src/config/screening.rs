//! `[screening]`

use std::sync::Arc;
use std::time::Duration;

use screening::{
    Bedrock, BedrockSettings, Heuristics, HttpClassifier, HttpSettings, Screen, Screens, heuristic::Severity,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::ConfigError;

/// `[screening]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "described in defaults.toml")]
pub struct Screening {
    pub heuristics: Mode,
    pub timeout_s: f64,
    pub http: Http,
    pub bedrock: BedrockSection,
}

/// What the built-in patterns do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "described in defaults.toml")]
pub enum Mode {
    Off,
    Warn,
    Block,
}

/// `[screening.http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "described in defaults.toml")]
pub struct Http {
    pub url: String,
    pub key: SecretString,
}

/// `[screening.bedrock]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "described in defaults.toml")]
pub struct BedrockSection {
    pub guardrail: String,
    pub version: String,
    pub region: String,
    pub endpoint: String,
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    pub session_token: SecretString,
}

impl Screening {
    /// The screens that are configured, the cheap ones first.
    pub fn build(&self) -> Result<Screens, ConfigError> {
        if !(self.timeout_s.is_finite() && (0.1..=60.0).contains(&self.timeout_s)) {
            return Err(ConfigError(format!(
                "screening.timeout_s must be 0.1 to 60, got {}",
                self.timeout_s
            )));
        }
        let timeout = Duration::from_secs_f64(self.timeout_s);
        let mut screens: Vec<Arc<dyn Screen>> = Vec::new();
        match self.heuristics {
            Mode::Off => (),
            Mode::Warn => screens.push(Arc::new(Heuristics(Severity::Warn))),
            Mode::Block => screens.push(Arc::new(Heuristics(Severity::Block))),
        }
        if !self.http.url.is_empty() {
            let url = address("screening.http.url", &self.http.url)?;
            let settings = HttpSettings { url, key: self.http.key.clone(), timeout };
            let made =
                HttpClassifier::new(settings).map_err(|e| ConfigError(format!("screening.http: {e}")))?;
            screens.push(Arc::new(made));
        }
        let of = &self.bedrock;
        if !of.guardrail.is_empty() {
            for (name, value) in [
                ("version", of.version.as_str()),
                ("region", &of.region),
                ("access_key_id", &of.access_key_id),
                ("secret_access_key", of.secret_access_key.expose_secret()),
            ] {
                if value.trim().is_empty() {
                    return Err(ConfigError(format!(
                        "screening.bedrock.{name} is required with screening.bedrock.guardrail"
                    )));
                }
            }
            let endpoint = match of.endpoint.as_str() {
                "" => None,
                text => Some(address("screening.bedrock.endpoint", text)?),
            };
            let settings = BedrockSettings {
                guardrail: of.guardrail.clone(),
                version: of.version.clone(),
                region: of.region.clone(),
                endpoint,
                access_key_id: of.access_key_id.clone(),
                secret_access_key: of.secret_access_key.clone(),
                session_token: of.session_token.clone(),
                timeout,
            };
            let now = || std::time::SystemTime::from(orchestrator::Clock::System.now());
            let made =
                Bedrock::new(settings, now).map_err(|e| ConfigError(format!("screening.bedrock: {e}")))?;
            screens.push(Arc::new(made));
        }
        Ok(Screens::new(screens))
    }
}

fn address(setting: &str, text: &str) -> Result<url::Url, ConfigError> {
    let bad =
        |why: String| ConfigError(format!("{setting} must be an address such as https://host/path: {why}"));
    let url: url::Url = text.parse().map_err(|e: url::ParseError| bad(e.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.host().is_some() => Ok(url),
        other => Err(bad(format!("its scheme is {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Env};

    fn read(text: &str) -> Result<bool, String> {
        let env =
            Env::from([("HOME".to_owned(), "/home/x".to_owned()), ("S".into(), "aws-secret-value".into())]);
        let config = Config::from_text(text, "bgagent.toml", &env).map_err(|e| e.to_string())?;
        assert!(!format!("{config:?}").contains("aws-secret-value"));
        config.screening.build().map(|screens| screens.is_empty()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_configured_is_built_and_what_lacks_is_named() {
        assert_eq!(read(""), Ok(false), "the patterns warn by default");
        assert_eq!(read("[screening]\nheuristics = \"off\""), Ok(true));
        assert_eq!(read("[screening.http]\nurl = \"https://c.example.com/v1\"\nkey = \"env:S\""), Ok(false));
        let bedrock =
            "[screening.bedrock]\nguardrail = \"gr\"\nregion = \"eu-central-1\"\naccess_key_id = \"A\"\n";
        assert_eq!(read(&format!("{bedrock}secret_access_key = \"env:S\"")), Ok(false));
        for (text, words) in [
            ("[screening]\nheuristics = \"maybe\"".to_owned(), "expected one of `off`, `warn`, `block`"),
            ("[screening]\ntimeout_s = 0".into(), "screening.timeout_s must be 0.1 to 60"),
            ("[screening.http]\nurl = \"ftp://x\"".into(), "screening.http.url must be an address"),
            (bedrock.into(), "screening.bedrock.secret_access_key is required"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
