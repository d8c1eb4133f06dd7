//! Money, where the agent cannot reach: each model call is asked for before it starts and recorded when it ends. The
//! cost shown anywhere is the cost recorded here.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use domain::event::{EventKind, NewEvent};
use domain::{Attempt, Status, TaskId, limit};
use orchestrator::Orchestrator;
use serde_json::json;
use store::UsageRecord;

use crate::Gateway;
use crate::auth::{Caller, Refusal as BoxRefusal};
use crate::model::{Answered, Basis, Meter, ModelCall, Recording, Refusal, Usage, Waiting};
use crate::record::Recorder;

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
            let recorder = task.spec.trace.then(|| gateway.recorder().clone());
            let meter = StoreMeter { orchestrator: gateway.orchestrator().clone(), recorder };
            gateway.models().proxy(call, Arc::new(meter)).await
        }
        Err(answer) => answer.into_response(),
    }
}

/// Budgets and records on the store.
struct StoreMeter {
    orchestrator: Orchestrator,
    /// Of a task that wants a trace.
    recorder: Option<Recorder>,
}

#[async_trait]
impl Meter for StoreMeter {
    async fn before(&self, task: TaskId, attempt: Attempt) -> Result<(), Refusal> {
        let found = self.orchestrator.store().task_get(task).await;
        let found = found.map_err(|e| Refusal::Unavailable { reason: e.to_string() })?;
        let Some(found) = found else {
            return Err(Refusal::Ended { reason: "there is no such task".into() });
        };
        if found.attempt != attempt {
            return Err(Refusal::Superseded);
        }
        if found.status().is_terminal() || found.status() == Status::Finalizing {
            return Err(Refusal::Ended { reason: format!("the task is {}", found.status()) });
        }
        let Some(budget) = found.spec.max_budget else { return Ok(()) };
        let spent = found.spent.cost;
        if spent < budget {
            return Ok(());
        }
        let event = NewEvent {
            client_key: Some("gw-budget".into()),
            ..NewEvent::new(
                EventKind::BudgetExceeded,
                json!({ "cost_usd": spent.usd(), "budget_usd": budget.usd() }),
            )
        };
        // Telemetry: the refusal stands whether or not its event can be stored.
        let _ = self.orchestrator.box_event(task, attempt, event).await;
        Err(Refusal::BudgetExceeded { spent, budget })
    }

    async fn record(
        &self,
        call_id: &str,
        usage: Usage,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let tokens = usage.tokens;
        metrics::counter!("bgagent_model_calls_total", "model" => usage.model.clone()).increment(1);
        metrics::counter!("bgagent_model_input_tokens_total", "model" => usage.model.clone())
            .increment(tokens.context());
        metrics::counter!("bgagent_model_output_tokens_total", "model" => usage.model.clone())
            .increment(tokens.output);
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
        match self.recorder {
            Some(_) => Recording::On,
            None => Recording::Off,
        }
    }

    async fn asked(&self, call_id: &str, call: &ModelCall, model: &str) {
        if let Some(recorder) = &self.recorder {
            recorder.asked(call_id, call, model).await;
        }
    }

    async fn answered(&self, call_id: &str, call: &ModelCall, answered: Answered) {
        if let Some(recorder) = &self.recorder {
            recorder.answered(call_id, call, answered).await;
        }
    }
}
