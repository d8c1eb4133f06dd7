//! Makes the spans of tasks that have ended, from their records.
//!
//! The process that ended a task tells of it. Killed before it has, nobody does: telemetry is worth no obligation, and the
//! record itself is still there.

use domain::TaskId;
use domain::event::Event;
use store::{EventCursor, EventQuery, StoreError};
use telemetry::task::{self, EVENTS_MAX};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Orchestrator;

/// Events read at once.
const PAGE: u32 = 500;

impl Orchestrator {
    /// Runs until it is told to stop, and then through what has ended by then.
    pub(crate) async fn tell_ended(&self, stop: CancellationToken) {
        let traces = &self.parts().policy.traces;
        loop {
            let ended = tokio::select! {
                biased;
                ended = traces.next_ended() => ended,
                () = stop.cancelled() => break,
            };
            self.tell_task(ended).await;
        }
        while let Some(ended) = traces.try_ended() {
            self.tell_task(ended).await;
        }
    }

    async fn tell_task(&self, id: TaskId) {
        if let Err(failure) = self.try_tell(id).await {
            telemetry::traces::dropped("store", 1);
            warn!(task.id = %id, error = %failure, "the spans of a task could not be made from its record");
        }
    }

    async fn try_tell(&self, id: TaskId) -> Result<(), StoreError> {
        let traces = &self.parts().policy.traces;
        // Purged meanwhile: then there is nothing to tell.
        let Some(task) = self.store().task_get(id).await? else { return Ok(()) };
        let events = self.first_events(id).await?;
        task::spans(&task, &events, traces.content()).into_iter().for_each(|span| traces.give(span));
        Ok(())
    }

    async fn first_events(&self, task: TaskId) -> Result<Vec<Event>, StoreError> {
        let mut all = Vec::new();
        let mut from = EventCursor::Start;
        while all.len() < EVENTS_MAX {
            let page = self.store().events_read(EventQuery { task, from, limit: PAGE }).await?;
            let Some(last) = page.last() else { break };
            from = EventCursor::AfterSeq(last.seq);
            all.extend(page);
        }
        all.truncate(EVENTS_MAX);
        Ok(all)
    }
}
