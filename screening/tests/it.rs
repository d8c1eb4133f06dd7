//! The screens that ask somebody else, against servers of ours.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use screening::{Bedrock, BedrockSettings, HttpClassifier, HttpSettings, Screen, Source, Verdict};
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;

type Seen = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

struct Fake {
    url: Url,
    seen: Seen,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Answers each request in turn; the last answer is repeated.
async fn fake(answers: Vec<(u16, String)>) -> Fake {
    let seen: Seen = Arc::default();
    let log = seen.clone();
    let app = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
        let (log, answers) = (log.clone(), answers.clone());
        async move {
            let mut log = log.lock().unwrap();
            let (status, text) = answers[log.len().min(answers.len() - 1)].clone();
            log.push((uri.path().to_owned(), headers, body));
            let answer: Response = (StatusCode::from_u16(status).unwrap(), text).into_response();
            answer
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test's own server; aborted when it is dropped")]
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Fake { url, seen, server }
}

fn classifier(fake: &Fake, key: &str) -> HttpClassifier {
    let settings = HttpSettings {
        url: fake.url.join("classify").unwrap(),
        key: SecretString::from(key.to_owned()),
        timeout: Duration::from_secs(5),
    };
    HttpClassifier::new(settings).unwrap()
}

#[tokio::test]
async fn a_classifier_is_asked_and_heeded() {
    for (answer, expected) in [
        (json!({ "action": "pass" }), Verdict::Passed),
        (json!({ "action": "warn", "reason": "odd\u{7}" }), Verdict::Warned("odd".into())),
        (json!({ "action": "block", "reason": "no" }), Verdict::Blocked("no".into())),
        (json!({ "action": "block" }), Verdict::Blocked("the classifier gave no reason".into())),
    ] {
        let fake = fake(vec![(200, answer.to_string())]).await;
        assert_eq!(classifier(&fake, "k").screen(Source::Ask, "why?").await.unwrap(), expected);
        let seen = fake.seen.lock().unwrap();
        let (path, headers, body) = &seen[0];
        assert_eq!((path.as_str(), headers["authorization"].to_str().unwrap()), ("/classify", "Bearer k"));
        let body: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(body, json!({ "source": "ask", "text": "why?" }));
    }
}

#[tokio::test]
async fn a_passing_outage_is_waited_out_and_a_lasting_one_is_told() {
    let pass = json!({ "action": "pass" }).to_string();
    let mends = fake(vec![(503, String::new()), (429, String::new()), (200, pass)]).await;
    assert_eq!(classifier(&mends, "").screen(Source::Nudge, "x").await.unwrap(), Verdict::Passed);
    assert_eq!(mends.seen.lock().unwrap().len(), 3);
    for (answer, tries, words) in [
        ((500, String::new()), 3, "it answered 500"),
        ((401, String::new()), 1, "it answered 401"),
        ((302, String::new()), 1, "it answered 302"),
        ((200, "pass".into()), 1, "its answer is not"),
        ((200, json!({ "action": "maybe" }).to_string()), 1, "its answer is not"),
        ((200, "x".repeat(2_000_000)), 1, "more than"),
    ] {
        let fake = fake(vec![answer]).await;
        let failed = classifier(&fake, "sesame").screen(Source::Nudge, "a hidden plan").await.unwrap_err();
        let told = failed.to_string();
        assert!(told.contains(words) && told.contains("127.0.0.1"), "{told}");
        assert!(!told.contains("sesame") && !told.contains("hidden plan"), "{told}");
        assert_eq!(fake.seen.lock().unwrap().len(), tries, "{told}");
    }
}

fn bedrock(endpoint: Url) -> Bedrock {
    let settings = BedrockSettings {
        guardrail: "gr-1".into(),
        version: "DRAFT".into(),
        region: "us-east-1".into(),
        endpoint: Some(endpoint),
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: SecretString::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
        session_token: SecretString::from(String::new()),
        timeout: Duration::from_secs(5),
    };
    Bedrock::new(settings, || SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap()
}

#[tokio::test]
async fn a_guardrail_is_asked_signed_and_heeded() {
    let broken = json!({
        "action": "GUARDRAIL_INTERVENED", "actionReason": "Guardrail blocked.",
        "assessments": [{ "contentPolicy": { "filters": [
            { "type": "PROMPT_ATTACK", "confidence": "HIGH", "action": "BLOCKED" },
            { "type": "HATE", "confidence": "LOW", "action": "NONE" },
        ] }, "topicPolicy": { "topics": [{ "name": "Weapons", "type": "DENY", "action": "BLOCKED" }] },
        "invocationMetrics": { "usage": [{ "type": "x" }] } }],
    });
    for (answer, expected) in [
        (json!({ "action": "NONE", "outputs": [], "assessments": [] }), Verdict::Passed),
        (broken, Verdict::Blocked("the guardrail found: deny, prompt attack".into())),
        (
            json!({ "action": "GUARDRAIL_INTERVENED", "actionReason": "Because." }),
            Verdict::Blocked("Because.".into()),
        ),
    ] {
        let fake = fake(vec![(200, answer.to_string())]).await;
        assert_eq!(bedrock(fake.url.clone()).screen(Source::Prompt, "hi").await.unwrap(), expected);
        let seen = fake.seen.lock().unwrap();
        let (path, headers, body) = &seen[0];
        assert_eq!(path, "/guardrail/gr-1/version/DRAFT/apply");
        let body: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(body, json!({ "source": "INPUT", "content": [{ "text": { "text": "hi" } }] }));
        assert_eq!(headers["x-amz-date"], "20231114T221320Z");
    }
    let fake = fake(vec![(200, json!({ "action": "NEW" }).to_string())]).await;
    let failed = bedrock(fake.url.clone()).screen(Source::Prompt, "hi").await.unwrap_err();
    assert!(failed.to_string().contains("unknown action \"NEW\""), "{failed}");
}
