//! What a person hands to the agent beside the task's words: images and documents. What was asked is part of the
//! [`TaskSpec`](crate::TaskSpec) and never changes; what is known of the bytes is the [`Task`](crate::Task)'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{AttachmentId, TaskId};

/// What it is; *ABCA*'s names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachmentKind {
    /// A picture.
    Image,
    /// A document.
    File,
    /// Whatever is at an address.
    Url,
}

impl AttachmentKind {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            AttachmentKind::Image => "image",
            AttachmentKind::File => "file",
            AttachmentKind::Url => "url",
        }
    }
}

/// One attachment, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// What it is.
    pub kind: AttachmentKind,
    /// Its name: no path, no hidden file, no option.
    pub filename: String,
    /// Its type, where the person said one.
    #[serde(default)]
    pub content_type: Option<String>,
    /// How its bytes come here.
    #[serde(flatten)]
    pub source: AttachmentSource,
}

/// How the bytes of an attachment come here; *ABCA*'s names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "delivery", rename_all = "snake_case")]
pub enum AttachmentSource {
    /// Within the request.
    Inline {
        /// Their number.
        size_bytes: u64,
        /// SHA-256 in hex, so that a repeated request is told from another one.
        sha256: String,
    },
    /// Uploaded to a signed address, then confirmed.
    Presigned {
        /// The number that was announced.
        size_bytes: u64,
    },
    /// Fetched before the agent starts.
    UrlFetch {
        /// From here: `https`.
        url: String,
    },
}

/// What came of looking at the bytes of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "screening", rename_all = "lowercase")]
pub enum Screened {
    /// They are kept, and may be shown.
    Passed(Content),
    /// They may not, and are not kept.
    Blocked,
}

impl Screened {
    /// The wire name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Screened::Passed(_) => "passed",
            Screened::Blocked => "blocked",
        }
    }
}

/// Bytes that passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// What they are.
    pub content_type: String,
    /// Their number, as kept.
    pub size_bytes: u64,
    /// SHA-256 of what is kept, in lower hex.
    pub sha256: String,
    /// About how many tokens they are for a model.
    pub tokens: u32,
    /// Bytes of the text that was taken out of a document which is no text itself; it is kept beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_bytes: Option<u64>,
}

/// What is known of a task's attachments, by their ids. One that is not in it is still to come.
pub type Attachments = BTreeMap<AttachmentId, Screened>;

impl AttachmentId {
    /// The id of a task's attachment at this place of its list: it follows from the two, so that whoever asks gets the same.
    pub fn of(task: TaskId, place: usize) -> AttachmentId {
        AttachmentId::from_bits(task.bits().wrapping_add(place as u128 + 1))
    }
}

/// Bytes of all that passed.
pub fn total_bytes(attachments: &Attachments) -> u64 {
    attachments
        .values()
        .map(|a| match a {
            Screened::Passed(content) => content.size_bytes,
            Screened::Blocked => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_the_task_and_the_place() {
        let task = TaskId::from_bits(u128::MAX - 1);
        let ids: Vec<_> = (0..10).map(|place| AttachmentId::of(task, place)).collect();
        assert!(ids.iter().enumerate().all(|(n, id)| !ids[..n].contains(id)));
        assert_eq!(ids[3], AttachmentId::of(task, 3));
        assert_ne!(ids[0].bits(), task.bits());
    }

    #[test]
    fn what_was_asked_is_written_as_it_is_read() {
        let text = r#"{"kind":"image","filename":"a.png","content_type":null,"delivery":"presigned","size_bytes":7}"#;
        let read: Attachment = serde_json::from_str(text).unwrap();
        assert_eq!(read.source, AttachmentSource::Presigned { size_bytes: 7 });
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
