//! What is counted of model calls. Labels are of configured things alone: who submits a task chooses none of them freely,
//! but a model's name, which a provider must know before anything is counted under it.

use crate::model::{Finished, Usage};

/// Counts what a call used.
pub(crate) fn used(usage: &Usage) {
    let (tokens, model) = (usage.tokens, &usage.model);
    metrics::counter!("bgagent_model_calls_total", "model" => model.clone()).increment(1);
    metrics::counter!("bgagent_model_input_tokens_total", "model" => model.clone())
        .increment(tokens.context());
    metrics::counter!("bgagent_model_output_tokens_total", "model" => model.clone()).increment(tokens.output);
    metrics::counter!("bgagent_model_cache_read_tokens_total", "model" => model.clone())
        .increment(tokens.cache_read);
    metrics::counter!("bgagent_model_cache_write_tokens_total", "model" => model.clone())
        .increment(tokens.cache_write);
    if let Some(cost) = usage.cost {
        metrics::counter!("bgagent_model_cost_microusd_total", "model" => model.clone())
            .increment(u64::try_from(cost.0).unwrap_or(0));
    }
}

/// Counts how a call went, and how long it took.
pub(crate) fn finished(finished: &Finished<'_>) {
    let provider = finished.resolved.provider().to_owned();
    let outcome = if finished.error.is_some() { "error" } else { "ok" };
    metrics::histogram!("bgagent_model_call_seconds", "provider" => provider.clone(), "outcome" => outcome)
        .record(finished.took.as_secs_f64());
    if let Some(first) = finished.first_chunk {
        metrics::histogram!("bgagent_model_first_chunk_seconds", "provider" => provider)
            .record(first.as_secs_f64());
    }
}
