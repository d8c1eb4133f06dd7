//! How a command ends: exit codes, and errors that say what to do.

use std::process::ExitCode;

use protocol::client::ClientError;
use server::config::ConfigError;

/// A command that ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done; a watched task completed.
    Done,
    /// 1: it failed, or the watched task ended in another way.
    Failed,
    /// 2: it stopped waiting; the task goes on. (Wrong usage is 2 as well.)
    GaveUp,
    /// 130: the person interrupted it; the task goes on.
    Interrupted,
    /// Whatever the command that was run for the person ended with.
    Of(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::GaveUp => 2,
            Exit::Interrupted => 130,
            Exit::Of(code) => code,
        })
    }
}

/// A command that could not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong, in a sentence.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// How the process ends.
    pub exit: Exit,
    /// Whether anybody still reads what we print.
    pub reader: Reader,
}

/// Who reads standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Somebody.
    Present,
    /// Nobody: the pipe was closed (`| head`). Not an error.
    Gone,
}

impl Failure {
    /// An error with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit: Exit::Failed, reader: Reader::Present }
    }

    /// What to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Another exit code.
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// A wrong argument, found by us and not by the parser; exit code 2 as there.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(message).exit(Exit::GaveUp)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let hint = match &error {
            ClientError::BadUrl { .. } => {
                "Give the server as http://host:port with --api-url or BGAGENT_API_URL, and its key as BGAGENT_API_KEY."
            }
            ClientError::Unreachable { .. } | ClientError::Cut { .. } => {
                "Check that the server runs (`bgagent doctor`), or unset BGAGENT_API_URL to use one on this machine."
            }
            ClientError::BadAnswer { .. } => {
                "Is it a bgagent server, and of this version? `bgagent doctor` tells."
            }
            ClientError::SignedOut { transient: false, .. } => "Run `bgagent login` to sign in again.",
            ClientError::SignedOut { transient: true, .. } => "Try again in a moment.",
            ClientError::Api { status: 401, .. } => {
                "Run `bgagent login` to sign in, or set BGAGENT_API_KEY to a key of that server; `bgagent config owner-key` prints the owner's on the server's machine."
            }
            ClientError::Api { code, .. } => api_hint(code),
        };
        let mut message = error.to_string();
        if let ClientError::Unreachable { source, .. } = &error {
            let mut cause: &dyn std::error::Error = source;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            message = format!("{message}: {cause}");
        }
        if let ClientError::Api { status: 500.., request_id, .. } = &error
            && !request_id.is_empty()
        {
            message = format!("{message}, request {request_id}");
        }
        let failure = Failure::new(message);
        if hint.is_empty() { failure } else { failure.hint(hint) }
    }
}

fn api_hint(code: &str) -> &'static str {
    match code {
        "TASK_NOT_FOUND" => "`bgagent list` shows your tasks.",
        "NOT_FOUND" => "`bgagent status ID` tells how far the task is.",
        "API_KEY_NOT_FOUND" | "API_KEY_ALREADY_REVOKED" => {
            "`bgagent key list --include-revoked` shows your keys."
        }
        "WEBHOOK_NOT_FOUND" | "WEBHOOK_ALREADY_REVOKED" => {
            "`bgagent webhook list --include-revoked` shows your webhooks."
        }
        "FORBIDDEN" => {
            "Use a key with that scope (`bgagent key create --help` names them), or ask an owner of the server."
        }
        "RATE_LIMIT_EXCEEDED" => {
            "Wait as long as the server says; `[rate]` of its configuration has the limits."
        }
        "DUPLICATE_TASK" => "An idempotency key stands for one request: use another key for another task.",
        "TASK_ALREADY_TERMINAL" => "The task has ended; `bgagent status ID` tells how.",
        "VALIDATION_ERROR" => "Correct the request; `bgagent help` has the options and their bounds.",
        "REPO_NOT_ONBOARDED" => "Ask whoever runs the server to let it work on this repository.",
        "ATTACHMENT_SCREENING_UNAVAILABLE" | "SCREENING_DEADLINE_EXCEEDED" => {
            "Try again in a moment; the server's log has the cause."
        }
        "UPLOADS_NOT_PENDING" => "`bgagent status ID` tells how far the task is.",
        code if code.starts_with("ATTACHMENT") => "Submit it again with another file, or without it.",
        "INTERNAL_ERROR" | "SERVICE_UNAVAILABLE" => "Try again; the server's log has the cause.",
        _ => "`bgagent doctor` checks the set-up.",
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::new(error.to_string()).hint("`bgagent config path` tells which file is read.")
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let reader = match error.kind() {
            std::io::ErrorKind::BrokenPipe => Reader::Gone,
            _ => Reader::Present,
        };
        Self { reader, ..Failure::new(format!("writing the output: {error}")) }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure::new(format!("writing JSON: {error}"))
    }
}
