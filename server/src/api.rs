//! `/v1`: parse, authenticate, ask the orchestrator or the store, answer. Nothing is decided here.

pub mod access;
pub mod admin;
mod ag_ui;
pub mod ask;
pub mod audit;
pub mod body;
mod cors;
pub mod error;
pub mod event;
mod head;
pub mod held;
pub mod identity;
pub mod key;
pub mod leave;
pub mod nudge;
mod observe;
pub mod pull_request;
pub mod replay;
mod screen;
pub mod stream;
pub mod system;
pub mod task;
mod ticket;
pub mod trace;
pub mod upload;
pub mod usage;
pub mod validate;
pub mod webhook;
pub mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Request, State};
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use domain::access::Teams;
use domain::{RequestId, limit};
use metrics_exporter_prometheus::PrometheusHandle;
use orchestrator::{Clock, Orchestrator};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{Instrument, info_span};
use utoipa::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use crate::audit::Trail;
use crate::cursor::Cursors;
use crate::feed::Feeds;
use crate::identity::Keys;
use crate::link::Links;
use crate::login::Logins;
use crate::peer::Proxies;
use crate::rate::stranger::Strangers;
use crate::rate::{Limiter, Rates};
use crate::webhook::WebhookKey;
pub use access::Caller;
pub use error::ApiError;
use observe::Observed;

/// What handlers share; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts_>);

struct Parts_ {
    orchestrator: Orchestrator,
    keys: Keys,
    cursors: Cursors,
    links: Links,
    feeds: Feeds,
    metrics: PrometheusHandle,
    activity: Activity,
    settings: Settings,
    limiter: Limiter,
    strangers: Strangers,
    logins: Logins,
    trail: Trail,
}

/// What the configuration says of the API.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who shares tasks with whom.
    pub teams: Teams,
    /// Where people sign in.
    pub identity: Vec<protocol::identity::IdentityProvider>,
    /// How much one caller may ask.
    pub rates: Rates,
    /// Where others reach this server, without a slash at the end.
    pub public_url: String,
    /// What the secrets of webhooks are derived from.
    pub webhook_key: WebhookKey,
    /// How the deliveries of a webhook are signed whose maker does not say.
    pub webhook_signature: store::Signature,
    /// Proxies whose word on a request's address is believed.
    pub proxies: Proxies,
}

/// When the API was last used, for the idle exit.
#[derive(Debug)]
pub struct Activity {
    clock: Clock,
    last_ms: AtomicI64,
    open: AtomicU64,
}

impl Activity {
    /// Seconds since the last request ended; 0 while one is open.
    pub fn idle_s(&self) -> u64 {
        if self.open.load(Ordering::SeqCst) > 0 {
            return 0;
        }
        let idle = self.clock.now().as_millisecond() - self.last_ms.load(Ordering::SeqCst);
        u64::try_from(idle / 1000).unwrap_or(0)
    }

    fn touch(&self) {
        self.last_ms.store(self.clock.now().as_millisecond(), Ordering::SeqCst);
    }
}

impl App {
    /// Puts it together.
    pub fn new(
        orchestrator: Orchestrator,
        keys: Keys,
        cursors: Cursors,
        metrics: PrometheusHandle,
        settings: Settings,
    ) -> App {
        let clock = orchestrator.parts().clock.clone();
        let activity = Activity {
            last_ms: AtomicI64::new(clock.now().as_millisecond()),
            clock,
            open: AtomicU64::new(0),
        };
        let limiter = Limiter::new(settings.rates.clone());
        let strangers = Strangers::new(settings.rates.login);
        let trail = Trail::default();
        let feeds = Feeds::new(orchestrator.store().clone());
        App(Arc::new(Parts_ {
            orchestrator,
            keys,
            links: cursors.links(),
            cursors,
            feeds,
            metrics,
            activity,
            settings,
            limiter,
            strangers,
            logins: Logins::default(),
            trail,
        }))
    }

    /// The orchestrator.
    pub fn orchestrator(&self) -> &Orchestrator {
        &self.0.orchestrator
    }

    /// Who calls.
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// Who shares tasks with whom.
    pub fn teams(&self) -> &Teams {
        &self.0.settings.teams
    }

    /// Where people sign in.
    pub fn identity_providers(&self) -> &[protocol::identity::IdentityProvider] {
        &self.0.settings.identity
    }

    /// What the configuration says of the API.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// How much each caller has asked.
    pub fn limiter(&self) -> &Limiter {
        &self.0.limiter
    }

    /// How often each address has come with what is not good.
    pub fn strangers(&self) -> &Strangers {
        &self.0.strangers
    }

    /// Who came in today.
    pub fn logins(&self) -> &Logins {
        &self.0.logins
    }

    /// Lines on their way to the audit log.
    pub fn trail(&self) -> &Trail {
        &self.0.trail
    }

    /// Page tokens.
    pub fn cursors(&self) -> &Cursors {
        &self.0.cursors
    }

    /// Signed addresses.
    pub fn links(&self) -> &Links {
        &self.0.links
    }

    /// The events of watched tasks.
    pub fn feeds(&self) -> &Feeds {
        &self.0.feeds
    }

    /// Where spans are given.
    pub fn traces(&self) -> &telemetry::Traces {
        &self.0.orchestrator.parts().policy.traces
    }

    /// The metrics of this process.
    pub fn metrics(&self) -> &PrometheusHandle {
        &self.0.metrics
    }

    /// When the API was last used.
    pub fn activity(&self) -> &Activity {
        &self.0.activity
    }
}

/// The `{task_id}` of a path. What is no text is no task.
#[derive(Debug, Clone)]
pub struct TaskPath(pub String);

impl FromRequestParts<App> for TaskPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<TaskPath, ApiError> {
        let id = Path::<String>::from_request_parts(parts, app).await;
        id.map(|Path(id)| TaskPath(id)).map_err(|_| ApiError::no_task("of that id"))
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "bgagent", description = "Background coding agents: submit, watch, cancel."),
    modifiers(&SecurityAddon)
)]
struct ApiDoc;

struct SecurityAddon;

impl utoipa::Modify for SecurityAddon {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
        let components = openapi.components.get_or_insert_with(Default::default);
        let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
        let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        components.add_security_scheme("api_key", key);
        components.add_security_scheme("bearer", bearer);
    }
}

fn documented() -> (Router<App>, utoipa::openapi::OpenApi) {
    let (router, mut description) = OpenApiRouter::with_openapi(ApiDoc::openapi())
        .routes(routes!(task::create, task::list).layer(body::limit(body::TASKS)))
        .routes(routes!(task::detail, task::cancel))
        .routes(routes!(upload::confirm))
        .routes(routes!(upload::upload).layer(body::limit(body::UPLOADS)))
        .routes(routes!(nudge::nudge))
        .routes(routes!(leave::pause))
        .routes(routes!(leave::resume))
        .routes(routes!(leave::retry))
        .routes(routes!(ask::open, ask::list))
        .routes(routes!(ask::one))
        .routes(routes!(event::list))
        .routes(routes!(stream::stream, stream::run))
        .routes(routes!(pull_request::detail))
        .routes(routes!(trace::address))
        .routes(routes!(trace::object))
        .routes(routes!(replay::bundle))
        .routes(routes!(usage::report))
        .routes(routes!(admin::obligations))
        .routes(routes!(admin::sessions))
        .routes(routes!(admin::purge))
        .routes(routes!(key::create, key::list))
        .routes(routes!(key::revoke))
        .routes(routes!(identity::info))
        .routes(routes!(identity::whoami))
        .routes(routes!(webhook::create, webhook::list))
        .routes(routes!(webhook::revoke))
        .routes(routes!(webhook::rotate))
        .routes(routes!(webhook::deliver::deliver).layer(body::limit(body::DELIVERIES)))
        .routes(routes!(audit::list))
        .routes(routes!(system::health))
        .routes(routes!(system::ready))
        .split_for_parts();
    access::describe(&mut description);
    (router, description)
}

/// The OpenAPI document of `/v1`, as JSON.
pub fn openapi() -> String {
    documented().1.to_pretty_json().unwrap_or_default()
}

/// All routes of the people's API.
pub fn routes(app: App) -> Router {
    let (router, description) = documented();
    let undecided = access::Undecided::of(&description);
    router
        .route("/v1/openapi.json", axum::routing::get(system::openapi))
        .route("/metrics", axum::routing::get(system::metrics))
        .layer(middleware::from_fn_with_state((app.clone(), undecided), access::guard))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::max(limit::API_BODY_MAX_BYTES))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(middleware::from_fn_with_state(app.clone(), around))
        .with_state(app)
}

/// Around every request: its id, its span, the fixed headers, and the sign of activity.
async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = error::new_request_id(app.orchestrator().now());
    let span = info_span!("request", request.id = %id, http.method = %request.method(), http.path = request.uri().path());
    app.activity().open.fetch_add(1, Ordering::SeqCst);
    let observed = Observed::begin(&app, id, &request);
    let open = Open(app);
    let contract = cors::open(request.uri().path());
    let mut response = match cors::preflight(&request) {
        Some(answer) => answer,
        None => {
            let answer = async {
                match head::too_large(&request) {
                    Some(refused) => refused.into_response(),
                    None => next.run(request).await,
                }
            };
            error::REQUEST_ID.scope(id, answer.instrument(span)).await
        }
    };
    observed.end(&open.0, &response);
    drop(open);
    if contract {
        cors::set(response.headers_mut());
    }
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert("x-request-id", value);
    }
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// Counts a request as open, also when its client goes away.
struct Open(App);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.activity().touch();
        self.0.activity().open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The id of the running request, for tests of the error shape.
pub fn request_id() -> Option<RequestId> {
    error::REQUEST_ID.try_with(|id| *id).ok()
}
