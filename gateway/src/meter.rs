//! Money, where the agent cannot reach: each model call is asked for before it starts and recorded when it ends. The
//! cost shown anywhere is the cost recorded here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use domain::event::{EventKind, NewEvent};
use domain::{Attempt, Status, Task, TaskId, Verdict, limit};
use orchestrator::Orchestrator;
use orchestrator::budget::Spent;
use serde_json::json;
use store::{StoreError, UsageRecord};
use telemetry::Content;

use crate::Gateway;
use crate::auth::{Caller, Refusal as BoxRefusal};
use crate::budget::Running;
use crate::measure;
use crate::model::{
    Answered, Asking, Basis, Finished, Meter, ModelCall, Permit, Recording, Refusal, Usage, Waiting,
};
use crate::prompt;
use crate::record::Recorder;
use crate::span::ChatSpan;

/// The route of the model proxy.
pub fn routes() -> Router<Gateway> {
    Router::new()
        .route("/model/v1/messages", post(messages).layer(DefaultBodyLimit::max(limit::MODEL_BODY_MAX_BYTES)))
}

async fn messages(
    State(gateway): State<Gateway>,
    Caller(me): Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let task = match gateway.orchestrator().store().task_get(me.task).await {
        Ok(Some(task)) => task,
        Ok(None) => return BoxRefusal::superseded().into_response(),
        Err(failure) => return BoxRefusal::from(failure).into_response(),
    };
    let model = task.spec.model.clone().unwrap_or_default();
    // A model is never shown a secret of the platform, in whatever form a tool printed it. Values alone: everything else
    // (its own words, the seals of a provider) must come back as it was sent.
    let masks = &gateway.orchestrator().parts().policy.masks;
    let body = masks.values().mask_json_bytes(&body).map_or(body, Bytes::from);
    match ModelCall::from_http(me.task, me.attempt, &model, &headers, &body) {
        Ok(call) => {
            if let Err(answer) = prompt::screen(&gateway, &task, &call).await {
                return answer.into_response();
            }
            let recorder = task.spec.trace.then(|| gateway.recorder().clone());
            let orchestrator = gateway.orchestrator().clone();
            let span = ChatSpan::default();
            let meter = StoreMeter { orchestrator, running: gateway.running(), recorder, span };
            gateway.models().proxy(call, Arc::new(meter)).await
        }
        Err(answer) => answer.into_response(),
    }
}

/// Budgets and records on the store.
struct StoreMeter {
    orchestrator: Orchestrator,
    running: Arc<Running>,
    /// Of a task that wants a trace.
    recorder: Option<Recorder>,
    span: ChatSpan,
}

/// While others hold what is left, it is looked again at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl StoreMeter {
    /// The task, if this attempt of it may call a model at all.
    async fn caller(&self, task: TaskId, attempt: Attempt) -> Result<Task, Refusal> {
        let found = self.orchestrator.store().task_get(task).await.map_err(unavailable)?;
        let Some(found) = found else {
            return Err(Refusal::Ended { reason: "there is no such task".into() });
        };
        if found.attempt != attempt {
            return Err(Refusal::Superseded);
        }
        if found.status().is_terminal() || found.status() == Status::Finalizing {
            return Err(Refusal::Ended { reason: format!("the task is {}", found.status()) });
        }
        // Its agent is to save its work and leave; a call that is tried again meets that.
        if let Some(leaving) = &found.leaving {
            let reason = format!("the agent is asked to leave ({})", leaving.order.as_str());
            return Err(Refusal::Unavailable { reason });
        }
        Ok(found)
    }

    async fn stop(&self, task: &Task, row: &Spent) -> Refusal {
        let now = self.orchestrator.now();
        // Telemetry: the refusal stands whether or not its event can be stored.
        metrics::counter!("bgagent_budget_refusals_total", "scope" => row.bound.payer.kind()).increment(1);
        self.tell(task, EventKind::BudgetExceeded, format!("gw-budget-{}", row.bound.key(now)), row).await;
        Refusal::BudgetExceeded { spent: row.spent, budget: row.bound.hard, words: row.used_up(now) }
    }

    async fn warn(&self, task: &Task, row: &Spent) {
        let key = format!("gw-soft-{}", row.bound.key(self.orchestrator.now()));
        if self.running.first(task.id, &key) {
            self.tell(task, EventKind::BudgetWarning, key, row).await;
        }
    }

    async fn tell(&self, task: &Task, kind: EventKind, key: String, row: &Spent) {
        let Spent { bound, spent } = row;
        let renews = bound.period.renews_at(self.orchestrator.now());
        let metadata = json!({
            "cost_usd": spent.usd(), "budget_usd": bound.hard.usd(), "scope": bound.payer.kind(),
            "name": bound.payer.name(), "period": bound.period.as_str(),
            "renews_at": renews.map(|at| at.to_string()),
        });
        let event = NewEvent { client_key: Some(key), ..NewEvent::new(kind, metadata) };
        let _ = self.orchestrator.box_event(task.id, task.attempt, event).await;
    }
}

fn unavailable(failure: StoreError) -> Refusal {
    Refusal::Unavailable { reason: failure.to_string() }
}

#[async_trait]
impl Meter for StoreMeter {
    async fn before(&self, asking: Asking) -> Result<Permit, Refusal> {
        let task = self.caller(asking.task, asking.attempt).await?;
        if self.orchestrator.parts().policy.budgets.of(&task).is_empty() {
            return Ok(Box::new(()));
        }
        loop {
            // Subscribed before the look, so that an end in between is not missed.
            let ended = self.running.ended.notified();
            let turn = self.running.turn.lock().await;
            let task = self.caller(asking.task, asking.attempt).await?;
            let rows = self.orchestrator.budgets_of(&task).await.map_err(unavailable)?;
            let mut waits = false;
            for row in &rows {
                match row.bound.judge(row.spent, self.running.held(task.id, &row.bound)) {
                    Verdict::Go => (),
                    Verdict::Warn => self.warn(&task, row).await,
                    Verdict::Wait => waits = true,
                    Verdict::Stop => return Err(self.stop(&task, row).await),
                }
            }
            if !waits {
                let bounds = rows.iter().map(|row| &row.bound);
                return Ok(Box::new(self.running.hold(task.id, bounds, asking.most)));
            }
            drop(turn);
            // The end of a call, or the time: nothing is left to do with the difference.
            let _ = tokio::time::timeout(LOOK_AGAIN, ended).await;
        }
    }

    async fn record(
        &self,
        call_id: &str,
        usage: Usage,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let tokens = usage.tokens;
        measure::used(&usage);
        let event = NewEvent::new(
            EventKind::AgentCostUpdate,
            json!({
                "turn": usage.turn, "model": usage.model, "purpose": usage.purpose.as_str(),
                "input_tokens": tokens.context(), "output_tokens": tokens.output,
                "cache_read_tokens": tokens.cache_read, "cache_write_tokens": tokens.cache_write,
                "call_cost_usd": usage.cost.map(|c| c.usd()), "price_as_of": usage.price_as_of,
                "estimated": matches!(usage.basis, Basis::Estimated),
            }),
        );
        let record = UsageRecord {
            call_id: call_id.to_owned(),
            task: usage.task,
            attempt: usage.attempt,
            model: usage.model,
            tokens,
            cost: usage.cost,
            event,
            now: self.orchestrator.now(),
        };
        self.orchestrator.store().usage_record(record).await?;
        Ok(())
    }

    async fn limited(&self, task: TaskId, attempt: Attempt, wait: Duration) -> bool {
        let until = domain::transition::after(self.orchestrator.now(), wait);
        match self.orchestrator.usage_limited(task, attempt, until).await {
            Ok(parked) => parked,
            Err(failure) => {
                tracing::warn!(task.id = %task, error = %failure, "a task could not be parked; its call waits");
                false
            }
        }
    }

    async fn waiting(&self, waiting: Waiting) {
        let now = self.orchestrator.now();
        let event = NewEvent {
            client_key: Some(format!("gw-wait-{}", now.as_microsecond())),
            ..NewEvent::new(
                EventKind::ModelWaiting,
                json!({
                    "model": waiting.model, "http_status": waiting.status,
                    "retry_in_s": waiting.retry_in.as_secs_f64(),
                }),
            )
        };
        // Telemetry never fails a call.
        let _ = self.orchestrator.box_event(waiting.task, waiting.attempt, event).await;
    }

    fn recording(&self) -> Recording {
        match (&self.recorder, self.orchestrator.parts().policy.traces.content()) {
            (None, Content::Withheld) => Recording::Off,
            (Some(_), _) | (_, Content::Told) => Recording::On,
        }
    }

    async fn asked(&self, call_id: &str, call: &ModelCall, model: &str) {
        if let Some(recorder) = &self.recorder {
            recorder.asked(call_id, call, model).await;
        }
    }

    async fn answered(&self, call_id: &str, call: &ModelCall, answered: Answered) {
        if self.orchestrator.parts().policy.traces.content() == Content::Told {
            self.span.said(&answered);
        }
        if let Some(recorder) = &self.recorder {
            recorder.answered(call_id, call, answered).await;
        }
    }

    fn finished(&self, call_id: &str, call: &ModelCall, finished: Finished<'_>) {
        measure::finished(&finished);
        self.span.tell(&self.orchestrator, call_id, call, finished);
    }
}
