//! Watching where no stream can be had (a proxy that refuses or swallows it): the same events by long poll, or, where
//! that is not held open either, at a pace that follows them.

use std::time::Duration;

use tokio::time::Instant;

use super::{Item, Watcher};
use crate::client::{ClientError, EventQuery};

/// How long the server may hold an answer back.
const WAIT: Duration = Duration::from_secs(20);
/// An empty answer that came within this was not held back.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Pauses after answers that brought nothing, one after the other; *ABCA*'s.
const PACE: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];

/// What is known of the pace.
#[derive(Debug, Default)]
pub(super) struct Polling {
    /// Empty answers in a row.
    empty: usize,
    /// The task was seen to have ended: one more look has everything.
    ended: bool,
}

/// Whether this answer to a request for a stream says that there are none.
pub(super) fn no_stream(error: &ClientError) -> bool {
    match error {
        ClientError::Api { status, code, .. } => {
            matches!(status, 405 | 406 | 501)
                || (matches!(status, 403 | 404) && code == "HTTP_ERROR")
                || (*status == 404 && code == "NOT_FOUND")
        }
        ClientError::BadAnswer { .. } => true,
        ClientError::BadUrl { .. }
        | ClientError::Unreachable { .. }
        | ClientError::Cut { .. }
        | ClientError::SignedOut { .. } => false,
    }
}

impl Watcher {
    /// One look. `Ok(false)` when the task has ended and all was told.
    pub(super) async fn poll(&mut self, mut polling: Polling) -> Result<bool, ClientError> {
        let begun = Instant::now();
        let query = EventQuery {
            after: self.cursor.clone(),
            limit: Some(domain::limit::EVENTS_PAGE_MAX),
            wait: (!polling.ended).then_some(WAIT),
            ..EventQuery::default()
        };
        let looked = match self.client.events(self.task, &query).await {
            Ok(page) if !page.data.is_empty() => Ok(page.data),
            Ok(_nothing) if polling.ended => return Ok(false),
            Ok(nothing) => match self.client.task(self.task).await {
                Ok(task) => {
                    polling.ended = task.is_terminal();
                    Ok(nothing.data)
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let events = match looked {
            Ok(events) => events,
            Err(error) => {
                self.polling = Some(polling);
                return Err(error);
            }
        };
        self.failures = 0;
        self.away_since = None;
        if !events.is_empty() {
            polling.empty = 0;
        } else if !polling.ended {
            if begun.elapsed() < AT_ONCE {
                self.pause = Some(PACE[polling.empty.min(PACE.len() - 1)]);
            }
            polling.empty += 1;
        }
        for event in events {
            self.note(event);
        }
        self.polling = Some(polling);
        Ok(true)
    }

    /// Goes over to polling.
    pub(super) fn poll_from_now_on(&mut self, because: &ClientError) -> Item {
        self.polling = Some(Polling::default());
        Item::Interrupted {
            because: format!("no stream can be had, polling instead: {because}"),
            pause: Duration::ZERO,
        }
    }
}
