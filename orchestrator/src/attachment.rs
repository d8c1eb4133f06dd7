//! What a task's attachments go through before an agent sees them: their bytes come here, are looked at outside of this
//! process, are screened, and are kept as objects. What did not pass is kept nowhere.
//!
//! | key of the object | holds |
//! |---|---|
//! | `uploads/<task>/<attachment>` | what was uploaded and nobody has looked at |
//! | `attachments/<task>/<attachment>/content` | what passed |
//! | `attachments/<task>/<attachment>/text` | the text of a document that is no text itself |

pub mod fake;

use std::fmt;

use async_trait::async_trait;
use content::{Checked, MediaType, Refusal};
use domain::{
    Attachment, AttachmentId, AttachmentKind, AttachmentSource, Attachments, Command, Content, Failure,
    FailureCode, Screened, Status, Task, TaskId, attachment, limit,
};
use futures_util::StreamExt as _;
use objects::{BadKey, Key, ObjectError};
use screening::{ScreenError, Source, Verdict};
use sha2::{Digest, Sha256};
use store::StoreError;
use tracing::{info, warn};

use crate::dispatch::chain;
use crate::{Done, Orchestrator};

/// Attachments of one task that are fetched or looked at at once; *ABCA*.
const AT_ONCE: usize = 3;
/// Objects of no task are removed when they are older than this: until then, their task may be about to be stored.
const ORPHAN: std::time::Duration = std::time::Duration::from_secs(3_600);

/// Gets what is at an address, within the rules for addresses.
#[async_trait]
pub trait Fetch: fmt::Debug + Send + Sync {
    /// The bytes at `url`, at most `max`, for a task on `repo`.
    async fn fetch(&self, repo: &domain::RepoRef, url: &str, max: u64) -> Result<Fetched, FetchError>;
}

/// What was at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What the server said that they are.
    pub content_type: Option<String>,
}

/// What could not be fetched, in a sentence for the person, without credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(pub String);

/// Looks at bytes of strangers where they can hurt nobody.
#[async_trait]
pub trait Inspect: fmt::Debug + Send + Sync {
    /// What they are; the inner error is what is wrong with them. The outer one is ours: they could not be looked at.
    async fn inspect(
        &self,
        declared: Option<MediaType>,
        bytes: Vec<u8>,
    ) -> Result<Result<Checked, Refusal>, String>;
}

#[async_trait]
impl Inspect for content::isolated::Inspector {
    async fn inspect(
        &self,
        declared: Option<MediaType>,
        bytes: Vec<u8>,
    ) -> Result<Result<Checked, Refusal>, String> {
        self.check(declared, bytes).await.map_err(|e| chain(&e))
    }
}

/// Why an attachment was not taken in. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It is not what it should be, or may not be shown.
    #[error("{0}")]
    Refused(String),
    /// A screen blocked its words.
    #[error("blocked by content policy: {0}")]
    Blocked(String),
    /// A screen was out of order.
    #[error("content screening is unavailable: {0}")]
    Screen(#[from] ScreenError),
    /// It could not be looked at.
    #[error("it could not be looked at: {0}")]
    Inspect(String),
    /// It could not be kept.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Its place has no name.
    #[error(transparent)]
    Key(#[from] BadKey),
}

/// An attachment that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What it is.
    pub content: Content,
    /// What a screen warned of.
    pub warning: Option<String>,
}

/// Where an upload waits to be looked at.
pub fn upload_key(task: TaskId, id: AttachmentId) -> Result<Key, BadKey> {
    format!("uploads/{task}/{id}").parse()
}

/// Where the bytes that passed are.
pub fn content_key(task: TaskId, id: AttachmentId) -> Result<Key, BadKey> {
    format!("attachments/{task}/{id}/content").parse()
}

/// Where the text of a document is.
pub fn text_key(task: TaskId, id: AttachmentId) -> Result<Key, BadKey> {
    format!("attachments/{task}/{id}/text").parse()
}

/// What all objects of a task's attachments begin with.
pub(crate) fn prefixes(task: TaskId) -> [String; 2] {
    [format!("uploads/{task}/"), format!("attachments/{task}/")]
}

impl Orchestrator {
    /// Looks at the bytes of an attachment, screens its words, and keeps it.
    pub async fn take_in(
        &self,
        task: TaskId,
        id: AttachmentId,
        asked: &Attachment,
        said: Option<&str>,
        bytes: Vec<u8>,
    ) -> Result<Taken, NotTaken> {
        let declared = declared(asked, said).map_err(NotTaken::Refused)?;
        let looked = self.parts().inspector.inspect(declared, bytes.clone()).await;
        let checked = looked.map_err(NotTaken::Inspect)?.map_err(|why| NotTaken::Refused(why.to_string()))?;
        fits(asked.kind, checked.media).map_err(NotTaken::Refused)?;
        let warning = match checked.text.as_deref().filter(|text| !text.trim().is_empty()) {
            Some(text) => match self.screen(Source::Attachment, text).await? {
                Verdict::Passed => None,
                Verdict::Warned(reason) => Some(reason),
                Verdict::Blocked(reason) => return Err(NotTaken::Blocked(reason)),
            },
            None => None,
        };
        // The text of a text is the text.
        let text = checked.text.filter(|_| checked.media == MediaType::Pdf);
        let kept = checked.clean.unwrap_or(bytes);
        let content = Content {
            content_type: checked.media.as_str().to_owned(),
            size_bytes: kept.len() as u64,
            sha256: hex::encode(Sha256::digest(&kept)),
            tokens: checked.tokens,
            text_bytes: text.as_ref().map(|text| text.len() as u64),
        };
        let objects = &self.parts().objects;
        if let Some(text) = text {
            objects.put(&text_key(task, id)?, objects::body(text)).await?;
        }
        objects.put(&content_key(task, id)?, objects::body(kept)).await?;
        Ok(Taken { content, warning })
    }

    /// Looks at everything that was uploaded for a task. The first that did not pass is told with its name.
    pub async fn take_in_uploads(
        &self,
        task: &Task,
    ) -> Result<Vec<(AttachmentId, Taken)>, (AttachmentId, NotTaken)> {
        let waiting: Vec<(AttachmentId, Attachment)> = task
            .attached()
            .filter(|(_, asked, known)| {
                known.is_none() && matches!(asked.source, AttachmentSource::Presigned { .. })
            })
            .map(|(id, asked, _)| (id, asked.clone()))
            .collect();
        let looks = waiting.into_iter().map(|(id, asked)| async move {
            let taken = async {
                let key = upload_key(task.id, id)?;
                let object = self.parts().objects.get(&key).await?;
                let object = object.ok_or_else(|| NotTaken::Refused("it is not uploaded".into()))?;
                let bytes = object.whole(limit::ATTACHMENT_MAX_BYTES as usize).await;
                let bytes =
                    bytes.map_err(|source| ObjectError::Body { doing: format!("reading {key}"), source })?;
                self.take_in(task.id, id, &asked, None, bytes).await
            };
            taken.await.map(|taken| (id, taken)).map_err(|why| (id, why))
        });
        let mut looks = futures_util::stream::iter(looks).buffer_unordered(AT_ONCE);
        let mut all = Vec::new();
        while let Some(looked) = looks.next().await {
            all.push(looked?);
        }
        Ok(all)
    }

    /// All uploads passed: the task goes on.
    pub async fn confirm_uploads(
        &self,
        task: &Task,
        taken: Vec<(AttachmentId, Taken)>,
    ) -> Result<Done, StoreError> {
        let attachments =
            taken.into_iter().map(|(id, taken)| (id, Screened::Passed(taken.content))).collect();
        let done = self.command(task.id, Command::ConfirmUploads { attachments }).await?;
        self.ring();
        Ok(done)
    }

    /// An upload may not be shown: the task fails.
    pub async fn block_attachment(
        &self,
        task: TaskId,
        attachment: AttachmentId,
        reason: &str,
    ) -> Result<Done, StoreError> {
        self.command(task, Command::BlockAttachment { attachment, reason: reason.to_owned() }).await
    }

    /// Removes the objects of a task's attachments; what cannot be removed now is left to the sweep.
    pub async fn drop_attachments(&self, task: TaskId) {
        for prefix in prefixes(task) {
            if let Err(failure) = self.drop_objects(&prefix).await {
                warn!(task.id = %task, error = %failure, "attachments could not be removed");
            }
        }
    }

    /// Removes what was uploaded, once it was taken in or the task is over.
    pub async fn drop_uploads(&self, task: TaskId) {
        let [uploads, _] = prefixes(task);
        if let Err(failure) = self.drop_objects(&uploads).await {
            warn!(task.id = %task, error = %failure, "uploads could not be removed");
        }
    }

    async fn drop_objects(&self, prefix: &str) -> Result<(), ObjectError> {
        let objects = &self.parts().objects;
        for meta in objects.list(prefix).await? {
            objects.delete(&meta.key).await?;
        }
        Ok(())
    }

    /// Removes uploads that nobody will confirm any more, and attachments of no task.
    /// Public so that tests can single-step.
    pub async fn sweep_attachments(&self) {
        if let Err(failure) = self.sweep_attachment_objects().await {
            warn!(error = %failure, "attachments of no task could not be removed");
        }
    }

    async fn sweep_attachment_objects(&self) -> Result<(), SweepError> {
        let objects = &self.parts().objects;
        let mut removed = 0_u64;
        for (prefix, uploads) in [("uploads/", true), ("attachments/", false)] {
            for meta in objects.list(prefix).await? {
                let whose = meta.key.as_str().split('/').nth(1).and_then(|id| id.parse::<TaskId>().ok());
                let task = match whose {
                    Some(id) => self.store().task_get(id).await?,
                    None => None,
                };
                let needed = match task {
                    Some(task) => !uploads || task.status() == Status::PendingUploads,
                    None => !self.is_over(meta.modified, ORPHAN),
                };
                if !needed {
                    objects.delete(&meta.key).await?;
                    removed += 1;
                }
            }
        }
        if removed > 0 {
            info!(removed, "uploads that nobody needs were removed");
        }
        Ok(())
    }

    /// Fetches what a task's attachments name by address, and what comes next by that. `None`: there is nothing to fetch.
    ///
    /// # Errors
    ///
    /// What cannot be had, cannot be judged or is too much in all.
    pub(crate) async fn fetch_attachments(&self, task: &Task) -> Result<Option<Command>, Failure> {
        let missing: Vec<_> = task
            .attached()
            .filter_map(|(id, asked, known)| match (&asked.source, known) {
                (AttachmentSource::UrlFetch { url }, None) => Some((id, asked.clone(), url.clone())),
                _ => None,
            })
            .collect();
        if missing.is_empty() {
            return Ok(None);
        }
        let fetches = missing.into_iter().map(|(id, asked, url)| async move {
            let taken = self.fetch_one(task, id, &asked, &url).await;
            (id, asked, url, taken)
        });
        let mut fetches = futures_util::stream::iter(fetches).buffer_unordered(AT_ONCE);
        let mut found = Attachments::new();
        while let Some((id, asked, url, taken)) = fetches.next().await {
            match taken {
                Ok(Taken { content, warning }) => {
                    if let Some(reason) = warning {
                        self.tell_screened(task.id, Source::Attachment, &reason).await;
                    }
                    found.insert(id, Screened::Passed(content));
                }
                Err(Unfetched::Away(why)) => {
                    let failure =
                        Failure::new(FailureCode::AttachmentUnavailable, format!("{}: {why}", shown(&url)));
                    return Err(failure.resource(&asked.filename));
                }
                Err(Unfetched::NotTaken(why @ (NotTaken::Refused(_) | NotTaken::Blocked(_)))) => {
                    return Ok(Some(Command::BlockAttachment { attachment: id, reason: why.to_string() }));
                }
                Err(Unfetched::NotTaken(NotTaken::Screen(why))) => {
                    let failure = Failure::new(
                        FailureCode::AttachmentUnavailable,
                        format!("content screening is unavailable: {why}"),
                    );
                    return Err(failure.resource(&asked.filename));
                }
                Err(Unfetched::NotTaken(why)) => {
                    let detail = format!("{}: {why}", asked.filename);
                    let failure = Failure::new(FailureCode::AttachmentUnavailable, detail);
                    return Err(failure);
                }
            }
        }
        let before = attachment::total_bytes(&task.attachments);
        let total = before + attachment::total_bytes(&found);
        if total > limit::ATTACHMENTS_TOTAL_MAX_BYTES {
            let max = limit::ATTACHMENTS_TOTAL_MAX_BYTES;
            let why = format!("the attachments have {total} bytes together, at most {max} are allowed");
            let failure = Failure::new(FailureCode::AttachmentBlocked, why);
            return Err(failure);
        }
        Ok(Some(Command::AttachmentsFetched { attachments: found }))
    }

    async fn fetch_one(
        &self,
        task: &Task,
        id: AttachmentId,
        asked: &Attachment,
        url: &str,
    ) -> Result<Taken, Unfetched> {
        let fetched = self.parts().fetch.fetch(&task.spec.repo, url, limit::ATTACHMENT_MAX_BYTES).await;
        let Fetched { bytes, content_type } = fetched.map_err(|why| Unfetched::Away(why.to_string()))?;
        let taken = self.take_in(task.id, id, asked, content_type.as_deref(), bytes).await;
        taken.map_err(Unfetched::NotTaken)
    }

    /// Gives a task the attachments of another one, which was the same. Answers what is known of them now.
    pub(crate) async fn copy_attachments(&self, from: &Task, to: TaskId) -> Result<Attachments, ObjectError> {
        let objects = &self.parts().objects;
        let mut copied = Attachments::new();
        for (place, (old, _, known)) in from.attached().enumerate() {
            let (Some(screened @ Screened::Passed(content)), new) = (known, AttachmentId::of(to, place))
            else {
                continue;
            };
            let mut keys = vec![(content_key(from.id, old), content_key(to, new))];
            if content.text_bytes.is_some() {
                keys.push((text_key(from.id, old), text_key(to, new)));
            }
            let mut whole = true;
            for pair in keys {
                let (Ok(here), Ok(there)) = pair else { continue };
                match objects.get(&here).await? {
                    Some(object) => drop(objects.put(&there, object.body).await?),
                    None => whole = false,
                }
            }
            // What is kept no longer is as if it had never come.
            if whole {
                copied.insert(new, screened.clone());
            }
        }
        Ok(copied)
    }
}

#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Object(#[from] ObjectError),
}

enum Unfetched {
    Away(String),
    NotTaken(NotTaken),
}

/// The type that the bytes must have: as the person said, else as whoever sent them said, else whatever they are.
fn declared(asked: &Attachment, said: Option<&str>) -> Result<Option<MediaType>, String> {
    // The way of servers to say that they do not know.
    let said = said.filter(|said| !said.trim().to_ascii_lowercase().ends_with("/octet-stream"));
    match asked.content_type.as_deref().or(said) {
        None => Ok(None),
        Some(given) => match MediaType::parse(given) {
            Some(media) => Ok(Some(media)),
            None => Err(format!(
                "{:?} is no type of an attachment; {}",
                domain::event::preview(given, 80),
                types()
            )),
        },
    }
}

/// Whether bytes of that type are what was announced.
pub fn fits(kind: AttachmentKind, media: MediaType) -> Result<(), String> {
    match (kind, media.is_image()) {
        (AttachmentKind::Image, false) => Err(format!(
            "it is {}, which is no image; an image is image/png or image/jpeg, everything else is of type `file`",
            media.as_str()
        )),
        (AttachmentKind::File, true) => {
            Err(format!("it is {}; attach it with the type `image`", media.as_str()))
        }
        _ => Ok(()),
    }
}

/// An address without its query, which may hold a signature.
fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// The types there are, in words.
pub fn types() -> String {
    let all: Vec<&str> = MediaType::ALL.iter().map(|m| m.as_str()).collect();
    format!("there are {}", all.join(", "))
}
