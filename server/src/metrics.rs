//! Every metric of this program, with what it means: what `/metrics` says beside the numbers, and the table of
//! `docs/guide/metrics.md`. A test holds the table to the code.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name; counters end in `_total`, times in `_seconds`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels, and which values they have.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

/// The type of a metric, as Prometheus calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// How often values were within which bounds.
    Histogram,
}

impl Kind {
    /// The word of the text format.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

const fn counter(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

/// All of them. No label has a value that a caller can choose freely.
pub const ALL: &[Metric] = &[
    gauge(
        "bgagent_tasks",
        "`status`: the eleven states",
        "Tasks by state, asked of the store at each scrape",
    ),
    counter("bgagent_tasks_submitted_total", "", "Tasks that were accepted"),
    counter("bgagent_task_transitions_total", "`from`, `to`: states", "Changes of tasks that were stored"),
    histogram(
        "bgagent_task_seconds",
        "`status`: how it ended",
        "From the acceptance of a task to its end, waiting included",
    ),
    gauge(
        "bgagent_obligations_open",
        "",
        "What must happen and has not yet: boxes to stop, traces to put together",
    ),
    gauge("bgagent_watched_tasks", "", "Tasks whose events somebody follows"),
    counter("bgagent_event_reads_total", "", "Reads of events from the store"),
    counter(
        "bgagent_http_requests_total",
        "`method`, `route` (as declared; `none` for no route), `status`",
        "Requests to the API that were answered, but for health, readiness, metrics and the API's description",
    ),
    histogram(
        "bgagent_http_request_seconds",
        "`route`",
        "From a request to the beginning of its answer; a long poll waits as long as it was asked to",
    ),
    counter(
        "bgagent_rate_limited_total",
        "",
        "Requests that were refused because their caller makes too many",
    ),
    counter("bgagent_credentials_refused_total", "", "Requests whose key or token was not good"),
    counter("bgagent_webhook_refused_total", "", "Deliveries of webhooks whose signature was not good"),
    counter("bgagent_model_calls_total", "`model`: provider/model", "Model calls that used something"),
    counter(
        "bgagent_model_input_tokens_total",
        "`model`",
        "Tokens that were sent to models, those of caches included",
    ),
    counter("bgagent_model_output_tokens_total", "`model`", "Tokens that models wrote"),
    counter("bgagent_model_cache_read_tokens_total", "`model`", "Of the tokens sent, those a cache had"),
    counter(
        "bgagent_model_cache_write_tokens_total",
        "`model`",
        "Of the tokens sent, those that went into a cache",
    ),
    counter(
        "bgagent_model_cost_microusd_total",
        "`model`",
        "What calls cost, in millionths of a US dollar; of models with a price",
    ),
    histogram(
        "bgagent_model_call_seconds",
        "`provider`: its name in the configuration; `outcome`: `ok`, `error`",
        "From the request of a box to the end of its answer, waits and retries included",
    ),
    histogram(
        "bgagent_model_first_chunk_seconds",
        "`provider`",
        "From the request of a box to the first of a streamed answer, waits and retries included",
    ),
    counter(
        "bgagent_budget_refusals_total",
        "`scope`: `task`, `user`, `repo`, `system`",
        "Model calls that were refused because a budget is used up",
    ),
    counter(
        "bgagent_screenings_total",
        "`source`: `submission`, `attachment`, `prompt`, `nudge`, `ask`; `outcome`: `passed`, `warned`, `blocked`, `failed`",
        "What was said to agents and looked at first",
    ),
    counter(
        "bgagent_egress_requests_total",
        "`decision`: `allowed`, `observed`, `denied`, `failed`; `reason`: `rule`, or as in the events",
        "Requests of boxes to the network",
    ),
    counter("bgagent_egress_bytes_total", "`direction`: `out`, `in`", "Bytes between boxes and the network"),
    counter("bgagent_push_refused_total", "", "Pushes that were refused before anything left this server"),
    counter("bgagent_spans_sent_total", "", "Spans that a collector has taken"),
    counter(
        "bgagent_spans_dropped_total",
        "`reason`: `queue_full`, `unreachable`, `refused`, `shutdown`, `store`",
        "Spans (with `queue_full` and `store` also whole tasks) that were not told",
    ),
];

/// Bounds of times, in seconds: from a database's to a patient model's.
const SECONDS: [f64; 13] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0];
/// Bounds of tasks' times, in seconds.
const TASK_SECONDS: [f64; 9] = [10.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0];
/// A histogram keeps every value until somebody looks or this has passed.
const UPKEEP: Duration = Duration::from_secs(10);

/// What keeps the metrics of this process; installed by the first who asks; a second
/// server in one process (tests) shares it.
pub fn recorder() -> Result<PrometheusHandle, BuildError> {
    static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut slot = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*slot {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Full("bgagent_task_seconds".into()), &TASK_SECONDS)?
        .install_recorder()?;
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
    *slot = Some(handle.clone());
    Ok(handle)
}

/// Keeps the memory of histograms small when nobody scrapes.
pub(crate) async fn keep(handle: PrometheusHandle, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(UPKEEP) => handle.run_upkeep(),
        }
    }
}

/// The table of the guide.
pub fn table() -> String {
    let mut table = String::from("| metric | type | labels | what it says |\n|---|---|---|---|\n");
    for Metric { name, kind, labels, help } in ALL {
        let labels = if labels.is_empty() { "none" } else { labels };
        table.push_str(&format!("| `{name}` | {} | {labels} | {help} |\n", kind.as_str()));
    }
    table
}
