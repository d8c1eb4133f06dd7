//! A guardrail of Amazon Bedrock: `ApplyGuardrail`, signed with SigV4.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::send::send;
use crate::{Screen, ScreenError, Source, Verdict};

const NAME: &str = "the Bedrock guardrail";

/// Which guardrail, and who asks it.
#[derive(Debug, Clone)]
pub struct BedrockSettings {
    /// Id or ARN of the guardrail.
    pub guardrail: String,
    /// `DRAFT` or a number.
    pub version: String,
    /// Region, as in `us-east-1`.
    pub region: String,
    /// Another address than `https://bedrock-runtime.REGION.amazonaws.com`: a VPC endpoint, a test.
    pub endpoint: Option<Url>,
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: SecretString,
    /// Session token of temporary credentials; empty for none.
    pub session_token: SecretString,
    /// For one try.
    pub timeout: Duration,
}

/// A guardrail of Amazon Bedrock.
#[derive(Debug)]
pub struct Bedrock {
    settings: BedrockSettings,
    url: Url,
    http: reqwest::Client,
    /// The time that requests are signed with.
    now: fn() -> SystemTime,
}

#[derive(Debug, Deserialize)]
struct Answer {
    action: String,
    #[serde(default, rename = "actionReason")]
    reason: Option<String>,
    #[serde(default)]
    assessments: Vec<Value>,
}

impl Bedrock {
    /// Does not connect yet. `now` is the clock that requests are signed with.
    pub fn new(settings: BedrockSettings, now: fn() -> SystemTime) -> Result<Bedrock, ScreenError> {
        let failed = |reason: String| ScreenError { screen: NAME.into(), reason };
        let base = match &settings.endpoint {
            Some(url) => url.clone(),
            None => {
                let host = format!("https://bedrock-runtime.{}.amazonaws.com", settings.region);
                Url::parse(&host).map_err(|e| failed(format!("region {:?}: {e}", settings.region)))?
            }
        };
        let mut url = base;
        url.path_segments_mut()
            .map_err(|()| failed("the endpoint cannot have a path".into()))?
            .pop_if_empty()
            .extend(["guardrail", &settings.guardrail, "version", &settings.version, "apply"]);
        let http = reqwest::Client::builder()
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| failed(e.to_string()))?;
        Ok(Bedrock { settings, url, http, now })
    }

    fn request(&self, body: &[u8]) -> Result<reqwest::RequestBuilder, String> {
        let token = self.settings.session_token.expose_secret();
        let credentials = Credentials::new(
            &self.settings.access_key_id,
            self.settings.secret_access_key.expose_secret(),
            (!token.is_empty()).then(|| token.to_owned()),
            None,
            "bgagent",
        )
        .into();
        let params = v4::SigningParams::builder()
            .identity(&credentials)
            .region(&self.settings.region)
            .name("bedrock")
            .time((self.now)())
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| e.to_string())?
            .into();
        let headers = [("content-type", "application/json"), ("accept", "application/json")];
        let signable =
            SignableRequest::new("POST", self.url.as_str(), headers.into_iter(), SignableBody::Bytes(body))
                .map_err(|e| e.to_string())?;
        let (instructions, _) = sign(signable, &params).map_err(|e| e.to_string())?.into_parts();
        let mut request = self.http.post(self.url.clone()).body(body.to_vec());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in instructions.headers() {
            request = request.header(name, value);
        }
        Ok(request)
    }
}

#[async_trait]
impl Screen for Bedrock {
    async fn screen(&self, _source: Source, text: &str) -> Result<Verdict, ScreenError> {
        let body = json!({ "source": "INPUT", "content": [{ "text": { "text": text } }] }).to_string();
        let answer = send(NAME, || self.request(body.as_bytes())).await?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(|e| ScreenError {
            screen: NAME.into(),
            reason: format!("its answer has no action: {e}"),
        })?;
        match answer.action.as_str() {
            "NONE" => Ok(Verdict::Passed),
            "GUARDRAIL_INTERVENED" => Ok(Verdict::Blocked(reason(&answer))),
            other => Err(ScreenError {
                screen: NAME.into(),
                reason: format!("it answered the unknown action {other:?}"),
            }),
        }
    }
}

/// The policies that were broken, by name: what was matched is not repeated.
fn reason(answer: &Answer) -> String {
    let mut broken: Vec<String> = answer
        .assessments
        .iter()
        .filter_map(Value::as_object)
        .flat_map(|assessment| assessment.iter())
        .flat_map(|(policy, found)| {
            let kinds =
                found.as_object().into_iter().flatten().filter_map(|(_, list)| list.as_array()).flatten();
            let kinds: Vec<String> = kinds
                .filter(|one| one["action"] != "NONE")
                .filter_map(|one| one["type"].as_str().or(one["name"].as_str()))
                .map(|kind| kind.to_ascii_lowercase().replace('_', " "))
                .collect();
            if policy.ends_with("Policy") { kinds } else { Vec::new() }
        })
        .collect();
    broken.sort();
    broken.dedup();
    match (broken.is_empty(), &answer.reason) {
        (false, _) => format!("the guardrail found: {}", broken.join(", ")),
        (true, Some(reason)) => reason.chars().filter(|c| !c.is_control()).take(200).collect(),
        (true, None) => "the guardrail intervened".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What botocore 1.44.8 (`SigV4Auth`) makes of the same requests, keys and time.
    const SIGNED: [(&str, &str); 2] = [
        (
            "",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20231114/us-east-1/bedrock/aws4_request, SignedHeaders=accept;content-type;host;x-amz-date, Signature=5a5361c74b9995d8dc63ae396ca8d7d9e56e40c984dd9b2b83fb0fde3fb612d6",
        ),
        (
            "session/token==",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20231114/us-east-1/bedrock/aws4_request, SignedHeaders=accept;content-type;host;x-amz-date;x-amz-security-token, Signature=0424314804c187ccc666bb6e76cc7067b4d3e356928ebb70f2ae4f90497329c1",
        ),
    ];

    #[test]
    fn the_signature_is_the_one_that_botocore_makes() {
        for (token, authorization) in SIGNED {
            let settings = BedrockSettings {
                guardrail: "gr-1".into(),
                version: "DRAFT".into(),
                region: "us-east-1".into(),
                endpoint: Some("http://127.0.0.1:18777/".parse().unwrap()),
                access_key_id: "AKIDEXAMPLE".into(),
                secret_access_key: SecretString::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
                session_token: SecretString::from(token.to_owned()),
                timeout: Duration::from_secs(5),
            };
            let now = || SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            let bedrock = Bedrock::new(settings, now).unwrap();
            let body = br#"{"content":[{"text":{"text":"hi"}}],"source":"INPUT"}"#;
            let request = bedrock.request(body).unwrap().build().unwrap();
            assert_eq!(request.headers()["authorization"], authorization);
            assert_eq!(request.headers().contains_key("x-amz-security-token"), !token.is_empty());
        }
    }
}
