//! Keys, webhooks and the audit log as a person and a program meet them, on the real binary.

use protocol::client::{Client, ClientError};
use secrecy::SecretString;
use serde_json::Value;
use testkit::platform::Platform;

use crate::whole::*;

/// The JSON of a command that worked.
async fn json(platform: &Platform, words: &[&str]) -> Value {
    let words = [words, &["--output", "json"]].concat();
    let said = types(platform, &words).await;
    assert_eq!(said.code, 0, "{words:?}: {}{}", said.out, said.err);
    serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {}", said.out))
}

/// The server's address with another key.
fn with_key(platform: &Platform, key: &str) -> Client {
    Client::new(platform.client().unwrap().base().clone(), Some(SecretString::from(key.to_owned()))).unwrap()
}

fn code(failed: Result<impl std::fmt::Debug, ClientError>) -> String {
    failed.unwrap_err().code().unwrap_or_default().to_owned()
}

/// D-090: a test of a webhook made a task.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_and_a_webhook_live_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut platform = platform(&small_work(dir.path()), "small");
    platform.start().await.unwrap();

    let made =
        json(&platform, &["key", "create", "--name", "CI", "--scopes", "tasks:read", "--expires-in", "90d"])
            .await;
    let (id, key) = (made["key_id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let reader = with_key(&platform, key);
    reader.list(&Default::default()).await.unwrap();
    let source = sample().await;
    assert_eq!(code(reader.create_task(&request(source.path(), "x"), None).await), "FORBIDDEN");
    assert_eq!(code(reader.api_keys(&Default::default()).await), "FORBIDDEN");

    let said = types(&platform, &["key", "list"]).await;
    assert!(
        said.out.contains(id) && said.out.contains("tasks:read") && !said.out.contains(&key[32..]),
        "{}",
        said.out
    );
    let said = types(&platform, &["key", "revoke", id]).await;
    assert!(said.out.starts_with(&format!("Key {id} revoked at ")), "{}{}", said.out, said.err);
    assert_eq!(code(reader.list(&Default::default()).await), "UNAUTHORIZED");
    let said = types(&platform, &["key", "revoke", id]).await;
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("API_KEY_ALREADY_REVOKED") && said.err.contains("Hint: `bgagent key list"),
        "{}",
        said.err
    );

    let hook = json(&platform, &["webhook", "create", "--name", "CI"]).await;
    let (hook_id, secret) = (hook["webhook_id"].as_str().unwrap(), hook["secret"].as_str().unwrap());
    assert!(
        hook["webhook_url"].as_str().unwrap().starts_with(platform.client().unwrap().base().as_str()),
        "{hook}"
    );
    let file = dir.path().join("secret");
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    let file = file.display().to_string();
    let test = ["webhook", "test", hook_id, "--secret-file", &file];
    let said = types(&platform, &test).await;
    assert_eq!(
        (said.code, said.out.trim()),
        (0, "The signature is good (strict). Nothing was made."),
        "{}",
        said.err
    );
    let repo = source.path().display().to_string();
    let task = [&test[..], &["--repo", &repo, "--task", "Add a file"]].concat();
    let said = types(&platform, &task).await;
    assert!(said.out.contains("would be accepted"), "{}{}", said.out, said.err);
    let created = json(&platform, &[&task[..], &["--create"]].concat()).await;
    assert_eq!(created["channel_source"], "webhook");
    let ended = platform.ended(created["task_id"].as_str().unwrap().parse().unwrap(), END).await.unwrap();
    assert_eq!(ended.status, "COMPLETED", "{ended:?}");

    // The server starts again: secrets are derived anew, and are the same.
    platform.stop(END).await.unwrap();
    platform.start().await.unwrap();
    assert_eq!(types(&platform, &test).await.code, 0);
    let rotated = json(&platform, &["webhook", "rotate", hook_id, "--overlap", "0s"]).await;
    assert_ne!(rotated["secret"], hook["secret"]);
    let said = types(&platform, &test).await;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("UNAUTHORIZED") && said.err.contains("webhook rotate"), "{}", said.err);
    assert_eq!(types(&platform, &["webhook", "revoke", hook_id]).await.code, 0);

    let said = types(&platform, &["admin", "audit"]).await;
    for action in ["api_key.create", "api_key.revoke", "webhook.create", "webhook.deliver", "webhook.rotate"]
    {
        assert!(said.out.contains(action), "{action}: {}", said.out);
    }
    // No secret is anywhere but with its holder.
    platform.stop(END).await.unwrap();
    let rotated = rotated["secret"].as_str().unwrap();
    for text in [&key[32..], &secret[6..], &rotated[6..]] {
        assert!(!said.out.contains(text) && !platform.log().contains(text), "a secret was told");
        for name in ["bgagent.db", "bgagent.db-wal"] {
            let bytes = std::fs::read(platform.state_dir().join(name)).unwrap_or_default();
            assert!(!bytes.windows(text.len()).any(|w| w == text.as_bytes()), "{name} holds a secret");
        }
    }
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(platform.state_dir().join("webhook-key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    platform.end(END).await.unwrap();
}
