//! Credentials of a role, fetched from where the machine has them.

use std::time::Duration;

use objects::{ObjectError, ObjectStore as _, body};
use objects_s3::{Credentials, Role, S3Objects, Settings};

use crate::settings;
use crate::stub::{Stub, error, status};

const KEYS: &str = r#"{"AccessKeyId":"ASIAROLE","SecretAccessKey":"role-secret-of-the-test","Token":"role-token",
    "Expiration":"2999-01-01T00:00:00Z"}"#;

fn as_role(url: &str, role: Role) -> S3Objects {
    let settings = settings(url, "bucket", "", Duration::from_secs(30));
    S3Objects::new(&Settings { credentials: Credentials::Role(role), ..settings }).unwrap()
}

#[tokio::test]
async fn a_pods_credentials_are_fetched_with_its_token_and_sign_requests() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "pod-token").unwrap();
    let agent = Stub::start(vec![status("200 OK", KEYS)]).await;
    let service = Stub::start(vec![status("200 OK\r\nETag: \"e\"", "")]).await;
    let pod = Some((format!("{}/v1/credentials", agent.url), file.display().to_string()));
    let place = as_role(&service.url, Role { pod, ..Role::default() });
    place.put(&"a".parse().unwrap(), body("x")).await.unwrap();
    place.put(&"b".parse().unwrap(), body("x")).await.unwrap();
    assert_eq!(agent.requests(), 1, "they are good for a while");
    assert!(agent.asked.lock().unwrap()[0].contains("authorization: pod-token"));
    let asked = service.asked.lock().unwrap().clone();
    assert!(
        asked[0].contains("credential=asiarole/") && asked[0].contains("x-amz-security-token: role-token")
    );
}

#[tokio::test]
async fn credentials_that_cannot_be_had_are_an_error_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "pod-token-of-the-test").unwrap();
    let agent = Stub::start(vec![error("403 Forbidden", "AccessDenied")]).await;
    let service = Stub::start(vec![status("200 OK\r\nETag: \"e\"", "")]).await;
    let pod = Some((format!("{}/v1/credentials", agent.url), file.display().to_string()));
    let place = as_role(&service.url, Role { pod, ..Role::default() });
    let error = place.check().await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(matches!(error, ObjectError::Refused { .. }), "{text}");
    assert!(text.contains("403 AccessDenied") && !text.contains("of-the-test"), "{text}");
    assert_eq!(service.requests(), 0);
}
