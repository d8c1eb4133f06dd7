//! `[telemetry]`: where spans go. The standard variables of OpenTelemetry are read before the file, as those of other
//! tools are.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use toml::{Table, Value};
use url::Url;

use super::{ConfigError, Env, section};

/// The variables that are read here. `OTEL_TRACES_SAMPLER` and the rest are not: their words are of SDKs.
pub(super) const VARIABLES: [&str; 6] = [
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
];
/// The longest time one request may be given.
const TIMEOUT_MAX_S: f64 = 60.0;

/// `[telemetry]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "described in defaults.toml")]
pub struct Telemetry {
    pub endpoint: String,
    pub traces_endpoint: String,
    pub headers: BTreeMap<String, SecretString>,
    pub service_name: String,
    pub sample_ratio: f64,
    pub content: bool,
    pub timeout_s: f64,
}

impl Telemetry {
    /// What is told, and where it goes; nothing when there is no collector. `instance` is this process.
    pub fn build(
        &self,
        instance: &str,
    ) -> Result<Option<(::telemetry::Settings, otlp::Exporter)>, ConfigError> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(wrong("sample_ratio", "must be 0 to 1 (0.1 is every tenth task)"));
        }
        if !(self.timeout_s > 0.0 && self.timeout_s <= TIMEOUT_MAX_S) {
            return Err(wrong("timeout_s", "must be more than 0 and at most 60 (seconds)"));
        }
        if self.service_name.trim().is_empty() {
            return Err(wrong("service_name", "must not be empty"));
        }
        let Some(url) = self.url()? else { return Ok(None) };
        let content = match self.content {
            true => ::telemetry::Content::Told,
            false => ::telemetry::Content::Withheld,
        };
        let exporter = otlp::Exporter::new(otlp::Settings {
            url,
            headers: self.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            timeout: Duration::from_secs_f64(self.timeout_s),
            service_name: self.service_name.clone(),
            instance: instance.to_owned(),
            version: env!("CARGO_PKG_VERSION"),
        });
        let exporter = exporter.map_err(|why| ConfigError(format!("telemetry.{why}")))?;
        Ok(Some((::telemetry::Settings { sample_ratio: self.sample_ratio, content }, exporter)))
    }

    /// The address that takes traces.
    fn url(&self) -> Result<Option<Url>, ConfigError> {
        if !self.traces_endpoint.is_empty() {
            return address("traces_endpoint", &self.traces_endpoint).map(Some);
        }
        if self.endpoint.is_empty() {
            return Ok(None);
        }
        let mut url = address("endpoint", &self.endpoint)?;
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Some(url))
    }
}

/// Never shown in an error: it may hold a key.
fn address(setting: &str, text: &str) -> Result<Url, ConfigError> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.fragment().is_none())
        .filter(|url| url.username().is_empty() && url.password().is_none())
        .ok_or_else(|| {
            let variable = match setting {
                "traces_endpoint" => "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                _ => "OTEL_EXPORTER_OTLP_ENDPOINT",
            };
            ConfigError(format!(
                "telemetry.{setting} (or {variable} of the environment) must be http:// or https:// with a host and without \
                 a key (OTLP over HTTP; port 4318, not 4317); keys belong into telemetry.headers, and \
                 telemetry.{setting} = \"\" turns it off"
            ))
        })
}

fn wrong(setting: &str, why: &str) -> ConfigError {
    ConfigError(format!("telemetry.{setting} {why}"))
}

/// What the standard variables say.
pub(super) fn standard_variables(all: &mut Table, env: &Env) {
    let set = |name: &str| env.get(name).map(|v| v.trim()).filter(|v| !v.is_empty());
    if set("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        return;
    }
    let telemetry = section(all, "telemetry");
    for (name, setting) in [
        ("OTEL_SERVICE_NAME", "service_name"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "endpoint"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "traces_endpoint"),
    ] {
        if let Some(value) = set(name) {
            telemetry.insert(setting.into(), value.into());
        }
    }
    // Those for traces come second: they win.
    for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"] {
        for pair in set(name).unwrap_or_default().split(',') {
            if let Some((key, value)) = pair.split_once('=') {
                let value = Value::from(decoded(value.trim()));
                section(telemetry, "headers").insert(key.trim().to_lowercase(), value);
            }
        }
    }
}

/// Names of headers have no case: one of the file is the same as one of the environment, and has the last word.
pub(super) fn name_headers(own: &mut Table) {
    let headers = own.get_mut("telemetry").and_then(|telemetry| telemetry.get_mut("headers"));
    if let Some(headers) = headers.and_then(Value::as_table_mut) {
        *headers = std::mem::take(headers).into_iter().map(|(name, v)| (name.to_lowercase(), v)).collect();
    }
}

/// Percent-decoded, as the variable's specification has it.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', a, b, ..] => {
                std::str::from_utf8(&[*a, *b]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &rest[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::super::Config;
    use super::*;

    fn config(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let home = ("HOME".to_owned(), "/nowhere".to_owned());
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).chain([home]).collect();
        Config::from_text(text, "bgagent.toml", &env)
    }

    fn url(text: &str, env: &[(&str, &str)]) -> Option<String> {
        config(text, env).unwrap().telemetry.url().unwrap().map(String::from)
    }

    #[test]
    fn nothing_is_sent_unless_somebody_says_where() {
        let config = config("", &[]).unwrap();
        assert!(config.telemetry.build("n").unwrap().is_none());
        assert!(!config.telemetry.content);
    }

    #[test]
    fn an_address_is_the_files_or_the_standard_variables() {
        let base = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318")];
        assert_eq!(url("", &base).unwrap(), "http://otel:4318/v1/traces");
        let exact = [base[0], ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://tempo/here")];
        assert_eq!(url("", &exact).unwrap(), "http://tempo/here");
        assert_eq!(url("telemetry.endpoint = 'https://x/otlp/'", &base).unwrap(), "https://x/otlp/v1/traces");
        assert_eq!(url("telemetry.endpoint = ''", &base), None, "the file has the last word");
        assert_eq!(url("", &[base[0], ("OTEL_SDK_DISABLED", "true")]), None);
        let ours = [base[0], ("BGAGENT__TELEMETRY__ENDPOINT", "http://ours")];
        assert_eq!(url("", &ours).unwrap(), "http://ours/v1/traces");
    }

    #[test]
    fn headers_are_secrets_wherever_they_come_from() {
        let env = [
            ("OTEL_EXPORTER_OTLP_HEADERS", "X-Key=one%20two, x-team = a, authorization=of-the-shell"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-team=traces-team"),
            ("TOKEN", "the-token-value"),
        ];
        let config = config("telemetry.headers.Authorization = 'env:TOKEN'", &env).unwrap();
        let header = |name: &str| config.telemetry.headers[name].expose_secret().to_owned();
        assert_eq!(header("x-key"), "one two");
        assert_eq!(header("x-team"), "traces-team");
        assert_eq!(header("authorization"), "the-token-value");
        assert_eq!(config.telemetry.headers.len(), 3, "the file has the last word, in any case");
        let secrets: Vec<_> = config.secrets.values().iter().map(|v| v.expose_secret().to_owned()).collect();
        assert!(secrets.contains(&"the-token-value".to_owned()) && secrets.contains(&"one two".to_owned()));
        assert!(!format!("{config:?}").contains("the-token-value"));
    }

    #[test]
    fn what_cannot_be_used_is_said_by_name_and_without_values() {
        for (text, setting) in [
            ("telemetry.sample_ratio = 1.5", "telemetry.sample_ratio"),
            ("telemetry.sample_ratio = -0.1", "telemetry.sample_ratio"),
            ("telemetry.timeout_s = 0.0", "telemetry.timeout_s"),
            ("telemetry.service_name = ''", "telemetry.service_name"),
            ("telemetry.endpoint = 'otel:4317?key=hidden'", "telemetry.endpoint"),
            ("telemetry.traces_endpoint = 'grpc://hidden'", "telemetry.traces_endpoint"),
            ("telemetry.endpoint = 'http://user:hidden@x'", "telemetry.endpoint"),
            ("telemetry.endpoint = 'http://x'\ntelemetry.headers.'a b' = 'hidden'", "telemetry.headers.a b"),
        ] {
            let error = config(text, &[]).unwrap_err().to_string();
            assert!(error.contains(setting) && !error.contains("hidden"), "{text}: {error}");
        }
    }

    #[test]
    fn percent_signs_that_escape_nothing_stay() {
        assert_eq!(decoded("a%3Db%2"), "a=b%2");
        assert_eq!(decoded("100%zz"), "100%zz");
    }
}
