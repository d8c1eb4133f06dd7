use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn settings() -> Settings {
    Settings {
        audiences: vec!["api".into()],
        owners: vec!["admins".into()],
        members: vec!["eng".into(), "ops".into()],
        viewers: vec!["guests".into()],
        teams: BTreeMap::from([("eng".into(), "platform".into()), ("ops".into(), "night".into())]),
        ..Settings::new("https://id.example", "cli")
    }
}

/// A good token of ann's, with these claims over it; null takes one away.
fn claims(over: Value) -> Claims {
    let mut claims = json!({
        "iss": "https://id.example", "aud": "cli", "sub": "ann", "groups": ["eng"],
        "iat": NOW - 10, "exp": NOW + 300,
    });
    for (name, value) in over.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, v)| !v.is_null())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

fn judge(settings: &Settings, claims: &Claims) -> Result<Person, Refusal> {
    let expires = admissible(settings, claims, now())?;
    person("corp", settings, claims, expires)
}

#[test]
fn a_good_token_says_who_and_what() {
    let ann = judge(&settings(), &claims(json!({ "name": "Ann Ada" }))).unwrap();
    assert_eq!((ann.user.as_str(), ann.role), ("corp:ann", Role::Member));
    assert_eq!((ann.name.as_deref(), ann.issuer.as_str()), (Some("Ann Ada"), "https://id.example"));
    assert_eq!(ann.teams, BTreeSet::from(["platform".to_owned()]));
    assert_eq!(ann.expires_at.as_second(), NOW + 300);
}

#[test]
fn times_hold_to_the_minute_of_skew_and_no_longer() {
    for (over, good) in [
        (json!({ "exp": NOW - CLOCK_SKEW_S + 1 }), true),
        (json!({ "exp": NOW - CLOCK_SKEW_S }), false),
        (json!({ "exp": NOW - 100_000 }), false),
        (json!({ "exp": NOW as f64 + 0.5 }), true),
        (json!({ "nbf": NOW + CLOCK_SKEW_S }), true),
        (json!({ "nbf": NOW + CLOCK_SKEW_S + 1 }), false),
        (json!({ "iat": NOW + CLOCK_SKEW_S + 1 }), false),
        (json!({ "iat": null }), true),
        (json!({ "exp": null }), false),
    ] {
        assert_eq!(judge(&settings(), &claims(over.clone())).is_ok(), good, "{over}");
    }
    let expired = judge(&settings(), &claims(json!({ "exp": NOW - 3600 }))).unwrap_err();
    assert!(matches!(expired, Refusal::Expired { .. }) && expired.to_string().contains("bgagent login"));
    let early = judge(&settings(), &claims(json!({ "nbf": NOW + 3600 }))).unwrap_err();
    assert!(matches!(early, Refusal::NotYetValid { .. }), "{early}");
}

#[test]
fn only_tokens_for_us_are_for_us() {
    let two = json!(["other", "cli"]);
    for (over, good) in [
        (json!({ "aud": "cli" }), true),
        (json!({ "aud": "api" }), true),
        (json!({ "aud": ["x", "api"], "azp": "robot" }), true),
        (json!({ "aud": two, "azp": "cli" }), true),
        (json!({ "aud": two }), true),
        // Made for another client that our client is named in: not for us.
        (json!({ "aud": two, "azp": "other" }), false),
        (json!({ "aud": "other" }), false),
        (json!({ "aud": "CLI" }), false),
        (json!({ "aud": [] }), false),
        // An access token that our client got for another server.
        (json!({ "aud": "other", "client_id": "cli", "azp": "cli" }), false),
        // Cognito's access tokens have no audience.
        (json!({ "aud": null, "client_id": "cli", "token_use": "access" }), true),
        (json!({ "aud": null, "client_id": "other", "token_use": "access" }), false),
        (json!({ "aud": null }), false),
        (json!({ "token_use": "id" }), true),
        (json!({ "token_use": "refresh" }), false),
        (json!({ "typ": "Bearer" }), true),
        (json!({ "typ": "Refresh" }), false),
        (json!({ "typ": "Logout" }), false),
    ] {
        assert_eq!(judge(&settings(), &claims(over.clone())).is_ok(), good, "{over}");
    }
}

#[test]
fn another_issuer_is_named() {
    for issuer in ["https://id.example/", "https://evil.example", "https://ID.example", ""] {
        let told = judge(&settings(), &claims(json!({ "iss": issuer }))).unwrap_err();
        assert_eq!(told, Refusal::Issuer { issuer: issuer.into() });
    }
}

#[test]
fn claims_of_wrong_types_are_named() {
    for (claim, value) in [
        ("iss", json!(7)),
        ("iss", json!(["https://id.example"])),
        ("aud", json!(7)),
        ("aud", json!([7])),
        ("aud", json!({ "cli": true })),
        ("azp", json!(["cli"])),
        ("exp", json!("1900000000")),
        ("exp", json!(true)),
        ("exp", json!(1e300)),
        ("exp", json!(i64::MAX)),
        ("nbf", json!([1])),
        ("iat", json!({})),
        ("sub", json!(7)),
        ("sub", json!(["ann"])),
        ("sub", json!("")),
        ("sub", json!(" ann")),
        ("sub", json!("a\u{1b}nn")),
        ("sub", json!("a".repeat(256))),
        ("groups", json!(7)),
        ("groups", json!({ "eng": true })),
        ("groups", json!(["eng", 7])),
        ("groups", json!(vec!["g"; 1001])),
        ("token_use", json!(1)),
    ] {
        let told = judge(&settings(), &claims(json!({ claim: value })));
        assert!(
            matches!(&told, Err(Refusal::Type { claim: named, .. }) if named == claim),
            "{claim}: {value} gave {told:?}"
        );
    }
}

#[test]
fn groups_give_the_highest_role_and_none_gives_nothing() {
    for (groups, everyone, want) in [
        (json!(["guests"]), None, Some(Role::Viewer)),
        (json!(["guests", "eng"]), None, Some(Role::Member)),
        (json!(["admins", "guests"]), None, Some(Role::Owner)),
        (json!("eng"), None, Some(Role::Member)),
        (json!(["Eng"]), None, None),
        (json!([]), None, None),
        (json!(null), None, None),
        (json!([]), Some(Role::Viewer), Some(Role::Viewer)),
        (json!(["eng"]), Some(Role::Viewer), Some(Role::Member)),
        (json!(["guests"]), Some(Role::Member), Some(Role::Member)),
    ] {
        let judged = judge(&Settings { everyone, ..settings() }, &claims(json!({ "groups": groups })));
        assert_eq!(judged.ok().map(|p| p.role), want, "{groups} {everyone:?}");
    }
    let told = judge(&settings(), &claims(json!({ "groups": ["sales", "x"] }))).unwrap_err().to_string();
    assert!(told.contains("corp:ann") && told.contains("sales, x") && told.contains("Ask"), "{told}");
}

#[test]
fn groups_are_found_by_name_and_by_path() {
    for (claim, over) in [
        ("cognito:groups", json!({ "cognito:groups": ["eng"] })),
        ("realm_access.roles", json!({ "realm_access": { "roles": ["eng"] } })),
        ("https://x.example/groups", json!({ "https://x.example/groups": ["eng"] })),
        ("resource_access.bgagent.roles", json!({ "resource_access": { "bgagent": { "roles": ["eng"] } } })),
    ] {
        let settings = Settings { groups_claim: claim.into(), ..settings() };
        let mut claims = claims(over);
        claims.remove("groups");
        assert_eq!(judge(&settings, &claims).map(|p| p.role), Ok(Role::Member), "{claim}");
    }
    let settings = Settings { groups_claim: "realm_access.roles".into(), ..settings() };
    let told = judge(&settings, &claims(json!({ "realm_access": "roles" })));
    assert!(matches!(told, Err(Refusal::NoRole { .. })), "{told:?}");
}

#[test]
fn required_claims_let_only_those_in_who_have_them() {
    let required = BTreeMap::from([
        ("email_verified".to_owned(), Required::Flag(true)),
        ("hd".to_owned(), Required::AnyOf(vec!["a.example".into(), "b.example".into()])),
        ("amr".to_owned(), Required::Text("mfa".into())),
        ("level".to_owned(), Required::Number(2)),
    ]);
    let settings = Settings { required, ..settings() };
    let good = json!({ "email_verified": true, "hd": "b.example", "amr": ["pwd", "mfa"], "level": 2 });
    assert!(judge(&settings, &claims(good.clone())).is_ok());
    for (claim, value) in [
        ("email_verified", json!(false)),
        ("email_verified", json!("true")),
        ("email_verified", json!(1)),
        ("hd", json!("c.example")),
        ("hd", json!(null)),
        ("amr", json!(["pwd"])),
        ("amr", json!([["mfa"]])),
        ("amr", json!({ "mfa": true })),
        ("level", json!(3)),
        ("level", json!("2")),
    ] {
        let mut over = good.clone();
        over[claim] = value.clone();
        let told = judge(&settings, &claims(over)).unwrap_err();
        assert!(told.to_string().contains(claim), "{claim} {value}: {told}");
    }
}

#[test]
fn users_by_mail_must_have_shown_that_it_is_theirs() {
    let settings = Settings { user_claim: "email".into(), user_prefix: Some(String::new()), ..settings() };
    let ask = |verified: Value| {
        judge(&settings, &claims(json!({ "email": "ann@x.example", "email_verified": verified })))
            .map(|p| p.user)
    };
    assert_eq!(ask(json!(true)), Ok("ann@x.example".into()));
    for verified in [json!(false), json!("true"), json!(null)] {
        assert!(ask(verified).unwrap_err().to_string().contains("email_verified"));
    }
}

proptest! {
    /// Whatever a token says, it is refused or it is of somebody with a role that their groups give.
    #[test]
    fn no_claims_make_it_panic(
        claim in prop::sample::select(vec!["iss", "aud", "exp", "nbf", "iat", "sub", "groups", "azp", "typ"]),
        value in arbitrary_json(),
    ) {
        if let Ok(person) = judge(&settings(), &claims(json!({ claim: value }))) {
            prop_assert!(person.user.starts_with("corp:") && person.user.len() > 5);
        }
    }
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["eng", "cli", "api", "admins"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,5}", inner, 0..3)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}
