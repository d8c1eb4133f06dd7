//! Attachments of `POST /v1/tasks`, `POST /v1/uploads` and `POST /v1/tasks/{id}/confirm-uploads`.

use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Method, Request};
use base64::Engine as _;
use domain::event::EventKind;
use domain::{TaskId, limit};
use screening::{Screen, ScreenError, Screens, Source, Verdict};
use serde_json::{Value, json};
use store::{EventCursor, EventQuery};

use super::*;
use crate::support::*;

const SUMMARY: &[&str] =
    &["attachment_id", "type", "filename", "content_type", "size_bytes", "screening_status"];
const INSTRUCTION: &[&str] =
    &["attachment_id", "filename", "upload_url", "upload_fields", "upload_expires_at"];

/// A picture of one pixel.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn with(attachments: Value) -> Value {
    json!({ "repo": "octo/cat", "task_description": "Look at this", "attachments": attachments })
}

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn to_upload(filename: &str, bytes: usize) -> Value {
    json!({ "type": "file", "content_type": "text/plain", "filename": filename, "expected_size_bytes": bytes })
}

/// The form as `instruction` says, with these bytes.
fn form(instruction: &Value, bytes: &[u8]) -> Request<Body> {
    let mut body = Vec::new();
    for (name, value) in instruction["upload_fields"].as_object().unwrap() {
        let value = value.as_str().unwrap();
        let part = format!("--XX\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    body.extend_from_slice(
        b"--XX\r\ncontent-disposition: form-data; name=\"file\"; filename=\"../x\"\r\n\r\n",
    );
    body.extend_from_slice(bytes);
    body.extend_from_slice(b"\r\n--XX--\r\n");
    let url = instruction["upload_url"].as_str().unwrap();
    Request::post(url.strip_prefix("https://agents.example.com").unwrap())
        .header("content-type", "multipart/form-data; boundary=XX")
        .body(body.into())
        .unwrap()
}

async fn confirm(world: &World, id: &str) -> Answer {
    world.call(Method::POST, &format!("/v1/tasks/{id}/confirm-uploads"), None).await
}

async fn objects(world: &World) -> Vec<String> {
    let all = world.orchestrator.parts().objects.list("").await.unwrap();
    all.into_iter().map(|meta| meta.key.to_string()).collect()
}

async fn told(world: &World, id: &str, kind: EventKind) -> Vec<Value> {
    let query = EventQuery { task: id.parse().unwrap(), from: EventCursor::Start, limit: 100 };
    let all = world.orchestrator.store().events_read(query).await.unwrap();
    all.into_iter().filter(|e| e.kind == kind).map(|e| e.metadata).collect()
}

fn id(data: &Value) -> String {
    data["task_id"].as_str().unwrap().to_owned()
}

/// A task that waits for one upload of `bytes` bytes, and its instruction.
async fn waiting(world: &World, filename: &str, bytes: usize) -> (String, Value) {
    let made = world.post(with(json!([to_upload(filename, bytes)]))).await.data(202);
    (id(&made), made["upload_instructions"][0].clone())
}

#[tokio::test]
async fn what_comes_within_the_request_is_looked_at_and_kept() {
    let world = World::new();
    let answer = world
        .post(with(json!([
            { "type": "image", "filename": "shot.png", "data": PNG },
            { "type": "file", "filename": "notes.md", "content_type": "text/markdown", "data": base64("# hi\n") },
        ])))
        .await;
    has_headers(&answer);
    let made = answer.data(201);
    assert_eq!(made["status"], "SUBMITTED");
    has_exactly(&made, DETAIL, DETAIL_OURS);
    let listed = made["attachments"].as_array().unwrap();
    for one in listed {
        has_exactly(one, SUMMARY, &[]);
        assert_eq!(one["screening_status"], "passed");
        assert!(one["attachment_id"].as_str().unwrap().parse::<domain::AttachmentId>().is_ok());
    }
    assert_eq!(listed[0]["type"], "image");
    assert_eq!(listed[0]["content_type"], "image/png");
    assert_eq!((&listed[1]["filename"], &listed[1]["size_bytes"]), (&json!("notes.md"), &json!(5)));
    assert_eq!(
        world.get(&format!("/v1/tasks/{}", id(&made))).await.data(200)["attachments"],
        made["attachments"]
    );
    assert_eq!(objects(&world).await.len(), 2);
    // Without any it is null.
    let none = world.post(with(json!([]))).await.data(201);
    assert_eq!(none["attachments"], json!(null));
}

/// D-115: every fault had one code.
#[tokio::test]
async fn bytes_that_lie_are_refused_with_a_code_and_nothing_is_kept() {
    let world = World::new();
    let good = json!({ "type": "file", "filename": "good.txt", "data": base64("good") });
    for (bad, code) in [
        (json!({ "type": "file", "content_type": "text/plain", "data": PNG }), "ATTACHMENT_INVALID_CONTENT"),
        (
            json!({ "type": "image", "content_type": "image/png", "data": base64("hi") }),
            "ATTACHMENT_INVALID_CONTENT",
        ),
        (json!({ "type": "image", "data": base64("hi") }), "ATTACHMENT_INVALID_CONTENT"),
        (
            json!({ "type": "file", "content_type": "application/json", "data": base64("{") }),
            "ATTACHMENT_INVALID_CONTENT",
        ),
        (json!({ "type": "file", "data": base64("a\0b") }), "ATTACHMENT_INVALID_CONTENT"),
        (json!({ "type": "file", "data": "!" }), "ATTACHMENT_INVALID_CONTENT"),
        (json!({ "type": "file", "content_type": "image/webp", "data": "aGk=" }), "ATTACHMENT_INVALID_TYPE"),
        (json!({ "type": "file", "filename": "a/../b", "data": "aGk=" }), "ATTACHMENT_INVALID_FILENAME"),
        (
            json!({ "type": "file", "content_type": "text/plain", "expected_size_bytes": 10_485_761 }),
            "ATTACHMENT_TOO_LARGE",
        ),
        (json!({ "type": "file", "data": base64(&"x".repeat(512_001)) }), "ATTACHMENT_INLINE_TOO_LARGE"),
        (json!({ "type": "file", "sha256": "x", "data": "aGk=" }), "VALIDATION_ERROR"),
    ] {
        let message = world.post(with(json!([good, bad]))).await.error(400, code);
        assert!(message.contains("attachments[1]") || message.contains("sha256"), "{bad}: {message}");
    }
    assert_eq!(world.get("/v1/tasks").await.data(200), json!([]), "nothing half done");
    assert_eq!(objects(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_upload_is_announced_sent_and_confirmed() {
    let world = World::new();
    let answer = world.post(with(json!([to_upload("a.txt", 5), to_upload("a.txt", 3)]))).await;
    has_headers(&answer);
    let made = answer.data(202);
    has_exactly(&made, DETAIL, &[DETAIL_OURS, &["upload_instructions", "task_expires_at"]].concat());
    assert_eq!(made["status"], "PENDING_UPLOADS");
    assert_eq!(made["task_expires_at"], "2023-11-14T22:43:20.000Z", "30 minutes");
    assert_eq!(made["attachments"][0]["size_bytes"], 0);
    assert_eq!(made["attachments"][0]["screening_status"], "pending");
    let (id, instructions) = (id(&made), made["upload_instructions"].as_array().unwrap().clone());
    for (n, instruction) in instructions.iter().enumerate() {
        has_exactly(instruction, INSTRUCTION, &[]);
        assert_eq!(instruction["attachment_id"], made["attachments"][n]["attachment_id"]);
        assert_eq!(instruction["upload_expires_at"], "2023-11-14T22:23:20.000Z", "10 minutes");
    }
    // Not before everything is there.
    let message = confirm(&world, &id).await.error(400, "ATTACHMENT_UPLOAD_MISSING");
    assert!(message.contains("a.txt, a.txt"), "{message}");
    let sent = world.send(form(&instructions[0], b"first")).await;
    assert_eq!((sent.status.as_u16(), sent.bytes.len()), (204, 0));
    confirm(&world, &id).await.error(400, "ATTACHMENT_UPLOAD_MISSING");
    // The last one counts.
    assert_eq!(world.send(form(&instructions[1], b"abc")).await.status.as_u16(), 204);
    assert_eq!(world.send(form(&instructions[1], b"xyz")).await.status.as_u16(), 204);
    let answer = confirm(&world, &id).await;
    has_headers(&answer);
    let task = answer.data(200);
    has_exactly(&task, DETAIL, DETAIL_OURS);
    assert_eq!(task["status"], "SUBMITTED");
    assert_eq!(task["attachments"][0]["screening_status"], "passed");
    assert_eq!(
        told(&world, &id, EventKind::UploadsConfirmed).await,
        [json!({ "attachment_count": 2, "total_size_bytes": 8 })]
    );
    let kept = objects(&world).await;
    assert!(kept.len() == 2 && kept.iter().all(|key| key.starts_with("attachments/")), "{kept:?}");
    let second = kept[1].parse().unwrap();
    let object = world.orchestrator.parts().objects.get(&second).await.unwrap().unwrap();
    assert_eq!(object.whole(10).await.unwrap(), b"xyz");
    // It waits for nothing any more.
    confirm(&world, &id).await.error(409, "UPLOADS_NOT_PENDING");
    world.send(form(&instructions[0], b"first")).await.error(409, "UPLOADS_NOT_PENDING");
}

/// D-116: the announced size was not held to.
#[tokio::test]
async fn bug_10_3_the_announced_size_is_held_to() {
    let world = World::new();
    let (id, instruction) = waiting(&world, "a.txt", 5).await;
    for bytes in [b"1234".as_slice(), b"123456"] {
        let message = world.send(form(&instruction, bytes)).await.error(400, "ATTACHMENT_SIZE_MISMATCH");
        assert!(message.contains("5 bytes were announced"), "{message}");
    }
    assert_eq!(objects(&world).await, Vec::<String>::new());
    confirm(&world, &id).await.error(400, "ATTACHMENT_UPLOAD_MISSING");
    let large = vec![b'a'; limit::ATTACHMENT_MAX_BYTES as usize + 1];
    world.send(form(&instruction, &large)).await.error(400, "ATTACHMENT_TOO_LARGE");
    let huge = vec![b'a'; limit::ATTACHMENT_MAX_BYTES as usize + 100_000];
    let answer = world.send(form(&instruction, &huge)).await;
    assert!([400, 413].contains(&answer.status.as_u16()), "{}", answer.text());
}

#[tokio::test]
async fn a_form_that_was_not_signed_is_not_taken() {
    let world = World::new();
    let (_, one) = waiting(&world, "a.txt", 2).await;
    let (_, two) = waiting(&world, "b.txt", 2).await;
    let changed = |field: &str, value: Value| {
        let mut other = one.clone();
        other["upload_fields"][field] = value;
        other
    };
    for bad in [
        changed("key", two["upload_fields"]["key"].clone()),
        changed("key", json!("attachments/x/y/content")),
        changed("key", json!("../../etc/passwd")),
        changed("signature", two["upload_fields"]["signature"].clone()),
        changed("expires", json!("99999999999")),
        changed("expires", json!("x")),
    ] {
        world.send(form(&bad, b"hi")).await.error(403, "FORBIDDEN");
    }
    world
        .send(form(&changed("Content-Type", json!("image/png")), b"hi"))
        .await
        .error(400, "ATTACHMENT_INVALID_TYPE");
    let url = "/v1/uploads";
    let plain = Request::post(url).header("content-type", "text/plain").body(Body::from("hi")).unwrap();
    world.send(plain).await.error(400, "VALIDATION_ERROR");
    let cut = "--XX\r\ncontent-disposition: form-data; name=\"key\"\r\n\r\nuploads";
    let cut =
        Request::post(url).header("content-type", "multipart/form-data; boundary=XX").body(Body::from(cut));
    world.send(cut.unwrap()).await.error(400, "VALIDATION_ERROR");
    let none = Request::post(url).header("content-type", "multipart/form-data; boundary=XX");
    world.send(none.body(Body::from("--XX--\r\n")).unwrap()).await.error(400, "VALIDATION_ERROR");
    world.clock.advance(limit::UPLOAD_ADDRESS);
    let message = world.send(form(&one, b"hi")).await.error(403, "FORBIDDEN");
    assert!(message.contains("Idempotency-Key"), "{message}");
    assert_eq!(objects(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_upload_that_lies_fails_the_task_and_is_not_kept() {
    let world = World::new();
    let (id, instruction) = waiting(&world, "a.txt", 4).await;
    assert_eq!(world.send(form(&instruction, b"a\0bc")).await.status.as_u16(), 204);
    let message = confirm(&world, &id).await.error(400, "ATTACHMENT_BLOCKED");
    assert!(message.starts_with("a.txt: "), "{message}");
    let task = world.get(&format!("/v1/tasks/{id}")).await.data(200);
    assert_eq!(
        (&task["status"], &task["attachments"][0]["screening_status"]),
        (&json!("FAILED"), &json!("blocked"))
    );
    assert_eq!(task["error_classification"]["code"], "ATTACHMENT_BLOCKED");
    let blocked = told(&world, &id, EventKind::AttachmentBlocked).await;
    assert_eq!((blocked.len(), &blocked[0]["filename"]), (1, &json!("a.txt")));
    assert_eq!(objects(&world).await, Vec::<String>::new());
    confirm(&world, &id).await.error(409, "UPLOADS_NOT_PENDING");
}

/// D-123: uploads that expired had no reason.
#[tokio::test]
async fn bug_3_10_what_is_not_confirmed_in_time_ends_and_says_so() {
    let world = World::new();
    let (id, instruction) = waiting(&world, "a.txt", 2).await;
    assert_eq!(world.send(form(&instruction, b"hi")).await.status.as_u16(), 204);
    world.clock.advance(limit::PENDING_UPLOADS + Duration::from_secs(1));
    world.drive(id.parse().unwrap()).await;
    let task = world.get(&format!("/v1/tasks/{id}")).await.data(200);
    assert_eq!(task["status"], "FAILED");
    assert_eq!(task["error_classification"]["code"], "UPLOADS_EXPIRED");
    assert_eq!(
        told(&world, &id, EventKind::PendingUploadExpired).await,
        [json!({ "age_seconds": 1801, "timeout_seconds": 1800 })]
    );
    world.orchestrator.sweep_attachments().await;
    assert_eq!(objects(&world).await, Vec::<String>::new(), "what nobody will confirm goes");
    world.send(form(&instruction, b"hi")).await.error(403, "FORBIDDEN");
}

#[tokio::test]
async fn only_whoever_may_steer_the_task_confirms() {
    let world = World::new();
    let (id, _) = waiting(&world, "a.txt", 2).await;
    let path = format!("/v1/tasks/{id}/confirm-uploads");
    world.call_as("test/member/eve", Method::POST, &path, None).await.error(404, "TASK_NOT_FOUND");
    let none = "/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV/confirm-uploads";
    world.call(Method::POST, none, None).await.error(404, "TASK_NOT_FOUND");
    let plain = world.submitted("x").await;
    world
        .call(Method::POST, &format!("/v1/tasks/{plain}/confirm-uploads"), None)
        .await
        .error(409, "UPLOADS_NOT_PENDING");
    world.cancel(id.parse().unwrap()).await;
    confirm(&world, &id).await.error(409, "UPLOADS_NOT_PENDING");
}

/// D-122: a replay stored attachments again.
#[tokio::test]
async fn bug_1_4_a_repeated_request_keeps_nothing_twice_and_gets_new_addresses() {
    let world = World::new();
    let send = async |attachments: Value| {
        let mut request = request(Method::POST, "/v1/tasks", Some(with(attachments)));
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        world.send(request).await
    };
    let asked = json!([{ "type": "file", "data": base64("hi") }, to_upload("b.txt", 2)]);
    let first = send(asked.clone()).await.data(202);
    world.clock.advance(Duration::from_secs(900));
    let again = send(asked).await;
    assert_eq!(again.headers["idempotent-replay"], "true");
    let again = again.data(200);
    assert_eq!(again["task_id"], first["task_id"]);
    assert_ne!(again["upload_instructions"], first["upload_instructions"], "the old addresses are over");
    assert_eq!(world.send(form(&again["upload_instructions"][0], b"hi")).await.status.as_u16(), 204);
    assert_eq!(objects(&world).await.len(), 2);
    // Other bytes are another request.
    let other = json!([{ "type": "file", "data": base64("ho") }, to_upload("b.txt", 2)]);
    send(other).await.error(409, "DUPLICATE_TASK");
    assert_eq!(objects(&world).await.len(), 2, "nothing of what was refused is kept");
}

#[tokio::test]
async fn what_is_at_an_address_is_fetched_before_the_agent_starts() {
    let world = World::new();
    let source = source().await;
    world.forge.add_repo(repo(), source.path());
    let url = "https://x.example/d/log.txt?token=secret";
    world.web.put(url, Some("text/plain; charset=utf-8"), "line one\n");
    world.web.put("https://x.example/bytes", Some("application/octet-stream"), "plain\n");
    let asked = json!([{ "type": "url", "url": url }, { "type": "url", "url": "https://x.example/bytes" }]);
    let made = world.post(with(asked)).await.data(201);
    assert_eq!(made["attachments"][0]["screening_status"], "pending");
    assert_eq!(made["attachments"][0]["filename"], "log.txt");
    let id = id(&made);
    world.drive(id.parse().unwrap()).await;
    let task = world.get(&format!("/v1/tasks/{id}")).await.data(200);
    assert_eq!(task["status"], "HYDRATING", "{task}");
    assert_eq!(task["attachments"][0]["screening_status"], "passed");
    assert_eq!(task["attachments"][1]["content_type"], "text/plain");
    assert_eq!(
        told(&world, &id, EventKind::AttachmentsFetched).await,
        [json!({ "attachment_count": 2, "total_size_bytes": 15 })]
    );
}

#[tokio::test]
async fn an_address_that_gives_nothing_good_fails_the_task_with_its_reason() {
    let world = World::new();
    let source = source().await;
    world.forge.add_repo(repo(), source.path());
    world.web.put("https://x.example/page.txt", Some("text/html"), "<html>");
    world.web.put("https://x.example/lie.png", Some("image/png"), "text");
    for (url, code, words) in [
        ("https://x.example/gone.txt?sig=hush", "ATTACHMENT_UNAVAILABLE", "404"),
        ("https://x.example/page.txt", "ATTACHMENT_BLOCKED", "text/html"),
        ("https://x.example/lie.png", "ATTACHMENT_BLOCKED", "lie.png"),
    ] {
        let id = id(&world.post(with(json!([{ "type": "url", "url": url }]))).await.data(201));
        world.drive(id.parse().unwrap()).await;
        let task = world.get(&format!("/v1/tasks/{id}")).await.data(200);
        assert_eq!(task["error_classification"]["code"], code, "{task}");
        let message = task["error_message"].as_str().unwrap();
        assert!(message.contains(words) && !message.contains("hush"), "{message}");
    }
}

/// Blocks text with `bad` in it, warns of `odd`, does not answer to `away`.
#[derive(Debug)]
struct Words;

#[async_trait]
impl Screen for Words {
    async fn screen(&self, source: Source, text: &str) -> Result<Verdict, ScreenError> {
        Ok(match source {
            Source::Attachment if text.contains("bad") => Verdict::Blocked("it is bad".into()),
            Source::Attachment if text.contains("odd") => Verdict::Warned("it is odd".into()),
            Source::Attachment if text.contains("away") => {
                return Err(ScreenError { screen: "the screen".into(), reason: "it sleeps".into() });
            }
            _ => Verdict::Passed,
        })
    }
}

#[tokio::test]
async fn the_words_in_them_are_screened() {
    let world = World::with_policy(|policy| policy.screens = Screens::new(vec![std::sync::Arc::new(Words)]));
    let inline = |text: &str| with(json!([{ "type": "file", "data": base64(text) }]));
    let message = world.post(inline("so bad")).await.error(400, "ATTACHMENT_BLOCKED");
    assert!(message.contains("content policy: it is bad"), "{message}");
    let away = world.post(inline("far away")).await;
    away.error(503, "ATTACHMENT_SCREENING_UNAVAILABLE");
    assert_eq!(away.headers["retry-after"], "30");
    assert_eq!(world.get("/v1/tasks").await.data(200), json!([]));
    let odd = id(&world.post(inline("odd")).await.data(201));
    let warned = json!({ "source": "attachment", "reason": "it is odd" });
    assert_eq!(told(&world, &odd, EventKind::ScreeningWarned).await, std::slice::from_ref(&warned));
    // An outage at the confirmation changes nothing; a block fails the task.
    let (id, instruction) = waiting(&world, "a.txt", 4).await;
    world.send(form(&instruction, b"away")).await;
    confirm(&world, &id).await.error(503, "ATTACHMENT_SCREENING_UNAVAILABLE");
    assert_eq!(world.get(&format!("/v1/tasks/{id}")).await.data(200)["status"], "PENDING_UPLOADS");
    world.send(form(&instruction, b"odd!")).await;
    confirm(&world, &id).await.data(200);
    assert_eq!(told(&world, &id, EventKind::ScreeningWarned).await, [warned]);
    let (id, instruction) = waiting(&world, "a.txt", 3).await;
    world.send(form(&instruction, b"bad")).await;
    confirm(&world, &id).await.error(400, "ATTACHMENT_BLOCKED");
}

#[tokio::test]
async fn a_retry_takes_them_along_and_a_purge_takes_them_away() {
    let world = World::new();
    let (id, instruction) = waiting(&world, "a.txt", 2).await;
    let unconfirmed = waiting(&world, "b.txt", 2).await.0;
    world.send(form(&instruction, b"hi")).await;
    confirm(&world, &id).await.data(200);
    let task: TaskId = id.parse().unwrap();
    world.cancel(task).await;
    world.cancel(unconfirmed.parse().unwrap()).await;
    let retry = async |id: &str| world.call(Method::POST, &format!("/v1/tasks/{id}/retry"), None).await;
    let again = retry(&id).await.data(201);
    assert_eq!(again["status"], "SUBMITTED", "nothing is to be uploaded again");
    assert_eq!(again["attachments"][0]["screening_status"], "passed");
    assert_ne!(again["attachments"][0]["attachment_id"], instruction["attachment_id"]);
    assert_eq!(objects(&world).await.len(), 2);
    retry(&unconfirmed).await.error(400, "ATTACHMENT_UPLOAD_MISSING");
    // Both that have ended, and what belongs to them.
    let purge = orchestrator::retention::Purge {
        ended_before: jiff::Timestamp::MAX,
        user: None,
        mode: orchestrator::retention::Mode::Remove,
    };
    let purged = world.orchestrator.purge(purge).await.unwrap();
    assert_eq!((purged.tasks, purged.objects), (2, 1));
    let kept = objects(&world).await;
    assert!(kept.len() == 1 && kept[0].contains(again["task_id"].as_str().unwrap()), "{kept:?}");
}

#[tokio::test]
async fn a_request_with_attachments_may_be_larger_than_others() {
    let world = World::new();
    let inline = || json!({ "type": "file", "data": base64(&"x".repeat(512_000)) });
    world.post(with(json!(vec![inline(); 6]))).await.data(201);
    world.post(with(json!(vec![inline(); 7]))).await.error(400, "ATTACHMENT_INLINE_TOO_LARGE");
    let message = world.post(with(json!(vec![inline(); 10]))).await.error(413, "PAYLOAD_TOO_LARGE");
    assert!(message.contains("5242880"), "{message}");
    let long = json!({ "message": "x".repeat(1024 * 1024) });
    let id = world.submitted("x").await;
    let message = world.call(Method::POST, &format!("/v1/tasks/{id}/nudge"), Some(long)).await;
    assert!(message.error(413, "PAYLOAD_TOO_LARGE").contains("1048576"));
}
