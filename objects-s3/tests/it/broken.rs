//! A service that fails: each failure is an error of the seam that says what to do, and holds no secret.

use std::time::Duration;

use objects::{Key, ObjectError, ObjectStore as _, body};
use objects_s3::S3Objects;

use crate::settings;
use crate::stub::{Say, Stub, error, status};

/// Of those who are to wait in vain.
const PATIENCE: Duration = Duration::from_millis(700);
/// Of all others: a busy machine is no fault of the service.
const TIME: Duration = Duration::from_secs(30);

fn key() -> Key {
    "traces/ann/t.gz".parse().unwrap()
}

fn at(stub: &Stub) -> S3Objects {
    S3Objects::new(&settings(&stub.url, "bucket", "p", TIME)).unwrap()
}

fn impatient(stub: &Stub) -> S3Objects {
    S3Objects::new(&settings(&stub.url, "bucket", "p", PATIENCE)).unwrap()
}

fn object(bytes: usize, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nLast-Modified: Sat, 28 Nov 2026 12:00:00 GMT\r\nContent-Length: {bytes}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

fn clean(error: &ObjectError, words: &str) {
    let text = format!("{error} {error:?}");
    assert!(text.contains(words), "{words} in {text}");
    assert!(!text.contains("of-the-test"), "{text}");
}

#[tokio::test]
async fn refusals_say_what_to_do_and_are_not_tried_again() {
    for (number, code, words) in [
        ("403 Forbidden", "AccessDenied", "s3:PutObject"),
        ("403 Forbidden", "SignatureDoesNotMatch", "objects.s3.secret_access_key"),
        ("403 Forbidden", "RequestTimeTooSkewed", "clock"),
        ("400 Bad Request", "ExpiredToken", "objects.s3.session_token"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", "another region than us-east-1"),
        ("404 Not Found", "NoSuchBucket", "objects.s3.bucket"),
        ("301 Moved Permanently", "PermanentRedirect", "another region than us-east-1"),
    ] {
        let stub = Stub::start(vec![error(number, code)]).await;
        let place = at(&stub);
        let errors = [
            place.put(&key(), body("x")).await.unwrap_err(),
            place.get(&key()).await.unwrap_err(),
            place.list("traces/").await.unwrap_err(),
            place.delete(&key()).await.unwrap_err(),
            place.check().await.unwrap_err(),
        ];
        assert_eq!(stub.requests(), errors.len(), "{code}");
        for error in errors {
            assert!(matches!(error, ObjectError::Refused { .. }), "{code}: {error:?}");
            clean(&error, words);
        }
    }
}

#[tokio::test]
async fn a_service_that_is_busy_is_asked_again_and_then_it_is_done() {
    let busy = error("503 Slow Down", "SlowDown");
    let stub = Stub::start(vec![busy.clone(), busy, status("200 OK\r\nETag: \"e\"", "")]).await;
    assert_eq!(at(&stub).put(&key(), body("x")).await.unwrap(), 1);
    assert_eq!(stub.requests(), 3);
    let asked = stub.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|r| r.starts_with("put /bucket/p/traces/ann/t.gz ")), "{asked:?}");
}

#[tokio::test]
async fn a_service_that_stays_broken_is_unavailable_after_a_bounded_number_of_tries() {
    for (answer, words) in [
        (
            error("500 Internal Server Error", "InternalError"),
            "status 500 InternalError, The service said so",
        ),
        (status("502 Bad Gateway", "<html>a proxy</html>"), "status 502"),
        (Say::Text("HTTP/1.1 200 OK\r\nContent-Le".into()), "broke off"),
        (Say::Nothing, "no answer within 0.7 s"),
    ] {
        let in_vain = matches!(answer, Say::Nothing);
        let stub = Stub::start(vec![answer]).await;
        let place = if in_vain { impatient(&stub) } else { at(&stub) };
        for error in [
            place.put(&key(), body("x")).await.unwrap_err(),
            place.get(&key()).await.unwrap_err(),
            place.list("").await.unwrap_err(),
        ] {
            assert!(matches!(error, ObjectError::Unavailable { .. }), "{error:?}");
            clean(&error, words);
        }
        // An answer to HEAD has a status and no words.
        let error = place.stat(&key()).await.unwrap_err();
        assert!(matches!(error, ObjectError::Unavailable { .. }), "{error:?}");
        clean(&error, words.split(" InternalError").next().unwrap());
        assert!(stub.requests() <= 4 * 5, "{} requests", stub.requests());
    }
    // Nobody listens there.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let place = S3Objects::new(&settings(&format!("http://{closed}"), "bucket", "", PATIENCE)).unwrap();
    let error = place.get(&key()).await.unwrap_err();
    assert!(matches!(error, ObjectError::Unavailable { .. }), "{error:?}");
    clean(&error, "cannot be reached: Connection refused");
}

#[tokio::test]
async fn a_body_that_is_cut_or_stalls_is_an_error_and_never_a_short_object() {
    for (answer, words) in [
        (Say::Text(object(100, "only this")), "reading s3://bucket/p/traces/ann/t.gz"),
        (Say::Stalls(object(100, "only this")), "no answer within 0.7 s"),
    ] {
        // What follows is asked for by its range, and there it says what it said at first.
        let stub = Stub::start(vec![answer, error("500 Internal Server Error", "InternalError")]).await;
        let object = impatient(&stub).get(&key()).await.unwrap().unwrap();
        assert_eq!(object.meta.bytes, 100);
        let error = object.whole(1000).await.unwrap_err().to_string();
        assert!(error.contains("s3://bucket/p/traces/ann/t.gz"), "{error}");
        assert!(error.contains(words) || error.contains("status 500"), "{words}: {error}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_is_carried_on_where_it_was_cut() {
    let rest = "HTTP/1.1 206 Partial Content\r\nETag: \"e\"\r\nLast-Modified: Sat, 28 Nov 2026 12:00:00 GMT\r\n\
         Content-Range: bytes 4-9/10\r\nContent-Length: 6\r\nConnection: close\r\n\r\n456789";
    let stub = Stub::start(vec![Say::Text(object(10, "0123")), Say::Text(rest.into())]).await;
    let object = at(&stub).get(&key()).await.unwrap().unwrap();
    assert_eq!(object.whole(100).await.unwrap(), b"0123456789");
    assert!(stub.asked.lock().unwrap()[1].contains("range: bytes=4-9"));
}

#[tokio::test]
async fn an_object_that_vanishes_while_a_cut_body_is_carried_on_is_an_error() {
    let stub = Stub::start(vec![Say::Text(object(10, "0123")), error("404 Not Found", "NoSuchKey")]).await;
    let object = at(&stub).get(&key()).await.unwrap().unwrap();
    let error = object.whole(100).await.unwrap_err().to_string();
    assert!(error.contains("not there any more"), "{error}");
}

#[tokio::test]
async fn an_absent_object_that_may_not_be_looked_for_is_found_out_by_the_check() {
    // Writing, reading and listing are fine; what is not there is "forbidden", as S3 says without s3:ListBucket.
    let text = "bgagent looks whether it can keep objects here; this can be removed\n";
    let list = "<ListBucketResult><Contents><Key>p/.check/1</Key><Size>1</Size>\
        <LastModified>2026-11-28T12:00:00.000Z</LastModified></Contents></ListBucketResult>";
    let stub = Stub::start(vec![
        status("200 OK", "<ListBucketResult></ListBucketResult>"),
        status("200 OK\r\nETag: \"e\"", ""),
        Say::Text(object(text.len(), text)),
        status("200 OK", list),
        error("403 Forbidden", "AccessDenied"),
        status("204 No Content", ""),
    ])
    .await;
    let error = at(&stub).check().await.unwrap_err();
    clean(&error, "s3:ListBucket on the whole bucket");
    assert!(stub.asked.lock().unwrap()[5].starts_with("delete /bucket/p/.check/"));
}
