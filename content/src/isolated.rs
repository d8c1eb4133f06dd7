//! The decision made in a child that can do nothing else: reached by a mistake of a parser, it has no file, no network, no
//! environment and no second process to turn to, a bound of memory and processor time, and an end.
//!
//! Text is looked at here, in this process: that takes no parser but those of UTF-8 and JSON, which every request meets.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use domain::limit::{ATTACHMENT_INSPECTION, ATTACHMENT_INSPECTIONS_AT_ONCE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use crate::check::kind;
use crate::inspect::UNCONFINED;
use crate::{COMMAND, Checked, MediaType, Refusal, check, frame};

/// Bytes of an answer: a picture without its metadata, or the text of a PDF, as JSON.
const ANSWER_MAX_BYTES: u64 = 32 * 1024 * 1024;

/// Looks at files, a few at once, each in a process of its own.
#[derive(Debug, Clone)]
pub struct Inspector {
    program: PathBuf,
    places: Arc<Semaphore>,
    patience: Duration,
}

/// A file could not be looked at, for reasons of this machine: the same bytes may be fine the next time.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The program that looks at files does not run here.
    #[error("starting {} to look at an attachment", program.display())]
    Start {
        /// What was to be started.
        program: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// It ended without an answer, by no bound of its own.
    #[error("the process that looks at an attachment ended without an answer ({0})")]
    Ended(ExitStatus),
    /// It could not give up what it must before it looks.
    #[error(
        "this machine does not let the process that looks at an attachment be confined ({0}); it needs seccomp filters of the kernel, \
         which a container may forbid"
    )]
    Unconfined(String),
    /// The connection to it broke.
    #[error("talking to the process that looks at an attachment")]
    Talk(#[source] io::Error),
    /// Its answer was none.
    #[error("the process that looks at an attachment answered nonsense")]
    Answer(#[source] serde_json::Error),
}

impl Inspector {
    /// With this program, which has to answer to [`COMMAND`] by calling [`main_inspect`](crate::main_inspect).
    pub fn new(program: PathBuf) -> Self {
        let places = Arc::new(Semaphore::new(ATTACHMENT_INSPECTIONS_AT_ONCE));
        Self { program, places, patience: ATTACHMENT_INSPECTION }
    }

    /// With another patience than [`ATTACHMENT_INSPECTION`].
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// As [`check`], with nothing at stake. Waits while [`ATTACHMENT_INSPECTIONS_AT_ONCE`] others are looked at.
    ///
    /// # Errors
    /// The outer error is this machine's, the inner one the file's.
    pub async fn check(
        &self,
        declared: Option<MediaType>,
        bytes: Vec<u8>,
    ) -> Result<Result<Checked, Refusal>, InspectError> {
        // It is never closed.
        let _place = self.places.acquire().await;
        let (bytes, parsed) = in_blocking(move || {
            let kind = kind(declared, &bytes);
            let parsed = match kind {
                Err(refusal) => Some(Err(refusal)),
                Ok(media) if media.is_text() => Some(check(declared, &bytes)),
                Ok(_) => None,
            };
            (bytes, parsed)
        })
        .await?;
        match parsed {
            Some(parsed) => Ok(parsed),
            None => self.in_child(declared, bytes).await,
        }
    }

    async fn in_child(
        &self,
        declared: Option<MediaType>,
        bytes: Vec<u8>,
    ) -> Result<Result<Checked, Refusal>, InspectError> {
        let start = |source| InspectError::Start { program: self.program.clone(), source };
        let mut child = Command::new(&self.program)
            .arg(COMMAND)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        match tokio::time::timeout(self.patience, talk(&mut child, declared, &bytes)).await {
            Ok(answered) => understand(answered?).await,
            Err(_elapsed) => {
                child.kill().await.map_err(InspectError::Talk)?;
                Ok(Err(Refusal::TooSlow))
            }
        }
    }
}

/// Gives the child the file, takes its answer, sees it end.
async fn talk(
    child: &mut Child,
    declared: Option<MediaType>,
    bytes: &[u8],
) -> Result<(ExitStatus, Vec<u8>), InspectError> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let give = async move {
        if let Some(mut stdin) = stdin {
            stdin.write_all(frame::head(declared).as_bytes()).await?;
            stdin.write_all(bytes).await?;
            stdin.shutdown().await?;
        }
        io::Result::Ok(())
    };
    let take = async move {
        let mut answer = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(ANSWER_MAX_BYTES).read_to_end(&mut answer).await?;
        }
        io::Result::Ok(answer)
    };
    let (given, answer) = tokio::join!(give, take);
    let answer = answer.map_err(InspectError::Talk)?;
    let status = child.wait().await.map_err(InspectError::Talk)?;
    match given {
        // One that ended early says by how it ended why it did not read on.
        Err(error) if status.success() => Err(InspectError::Talk(error)),
        _ => Ok((status, answer)),
    }
}

/// What the end of the child and its answer say.
async fn understand(
    (status, answer): (ExitStatus, Vec<u8>),
) -> Result<Result<Checked, Refusal>, InspectError> {
    if status.success() {
        return in_blocking(move || serde_json::from_slice(&answer)).await?.map_err(InspectError::Answer);
    }
    if status.code() == Some(i32::from(UNCONFINED)) {
        let why = String::from_utf8_lossy(&answer).into_owned();
        return Err(InspectError::Unconfined(why));
    }
    match status.signal() {
        // Its bound of processor time.
        Some(libc_signal::XCPU) => Ok(Err(Refusal::TooSlow)),
        // Memory that it was not given; a stack that overflowed.
        Some(libc_signal::ABRT | libc_signal::SEGV | libc_signal::BUS) => Ok(Err(Refusal::TooCostly)),
        _ => Err(InspectError::Ended(status)),
    }
}

/// Signals by number: the same on every Linux that this runs on.
mod libc_signal {
    pub(super) const ABRT: i32 = 6;
    pub(super) const BUS: i32 = 7;
    pub(super) const SEGV: i32 = 11;
    pub(super) const XCPU: i32 = 24;
}

/// On a thread where it may take its time.
async fn in_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, InspectError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| InspectError::Talk(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_that_cannot_be_confined_says_why() {
        let ended = ExitStatus::from_raw(i32::from(UNCONFINED) << 8);
        let failure =
            understand((ended, b"installing the filter: not permitted".to_vec())).await.unwrap_err();
        let said = failure.to_string();
        assert!(
            said.contains("(installing the filter: not permitted)") && said.contains("seccomp"),
            "{said}"
        );
        let ended = ExitStatus::from_raw(1 << 8);
        let failure = understand((ended, Vec::new())).await.unwrap_err();
        assert!(matches!(failure, InspectError::Ended(_)), "{failure}");
    }
}
