//! Attachments through the whole product: named on the command line or sent by another client, looked at by a child of
//! the server, shown to the model, there in the box, and in no commit.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::platform::Platform;

use crate::whole::*;

/// A picture of one pixel.
const PNG: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, 0x49, 0x48, 0x44, 0x52, 0, 0, 0, 1, 0, 0,
    0, 1, 8, 6, 0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 0x0d, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63,
    0x64, 0xf8, 0xcf, 0x50, 0x0f, 0, 3, 0x86, 1, 0x80, 0x5a, 0x34, 0x7d, 0x6b, 0, 0, 0, 0, 0x49, 0x45, 0x4e,
    0x44, 0xae, 0x42, 0x60, 0x82,
];

/// A document of one page that says `words`.
fn pdf(words: &str) -> Vec<u8> {
    let stream = format!("BT /F1 12 Tf 72 720 Td ({words}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{stream}\nendstream", stream.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    let (mut text, mut places) = ("%PDF-1.4\n".to_owned(), Vec::new());
    for (n, object) in objects.iter().enumerate() {
        places.push(text.len());
        text += &format!("{} 0 obj\n{object}\nendobj\n", n + 1);
    }
    let at = text.len();
    text += &format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    places.iter().for_each(|place| text += &format!("{place:010} 00000 n \n"));
    text += &format!("trailer << /Size {} /Root 1 0 R >>\nstartxref\n{at}\n%%EOF\n", objects.len() + 1);
    text.into_bytes()
}

fn files(dir: &Path) -> [String; 4] {
    let log = "a line of the log\n".repeat(40_000);
    [
        ("notes.md", b"# Notes\n\nMind the gap.\n".to_vec()),
        ("big.log", log.into_bytes()),
        ("shot.png", PNG.to_vec()),
        ("spec.pdf", pdf("It must be blue")),
    ]
    .map(|(name, bytes)| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    })
}

/// Finds the attachments in either place, and leaves what it found in the work tree.
const LOOK: &str = "at=/box/baseline/attachments; [ -d $at ] || at=$PWD/../attachments; \
    { cat $at/1/notes.md; wc -c < $at/2/big.log; ls $at/3; cat $at/4/spec.pdf.txt; } > seen.txt";

fn script(dir: &Path) -> std::path::PathBuf {
    transcript(dir, "attached", &[bash(LOOK), say("Look at what was attached\n\nIt is seen.")])
}

async fn seen(platform: &Platform, repo: &testkit::TempRepo, task: &Value) {
    let id = task["task_id"].as_str().unwrap().parse().unwrap();
    let task = platform.ended(id, END).await.unwrap_or_else(|e| panic!("{e:#}\n{}", platform.log()));
    assert_eq!(task.status, "COMPLETED", "{task:#?}\n{}", platform.log());
    let show = |what: &str| {
        let output =
            std::process::Command::new("git").arg("-C").arg(repo.path()).args(["show", what]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let text = show(&format!("{}:seen.txt", task.branch_name));
    assert!(
        text.contains("Mind the gap.") && text.contains("720000\n") && text.contains("shot.png"),
        "{text}"
    );
    assert!(text.contains("It must be blue"), "the text of the document: {text}");
    let files = show(&format!("{}^{{tree}}", task.branch_name));
    assert!(!files.contains("attachments") && !files.contains("notes.md"), "{files}");
    let events = events(platform, id).await;
    let brought = events.iter().find(|e| e.metadata["milestone"] == "attachments_downloaded");
    assert_eq!(brought.expect("they are brought").metadata["attachment_count"], 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_person_are_seen_by_the_agent_in_every_tier() {
    let (dir, repo) = (tempfile::tempdir().unwrap(), sample().await);
    let files = files(dir.path());
    let mut platform = platform(&script(dir.path()), "attached");
    let mut tiers = vec!["sandbox", "process"];
    if let Some(engine) = testkit::peers::engine() {
        platform.set("DOCKER_HOST", &engine.address);
        platform.set("BGAGENT__COMPUTE__IMAGE", &engine.image);
        tiers.push("container");
    }
    platform.start().await.unwrap();
    for tier in tiers {
        let mut words = vec!["submit", "--repo", repo.path().to_str().unwrap(), "--isolation", tier];
        words.extend(["--output", "json"]);
        files.iter().for_each(|file| words.extend(["--attachment", file]));
        words.push("Look at these");
        let said = types(&platform, &words).await;
        assert_eq!(said.code, 0, "{tier}: {said:?}");
        assert!(said.err.contains("Uploading 1 file (703.1 KiB)...\n  big.log uploaded.\n"), "{said:?}");
        let task: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(task["attachments"].as_array().unwrap().len(), 4, "{task}");
        seen(&platform, &repo, &task).await;
    }
    platform.end(Duration::from_secs(30)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_client_uploads_as_it_is_told() {
    let (dir, repo) = (tempfile::tempdir().unwrap(), sample().await);
    let files = files(dir.path());
    let mut platform = platform(&script(dir.path()), "attached");
    platform.start().await.unwrap();
    let key = types(&platform, &["config", "owner-key"]).await.out.trim().to_owned();
    let base = platform.client().unwrap().base().to_string();
    let curl = async |args: &[&str]| {
        let output = tokio::process::Command::new("curl").args(["-sS", "--noproxy", "*"]).args(args).output();
        let output = output.await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let kinds = ["text/markdown", "text/x-log", "image/png", "application/pdf"];
    let attachments: Vec<Value> = files
        .iter()
        .zip(kinds)
        .map(|(file, kind)| {
            json!({
                "type": if kind.starts_with("image") { "image" } else { "file" }, "content_type": kind,
                "filename": Path::new(file).file_name().unwrap().to_str().unwrap(),
                "expected_size_bytes": std::fs::metadata(file).unwrap().len(),
            })
        })
        .collect();
    let body =
        json!({ "repo": repo.path(), "task_description": "Look", "attachments": attachments }).to_string();
    let header = format!("X-API-Key: {key}");
    let json_type = "Content-Type: application/json";
    let made = curl(&["-H", &header, "-H", json_type, "-d", &body, &format!("{base}v1/tasks")]).await;
    let made: Value = serde_json::from_str(&made).unwrap_or_else(|_| panic!("{made}"));
    let task = &made["data"];
    assert_eq!(task["status"], "PENDING_UPLOADS", "{made}");
    for (instruction, file) in task["upload_instructions"].as_array().unwrap().iter().zip(&files) {
        let mut form: Vec<String> = Vec::new();
        for (name, value) in instruction["upload_fields"].as_object().unwrap() {
            form.extend(["-F".to_owned(), format!("{name}={}", value.as_str().unwrap())]);
        }
        form.extend(["-F".to_owned(), format!("file=@{file}")]);
        let mut args: Vec<&str> = form.iter().map(String::as_str).collect();
        args.extend(["-o", "/dev/null", "-w", "%{http_code}", instruction["upload_url"].as_str().unwrap()]);
        assert_eq!(curl(&args).await, "204");
    }
    let path = format!("{base}v1/tasks/{}/confirm-uploads", task["task_id"].as_str().unwrap());
    let confirmed = curl(&["-H", &header, "-X", "POST", &path]).await;
    let confirmed: Value = serde_json::from_str(&confirmed).unwrap();
    seen(&platform, &repo, &confirmed["data"]).await;
    let log = platform.log();
    assert!(!log.contains("signature"), "no address of an upload is in the log: {log}");
    platform.end(Duration::from_secs(30)).await.unwrap();
}

#[tokio::test]
async fn files_that_lie_are_told_and_nothing_is_submitted() {
    let (dir, repo) = (tempfile::tempdir().unwrap(), sample().await);
    let mut platform = platform(&script(dir.path()), "attached");
    platform.start().await.unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let active = String::from_utf8(pdf("x")).unwrap();
    let active = active
        .replace("/Pages 2 0 R >>", "/Pages 2 0 R /OpenAction << /S /JavaScript /JS (app.alert(1)) >> >>");
    for (given, code, words) in [
        (file("picture.txt", PNG), 1, "picture.txt"),
        (file("text.png", b"not a picture"), 1, "text.png"),
        (file("active.pdf", active.as_bytes()), 1, "JavaScript"),
        (file("half.pdf", &pdf("x")[..80]), 1, "half.pdf"),
        (file("data.json", b"{"), 1, "data.json"),
        (file("x.exe", b"MZ\0\0"), 2, "of no type"),
        ("http://x.example/a.png".to_owned(), 2, "only https"),
    ] {
        let words_given = ["submit", "--repo", repo.path().to_str().unwrap(), "--attachment", &given, "Look"];
        let said = types(&platform, &words_given).await;
        assert!(said.code == code && said.err.contains(words), "{given}: {said:?}");
        assert!(!said.err.contains("panicked") && said.err.len() < 1_000, "{said:?}");
        assert!(code == 2 || said.err.contains("again with another file"), "{said:?}");
    }
    assert_eq!(types(&platform, &["list", "--output", "json"]).await.out.trim(), "");
    // One that is uploaded is looked at when its task is there, which then has failed, and waits for nothing.
    let large = file("large.png", &vec![b'a'; 600_000]);
    let words = ["submit", "--repo", repo.path().to_str().unwrap(), "--attachment", &large, "Look"];
    let said = types(&platform, &words).await;
    assert!(said.code == 1 && said.err.contains("the task has failed"), "{said:?}");
    assert!(!said.err.contains("bgagent cancel") && said.err.contains("again with another file"), "{said:?}");
    platform.end(Duration::from_secs(30)).await.unwrap();
}
