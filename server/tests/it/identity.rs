//! Who the caller is, and where people sign in.

use protocol::identity::{IdentityInfo, Whoami};
use serde_json::{Value, json};
use server::api::Settings;
use server::api::identity::wire;
use store::Store;

use crate::support::*;

fn read<T: serde::de::DeserializeOwned>(answer: &Answer) -> T {
    let body: Value = serde_json::from_slice(&answer.bytes).unwrap();
    serde_json::from_value(body["data"].clone()).unwrap()
}

#[tokio::test]
async fn where_to_sign_in_is_told_to_anybody_without_what_groups_and_claims_decide() {
    let corp: identity::Settings = serde_json::from_value(json!({
        "issuer": "https://id.example/realms/a", "client_id": "cli", "token": "access",
        "parameters": { "resource": "urn:api" }, "owners": ["secret-admins"], "required": { "hd": "a.example" },
    }))
    .unwrap();
    let identity = vec![wire("corp", &corp)];
    let world = World::with(Store::in_memory(), Settings { identity, ..settings() });
    let answer = world.get_as("", "/v1/identity").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told: IdentityInfo = read(&answer);
    let [corp] = told.providers.try_into().unwrap();
    assert_eq!((corp.name.as_str(), corp.client_id.as_str(), corp.token.as_str()), ("corp", "cli", "access"));
    assert_eq!(corp.parameters["resource"], "urn:api");
    assert!(corp.scopes.contains(&"openid".to_owned()) && corp.redirect_url.is_none());
    assert!(!answer.text().contains("secret-admins") && !answer.text().contains("a.example"));
}

#[tokio::test]
async fn where_only_keys_are_known_there_is_nowhere_to_sign_in() {
    let answer = World::new().get_as("", "/v1/identity").await;
    assert_eq!(read::<IdentityInfo>(&answer), IdentityInfo::default());
}

#[tokio::test]
async fn whoami_tells_user_role_teams_and_how_they_came() {
    let world = World::of_teams("red = { members = [\"ann\"] }\nblue = { members = [] }");
    let ann: Whoami = read(&world.get_as("test/viewer/ann/blue/green", "/v1/whoami").await);
    assert_eq!((ann.user.as_str(), ann.role.as_str()), ("ann", "viewer"));
    assert_eq!(ann.teams, ["blue", "red"], "listed, and told by the token; not those that do not exist");
    assert_eq!((ann.by.as_str(), ann.which.as_deref()), ("oidc", Some("https://id.example.com")));
    assert_eq!(ann.scopes, ["tasks:read", "usage:read"]);
    let owner: Whoami = read(&world.get("/v1/whoami").await);
    assert_eq!((owner.role.as_str(), owner.by.as_str(), owner.which), ("owner", "owner_key", None));
    world.get_as("nobody", "/v1/whoami").await.error(401, "UNAUTHORIZED");
    let away = world.get_as("test/away", "/v1/whoami").await;
    away.error(503, "SERVICE_UNAVAILABLE");
    assert_eq!(away.headers["retry-after"], "10");
}
