//! The one table of failures. A new reason to fail is one row here; the compiler and `docs/guide/failures.md` follow.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Category, ErrorClass};

/// What is known of a code without the particulars of one failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) category: Category,
    pub(super) class: ErrorClass,
    pub(super) retryable: bool,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) remedy: &'static str,
}

macro_rules! again_or_fix {
    (again) => {
        true
    };
    (fix) => {
        false
    };
}

/// Each row: variant, wire name, category, who must act, `again` (sending it again can help) or `fix` (something must
/// change first); then title, description, remedy. `{words}` in a remedy is the failure's resource, or the words.
macro_rules! failures {
    ($($variant:ident $wire:literal $category:ident $class:ident $retry:ident
        $title:literal $description:literal $remedy:literal;)+) => {
        /// Why a task failed. Typed at the source; never guessed from text of ours.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum FailureCode {
            $(#[doc = $description] $variant,)+
        }

        impl FailureCode {
            /// Every code, in the order of the table.
            pub const ALL: [FailureCode; [$($wire),+].len()] = [$(FailureCode::$variant),+];

            /// The wire name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(FailureCode::$variant => $wire,)+
                }
            }

            pub(super) fn row(self) -> Row {
                match self {
                    $(FailureCode::$variant => Row {
                        category: Category::$category,
                        class: ErrorClass::$class,
                        retryable: again_or_fix!($retry),
                        title: $title,
                        description: $description,
                        remedy: $remedy,
                    },)+
                }
            }
        }
    };
}

failures! {
    BlockedMissingSecret "BLOCKED_MISSING_SECRET" Blocked User fix
        "Blocked: missing secret"
        "A secret that the work needs is not there."
        "Give the repository {the missing secret}, then submit again.";
    BlockedEgressDenied "BLOCKED_EGRESS_DENIED" Blocked User fix
        "Blocked: egress denied"
        "A connection was refused by the network policy of the box."
        "Add {the host} to the repository's allow-list, then submit again.";
    BlockedDependencyUnreachable "BLOCKED_DEPENDENCY_UNREACHABLE" Blocked User again
        "Blocked: dependency unreachable"
        "A registry or service that the work needs did not answer."
        "Check that {the registry or service} is up and reachable, then try again.";
    BlockedPolicyFailClosed "BLOCKED_POLICY_FAIL_CLOSED" Blocked User fix
        "Blocked: policy engine failed closed"
        "The policy could not be evaluated, so everything it guards was refused."
        "Fix {the policy} so that it loads, then submit again.";
    BlockedAuthFailure "BLOCKED_AUTH_FAILURE" Blocked User fix
        "Blocked: authentication rejected"
        "A credential of the work was rejected."
        "Check that the credential for {the service} is valid and has the scopes it needs, then submit again.";
    BlockedOther "BLOCKED_OTHER" Blocked User fix
        "Blocked: environmental fault"
        "Something around the agent, not its work, kept it from going on."
        "Look at the task's events for {the cause}, fix it, then submit again.";

    InsufficientGithubRepoPermissions "INSUFFICIENT_GITHUB_REPO_PERMISSIONS" Auth Service fix
        "Insufficient GitHub permissions"
        "The GitHub token may not do what the task needs."
        "Give the token for {the repository} the permissions Contents: read and write, Pull requests: read and write, Issues: read.";
    RepoNotFoundOrNoAccess "REPO_NOT_FOUND_OR_NO_ACCESS" Auth Service fix
        "Repository not found or no access"
        "The repository does not exist, or the token cannot see it."
        "Check the spelling of {the repository}, and that the server's token (for a path: its user) has access to it.";
    PrNotFoundOrClosed "PR_NOT_FOUND_OR_CLOSED" Auth User fix
        "Pull request not found or closed"
        "The pull request does not exist or is no longer open."
        "Check the number of {the pull request} and that it is open.";
    GithubTokenScopes "GITHUB_TOKEN_SCOPES" Auth Service fix
        "GitHub token lacks scopes"
        "The GitHub token cannot push or cannot work with pull requests."
        "Replace the token by one that can push to {the repository} and open pull requests there.";
    GithubTokenMissing "GITHUB_TOKEN_SECRET_MISSING" Auth Service fix
        "No GitHub token"
        "The server has no GitHub token for this repository."
        "Set a GitHub token for {the repository} in the server's configuration, then submit again.";
    GithubUnreachable "GITHUB_UNREACHABLE" Network Transient again
        "GitHub unreachable"
        "GitHub did not answer."
        "Check the server's network and DNS, and GitHub's status page; then try again.";
    GithubApiError "GITHUB_API_ERROR" Network Transient again
        "GitHub API error"
        "GitHub answered with an error."
        "Try again when it was a 5xx; check the token when it was 401 or 403.";
    PushRejected "PUSH_REJECTED" Auth Service fix
        "Push rejected"
        "The repository refused the branch: a rule, a hook or a protected name."
        "Look at what the repository answered, and allow the server's account to push {the branch}.";
    PushRefused "PUSH_REFUSED" Guardrail User fix
        "Push refused by this server"
        "What was committed may not leave this server: a protected path, a secret, a link or submodule, or its size."
        "Ask for the change without {what was refused}, or allow it in [push] of the server's configuration.";
    PushFailed "PUSH_FAILED" Network Transient again
        "Push failed"
        "The branch could not be sent to the repository."
        "Try again; when it repeats, check the connection from the server to {the repository}.";

    RepoNotGit "REPO_NOT_GIT" Config User fix
        "Not a git repository"
        "The directory is not the top of a git repository."
        "Give the path of the top of a git repository; the message says what {the directory} is.";
    RepoEmpty "REPO_EMPTY" Config User fix
        "Repository has no commits"
        "There is nothing to start from: the repository has no commit."
        "Make a first commit in {the repository}, then submit again.";
    RepoDetachedHead "REPO_DETACHED_HEAD" Config User fix
        "Detached HEAD"
        "The repository is on no branch, so it is not known where to start."
        "Check out a branch in {the repository}, or name a base branch in the request.";
    BaseBranchNotFound "BASE_BRANCH_NOT_FOUND" Config User fix
        "Base branch not found"
        "The branch to start from does not exist."
        "Check the name of {the base branch}, or push it first.";
    RepoUnreadable "REPO_UNREADABLE" Config Service fix
        "Repository unreadable"
        "The server's account cannot read the repository."
        "Let the account that runs the server read {the repository}; git also refuses directories of another owner (safe.directory).";
    RepoTimeout "REPO_TIMEOUT" Timeout Transient again
        "Repository did not answer in time"
        "Git took too long on the repository: its disk is slow or busy, or gone."
        "See on the server that `git status` ends soon in {the repository}, then try again.";
    LocalReposDisabled "LOCAL_REPOS_DISABLED" Config Service fix
        "Local repositories are off"
        "This server does not take paths of its own disk as repositories."
        "Name a repository of a forge, or have local repositories allowed in the server's configuration.";

    ModelNotConfigured "MODEL_NOT_CONFIGURED" Config Service fix
        "No model configured"
        "The server has no model provider or no key for it."
        "Set a model provider and its key in the server's configuration.";
    ModelUnknown "MODEL_UNKNOWN" Config User fix
        "Unknown model"
        "The model that was asked for is not offered by this server."
        "Choose another model than {the one asked for}, or have it added to the server's configuration.";
    ModelPriceMissing "MODEL_PRICE_MISSING" Config Service fix
        "Model has no price"
        "A budget was set but the price of the model is not known, so it could not be kept."
        "Add the price of {the model} to the server's configuration, or submit without a budget.";
    ModelNotEnabled "MODEL_NOT_ENABLED" Config Service fix
        "Model not enabled"
        "The provider does not offer the model to this account or deployment."
        "Ask the provider for access to {the model}, or configure another one.";
    ModelAuthFailed "MODEL_AUTH_FAILED" Auth Service fix
        "Model provider rejected the key"
        "The model provider did not accept the server's key."
        "Replace the model provider's key in the server's configuration.";
    ModelUnreachable "MODEL_UNREACHABLE" Network Transient again
        "Model provider unreachable"
        "The model provider did not answer, or kept failing after retries."
        "Check the server's network and the provider's status page; then try again.";
    ModelRequestRejected "MODEL_REQUEST_REJECTED" Agent User fix
        "Model provider refused the request"
        "The model provider called the request invalid."
        "Read the provider's words in the detail; a smaller task or another model may help.";

    ConcurrencyLimit "CONCURRENCY_LIMIT" Concurrency Transient again
        "Concurrency limit reached"
        "Too many tasks run at once."
        "Wait for a task to end, cancel one, or have the limit raised.";
    ComputeUpdating "COMPUTE_UPDATING" Compute Transient again
        "Environment is being updated"
        "The definition of the box was replaced while the task started."
        "Try again in a minute.";
    MicrovmUnsupportedRegion "MICROVM_UNSUPPORTED_REGION" Config Service fix
        "MicroVMs not available in this region"
        "The compute backend does not exist in the configured region."
        "Use a region that has it, or configure another compute backend.";
    MicrovmEndedEarly "MICROVM_ENDED_EARLY" Compute Transient again
        "MicroVM stopped early"
        "The machine of the agent ended before the agent reported."
        "Try again; when it repeats, configure another compute backend.";
    MicrovmQuota "MICROVM_QUOTA" Compute Transient again
        "MicroVM quota exhausted"
        "The account's quota of machines is used up."
        "Wait for other tasks to end, or have the quota raised.";
    MicrovmThrottled "MICROVM_THROTTLED" Compute Transient again
        "MicroVM requests throttled"
        "The compute provider slowed the server down."
        "Try again in a minute.";
    MicrovmResourceMissing "MICROVM_RESOURCE_MISSING" Config Service fix
        "MicroVM resource absent"
        "Something that the compute backend is configured with does not exist."
        "Deploy the compute backend again, or correct its configuration.";
    IsolationUnavailable "ISOLATION_UNAVAILABLE" Config Service fix
        "Isolation not available"
        "No compute backend of this server isolates as strongly as was asked."
        "Ask for a weaker isolation, or have a backend with {the isolation asked for} configured.";
    SessionStartFailed "SESSION_START_FAILED" Compute Transient again
        "Session failed to start"
        "The compute backend could not start a box."
        "Try again; when it repeats, check the health of the compute backend.";
    SessionNeverStarted "SESSION_NEVER_STARTED" Compute Transient again
        "Session never started"
        "A box was started, but the agent in it never called in."
        "Try again; when it repeats, look at the box's logs (image, start command).";
    SessionLost "SESSION_LOST" Compute Transient again
        "Session lost"
        "The agent stopped sending heartbeats."
        "Try again; when it repeats, look for out-of-memory kills in the box's logs.";
    SessionEndedWithoutResult "SESSION_ENDED_WITHOUT_RESULT" Compute Transient again
        "Session ended without a result"
        "The box ended normally but the agent never reported."
        "Try again; when it repeats, look at the agent's logs.";
    SessionPollFailed "SESSION_POLL_FAILED" Compute Transient again
        "Session could not be watched"
        "The compute backend did not answer several times in a row."
        "Try again; check the health and the permissions of the compute backend.";
    ContainerFailed "CONTAINER_FAILED" Compute Transient again
        "Container failed"
        "The container of the agent ended with an error."
        "Try again; when it repeats, look at the container's logs.";
    WorkerCrashed "WORKER_CRASHED" Compute Transient again
        "Worker crashed"
        "The process in the box ended with an error before it could report."
        "Try again; when it repeats, look at the session's log.";
    WorkerVersionUnsupported "WORKER_VERSION_UNSUPPORTED" Config Service fix
        "Worker is of another version"
        "The program in the box and the server speak different versions of the box API."
        "Give boxes the program of the server's version (the image, or a restart after an upgrade), then submit again.";
    AgentBinaryMissing "AGENT_BINARY_MISSING" Compute Transient again
        "Agent could not start"
        "The agent's program is missing in the box or is for another machine."
        "Try again; when it repeats, build the image anew for the right architecture.";
    DiskFull "DISK_FULL" Compute Service fix
        "Disk full"
        "There is no space left on the disk."
        "Free space on {the disk} of the server or of the box, then submit again.";

    RepoConfigInvalid "REPO_CONFIG_INVALID" Config Service again
        "Repository configuration could not be loaded"
        "The settings of the repository on this server could not be read."
        "Correct the settings of {the repository}, then submit again.";
    HydrationFailed "HYDRATION_FAILED" Config Transient again
        "Preparing the work failed"
        "What the task needs (issue, pull request, context) could not be gathered."
        "Try again; when it repeats, check the connection to the forge.";
    RepoSetupFailed "REPO_SETUP_FAILED" Config Transient again
        "Repository could not be prepared"
        "The clone or the branch could not be made in the box."
        "Try again; when it repeats, read what git said in the detail.";
    HydrationTimedOut "HYDRATION_TIMED_OUT" Timeout Transient again
        "Preparing the work took too long"
        "The box did not get to the start of the agent in time."
        "Try again; when it repeats, look at how long the clone and the setup take.";
    QueueTimeout "QUEUE_TIMEOUT" Timeout Transient again
        "Waited too long in the queue"
        "No slot became free in time."
        "Submit again when fewer tasks run, or have the limit raised.";
    AttachmentBlocked "ATTACHMENT_BLOCKED" Guardrail User fix
        "Attachment blocked"
        "An attachment is not what it says, or may not be shown to an agent."
        "Look at the reason, then submit again with another file, or without it.";
    AttachmentUnavailable "ATTACHMENT_UNAVAILABLE" Network User again
        "Attachment could not be had"
        "An attachment could not be fetched from its address, or read from the server's objects."
        "Check the address in the detail, or upload the file itself; then submit again.";
    UploadsExpired "UPLOADS_EXPIRED" Timeout User fix
        "Uploads not confirmed in time"
        "The attachments were not uploaded and confirmed in time."
        "Submit the task and upload its attachments again.";
    TaskLifetimeExceeded "TASK_LIFETIME_EXCEEDED" Timeout User again
        "Task took too long"
        "The task reached the longest time that a task may take."
        "Split it into smaller tasks; the branch holds what was pushed so far.";
    FinalizeTimedOut "FINALIZE_TIMED_OUT" Timeout Transient again
        "Delivering took too long"
        "The work was done but could not be pushed or its pull request opened in time."
        "Try again; the branch may hold the work.";
    PollTimeout "POLL_TIMEOUT" Timeout Transient fix
        "Task timed out"
        "The task did not end in the time it was watched."
        "Submit a smaller task.";

    AgentStreamEnded "AGENT_STREAM_ENDED" Agent Transient again
        "Agent ended unexpectedly"
        "The agent ended without saying how; success is never guessed."
        "Try again.";
    MaxTurns "MAX_TURNS" Timeout User again
        "Exceeded max turns"
        "The agent was stopped at its limit of turns."
        "Raise the turns, or split the task.";
    MaxBudget "MAX_BUDGET" Timeout User again
        "Exceeded max budget"
        "The agent was stopped at its budget."
        "Raise the budget, or split the task.";
    AgentErrored "AGENT_ERRORED" Agent Transient again
        "Agent errored mid-run"
        "The agent ended with an error while it worked."
        "Try again; when it repeats, look at the task's events.";
    AgentCommunicationFailed "AGENT_COMMUNICATION_FAILED" Agent Transient again
        "Communication with the agent failed"
        "The connection to the agent's program broke."
        "Try again.";
    BuildRegressed "BUILD_REGRESSED" Agent User again
        "Build broken by the change"
        "The build was not red before the work and is red after it."
        "Look at the branch or pull request and the build's output, then submit again with guidance.";
    BuildInfra "BUILD_INFRA" Compute Transient again
        "Build couldn't finish: the machine ran out of resources"
        "The build was stopped by the machine (disk, memory), not by the code."
        "Try again; when it repeats, give the box more disk or memory.";
    BuildTimedOut "BUILD_TIMED_OUT" Timeout User again
        "Build timed out"
        "The build or its tests took too long."
        "Make the build faster, or configure a shorter build command.";
    DeliverableLost "DELIVERABLE_LOST" Agent Transient again
        "Change not saved"
        "The agent said that it was done, but there is no commit and no answer."
        "Try again; say in the task what is to be changed.";
    NoPr "NO_PR" Agent Transient again
        "Committed, but no pull request"
        "The work is on the branch, but its pull request was not opened."
        "Try again, or open the pull request by hand from {the branch}.";
    TaskNotSucceeded "TASK_NOT_SUCCEEDED" Agent User fix
        "Agent task did not succeed"
        "The agent said that it could not do it."
        "Look at the task's events and its branch or pull request.";

    GuardrailBlocked "GUARDRAIL_BLOCKED" Guardrail User fix
        "Content blocked by guardrail"
        "A content check refused the text of the task or of what it refers to."
        "Rephrase the text, then submit again.";
    ContentPolicy "CONTENT_POLICY" Guardrail User fix
        "Content policy violation"
        "The text was refused by a content policy."
        "Rephrase the text, then submit again.";

    InternalError "INTERNAL_ERROR" Unknown Service fix
        "Internal error"
        "The server made a mistake."
        "Look in the server's log, and report it.";
    Unknown "UNKNOWN" Unknown User fix
        "Unexpected error"
        "It is not known what kind of failure this is."
        "Read the detail and the task's events.";
}

impl FailureCode {
    /// The code of that wire name.
    pub fn from_wire(name: &str) -> Option<FailureCode> {
        FailureCode::ALL.into_iter().find(|c| c.as_str() == name)
    }

    /// The kind within `BLOCKED[kind]`, for failures of the agent's surroundings.
    pub fn blocked_kind(self) -> Option<&'static str> {
        BLOCKED_KINDS.iter().find(|(code, _)| *code == self).map(|(_, kind)| *kind)
    }
}

const BLOCKED_KINDS: [(FailureCode, &str); 6] = [
    (FailureCode::BlockedMissingSecret, "missing_secret"),
    (FailureCode::BlockedEgressDenied, "egress_denied"),
    (FailureCode::BlockedDependencyUnreachable, "dependency_unreachable"),
    (FailureCode::BlockedPolicyFailClosed, "policy_fail_closed"),
    (FailureCode::BlockedAuthFailure, "auth_failure"),
    (FailureCode::BlockedOther, "other"),
];

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for FailureCode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// A code that this version does not know (a newer worker's, or a newer server's row) reads as `Unknown`.
impl<'de> Deserialize<'de> for FailureCode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Ok(FailureCode::from_wire(&name).unwrap_or(FailureCode::Unknown))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn wire_names_are_unique_and_round_trip() {
        let names: HashSet<_> = FailureCode::ALL.into_iter().map(FailureCode::as_str).collect();
        assert_eq!(names.len(), FailureCode::ALL.len());
        for code in FailureCode::ALL {
            assert_eq!(FailureCode::from_wire(code.as_str()), Some(code));
        }
        assert_eq!(FailureCode::from_wire("no such code"), None);
    }

    #[test]
    fn blocked_kinds_are_the_blocked_category() {
        for code in FailureCode::ALL {
            assert_eq!(code.blocked_kind().is_some(), code.row().category == Category::Blocked, "{code}");
            if let Some(kind) = code.blocked_kind() {
                assert_eq!(code.as_str(), format!("BLOCKED_{}", kind.to_uppercase()));
            }
        }
    }

    /// D-083: failures were told apart by their text.
    #[test]
    fn every_row_says_something() {
        for code in FailureCode::ALL {
            let row = code.row();
            assert!(!row.title.is_empty() && !row.title.ends_with('.'), "{code}");
            assert!(row.description.ends_with('.') && row.remedy.ends_with('.'), "{code}");
        }
    }
}
