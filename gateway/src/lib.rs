//! The only door of the box: box API, model proxy, git proxy, egress proxy.
//!
//! It listens apart from the people's API and serves none of its routes. Every call carries a session token that is
//! bound to (task, attempt, instance) and is checked against the record on each call: a superseded attempt gets 409 and
//! stops itself. Credentials of providers and forges are added here and never reach a box.
//!
//! | module | serves |
//! |---|---|
//! | [`auth`] | who speaks, and whether its attempt still counts |
//! | [`box_api`] | attach, events, directives, heartbeat, result, artifacts |
//! | [`model`] | Anthropic Messages in; Anthropic, OpenAI-compatible or a script out; metering, budgets |
//! | `record` | the model calls of tasks whose trace is kept |
//! | `measure`, `span` | what is counted and told of model calls |
//! | [`tunnel`], [`egress`] | the way to the network: the tools' stream, and the proxy that decides what it reaches |
//! | [`git_proxy`] | git smart HTTP on the mirrors: clone, and push of the task's branch |
//! | [`listen`] | the socket |

mod attachment;
mod auth;
pub mod box_api;
mod budget;
pub mod catalog;
pub mod egress;
#[doc(hidden)]
pub mod fuzzing;
pub mod git_proxy;
pub mod listen;
mod measure;
pub mod meter;
pub mod model;
mod prompt;
pub mod push;
mod record;
mod span;
mod steer;
pub mod tunnel;

use std::sync::Arc;

use axum::Router;
use orchestrator::Orchestrator;

use crate::egress::{Egress, EgressParts};
use crate::model::ModelRouter;
use crate::record::Recorder;

/// What the gateway is made of; cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    parts: Arc<Parts>,
    egress: Egress,
}

#[derive(Debug)]
struct Parts {
    orchestrator: Orchestrator,
    models: Arc<ModelRouter>,
    recorder: Recorder,
    running: Arc<budget::Running>,
    screened: prompt::Screened,
}

impl Gateway {
    /// A gateway of this control plane.
    pub fn new(orchestrator: Orchestrator, models: Arc<ModelRouter>) -> Gateway {
        let egress = Egress::new(EgressParts::default());
        let recorder = Recorder::new(orchestrator.clone());
        Gateway {
            parts: Arc::new(Parts {
                orchestrator,
                models,
                recorder,
                running: Arc::default(),
                screened: prompt::Screened::default(),
            }),
            egress,
        }
    }

    /// The same, with a way to the network; without one boxes reach nothing.
    #[must_use]
    pub fn with_egress(self, egress: Egress) -> Gateway {
        Gateway { egress, ..self }
    }

    pub(crate) fn egress(&self) -> &Egress {
        &self.egress
    }

    pub(crate) fn orchestrator(&self) -> &Orchestrator {
        &self.parts.orchestrator
    }

    pub(crate) fn models(&self) -> &Arc<ModelRouter> {
        &self.parts.models
    }

    pub(crate) fn screened(&self) -> &prompt::Screened {
        &self.parts.screened
    }

    pub(crate) fn running(&self) -> Arc<budget::Running> {
        Arc::clone(&self.parts.running)
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.parts.recorder
    }

    /// All routes of the gateway.
    pub fn routes(&self) -> Router {
        Router::new()
            .merge(box_api::routes())
            .merge(git_proxy::routes())
            .merge(meter::routes())
            .merge(tunnel::routes())
            .with_state(self.clone())
    }
}
