//! What the person attached: brought from the gateway before the agent begins, kept beside the work tree and never in
//! it, and read for the first message.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use domain::{Failure, FailureCode, limit};
use protocol::box_api::WorkAttachment;
use sha2::{Digest as _, Sha256};

use crate::client::{CallError, Gateway, Patience};

/// Bytes of one text that the first message shows whole; of a larger one it says where it is.
const TEXT_SHOWN_MAX: u64 = 32 * 1024;
/// Bytes of all texts that it shows.
const TEXTS_SHOWN_MAX: u64 = 128 * 1024;
/// Bytes of one picture that it shows: in base64 it is what providers take, 5 MB.
const IMAGE_SHOWN_MAX: u64 = 3_750_000;
/// Bytes of all pictures that it shows: each goes with every request.
const IMAGES_SHOWN_MAX: u64 = 12_000_000;

/// An attachment that is in the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// Where it is, for tools.
    pub path: PathBuf,
    /// Its name.
    pub filename: String,
    /// What it is.
    pub content_type: String,
    /// Its bytes.
    pub bytes: u64,
    /// Where the text of a document is.
    pub text_path: Option<PathBuf>,
    /// What of it goes into the first message.
    pub shown: Shown,
}

/// What of an attachment the model is shown at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// The picture, in base64.
    Image(String),
    /// The words.
    Text(String),
    /// Nothing: it is too large for a message.
    Nothing,
}

/// Brings all of them below `dir`. One that is not what was announced is a failure of the task.
pub async fn bring(
    gateway: &Gateway,
    attachments: &[WorkAttachment],
    dir: &Path,
) -> Result<Vec<Brought>, Failure> {
    let (mut texts, mut images) = (TEXTS_SHOWN_MAX, IMAGES_SHOWN_MAX);
    let mut all = Vec::with_capacity(attachments.len());
    for (n, attachment) in attachments.iter().enumerate() {
        let folder = dir.join((n + 1).to_string());
        let bytes = fetch(gateway, attachment).await?;
        let text = match attachment.text_bytes {
            Some(_) => Some(fetch_text(gateway, attachment).await?),
            None => None,
        };
        let kept = keep(&folder, attachment, &bytes, text.as_deref());
        let (path, text_path) =
            kept.map_err(|e| failure(attachment, format!("keeping it in {}: {e}", folder.display())))?;
        let shown = if attachment.content_type.starts_with("image/") {
            image(&bytes, &mut images)
        } else {
            words(text.as_deref().unwrap_or(&bytes), &mut texts)
        };
        all.push(Brought {
            path,
            filename: attachment.filename.clone(),
            content_type: attachment.content_type.clone(),
            bytes: bytes.len() as u64,
            text_path,
            shown,
        });
    }
    Ok(all)
}

fn failure(attachment: &WorkAttachment, why: impl std::fmt::Display) -> Failure {
    let detail = format!("attachment {}: {why}", attachment.filename);
    Failure::new(FailureCode::AttachmentUnavailable, detail).resource(&attachment.filename)
}

async fn fetch(gateway: &Gateway, attachment: &WorkAttachment) -> Result<Vec<u8>, Failure> {
    let bytes = gateway.attachment(attachment.id, Patience::within(limit::HYDRATION_DEADLINE)).await;
    let bytes = bytes.map_err(|e: CallError| failure(attachment, e))?;
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    match bytes.len() as u64 == attachment.size_bytes && sha256 == attachment.sha256 {
        true => Ok(bytes),
        false => Err(failure(attachment, "what the gateway sent is not what it announced")),
    }
}

async fn fetch_text(gateway: &Gateway, attachment: &WorkAttachment) -> Result<Vec<u8>, Failure> {
    let text = gateway.attachment_text(attachment.id, Patience::within(limit::HYDRATION_DEADLINE)).await;
    text.map_err(|e: CallError| failure(attachment, e))
}

/// Writes the files, to be read only. Nothing is there yet, and no link is followed.
fn keep(
    folder: &Path,
    attachment: &WorkAttachment,
    bytes: &[u8],
    text: Option<&[u8]>,
) -> io::Result<(PathBuf, Option<PathBuf>)> {
    // The control plane has looked at the name; a box believes nobody.
    let name = Path::new(&attachment.filename);
    if name.components().count() != 1 || name.file_name() != Some(name.as_os_str()) {
        return Err(io::Error::other("its name is a path"));
    }
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let write = |path: &Path, bytes: &[u8]| -> io::Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => (),
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?;
        file.write_all(bytes)
    };
    let path = folder.join(name);
    write(&path, bytes)?;
    let Some(text) = text else { return Ok((path, None)) };
    let text_path = folder.join(format!("{}.txt", attachment.filename));
    write(&text_path, text)?;
    Ok((path, Some(text_path)))
}

fn image(bytes: &[u8], left: &mut u64) -> Shown {
    let size = bytes.len() as u64;
    if size > IMAGE_SHOWN_MAX || size > *left {
        return Shown::Nothing;
    }
    *left -= size;
    Shown::Image(base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn words(bytes: &[u8], left: &mut u64) -> Shown {
    let size = bytes.len() as u64;
    match std::str::from_utf8(bytes) {
        Ok(text) if size <= TEXT_SHOWN_MAX && size <= *left => {
            *left -= size;
            Shown::Text(text.to_owned())
        }
        Ok(_) | Err(_) => Shown::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use domain::AttachmentId;

    use super::*;

    fn attachment(filename: &str) -> WorkAttachment {
        WorkAttachment {
            id: AttachmentId::from_bits(1),
            filename: filename.into(),
            content_type: "text/plain".into(),
            size_bytes: 2,
            sha256: String::new(),
            text_bytes: None,
        }
    }

    #[test]
    fn a_name_leads_nowhere_else_and_a_link_is_not_followed() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("1");
        for bad in ["../a", "a/b", "/etc/passwd", "..", "."] {
            assert!(keep(&folder, &attachment(bad), b"hi", None).is_err(), "{bad}");
        }
        fs::create_dir_all(&folder).unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "mine").unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("a.txt")).unwrap();
        let (path, text) = keep(&folder, &attachment("a.txt"), b"hi", Some(b"words")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"hi");
        assert_eq!(fs::read(text.unwrap()).unwrap(), b"words");
        assert_eq!(fs::read(outside).unwrap(), b"mine");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o444);
    }

    #[test]
    fn what_is_too_large_for_a_message_is_not_shown() {
        let mut left = TEXTS_SHOWN_MAX;
        let large = vec![b'a'; TEXT_SHOWN_MAX as usize];
        for _ in 0..4 {
            assert!(matches!(words(&large, &mut left), Shown::Text(_)));
        }
        assert_eq!((words(b"a", &mut left), left), (Shown::Nothing, 0));
        let mut left = TEXTS_SHOWN_MAX;
        assert_eq!(words(&vec![b'a'; TEXT_SHOWN_MAX as usize + 1], &mut left), Shown::Nothing);
        assert_eq!(words(&[0xff], &mut left), Shown::Nothing);
        let mut left = IMAGES_SHOWN_MAX;
        let picture = vec![0; IMAGE_SHOWN_MAX as usize];
        let shown: Vec<bool> =
            (0..4).map(|_| matches!(image(&picture, &mut left), Shown::Image(_))).collect();
        assert_eq!(shown, [true, true, true, false]);
    }
}
