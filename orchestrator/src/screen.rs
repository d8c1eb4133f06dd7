//! What is said to agents is screened, as the configuration says; what comes of it is counted and told.

use domain::TaskId;
use domain::event::{EventKind, NewEvent};
use screening::{ScreenError, Source, Verdict};
use serde_json::json;
use tracing::{info, warn};

use crate::Orchestrator;

impl Orchestrator {
    /// Asks the screens. An outage is an error: what should have been screened does not go on.
    pub async fn screen(&self, source: Source, text: &str) -> Result<Verdict, ScreenError> {
        let screens = &self.parts().policy.screens;
        if screens.is_empty() {
            return Ok(Verdict::Passed);
        }
        let said = screens.screen(source, text).await;
        let (source, outcome) = (
            source.as_str(),
            match &said {
                Ok(Verdict::Passed) => "passed",
                Ok(Verdict::Warned(_)) => "warned",
                Ok(Verdict::Blocked(_)) => "blocked",
                Err(_) => "failed",
            },
        );
        metrics::counter!("bgagent_screenings_total", "source" => source, "outcome" => outcome).increment(1);
        match &said {
            Ok(Verdict::Passed) => (),
            Ok(Verdict::Warned(reason) | Verdict::Blocked(reason)) => {
                info!(source, outcome, reason, "screened")
            }
            Err(failure) => warn!(source, error = %failure, "a text could not be screened, and was refused"),
        }
        said
    }

    /// Tells of a warning in a task's record. Telemetry: the text goes on whether or not it can be stored.
    pub async fn tell_screened(&self, task: TaskId, source: Source, reason: &str) {
        let metadata = json!({ "source": source.as_str(), "reason": reason });
        let Ok(Some(found)) = self.store().task_get(task).await else { return };
        let event = NewEvent::new(EventKind::ScreeningWarned, metadata);
        if let Err(failure) = self.box_event(task, found.attempt, event).await {
            warn!(task.id = %task, error = %failure, "a warning of a screen could not be stored");
        }
    }
}
