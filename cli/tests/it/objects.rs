//! A server whose objects are in a bucket of a service nobody here wrote.

use std::path::Path;
use std::time::Duration;

use protocol::rest::{CreateTaskRequest, TaskDetail};
use serde_json::Value;
use testkit::moto::{Auth, Moto};
use testkit::platform::Platform;

use crate::whole::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG-secret-of-this-test";
const TOKEN: &str = "FwoGZXIvYXdzEBYaDP/session-token-of-this-test";

/// A platform that keeps its objects below `team` in a bucket at `url`.
fn with_bucket(script: &Path, url: &str, bucket: &str) -> Platform {
    platform(script, "small")
        .with("BGAGENT__OBJECTS__KIND", "s3")
        .with("BGAGENT__OBJECTS__S3__BUCKET", bucket)
        .with("BGAGENT__OBJECTS__S3__PREFIX", "team")
        .with("BGAGENT__OBJECTS__S3__ENDPOINT", url)
        .with("BGAGENT__OBJECTS__S3__ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .with("BGAGENT__OBJECTS__S3__SECRET_ACCESS_KEY", "env:BUCKET_SECRET")
        .with("BGAGENT__OBJECTS__S3__SESSION_TOKEN", "env:BUCKET_TOKEN")
        .with("BUCKET_SECRET", SECRET)
        .with("BUCKET_TOKEN", TOKEN)
        .with("BGAGENT__LOG__LEVEL", "debug")
}

async fn traced(platform: &Platform, repo: &Path) -> TaskDetail {
    let request = CreateTaskRequest { trace: Some(true), ..request(repo, "Add a file") };
    let task = run(platform, &request).await;
    assert_eq!(task.status, "COMPLETED", "{task:#?}\n{}", platform.log());
    task
}

fn no_secret(what: &str, text: &[u8]) {
    for secret in [SECRET, TOKEN] {
        assert!(memchr::memmem::find(text, secret.as_bytes()).is_none(), "a secret is in {what}");
    }
}

/// The names in the bucket.
async fn names(moto: &Moto) -> Vec<String> {
    let (status, listed) = moto.get("traces?list-type=2&max-keys=1000").await.unwrap();
    assert_eq!(status, 200);
    let listed = String::from_utf8(listed).unwrap();
    let keys = listed.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
    keys.map(|(key, _)| key.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_are_kept_in_a_bucket_backed_up_erased_and_put_back() {
    let Some(moto) = Moto::start(Auth::Open).await.unwrap() else { return };
    moto.bucket("traces").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let repo = sample().await;
    let mut platform = with_bucket(&small_work(dir.path()), &moto.url, "traces");
    platform.start().await.unwrap();
    let checked = types(&platform, &["doctor"]).await;
    assert!(checked.out.contains("s3://traces/team/ can be written, read and listed"), "{checked:?}");

    let task = traced(&platform, repo.path()).await;
    let id = task.task_id.as_str();
    let uri = async || platform.client().unwrap().task(id.parse().unwrap()).await.ok()?.trace_s3_uri;
    let uri = testkit::poll::until("the trace", Duration::from_secs(30), uri).await;
    let uri = uri.unwrap_or_else(|e| panic!("{e:#}\n{}", platform.log()));
    let name = uri.strip_prefix("s3://").unwrap_or_else(|| panic!("{uri}"));
    assert!(name.starts_with("traces/team/traces/") && name.ends_with(&format!("{id}.jsonl.gz")), "{uri}");
    // The parts it was made of go after it.
    let alone = async || (names(&moto).await == [name.strip_prefix("traces/").unwrap()]).then_some(());
    let alone = testkit::poll::until("the trace to be all that is in the bucket", END, alone).await;
    alone.unwrap_or_else(|e| panic!("{e:#}"));
    let (status, there) = moto.get(name).await.unwrap();
    assert_eq!(status, 200);
    let file = dir.path().join("t.jsonl.gz");
    let saved = types(&platform, &["trace", "download", id, "-o", file.to_str().unwrap()]).await;
    assert_eq!(saved.code, 0, "{saved:?}");
    assert!(std::fs::read(&file).unwrap() == there, "what is downloaded is what is in the bucket");
    assert!(!platform.state_dir().join("objects").exists());

    // A backup has it; forgetting removes it from the bucket.
    let backup = dir.path().join("backup");
    let backup = backup.to_str().unwrap();
    let backed = types(&platform, &["admin", "backup", backup]).await;
    assert_eq!(backed.code, 0, "{backed:?}");
    let sound = types(&platform, &["admin", "verify", backup]).await;
    assert_eq!(sound.code, 0, "{sound:?}");
    let who = types(&platform, &["whoami", "--output", "json"]).await;
    let who: Value = serde_json::from_str(&who.out).unwrap_or_else(|e| panic!("{e}: {who:?}"));
    let user = who["user"].as_str().unwrap_or_else(|| panic!("{who}")).to_owned();
    let erased = types(&platform, &["admin", "purge", "--user", &user, "--erase-user"]).await;
    assert!(erased.code == 0 && erased.out.contains("1 task and 1 object"), "{erased:?}");
    assert_eq!(names(&moto).await, Vec::<String>::new());
    assert_eq!(types(&platform, &["trace", "download", id]).await.code, 1);

    // And it is put back.
    platform.stop(END).await.unwrap();
    let restored = types(&platform, &["admin", "restore", backup, "--force"]).await;
    assert_eq!(restored.code, 0, "{restored:?}");
    assert!(moto.get(name).await.unwrap() == (200, there.clone()));
    platform.start().await.unwrap();
    let again = types(
        &platform,
        &["trace", "download", id, "-o", file.to_str().unwrap(), "--force", "--output", "json"],
    )
    .await;
    assert_eq!(again.code, 0, "{again:?}");
    assert!(std::fs::read(&file).unwrap() == there);

    let shown = types(&platform, &["config", "show"]).await;
    assert!(shown.out.contains("objects.s3.secret_access_key = (set, from env:BUCKET_SECRET)"), "{shown:?}");
    no_secret("the settings shown", shown.out.as_bytes());
    no_secret("the log", platform.log().as_bytes());
    no_secret("what doctor says", checked.out.as_bytes());
    for of in ["bgagent.db", "bgagent.db-wal"] {
        no_secret(of, &std::fs::read(platform.state_dir().join(of)).unwrap_or_default());
    }
    platform.end(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_refuses_keeps_the_server_from_starting_and_says_why() {
    let Some(moto) = Moto::start(Auth::KnownAfter(1)).await.unwrap() else { return };
    moto.bucket("traces").await.unwrap();
    let open = Moto::start(Auth::Open).await.unwrap().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let script = small_work(dir.path());
    for (url, bucket, words) in [
        (moto.url.as_str(), "traces", "objects.s3.access_key_id"),
        (open.url.as_str(), "nothing", "the bucket nothing is not there"),
        ("http://minio.example.com", "traces", "objects.s3.allow_http = true"),
    ] {
        let platform = with_bucket(&script, url, bucket);
        let server = types(&platform, &["serve"]).await;
        assert!(server.code != 0 && server.err.contains(words), "{words}: {server:?}");
        no_secret("what the server says", server.err.as_bytes());
        let doctor = types(&platform, &["doctor"]).await;
        assert!(doctor.code == 1 && doctor.out.contains(words), "{words}: {doctor:?}");
        no_secret("what doctor says", doctor.out.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_away_fails_no_task_and_keeps_no_server_from_starting() {
    // Nothing listens there.
    let url = "http://127.0.0.1:9";
    let dir = tempfile::tempdir().unwrap();
    let repo = sample().await;
    let mut platform =
        with_bucket(&small_work(dir.path()), url, "traces").with("BGAGENT__OBJECTS__S3__TIMEOUT_S", 1);
    platform.start().await.unwrap();
    traced(&platform, repo.path()).await;
    let log = platform.log();
    assert!(log.contains("the objects cannot be reached just now"), "{log}");
    assert!(log.contains("the service cannot be reached: Connection refused"), "{log}");
    no_secret("the log", log.as_bytes());
    platform.end(END).await.unwrap();
}
