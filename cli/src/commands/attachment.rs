//! `--attachment`: files of this machine, and addresses. A small file goes with the request, a larger one is uploaded after
//! it. A file is read once: what was measured is what is sent.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use content::MediaType;
use domain::limit;
use protocol::client::{Client, ClientError};
use protocol::rest::{AttachmentRequest, CreatedTask, TaskDetail};

use super::run;
use crate::clean;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::admin::size;

/// What is attached: what the request says, and the bytes that follow it.
#[derive(Debug, Default)]
pub struct Attached {
    /// As the request has them.
    pub requests: Vec<AttachmentRequest>,
    /// The files to upload, in the order of the request.
    pub uploads: Vec<Vec<u8>>,
}

impl Attached {
    /// Reads what `--attachment` names.
    pub fn read(given: &[String]) -> Result<Attached, Failure> {
        if given.len() > limit::ATTACHMENTS_MAX {
            let max = limit::ATTACHMENTS_MAX;
            return Err(Failure::usage(format!(
                "--attachment: {} are given, at most {max} are allowed",
                given.len()
            )));
        }
        let mut attached = Attached::default();
        let mut within = 0;
        for one in given {
            if one.contains("://") {
                attached.requests.push(address(one)?);
                continue;
            }
            let LocalFile { name, media, bytes } = LocalFile::read(one)?;
            let mut request = AttachmentRequest {
                kind: if media.is_image() { "image" } else { "file" }.into(),
                content_type: Some(media.as_str().into()),
                filename: Some(name),
                ..AttachmentRequest::default()
            };
            let fits = bytes.len() <= limit::ATTACHMENT_INLINE_MAX_BYTES
                && within + bytes.len() <= limit::ATTACHMENTS_INLINE_TOTAL_MAX_BYTES;
            if fits {
                within += bytes.len();
                request.data = Some(base64::engine::general_purpose::STANDARD.encode(&bytes));
            } else {
                request.expected_size_bytes = i64::try_from(bytes.len()).ok();
                attached.uploads.push(bytes);
            }
            attached.requests.push(request);
        }
        Ok(attached)
    }

    /// Uploads what the task waits for, and says that it is all there. The task as it then stands.
    pub async fn upload(
        &self,
        cx: &Context,
        client: &Client,
        made: CreatedTask,
    ) -> Result<TaskDetail, Failure> {
        let Some(instructions) = made.upload_instructions.filter(|list| !list.is_empty()) else {
            return Ok(made.task);
        };
        let id = run::id_of(&made.task)?;
        if instructions.len() != self.uploads.len() {
            return Err(Failure::new(format!(
                "task {id} waits for {} uploads, and {} files of this command are to be uploaded",
                instructions.len(),
                self.uploads.len()
            ))
            .hint("The same Idempotency-Key was used with other files: use a new one."));
        }
        let total: usize = self.uploads.iter().map(Vec::len).sum();
        let files = if instructions.len() == 1 { "file" } else { "files" };
        cx.note(&format!("Uploading {} {files} ({})...", instructions.len(), size(total as u64)));
        for (instruction, bytes) in instructions.iter().zip(&self.uploads) {
            client.upload(instruction, bytes.clone()).await.map_err(|e| waits(id, e))?;
            cx.note(&format!("  {} uploaded.", clean::line(&instruction.filename)));
        }
        cx.note("Looking at what was uploaded...");
        client.confirm_uploads(id).await.map_err(|e| waits(id, e))
    }
}

/// What to do with a task whose uploads did not go through.
fn waits(id: domain::TaskId, error: ClientError) -> Failure {
    // It waits no more.
    if matches!(&error, ClientError::Api { code, .. } if code == "ATTACHMENT_BLOCKED" || code == "UPLOADS_NOT_PENDING")
    {
        return error.into();
    }
    let minutes = limit::PENDING_UPLOADS.as_secs() / 60;
    Failure::from(error).hint(format!(
        "A task without its attachments does not start, and ends after {minutes} minutes: bgagent status {id}, or bgagent cancel {id}, then submit again."
    ))
}

fn address(given: &str) -> Result<AttachmentRequest, Failure> {
    if !given.starts_with("https://") {
        return Err(Failure::usage(format!("--attachment {given}: only https:// addresses are fetched"))
            .hint("Download it, and attach the file."));
    }
    Ok(AttachmentRequest { kind: "url".into(), url: Some(given.to_owned()), ..AttachmentRequest::default() })
}

#[derive(Debug)]
struct LocalFile {
    name: String,
    media: MediaType,
    bytes: Vec<u8>,
}

impl LocalFile {
    fn read(given: &str) -> Result<LocalFile, Failure> {
        let failed = |why: String| Failure::usage(format!("--attachment {given}: {why}"));
        let path = Path::new(given);
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        content::check_name(&name).map_err(|why| {
            failed(format!("the name {name:?} cannot be used: {why}"))
                .hint("Copy the file under another name.")
        })?;
        let max = limit::ATTACHMENT_MAX_BYTES;
        // A pipe would be waited on.
        let meta = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?;
        if !meta.is_file() {
            return Err(failed("it is no regular file".into()));
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|e| failed(e.to_string()))?;
        file.take(max + 1).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
        if bytes.is_empty() {
            return Err(failed("it is empty".into()));
        }
        if bytes.len() as u64 > max {
            return Err(failed(format!("it has more than {}, the most of an attachment", size(max))));
        }
        let media = MediaType::of_name(&name).or_else(|| content::sniff(&bytes)).ok_or_else(|| {
            let all: Vec<&str> = MediaType::ALL.iter().map(|m| m.as_str()).collect();
            failed(format!("it is of no type that can be attached; there are {}", all.join(", ")))
        })?;
        Ok(LocalFile { name, media, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, name: &str, bytes: usize) -> String {
        let path = dir.join(name);
        std::fs::write(&path, vec![b'a'; bytes]).unwrap();
        path.display().to_string()
    }

    /// D-120: two files of one name were one.
    #[test]
    fn small_files_go_with_the_request_and_others_after_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("other")).unwrap();
        let inline = limit::ATTACHMENT_INLINE_MAX_BYTES;
        let given = [
            file(dir.path(), "a.txt", inline),
            file(dir.path(), "b.log", inline + 1),
            "https://x.example/c.png".to_owned(),
            // The same name twice is two files.
            file(&dir.path().join("other"), "a.txt", 3),
        ];
        let read = Attached::read(&given).unwrap();
        let sent: Vec<(&str, bool, Option<i64>)> = read
            .requests
            .iter()
            .map(|r| (r.kind.as_str(), r.data.is_some(), r.expected_size_bytes))
            .collect();
        let after = i64::try_from(inline + 1).unwrap();
        assert_eq!(
            sent,
            [("file", true, None), ("file", false, Some(after)), ("url", false, None), ("file", true, None)]
        );
        assert_eq!(read.uploads.iter().map(Vec::len).collect::<Vec<_>>(), [inline + 1]);
        // What no longer fits within a request is uploaded.
        let many = vec![given[0].clone(); 7];
        assert_eq!(Attached::read(&many).unwrap().uploads.len(), 1);
    }

    /// D-121: the client sent what the server refuses.
    #[test]
    fn what_cannot_be_attached_is_told_before_anything_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let folder = folder.display().to_string();
        let large = limit::ATTACHMENT_MAX_BYTES as usize + 1;
        std::fs::write(dir.path().join("x.bin"), [0u8, 1, 2]).unwrap();
        for (given, words) in [
            (file(dir.path(), "empty.txt", 0), "it is empty"),
            (file(dir.path(), "large.txt", large), "more than"),
            (file(dir.path(), ".env", 3), "cannot be used"),
            (dir.path().join("x.bin").display().to_string(), "of no type"),
            (dir.path().join("none.txt").display().to_string(), "No such file"),
            (folder, "no regular file"),
            ("http://x.example/a.png".to_owned(), "only https"),
            ("/dev/null".to_owned(), "no regular file"),
        ] {
            let failure = Attached::read(std::slice::from_ref(&given)).unwrap_err();
            assert!(format!("{failure:?}").contains(words), "{given}: {failure:?}");
        }
        assert!(Attached::read(&vec!["https://x.example/a".to_owned(); 11]).is_err());
    }
}
