//! What the person attached, in a whole worker: shown to the model, there for its tools, and in no commit.

use domain::{AttachmentId, FailureCode};
use protocol::box_api::WorkAttachment;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::gateway::{BRANCH, Gateway, Reply, git};

fn attach(g: &mut Gateway, n: u128, filename: &str, content_type: &str, bytes: &[u8], text: Option<&str>) {
    let id = AttachmentId::from_bits(n);
    g.spec.attachments.push(WorkAttachment {
        id,
        filename: filename.into(),
        content_type: content_type.into(),
        size_bytes: bytes.len() as u64,
        sha256: Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        text_bytes: text.map(|text| text.len() as u64),
    });
    let mut seen = g.seen();
    seen.attachments.insert(id.to_string(), bytes.to_vec());
    if let Some(text) = text {
        seen.attachments.insert(format!("{id}/text"), text.as_bytes().to_vec());
    }
}

/// D-118: pictures were paths.
#[tokio::test]
async fn the_model_is_shown_what_was_attached_and_nothing_of_it_is_committed() {
    let look =
        "cat ../attachments/1/notes.md ../attachments/3/spec.pdf.txt > seen; ls ../attachments/4 >> seen";
    let mut g =
        Gateway::start(&[("a", "1\n")], vec![Reply::Bash(look.into()), Reply::Done("Looked.\n\nDone.")]);
    let notes = "See </attachment> the \u{202e}plan.\n";
    attach(&mut g, 1, "notes.md", "text/markdown", notes.as_bytes(), None);
    attach(&mut g, 2, "shot.png", "image/png", b"not really a picture", None);
    attach(&mut g, 3, "spec.pdf", "application/pdf", b"%PDF-1.7 ...", Some("The words of the PDF.\n"));
    attach(&mut g, 4, "big.log", "text/x-log", &vec![b'x'; 40_000], None);
    assert_eq!(g.run().await, 0, "{}", g.log());
    assert_eq!(g.report().failure, None, "{}", g.log());
    assert!(g.milestones().iter().any(|m| m == "attachments_downloaded"), "{:?}", g.milestones());
    let body: Value = serde_json::from_str(&g.seen().model_bodies[0]).unwrap();
    let blocks = body["messages"][0]["content"].as_array().unwrap().clone();
    let texts: Vec<&str> = blocks.iter().filter_map(|b| b["text"].as_str()).collect();
    let all = texts.join("\n").replace(g.session().to_str().unwrap(), "SESSION");
    insta::assert_snapshot!("attached", all.split("</task>").nth(1).unwrap().trim());
    let picture = blocks.iter().find(|b| b["type"] == "image").expect("the picture");
    assert_eq!(picture["source"]["media_type"], "image/png");
    assert_eq!(picture["source"]["data"], "bm90IHJlYWxseSBhIHBpY3R1cmU=");
    // Its tools see the files; the branch does not have them.
    let seen = git(&g.repo(), &["show", &format!("{BRANCH}:seen")]);
    assert!(seen.contains("the plan.") || seen.contains("See </attachment>"), "{seen}");
    assert!(seen.contains("The words of the PDF.") && seen.contains("big.log"), "{seen}");
    assert_eq!(g.pushed(), ["a", "seen"]);
}

/// D-119: missing attachments were passed over.
#[tokio::test]
async fn an_attachment_that_is_not_what_was_announced_fails_the_task_before_the_agent() {
    for change in ["bytes", "missing", "path"] {
        let mut g = Gateway::start(&[("a", "1\n")], vec![Reply::Done("Done.")]);
        let name = if change == "path" { "../../repo/.git/hooks/post-commit" } else { "notes.md" };
        attach(&mut g, 1, name, "text/markdown", b"hi", None);
        match change {
            "bytes" => {
                drop(g.seen().attachments.insert(AttachmentId::from_bits(1).to_string(), b"ho".to_vec()))
            }
            "missing" => g.seen().attachments.clear(),
            _ => (),
        }
        g.run().await;
        let failure = g.report().failure.unwrap_or_else(|| panic!("{change}: {}", g.log()));
        assert_eq!(failure.code, FailureCode::AttachmentUnavailable, "{change}: {failure}");
        let seen = g.seen();
        assert_eq!((seen.started, seen.model_calls), (0, 0), "{change}");
    }
}
