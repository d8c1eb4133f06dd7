//! What the orchestrator needs to know of models: whether one can be used, before compute is spent on it. The gateway's
//! model router implements this; tests have a double.

use std::fmt;

use async_trait::async_trait;
use domain::{Failure, MicroUsd};

/// A model that a task can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelChoice {
    /// `provider/model`, as recorded and as put into requests.
    pub name: String,
    /// Its context window in tokens.
    pub context_window: u64,
    /// Output tokens to ask for in one turn.
    pub max_output_tokens: u64,
    /// What the owner should know (no price is known, say).
    pub warnings: Vec<String>,
}

/// The models there are.
#[async_trait]
pub trait ModelCatalog: Send + Sync + fmt::Debug {
    /// The model of that name, or the default one. Fails when none is configured, when it is unknown, and when a budget
    /// is set but no price is known.
    fn choose(&self, model: Option<&str>, budget: Option<MicroUsd>) -> Result<ModelChoice, Failure>;

    /// Asks the provider, cheaply, whether the model can be reached with the configured key.
    async fn probe(&self, choice: &ModelChoice) -> Result<(), Failure>;
}
