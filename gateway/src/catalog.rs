//! The model router as the orchestrator sees it: can this model be used, before compute is spent on it.

use std::time::Duration;

use async_trait::async_trait;
use domain::{Failure, FailureCode, MicroUsd, limit};
use orchestrator::ModelCatalog;
use orchestrator::model::ModelChoice;

use crate::model::{Kind, ModelRouter};

/// Context window and output limit of a provider kind, when the configuration names none: what the smallest current
/// models of the kind offer, so that compaction comes too early rather than too late.
fn usual(kind: Kind) -> (u64, u64) {
    match kind {
        Kind::Anthropic | Kind::Script => (200_000, 16_384),
        Kind::Openai => (128_000, 8_192),
    }
}

#[async_trait]
impl ModelCatalog for ModelRouter {
    fn choose(&self, model: Option<&str>, budget: Option<MicroUsd>) -> Result<ModelChoice, Failure> {
        let resolved = self.resolve(model.unwrap_or_default())?;
        let name = resolved.name();
        let mut warnings = Vec::new();
        if resolved.price.is_none() {
            if budget.is_some() {
                let detail = format!(
                    "the task has a budget, but {name} has no row in the price table; add a [[model.prices]] row, or submit without a budget"
                );
                return Err(Failure::new(FailureCode::ModelPriceMissing, detail).resource(name));
            }
            warnings.push(format!("{name} has no row in the price table: its cost is not counted"));
        }
        let config = resolved.config();
        let (window, output) = usual(config.kind);
        Ok(ModelChoice {
            name,
            context_window: config.context_window.unwrap_or(window),
            max_output_tokens: config.max_output_tokens.unwrap_or(output),
            warnings,
        })
    }

    async fn probe(&self, choice: &ModelChoice) -> Result<(), Failure> {
        // The caller has the deadline; this one only keeps the provider's own error readable.
        let deadline = limit::PREFLIGHT_CHECK.saturating_sub(Duration::from_millis(500));
        self.check(&choice.name, None, deadline).await
    }
}
