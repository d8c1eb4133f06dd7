//! One named constant for each bound. Client, server and worker use these and nothing else.
//!
//! Numbers marked *ABCA* are of the contract we share with it (its `contracts/constants.json` and validation rules);
//! the others are ours.

use std::time::Duration;

/// Turns a task may take; *ABCA* 1..500.
pub const TURNS_MIN: u32 = 1;
/// Upper bound of [`TURNS_DEFAULT`]; *ABCA*.
pub const TURNS_MAX: u32 = 500;
/// Turns when nobody says; *ABCA* (its four places that disagreed are one here).
pub const TURNS_DEFAULT: u32 = 100;
/// Least budget in US dollars; *ABCA*. No default: unset means unlimited.
pub const BUDGET_MIN_USD: f64 = 0.01;
/// Greatest budget in US dollars; *ABCA*.
pub const BUDGET_MAX_USD: f64 = 100.0;
/// Characters of a task description; *ABCA*.
pub const DESCRIPTION_MAX_CHARS: usize = 10_000;
/// Characters of an idempotency key (`[A-Za-z0-9_-]`); *ABCA*.
pub const IDEMPOTENCY_KEY_MAX_CHARS: usize = 128;
/// Characters of the slug in a branch name; *ABCA*.
pub const SLUG_MAX_CHARS: usize = 50;
/// Greatest issue number: the greatest integer that every JSON client reads exactly.
pub const ISSUE_NUMBER_MAX: u64 = (1 << 53) - 1;
/// Characters of a base branch name or a model name in a request.
pub const NAME_MAX_CHARS: usize = 200;
/// Characters of a build or lint command.
pub const COMMAND_MAX_CHARS: usize = 2_000;
/// Tasks per page of a list; *ABCA*.
pub const TASKS_PAGE_DEFAULT: u32 = 20;
/// Greatest page of tasks; *ABCA*.
pub const TASKS_PAGE_MAX: u32 = 100;
/// Events per page; *ABCA*.
pub const EVENTS_PAGE_DEFAULT: u32 = 50;
/// Greatest page of events; *ABCA*.
pub const EVENTS_PAGE_MAX: u32 = 100;
/// API keys, webhooks or lines of the audit log per page; *ABCA*.
pub const ACCESS_PAGE_DEFAULT: u32 = 20;
/// Greatest page of them; *ABCA*.
pub const ACCESS_PAGE_MAX: u32 = 100;
/// Characters of the name of an API key or webhook; *ABCA*.
pub const ACCESS_NAME_MAX_CHARS: usize = 64;
/// A key or webhook in steady use is noted to be used this often.
pub const LAST_USED_STEP: Duration = Duration::from_secs(3_600);
/// How far the time of a strict webhook delivery may be from now, either way.
pub const WEBHOOK_WINDOW: Duration = Duration::from_secs(300);
/// Characters of the name that a sender gives a delivery.
pub const DELIVERY_ID_MAX_CHARS: usize = 64;
/// How long the secret before the last rotation is good when nobody says.
pub const WEBHOOK_OVERLAP_DEFAULT: Duration = Duration::from_secs(86_400);
/// How long it is good at most.
pub const WEBHOOK_OVERLAP_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Longest `wait` of a long poll.
pub const LONG_POLL_MAX: Duration = Duration::from_secs(30);
/// Characters of a preview in an event; *ABCA*.
pub const PREVIEW_MAX_CHARS: usize = 200;
/// Characters of a preview when the task asked for a trace; *ABCA*.
pub const PREVIEW_TRACE_MAX_CHARS: usize = 4_096;
/// Characters of an error message on the task; *ABCA*.
pub const ERROR_MESSAGE_MAX_CHARS: usize = 1_000;
/// Characters of an answer kept when no code changed; *ABCA*.
pub const ANSWER_MAX_CHARS: usize = 2_000;
/// Bytes of one request body of the people's API.
pub const API_BODY_MAX_BYTES: usize = 1024 * 1024;
/// The body of a request of the people's API must be there within this.
pub const API_BODY_READ: Duration = Duration::from_secs(20);
/// The head of a request of the people's API must be there within this.
pub const API_HEAD_READ: Duration = Duration::from_secs(20);
/// Header fields of one request of the people's API.
pub const API_HEADERS_MAX: usize = 100;
/// Bytes of the head of one request of the people's API.
pub const API_HEAD_MAX_BYTES: usize = 64 * 1024;

/// Seconds between two heartbeats of a worker; *ABCA* 45 s, ours is shorter because it costs one row.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// A session without a heartbeat for this long is lost; *ABCA*.
pub const HEARTBEAT_STALE: Duration = Duration::from_secs(240);
/// A session that never attached is lost after this long; *ABCA* `never-seen after 360 s`.
pub const ATTACH_DEADLINE: Duration = Duration::from_secs(360);
/// Hydration (attach to `agent_started`) may take this long; *ABCA* stranded HYDRATING, and it holds a clone.
pub const HYDRATION_DEADLINE: Duration = Duration::from_secs(1_200);
/// One preflight check; *ABCA*.
pub const PREFLIGHT_CHECK: Duration = Duration::from_secs(5);
/// The check of a repository of this machine: some ten runs of git, on a disk and processors that others use too.
pub const LOCAL_CHECK: Duration = Duration::from_secs(30);
/// A whole task from its first session on; *ABCA* session cap 8 h.
pub const TASK_LIFETIME: Duration = Duration::from_secs(8 * 3_600);
/// Finishing (push to the forge and pull request) may take this long, retries included.
pub const FINALIZE_DEADLINE: Duration = Duration::from_secs(1_800);
/// A queued task is failed after this long; *ABCA* backstop.
pub const QUEUE_BACKSTOP: Duration = Duration::from_secs(86_400);
/// Uploads must be confirmed within this long; *ABCA*.
pub const PENDING_UPLOADS: Duration = Duration::from_secs(1_800);
/// Consecutive poll errors of a backend before the session counts as lost; *ABCA*.
pub const POLL_ERRORS_MAX: u32 = 3;
/// Consecutive "the process has ended" polls without a result before the attempt failed; *ABCA*.
pub const POLL_ENDED_MAX: u32 = 5;
/// How often a live session is looked at when nothing else is due; *ABCA* 30 s, clamp 5..300.
pub const SUPERVISE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a lease on a task lasts without renewal.
pub const LEASE: Duration = Duration::from_secs(30);
/// Tasks of one user that run at once; *ABCA* construct default.
pub const CONCURRENT_PER_USER_DEFAULT: u32 = 10;
/// Mean task duration assumed for the estimate of a queue wait until there is a measured one; *ABCA*.
pub const QUEUE_ETA_TASK_DURATION: Duration = Duration::from_secs(600);

/// One build or lint verification; *ABCA*.
pub const VERIFY_TIMEOUT: Duration = Duration::from_secs(1_800);
/// One shell command of a tool, when the model names no shorter one; *ABCA*.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of one tool's output shown to the model (head and tail are kept), unless a repository has its own.
pub const TOOL_OUTPUT_MAX_BYTES: usize = 30_000;
/// What that may be set to: less shows no error message, more fills a context window with one call.
pub const TOOL_OUTPUT_BYTES: std::ops::RangeInclusive<usize> = 1_000..=500_000;
/// Events in one batch of the box API.
pub const EVENT_BATCH_MAX: usize = 500;
/// Bytes of one event's metadata; more is refused, that event alone.
pub const EVENT_METADATA_MAX_BYTES: usize = 64 * 1024;
/// Bytes of one events request of the box API.
pub const EVENT_BODY_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Events one attempt may append; a worker that floods is cut off here, with one event that says so.
pub const EVENTS_PER_ATTEMPT_MAX: u64 = 200_000;
/// Bytes of a result report.
pub const RESULT_BODY_MAX_BYTES: usize = 1024 * 1024;
/// Bytes of one model request.
pub const MODEL_BODY_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of one pushed pack.
pub const PUSH_MAX_BYTES: u64 = 512 * 1024 * 1024;
/// Connections that the tools of one attempt may have to the proxy at once.
pub const EGRESS_CONNECTIONS_PER_ATTEMPT: usize = 256;
/// Headers of one request through the proxy.
pub const EGRESS_HEADERS_MAX: usize = 100;
/// Bytes of the head of one request through the proxy.
pub const EGRESS_HEAD_MAX_BYTES: usize = 64 * 1024;
/// Finding an address and connecting to it may take this long, each.
pub const EGRESS_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection through the proxy on which nothing moves for this long is cut.
pub const EGRESS_IDLE: Duration = Duration::from_secs(300);
/// Events about the network that one attempt gets; a last one says that there was more.
pub const EGRESS_EVENTS_PER_ATTEMPT_MAX: usize = 100;
/// Characters of the reason that a push was refused for.
pub const PUSH_REASON_MAX_CHARS: usize = 2_000;
/// Characters of a pull request's title.
pub const PR_TITLE_MAX_CHARS: usize = 120;
/// Characters of a pull request's body (GitHub refuses more than 65,536).
pub const PR_BODY_MAX_CHARS: usize = 60_000;

/// A cancelled agent has this long to save its work.
pub const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// An agent whose task is to wait has this long to save its work.
pub const PARK_GRACE: Duration = Duration::from_secs(60);
/// Attempts at one task when boxes are lost, the first one included.
pub const ATTEMPTS_DEFAULT: u32 = 2;
/// Most attempts that a setting may allow.
pub const ATTEMPTS_MAX: u32 = 10;
/// Wait before the attempt that follows a lost box; doubled for each further one.
pub const LOST_BACKOFF: Duration = Duration::from_secs(5);
/// Longest such wait.
pub const LOST_BACKOFF_MAX: Duration = Duration::from_secs(300);
/// The work of an agent at work is saved this often: so much of it may go with a lost box.
pub const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// A provider that asks for a wait of at least this long has reached its usage limit: no box waits that out.
pub const USAGE_LIMIT_WAIT: Duration = Duration::from_secs(300);
/// Characters of what an agent is told of the work before its own.
pub const EARLIER_MAX_CHARS: usize = 20_000;
/// Characters of a nudge; *ABCA*.
pub const NUDGE_MAX_CHARS: usize = 2_000;
/// Nudges to one task in a minute; *ABCA*.
pub const NUDGES_PER_MINUTE: u32 = 10;
/// Nudges handed over at once; *ABCA*. The others follow at the next boundary.
pub const NUDGES_AT_ONCE: usize = 100;
/// Characters of a nudge in the event that acknowledges it; *ABCA*.
pub const NUDGE_PREVIEW_MAX_CHARS: usize = 60;
/// Characters of a question about a task: as a nudge.
pub const ASK_MAX_CHARS: usize = 2_000;
/// Questions about one task in a minute: each may cost a model call.
pub const ASKS_PER_MINUTE: u32 = 10;
/// Characters of an answer that is kept.
pub const ASK_ANSWER_MAX_CHARS: usize = 4_000;
/// Questions in a list, the newest.
pub const ASKS_LISTED: usize = 100;

// Bounds of the contract whose capability is still to come: named here once, so that it takes no second number.

/// Least time an approval is waited for; *ABCA*.
pub const APPROVAL_TIMEOUT_MIN: Duration = Duration::from_secs(30);
/// Longest time an approval is waited for; *ABCA*.
pub const APPROVAL_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
/// Time an approval is waited for when nobody says; *ABCA*.
pub const APPROVAL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);
/// Approvals one task may ask for, at least; *ABCA*.
pub const GATES_MIN: u32 = 1;
/// Approvals one task may ask for, at most; *ABCA*.
pub const GATES_MAX: u32 = 500;
/// Approvals one task may ask for when nobody says; *ABCA*.
pub const GATES_DEFAULT: u32 = 50;
/// Approvals one task may ask for in a minute; *ABCA*.
pub const GATES_PER_MINUTE: u32 = 20;
/// Decisions of one user in a minute, approvals and denials together; *ABCA*.
pub const DECISIONS_PER_MINUTE: u32 = 30;
/// Looks of one user at what is pending, in a minute; *ABCA*.
pub const PENDING_PER_MINUTE: u32 = 10;
/// Approvals given beforehand with one task; *ABCA*.
pub const INITIAL_APPROVALS_MAX: usize = 20;
/// Characters of an approval's scope; *ABCA*.
pub const APPROVAL_SCOPE_MAX_CHARS: usize = 128;
/// Characters of the reason of a denial; *ABCA*.
pub const DENY_REASON_MAX_CHARS: usize = 2_000;
/// Bytes of a repository's policies; *ABCA*.
pub const POLICY_MAX_BYTES: usize = 64 * 1024;
/// How long a decision is remembered for the same input; *ABCA*.
pub const DECISION_CACHE: Duration = Duration::from_secs(60);
/// Decisions remembered; *ABCA*.
pub const DECISION_CACHE_ENTRIES: usize = 50;
/// Attachments of one task; *ABCA*.
pub const ATTACHMENTS_MAX: usize = 10;
/// Bytes of one attachment sent within the request, decoded; *ABCA*.
pub const ATTACHMENT_INLINE_MAX_BYTES: usize = 500 * 1024;
/// Bytes of all attachments sent within one request, decoded; *ABCA*.
pub const ATTACHMENTS_INLINE_TOTAL_MAX_BYTES: usize = 3 * 1024 * 1024;
/// Bytes of one attachment that is uploaded or fetched; *ABCA*.
pub const ATTACHMENT_MAX_BYTES: u64 = 10 * 1024 * 1024;
/// Fetching one attachment from its address, redirects included; *ABCA*.
pub const ATTACHMENT_FETCH: Duration = Duration::from_secs(10);
/// Times that an attachment's address may lead on to another; *ABCA*.
pub const ATTACHMENT_REDIRECTS_MAX: usize = 2;
/// Characters of an attachment's address.
pub const ATTACHMENT_URL_MAX_CHARS: usize = 2_048;
/// Looking at everything that was uploaded for a task.
pub const ATTACHMENT_SCREENING: Duration = Duration::from_secs(60);
/// Bytes of a request that creates a task: attachments within it are base64.
pub const TASK_BODY_MAX_BYTES: usize = 5 * 1024 * 1024;
/// Bytes of all attachments of one task; *ABCA*.
pub const ATTACHMENTS_TOTAL_MAX_BYTES: u64 = 50 * 1024 * 1024;
/// Characters of an attachment's file name; *ABCA*.
pub const ATTACHMENT_NAME_MAX_CHARS: usize = 255;
/// Pixels of an image's longer side; *ABCA*.
pub const ATTACHMENT_IMAGE_MAX_SIDE: u32 = 8_000;
/// Pages of a PDF; *ABCA*.
pub const ATTACHMENT_PDF_MAX_PAGES: u32 = 50;
/// Bytes of text taken from a PDF; *ABCA*.
pub const ATTACHMENT_PDF_MAX_TEXT_BYTES: usize = 1024 * 1024;
/// The form of an upload must be there within this.
pub const UPLOAD_READ: Duration = Duration::from_secs(120);
/// Pixels of an image: a picture of the greatest sides both ways would take a quarter of a gigabyte to look at.
pub const ATTACHMENT_IMAGE_MAX_PIXELS: u64 = 50_000_000;
/// Arrays and objects within one another in a JSON attachment.
pub const ATTACHMENT_JSON_MAX_DEPTH: usize = 100;
/// Bytes that all streams of one PDF may unpack to while its text is read.
pub const ATTACHMENT_PDF_MAX_UNPACKED_BYTES: usize = 64 * 1024 * 1024;
/// Looking at one attachment may take this long; *ABCA* for a PDF.
pub const ATTACHMENT_INSPECTION: Duration = Duration::from_secs(15);
/// Attachments looked at at once; *ABCA*.
pub const ATTACHMENT_INSPECTIONS_AT_ONCE: usize = 3;
/// Bytes of address space of the process that looks at one attachment.
pub const ATTACHMENT_INSPECTION_MEMORY_BYTES: u64 = 1024 * 1024 * 1024;
/// Longer side, in pixels, to which models scale a picture down; *ABCA*.
pub const IMAGE_TOKENS_SIDE: u32 = 1_568;
/// Most tokens of one picture, also when its size is not known; *ABCA*.
pub const IMAGE_TOKENS_MAX: u32 = 1_568;
/// How long an upload address is good; *ABCA*.
pub const UPLOAD_ADDRESS: Duration = Duration::from_secs(600);
/// Tokens of an assembled prompt; *ABCA*.
pub const PROMPT_MAX_TOKENS: u64 = 100_000;
/// Tokens of memory in a prompt; *ABCA*.
pub const MEMORY_MAX_TOKENS: u64 = 2_000;
/// Events in a replay bundle; *ABCA*.
pub const REPLAY_MAX_EVENTS: u32 = 5_000;
/// Bytes of the events in a replay bundle; *ABCA*.
pub const REPLAY_MAX_BYTES: usize = 5 * 1024 * 1024;
/// Bytes of a trace, packed; *ABCA*.
pub const TRACE_MAX_BYTES: u64 = 50 * 1024 * 1024;
/// Files of a task's work that its trace names.
pub const TRACE_FILES_MAX: usize = 2_000;
/// How long the address of a trace is good; *ABCA*.
pub const TRACE_ADDRESS: Duration = Duration::from_secs(900);
/// How long a trace is kept; *ABCA*.
pub const TRACE_RETENTION: Duration = Duration::from_secs(7 * 86_400);
/// How long tasks, events and attachments are kept after a task ended; *ABCA*.
pub const RECORD_RETENTION: Duration = Duration::from_secs(90 * 86_400);
/// How long nudges, revoked keys and revoked webhooks are kept; *ABCA*.
pub const REVOKED_RETENTION: Duration = Duration::from_secs(30 * 86_400);
/// How long lines of the audit log are kept: a year, as most auditors ask for.
pub const AUDIT_RETENTION: Duration = Duration::from_secs(365 * 86_400);
