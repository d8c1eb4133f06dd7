//! Signs of life in every stage, and the ear for what people want: both end in [`Stop`].

use std::time::Duration;

use protocol::box_api::Directives;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::client::{CallError, Gateway, Pause};
use crate::mailbox::Mailbox;
use crate::stage::Stage;
use crate::stop::{Reason, Stop};

/// One long poll; below the bound of the gateway.
const POLL_WAIT: Duration = Duration::from_secs(25);
/// A poll that answered faster than this with nothing is not followed at once: it may not have waited at all.
const POLL_MIN: Duration = Duration::from_millis(500);

/// Beats until dropped; the first one at once.
pub async fn beat(gateway: Gateway, every: Duration, stage: watch::Receiver<Stage>, stop: Stop) {
    let mut tick = tokio::time::interval(every.max(Duration::from_millis(100)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let name = stage.borrow().name();
        let answer = gateway.heartbeat(name).await;
        if !heed(answer, &stop) {
            return;
        }
    }
}

/// Asks for directives until dropped; what is not a stop waits in the mailbox.
pub async fn listen(gateway: Gateway, stop: Stop, mailbox: Mailbox) {
    let mut pause = Pause::default();
    let mut seen = String::new();
    loop {
        let asked = Instant::now();
        let answer = gateway.directives(POLL_WAIT, &seen).await;
        let next = match &answer {
            Ok(heard) if heard.tag == seen => Next::NotBefore(asked + POLL_MIN),
            Ok(_) => Next::AtOnce,
            Err(_) => Next::Paused,
        };
        if let Ok(heard) = &answer
            && !heard.cancel
        {
            mailbox.put(heard);
            if seen != heard.tag {
                tracing::info!(
                    nudges = heard.nudges.len(),
                    asks = heard.asks.len(),
                    "people wait for the agent"
                );
            }
            seen.clone_from(&heard.tag);
        }
        if !heed(answer, &stop) {
            return;
        }
        match next {
            Next::Paused => tokio::time::sleep(pause.next()).await,
            Next::NotBefore(time) => {
                pause = Pause::default();
                tokio::time::sleep_until(time).await;
            }
            Next::AtOnce => pause = Pause::default(),
        }
    }
}

/// When to ask again. While nobody asks, nobody hears of a cancel: what was news is followed by the next poll at once.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// There was something new; the gateway holds the next poll until there is something newer.
    AtOnce,
    /// There was not: the gateway may not have waited at all.
    NotBefore(Instant),
    /// There was no answer.
    Paused,
}

/// Whether to go on asking.
fn heed(answer: Result<Directives, CallError>, stop: &Stop) -> bool {
    match answer {
        Ok(Directives { cancel: false, leave: None, .. }) => true,
        Ok(Directives { cancel: false, leave: Some(order), .. }) => {
            tracing::info!(order, "asked to save the work and leave");
            stop.ask(Reason::Leaving);
            false
        }
        Ok(Directives { cancel: true, .. }) => {
            stop.ask(Reason::Cancelled);
            false
        }
        Err(CallError::Away { doing, why }) => {
            tracing::debug!(doing, why, "no answer");
            true
        }
        Err(CallError::Superseded { .. }) => {
            stop.ask(Reason::Superseded);
            false
        }
        Err(CallError::Unauthorized { .. }) => {
            stop.ask(Reason::Unauthorized);
            false
        }
        // Not understood by the gateway: heartbeats of another version still count as calls.
        Err(error @ CallError::Refused { .. }) => {
            tracing::warn!(%error, "the gateway refused a call");
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_final_answers_stop_the_work() {
        let went_on = |answer| {
            let stop = Stop::default();
            (heed(answer, &stop), stop.reason())
        };
        let doing = "doing";
        assert_eq!(went_on(Ok(Directives::default())), (true, None));
        assert_eq!(
            went_on(Ok(Directives { cancel: true, ..Directives::default() })),
            (false, Some(Reason::Cancelled))
        );
        let leave = Directives { leave: Some("pause".into()), ..Directives::default() };
        assert_eq!(went_on(Ok(leave.clone())), (false, Some(Reason::Leaving)));
        let both = Directives { cancel: true, ..leave };
        assert_eq!(went_on(Ok(both)), (false, Some(Reason::Cancelled)), "nothing more can be saved");
        assert_eq!(went_on(Err(CallError::Away { doing, why: "x".into() })), (true, None));
        assert_eq!(went_on(Err(CallError::Superseded { doing })), (false, Some(Reason::Superseded)));
        let refused = CallError::Refused { doing, status: 404, code: None, said: "x".into() };
        assert_eq!(went_on(Err(refused)), (true, None));
    }
}
