//! The box's side of steering: what waits for its agent, and taking it over.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use domain::steer::Boundary;
use domain::{Attempt, NudgeId, TaskId, limit};
use orchestrator::Orchestrator;
use protocol::box_api::*;

use crate::Gateway;
use crate::auth::{Caller, Refusal};
use crate::box_api::{Sent, heard};
use crate::model::script::transcript::Transcript;

/// The routes.
pub(crate) fn routes() -> Router<Gateway> {
    Router::new()
        .route("/box/v1/nudges/take", post(take_nudges))
        .route("/box/v1/left", post(left))
        .route("/box/v1/asks/{ask_id}/answer", post(answer))
}

/// What the box of this task is to heed now.
pub(crate) async fn directives(orchestrator: &Orchestrator, task: TaskId) -> Result<Directives, Refusal> {
    let found = orchestrator.store().task_get(task).await?;
    if let Some(leaving) = found.and_then(|t| t.leaving) {
        let leave = Some(leaving.order.as_str().to_owned());
        let found = Directives { leave, ..Directives::default() };
        return Ok(Directives { tag: tag(&found), ..found });
    }
    let waiting = orchestrator.waiting(task).await?;
    let asks = waiting.asks.into_iter().map(|a| OpenAsk { id: a.id, question: a.question });
    let found = Directives {
        nudges: waiting.nudges.into_iter().map(|n| n.id).collect(),
        asks: asks.collect(),
        ..Directives::default()
    };
    Ok(Directives { tag: tag(&found), ..found })
}

/// Names the directives: equal ones have equal names, and nothing to heed has none.
fn tag(found: &Directives) -> String {
    if *found == Directives::default() {
        return String::new();
    }
    let text = serde_json::to_vec(found).unwrap_or_default();
    // FNV-1a: it tells a box's own directives apart and is no secret.
    let hash =
        text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

impl Gateway {
    /// The transcript that this model plays, when people speak in it.
    pub(crate) fn scripted(&self, model: &str) -> Option<Arc<Transcript>> {
        self.models().resolve(model).ok()?.nudges()
    }

    /// What people say by the task's transcript at that boundary, stored as if they had said it now. Asked again, it is the
    /// same.
    async fn played(&self, task: TaskId, attempt: Attempt, at: Boundary) -> Result<Vec<NudgeId>, Refusal> {
        let found = self.orchestrator().store().task_get(task).await?;
        let model = found.and_then(|task| task.results.model.or(task.spec.model)).unwrap_or_default();
        let Some(script) = self.scripted(&model) else { return Ok(Vec::new()) };
        let mut ids = Vec::new();
        for (turn, n, text) in script.nudges(at) {
            ids.push(self.orchestrator().nudge_played(task, attempt, turn, n, text).await?);
        }
        Ok(ids)
    }
}

async fn take_nudges(
    State(gateway): State<Gateway>,
    Caller(me): Caller,
    Sent(request): Sent<TakeNudges>,
) -> Result<Json<TakenNudges>, Refusal> {
    if request.ids.len() > limit::NUDGES_AT_ONCE {
        let message = format!("at most {} nudges are taken at once", limit::NUDGES_AT_ONCE);
        return Err(Refusal::new(BoxErrorCode::TooLarge, message));
    }
    let mut ids = request.ids;
    if let Some(at) = request.at {
        ids.extend(gateway.played(me.task, me.attempt, at).await?);
    }
    let taken = gateway.orchestrator().box_takes_nudges(me.task, me.attempt, ids).await?;
    let nudge = |n: domain::steer::Nudge| TakenNudge { id: n.id, submitted_at: n.submitted_at, text: n.text };
    Ok(Json(TakenNudges { nudges: heard(taken)?.into_iter().map(nudge).collect() }))
}

async fn left(State(gateway): State<Gateway>, Caller(me): Caller) -> Result<StatusCode, Refusal> {
    heard(gateway.orchestrator().box_left(me.task, me.attempt).await?)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn answer(
    State(gateway): State<Gateway>,
    Caller(me): Caller,
    ask: Result<Path<String>, PathRejection>,
    Sent(said): Sent<AskAnswer>,
) -> Result<StatusCode, Refusal> {
    let Path(ask) = ask.map_err(|e| Refusal::unread(e.status(), &e.body_text()))?;
    let unknown = || Refusal::new(BoxErrorCode::BadRequest, "there is no such question about this task");
    let ask = ask.parse().map_err(|_| unknown())?;
    if said.answer.trim().is_empty() {
        return Err(Refusal::new(BoxErrorCode::BadRequest, "answer must not be empty"));
    }
    let done =
        gateway.orchestrator().box_answers(me.task, me.attempt, ask, said.source, &said.answer).await?;
    heard(done.ok_or_else(unknown)?)?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_named_by_what_they_say() {
        let one = Directives { nudges: vec![NudgeId::from_bits(1)], ..Directives::default() };
        let two = Directives { nudges: vec![NudgeId::from_bits(2)], ..Directives::default() };
        assert_eq!(tag(&Directives::default()), "");
        assert_eq!(tag(&one), tag(&one.clone()));
        assert_ne!(tag(&one), tag(&two));
    }
}
