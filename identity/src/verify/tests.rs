//! The verifier against a provider that misbehaves as told. Time is an argument, so nothing here waits for any.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::Role;
use serde_json::{Value, json};

use super::*;
use crate::cache::{AWAY_S, FRESH_S, KEPT_S, UNPLANNED_MAX, WINDOW_S};
use crate::mint::{Mint, Of};

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

/// What the provider does.
#[derive(Debug, Clone)]
enum Does {
    Well,
    Fails,
    Redirects(String),
    NamesIssuer(&'static str),
    NamesKeysAt(String),
    Floods,
}

struct Fake {
    issuer: String,
    does: Arc<Mutex<Does>>,
    keys: Arc<Mutex<Vec<Value>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    async fn start(keys: &[&Mint]) -> Fake {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let fake = Fake {
            issuer: issuer.clone(),
            does: Arc::new(Mutex::new(Does::Well)),
            keys: Arc::default(),
            asked: Arc::default(),
        };
        fake.publish(keys);
        let (does, keys, asked) = (fake.does.clone(), fake.keys.clone(), fake.asked.clone());
        let app = Router::new().fallback(move |uri: axum::http::Uri| async move {
            asked.lock().unwrap().push(uri.path().to_owned());
            let does = does.lock().unwrap().clone();
            let keys = json!({ "keys": *keys.lock().unwrap() });
            answer(&issuer, uri.path(), does, keys)
        });
        #[expect(clippy::disallowed_methods, reason = "the test's own server; ends with its runtime")]
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        fake
    }

    fn publish(&self, keys: &[&Mint]) {
        *self.keys.lock().unwrap() = keys.iter().map(|mint| mint.jwk()).collect();
    }

    fn now_does(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    /// How often the keys were asked for.
    fn fetched(&self) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| *path == "/keys").count()
    }

    fn verifier(&self) -> Verifier {
        let settings = Settings { members: vec!["eng".into()], ..Settings::new(&self.issuer, "cli") };
        Verifier::new(&BTreeMap::from([("corp".to_owned(), settings)])).unwrap()
    }

    fn claims(&self) -> Value {
        json!({ "iss": self.issuer, "aud": "cli", "sub": "ann", "groups": ["eng"], "exp": NOW + 10 * KEPT_S })
    }
}

fn answer(issuer: &str, path: &str, does: Does, keys: Value) -> Response {
    let discovery =
        |issuer: &str, keys: &str| axum::Json(json!({ "issuer": issuer, "jwks_uri": keys })).into_response();
    let own_keys = format!("{issuer}/keys");
    match (path, does) {
        (_, Does::Fails) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        (_, Does::Redirects(to)) => (StatusCode::FOUND, [("location", to)]).into_response(),
        (_, Does::Floods) => "x".repeat(300 * 1024).into_response(),
        ("/.well-known/openid-configuration", Does::NamesIssuer(other)) => discovery(other, &own_keys),
        ("/.well-known/openid-configuration", Does::NamesKeysAt(keys)) => discovery(issuer, &keys),
        ("/.well-known/openid-configuration", Does::Well) => discovery(issuer, &own_keys),
        ("/keys", _) => axum::Json(keys).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn refused(result: Result<Person, Denied>) -> Refusal {
    match result {
        Err(Denied::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn unavailable(result: &Result<Person, Denied>) -> bool {
    matches!(result, Err(Denied::Unavailable { .. }))
}

#[tokio::test]
async fn a_good_token_of_each_kind_of_key_is_its_persons_and_keys_are_fetched_once() {
    let mints = [Mint::new("r", Of::Rsa), Mint::new("e", Of::P256), Mint::new("d", Of::Ed25519)];
    let fake = Fake::start(&mints.each_ref()).await;
    let verifier = fake.verifier();
    for mint in &mints {
        let person = verifier.verify(&mint.token(&fake.claims()), at(0)).await.unwrap();
        assert_eq!((person.user.as_str(), person.role), ("corp:ann", Role::Member));
    }
    assert_eq!(fake.fetched(), 1);
}

#[tokio::test]
async fn alg_none_and_the_public_key_as_a_secret_are_refused_without_asking_anybody() {
    let mint = Mint::new("k", Of::Rsa);
    let fake = Fake::start(&[&mint]).await;
    let verifier = fake.verifier();
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "HS256", "HS384", "HS512"] {
        // Signed or not, as a library would that takes the public key's bytes for the secret: nobody gets that far.
        let text =
            format!("{}.{}.c2ln", encoded(&json!({ "alg": alg, "kid": "k" })), encoded(&fake.claims()));
        for text in [text.clone(), text.trim_end_matches("c2ln").to_owned()] {
            let told = refused(verifier.verify(&text, at(0)).await);
            assert_eq!(told, Refusal::Algorithm { name: alg.into() });
        }
    }
    assert_eq!(fake.fetched(), 0);
}

#[tokio::test]
async fn expired_early_foreign_and_oversized_tokens_are_refused_without_asking_anybody() {
    let mint = Mint::new("k", Of::P256);
    let fake = Fake::start(&[&mint]).await;
    let verifier = fake.verifier();
    let with = |claim: &str, value: Value| {
        let mut claims = fake.claims();
        claims[claim] = value;
        mint.token(&claims)
    };
    for (text, word) in [
        (with("exp", json!(NOW - 3_600)), "expired"),
        (with("nbf", json!(NOW + 3_600)), "not valid yet"),
        (with("aud", json!("other")), "for other"),
        (with("iss", json!("https://evil.example")), "evil.example"),
        (with("exp", json!("soon")), "exp"),
        (with("pad", json!("x".repeat(17_000))), "16384"),
    ] {
        let told = refused(verifier.verify(&text, at(0)).await).to_string();
        assert!(told.contains(word), "{word}: {told}");
        let (_, signature) = text.rsplit_once('.').unwrap();
        assert!(!told.contains(signature) && !told.contains(&text[..40]), "{told}");
    }
    assert_eq!(fake.fetched(), 0);
}

#[tokio::test]
async fn a_forged_signature_is_refused() {
    let (mint, forger) = (Mint::new("k", Of::P256), Mint::new("k", Of::P256));
    let fake = Fake::start(&[&mint]).await;
    let verifier = fake.verifier();
    for _ in 0..10 {
        let told = refused(verifier.verify(&forger.token(&fake.claims()), at(0)).await);
        assert_eq!(told, Refusal::Signature);
    }
    assert_eq!(fake.fetched(), 1, "forgeries get no requests out of us");
    assert!(verifier.verify(&mint.token(&fake.claims()), at(0)).await.is_ok());
}

#[tokio::test]
async fn a_key_rotated_in_is_known_at_once_and_one_rotated_away_is_not_any_more() {
    let (old, new) = (Mint::new("old", Of::P256), Mint::new("new", Of::P256));
    let fake = Fake::start(&[&old]).await;
    let verifier = fake.verifier();
    let (by_old, by_new) = (old.token(&fake.claims()), new.token(&fake.claims()));
    assert!(verifier.verify(&by_old, at(0)).await.is_ok());

    fake.publish(&[&old, &new]);
    assert!(verifier.verify(&by_new, at(1)).await.is_ok(), "rotated in");
    assert!(verifier.verify(&by_old, at(1)).await.is_ok(), "nobody is dropped");

    fake.publish(&[&new]);
    assert!(verifier.verify(&by_old, at(FRESH_S)).await.is_ok(), "not looked up yet");
    let told = refused(verifier.verify(&by_old, at(FRESH_S + 2)).await);
    assert_eq!(told, Refusal::UnknownKey, "rotated away");
    assert!(verifier.verify(&by_new, at(FRESH_S + 2)).await.is_ok());
}

#[tokio::test]
async fn a_provider_set_up_anew_may_give_a_new_key_the_old_name() {
    let (before, after) = (Mint::new("k1", Of::Rsa), Mint::new("k1", Of::Rsa));
    let fake = Fake::start(&[&before]).await;
    let verifier = fake.verifier();
    assert!(verifier.verify(&before.token(&fake.claims()), at(0)).await.is_ok());
    fake.publish(&[&after]);
    assert!(verifier.verify(&after.token(&fake.claims()), at(WINDOW_S)).await.is_ok());
}

#[tokio::test]
async fn unknown_keys_cost_the_provider_a_few_requests_a_minute_and_no_more() {
    let mint = Mint::new("k", Of::P256);
    let fake = Fake::start(&[&mint]).await;
    let verifier = fake.verifier();
    let good = mint.token(&fake.claims());
    assert!(verifier.verify(&good, at(0)).await.is_ok());
    let unknown = |id: &str| mint.token_with(&json!({ "alg": "ES256", "kid": id }), &fake.claims());

    for _ in 0..20 {
        assert_eq!(refused(verifier.verify(&unknown("gone"), at(1)).await), Refusal::UnknownKey);
    }
    assert_eq!(fake.fetched(), 2, "one name is looked up once");

    for n in 0..100 {
        let told = verifier.verify(&unknown(&format!("made-up-{n}")), at(2)).await;
        assert_eq!(unavailable(&told), n >= UNPLANNED_MAX - 1, "{n}: {told:?}");
    }
    assert_eq!(fake.fetched(), 1 + UNPLANNED_MAX);
    assert!(verifier.verify(&good, at(2)).await.is_ok(), "known keys go on");

    let new = Mint::new("new", Of::P256);
    fake.publish(&[&mint, &new]);
    assert!(verifier.verify(&new.token(&fake.claims()), at(2 + WINDOW_S)).await.is_ok());
}

#[tokio::test]
async fn while_the_provider_is_down_known_keys_go_on_and_unknown_ones_are_no_refusal() {
    let (old, new) = (Mint::new("old", Of::P256), Mint::new("new", Of::P256));
    let fake = Fake::start(&[&old]).await;
    let verifier = fake.verifier();
    let (by_old, by_new) = (old.token(&fake.claims()), new.token(&fake.claims()));
    assert!(verifier.verify(&by_old, at(0)).await.is_ok());

    fake.publish(&[&old, &new]);
    fake.now_does(Does::Fails);
    let told = verifier.verify(&by_new, at(1)).await;
    assert!(unavailable(&told), "{told:?}");
    assert!(told.unwrap_err().to_string().contains("corp"));
    assert!(verifier.verify(&by_old, at(FRESH_S + 5)).await.is_ok());
    assert!(verifier.verify(&by_old, at(KEPT_S - 1)).await.is_ok());
    let told = verifier.verify(&by_old, at(KEPT_S + AWAY_S)).await;
    assert!(unavailable(&told), "too old to be believed: {told:?}");

    fake.now_does(Does::Well);
    assert!(verifier.verify(&by_new, at(KEPT_S + 3 * AWAY_S)).await.is_ok());
}

#[tokio::test]
async fn a_provider_that_is_away_is_not_asked_by_every_request() {
    let mint = Mint::new("k", Of::P256);
    let fake = Fake::start(&[&mint]).await;
    fake.now_does(Does::Fails);
    let verifier = fake.verifier();
    let asked = || fake.asked.lock().unwrap().len();
    for _ in 0..10 {
        assert!(unavailable(&verifier.verify(&mint.token(&fake.claims()), at(0)).await));
    }
    assert_eq!(asked(), 1);
    fake.now_does(Does::Well);
    assert!(verifier.verify(&mint.token(&fake.claims()), at(AWAY_S)).await.is_ok());
}

#[tokio::test]
async fn a_provider_that_nobody_reaches_is_unavailable() {
    let mint = Mint::new("k", Of::P256);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let issuer = format!("http://127.0.0.1:{port}");
    let settings = Settings { everyone: Some(Role::Viewer), ..Settings::new(&issuer, "cli") };
    let verifier = Verifier::new(&BTreeMap::from([("corp".to_owned(), settings)])).unwrap();
    let claims = json!({ "iss": issuer, "aud": "cli", "sub": "ann", "exp": NOW + 60 });
    assert!(unavailable(&verifier.verify(&mint.token(&claims), at(0)).await));
    let told = verifier.fetch(at(0)).await.remove(0).1.unwrap_err().to_string();
    assert!(told.contains("does not answer"), "{told}");
}

#[tokio::test]
async fn descriptions_that_lead_elsewhere_are_not_followed() {
    let mint = Mint::new("k", Of::P256);
    let inside = Fake::start(&[&mint]).await;
    let port = inside.issuer.rsplit_once(':').unwrap().1.to_owned();
    for (does, word) in [
        (Does::Redirects(format!("{}/.well-known/openid-configuration", inside.issuer)), "redirect"),
        (Does::Redirects("http://169.254.169.254/latest/meta-data".into()), "redirect"),
        (Does::NamesKeysAt(format!("http://localhost:{port}/keys")), "jwks_uri"),
        (Does::NamesKeysAt("https://10.0.0.1/keys".into()), "private"),
        (Does::NamesKeysAt("file:///etc/passwd".into()), "names no host"),
        (Does::NamesIssuer("https://evil.example"), "evil.example"),
        (Does::Floods, "262144"),
        (Does::Fails, "500"),
    ] {
        let fake = Fake::start(&[&mint]).await;
        fake.now_does(does);
        let verifier = fake.verifier();
        let told = verifier.fetch(at(0)).await.remove(0).1.unwrap_err().to_string();
        assert!(told.contains(word), "{word}: {told}");
        assert!(unavailable(&verifier.verify(&mint.token(&fake.claims()), at(0)).await));
    }
    assert!(inside.asked.lock().unwrap().is_empty(), "nobody inside was asked");
}

#[tokio::test]
async fn a_key_set_of_junk_is_told_and_junk_beside_good_keys_is_not() {
    let mint = Mint::new("k", Of::P256);
    let fake = Fake::start(&[]).await;
    let junk = vec![json!(7), json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "k" }), json!({ "kty": "EC" })];
    *fake.keys.lock().unwrap() = junk.clone();
    let verifier = fake.verifier();
    let told = verifier.fetch(at(0)).await.remove(0).1.unwrap_err().to_string();
    assert!(told.contains("none checks"), "{told}");
    fake.keys.lock().unwrap().push(mint.jwk());
    assert!(verifier.verify(&mint.token(&fake.claims()), at(AWAY_S)).await.is_ok());
}

#[tokio::test]
async fn several_issuers_do_not_answer_for_each_other() {
    let (ours, theirs) = (Mint::new("k", Of::P256), Mint::new("k", Of::P256));
    let (one, two) = (Fake::start(&[&ours]).await, Fake::start(&[&theirs]).await);
    let of = |fake: &Fake| Settings { everyone: Some(Role::Viewer), ..Settings::new(&fake.issuer, "cli") };
    let verifier =
        Verifier::new(&BTreeMap::from([("one".to_owned(), of(&one)), ("two".to_owned(), of(&two))])).unwrap();
    let user = async |text: String| verifier.verify(&text, at(0)).await.map(|person| person.user);
    assert_eq!(user(ours.token(&one.claims())).await, Ok("one:ann".into()));
    assert_eq!(user(theirs.token(&two.claims())).await, Ok("two:ann".into()));
    assert_eq!(user(theirs.token(&one.claims())).await, Err(Denied::Refused(Refusal::Signature)));
}

#[tokio::test]
async fn nobody_without_a_role_is_let_in_and_their_groups_are_told_only_once_the_token_is_good() {
    let (mint, forger) = (Mint::new("k", Of::P256), Mint::new("k", Of::P256));
    let fake = Fake::start(&[&mint]).await;
    let verifier = fake.verifier();
    let mut claims = fake.claims();
    claims["groups"] = json!(["sales"]);
    let told = verifier.verify(&mint.token(&claims), at(0)).await.unwrap_err();
    assert!(matches!(&told, Denied::NoRole(_)) && told.to_string().contains("sales"), "{told}");
    assert_eq!(refused(verifier.verify(&forger.token(&claims), at(0)).await), Refusal::Signature);
}

#[tokio::test]
async fn a_hundred_at_once_fetch_the_keys_once() {
    let mint = Mint::new("k", Of::P256);
    let fake = Fake::start(&[&mint]).await;
    let verifier = Arc::new(fake.verifier());
    let text = mint.token(&fake.claims());
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (verifier, text) = (verifier.clone(), text.clone());
        all.spawn(async move { verifier.verify(&text, at(0)).await.is_ok() });
    }
    assert!(all.join_all().await.into_iter().all(|good| good));
    assert_eq!(fake.fetched(), 1);
}
