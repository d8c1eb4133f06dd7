//! Submission: one transaction claims the idempotency key and stores the task, its first event and its outbox rows.

use domain::event::{EventKind, NewEvent};
use domain::{Attachments, Task, TaskId, TaskSpec, UserId};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use store::{Created, IdempotencyClaim, NewTask, StoreError};
use tracing::info;

use crate::{Orchestrator, fault};

/// A request that has the right shape.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Who asks.
    pub user: UserId,
    /// Through what: `api`, and later the channels of ABCA.
    pub channel: String,
    /// What is asked.
    pub spec: TaskSpec,
    /// The key it came with.
    pub idempotency_key: Option<String>,
}

/// Where a queued task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueInfo {
    /// 1 is next.
    pub position: u64,
    /// Seconds, estimated from the mean duration of the last tasks.
    pub estimated_wait_s: u64,
}

impl Orchestrator {
    /// Accepts a task. When this returns `Created::New`, it is on the disk and will end.
    pub async fn submit(&self, submission: Submission) -> Result<Created, StoreError> {
        self.submit_through(submission, Map::new()).await
    }

    /// The same, with what is to be known of the way it came (which webhook, which delivery): it is told in the task's
    /// first event.
    pub async fn submit_through(
        &self,
        submission: Submission,
        channel_metadata: Map<String, Value>,
    ) -> Result<Created, StoreError> {
        self.submit_as(self.new_task_id(), submission, Attachments::new(), channel_metadata).await
    }

    /// An id for a task that is about to be submitted, so that what belongs to it can be kept before it is.
    pub fn new_task_id(&self) -> TaskId {
        new_task_id(self.now())
    }

    /// The same under that id, with the attachments that were taken in for it.
    pub async fn submit_as(
        &self,
        id: TaskId,
        mut submission: Submission,
        attachments: Attachments,
        channel_metadata: Map<String, Value>,
    ) -> Result<Created, StoreError> {
        let now = self.now();
        let idempotency =
            submission.idempotency_key.map(|key| IdempotencyClaim { key, body_hash: hash(&submission.spec) });
        // After the hash: what was asked under a key is told apart by what was asked.
        self.parts().policy.masks.spec(&mut submission.spec);
        let Submission { user, channel, spec, .. } = submission;
        let task = Task::with_attachments(id, user, &channel, spec, attachments, now);
        let mut told = json!({
            "repo": task.spec.repo, "issue_number": task.spec.issue_number, "channel_source": task.channel,
            "workflow": task.spec.workflow.as_str(),
        });
        if !channel_metadata.is_empty() {
            told["channel_metadata"] = Value::Object(channel_metadata);
        }
        let event = NewEvent::new(EventKind::TaskCreated, told);
        fault::point("submit.before");
        let created = self
            .store()
            .task_create(NewTask { task, events: vec![event], outbox: Vec::new(), idempotency })
            .await?;
        fault::point("submit.committed");
        if let Created::New(task) = &created {
            info!(task.id = %task.id, user = %task.user, "task accepted");
            metrics::counter!("bgagent_tasks_submitted_total").increment(1);
            self.ring();
        }
        Ok(created)
    }

    /// Whether a submission's idempotency key was used before, with whatever request.
    pub async fn knows_key(&self, submission: &Submission) -> Result<bool, StoreError> {
        match &submission.idempotency_key {
            Some(key) => self.store().idempotency_known(&submission.user, key).await,
            None => Ok(false),
        }
    }

    /// Where a queued task stands and how long it may take; `None` when it is not queued.
    pub async fn queue_info(&self, task: TaskId) -> Result<Option<QueueInfo>, StoreError> {
        let Some(position) = self.store().queue_position(task).await? else { return Ok(None) };
        let mean = self.store().mean_duration_s().await?;
        let mean = mean.unwrap_or(domain::limit::QUEUE_ETA_TASK_DURATION.as_secs_f64());
        let rounds = position.div_ceil(u64::from(self.parts().policy.per_user.max(1)));
        Ok(Some(QueueInfo { position, estimated_wait_s: (rounds as f64 * mean).ceil() as u64 }))
    }
}

/// The hash of what was asked, to tell a repeated request from another one under the same key. Field order is that of
/// the struct, so equal requests hash equally whatever order their JSON had.
fn hash(spec: &TaskSpec) -> String {
    let body = serde_json::to_vec(spec).unwrap_or_default();
    hex::encode(Sha256::digest(&body))
}

pub(crate) fn new_task_id(now: jiff::Timestamp) -> TaskId {
    let mut random = [0u8; 16];
    // The operating system's generator does not fail on the platforms we run on; a collision would be refused.
    let _ = getrandom::fill(&mut random);
    TaskId::from_parts(now, u128::from_le_bytes(random))
}
