//! What is taken out of texts before they are stored, sent to a forge, or shown to a person or a model.
//!
//! Every word of a task passes one of two places on its way into the store: a change of the task ([`Masks::applied`]) or
//! an event of its own ([`Masks::event`]). What the box claims is masked with the rest, so the pull request that is opened
//! from it is clean as well.

use domain::TaskSpec;
use domain::event::NewEvent;
use domain::transition::Applied;
use redact::Redactor;
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::PullRequestRecord;
use tracing::error;

/// The platform's secrets, as what finds them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Masks {
    all: Redactor,
    values: Redactor,
}

impl Default for Masks {
    fn default() -> Masks {
        Masks::new(&[])
    }
}

impl Masks {
    /// Of these configured values, and every known shape of a token.
    pub fn new(values: &[SecretString]) -> Masks {
        Masks { all: Redactor::new(values), values: Redactor::of_values(values) }
    }

    /// Finds values and shapes: for what is stored or shown.
    pub fn all(&self) -> &Redactor {
        &self.all
    }

    /// Finds configured values alone: for what must otherwise stay as it is, such as a model's own words.
    pub fn values(&self) -> &Redactor {
        &self.values
    }

    /// Masks what a person asked for. Names and commands stay: with a mask in them they would be others.
    pub(crate) fn spec(&self, spec: &mut TaskSpec) {
        self.text(&mut spec.description);
    }

    /// Masks an event.
    pub fn event(&self, event: &mut NewEvent) {
        self.all.mask_json_preview(&mut event.metadata);
    }

    /// Masks what a change makes of a task, and the events that tell of it.
    pub(crate) fn applied(&self, applied: &mut Applied) {
        self.record(&mut applied.task.state);
        self.record(&mut applied.task.results);
        self.record(&mut applied.task.losses);
        applied.events.iter_mut().for_each(|event| self.event(event));
    }

    /// Masks a pull request as it is kept.
    pub(crate) fn pull_request(&self, record: &mut PullRequestRecord) {
        self.text(&mut record.title);
        self.text(&mut record.body);
        self.text(&mut record.diff_stat);
    }

    fn text(&self, text: &mut String) {
        if let std::borrow::Cow::Owned(masked) = self.all.mask_preview(text) {
            *text = masked;
        }
    }

    /// Masks every text of a record, whatever its fields are called.
    fn record<T: Serialize + DeserializeOwned>(&self, record: &mut T) {
        let Ok(before) = serde_json::to_value(&*record) else { return };
        let mut after = before.clone();
        self.all.mask_json_preview(&mut after);
        if after == before {
            return;
        }
        match serde_json::from_value(after) {
            Ok(masked) => *record = masked,
            Err(failure) => error!(error = %failure, "a record with a secret in it cannot be masked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::report::Report;
    use domain::task::Workflow;
    use domain::{Attempt, Change, Command, EventKind, Failure, FailureCode, RepoRef, Task, TaskId, UserId};
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    const VALUE: &str = "the-configured-value";

    fn masks() -> Masks {
        Masks::new(&[SecretString::from(VALUE.to_owned())])
    }

    fn spec(description: &str) -> TaskSpec {
        let repo: RepoRef = "owner/name".parse().unwrap();
        let json = json!({ "repo": repo, "workflow": Workflow::NewTask, "description": description });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn whatever_field_of_a_change_holds_a_secret_it_is_masked() {
        let mut spec = spec(&format!("use {VALUE}"));
        masks().spec(&mut spec);
        assert_eq!(spec.description, "use [redacted]");
        let task = Task::new(TaskId::from_bits(1), UserId::new("u"), "api", spec, Timestamp::UNIX_EPOCH);
        let failure = Failure::new(FailureCode::InternalError, format!("denied: {VALUE}"));
        let Change::Applied(mut applied) =
            task.on(Command::Fail { failure, results: None }, Timestamp::UNIX_EPOCH)
        else {
            panic!("a task can fail");
        };
        applied.task.results.answer = Some(format!("it is {VALUE}"));
        masks().applied(&mut applied);
        let stored = format!("{applied:?}");
        assert!(stored.contains("denied: [redacted]") && stored.contains("it is [redacted]"), "{stored}");
        assert!(!stored.contains(VALUE), "{stored}");
    }

    /// D-030: previews were not masked.
    #[test]
    fn a_value_that_a_preview_cuts_is_masked_as_well() {
        let mut event = NewEvent::new(
            EventKind::AgentToolResult,
            json!({ "content_preview": "export A=the-configured...", "tool_input_preview": "{\"command\":\"the-conf...\"}" }),
        );
        masks().event(&mut event);
        assert_eq!(event.metadata["content_preview"], "export A=[redacted]...");
        assert_eq!(event.metadata["tool_input_preview"], "{\"command\":\"[redacted]...\"}");
        let mut lost = Report::lost(Failure::new(FailureCode::InternalError, VALUE));
        lost.pr_title = format!("{VALUE} {}", Attempt(1));
        masks().record(&mut lost);
        assert!(!format!("{lost:?}").contains(VALUE));
    }
}
