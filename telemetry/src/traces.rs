//! The way out: a handle that everybody may hold, and the queue behind it. Off, it costs nothing.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::TaskId;
use tokio::sync::Notify;

use crate::id::TraceId;
use crate::span::Span;

/// Spans that wait to be sent, at most.
pub const SPANS_MAX: usize = 4_096;
/// Bytes of spans that wait to be sent, at most.
pub const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Tasks that have ended and whose spans are not made yet, at most.
pub const TASKS_MAX: usize = 1_024;

/// How spans are chosen, and what is in them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The share of traces that are told, 0 to 1.
    pub sample_ratio: f64,
    /// Whether what was said is told too.
    pub content: Content,
}

/// Whether prompts, answers and what tools were given are told, masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// They are.
    Told,
    /// Nothing of them is.
    Withheld,
}

/// Where spans are given; clones are the same. The default is off: nothing is kept or counted.
#[derive(Clone, Default)]
pub struct Traces {
    on: Option<Arc<On>>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traces").field(&self.on.as_ref().map(|on| on.settings)).finish()
    }
}

#[derive(Debug)]
struct On {
    settings: Settings,
    waiting: Mutex<Waiting>,
    more: Notify,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    spans: VecDeque<Span>,
    bytes: usize,
    tasks: VecDeque<TaskId>,
}

/// The other end: what was given, to be sent.
#[derive(Debug)]
pub struct Queue {
    on: Arc<On>,
}

impl Traces {
    /// A handle that takes spans, and the end they come out of.
    pub fn new(settings: Settings) -> (Traces, Queue) {
        let on =
            Arc::new(On { settings, waiting: Mutex::default(), more: Notify::new(), ended: Notify::new() });
        (Traces { on: Some(on.clone()) }, Queue { on })
    }

    /// Whether spans of this trace are told.
    pub fn wants(&self, trace: TraceId) -> bool {
        self.on.as_ref().is_some_and(|on| trace.sampled(on.settings.sample_ratio))
    }

    /// Whether anything is told at all.
    pub fn on(&self) -> bool {
        self.on.is_some()
    }

    /// Whether what was said is told too.
    pub fn content(&self) -> Content {
        self.on.as_ref().map_or(Content::Withheld, |on| on.settings.content)
    }

    /// The trace of a task, when its spans are told.
    pub fn trace_of(&self, task: TaskId) -> Option<TraceId> {
        Some(TraceId::of_task(task)).filter(|trace| self.wants(*trace))
    }

    /// Gives a span. Never waits: without room it is dropped and counted.
    pub fn give(&self, span: Span) {
        let Some(on) = &self.on else { return };
        let weight = span.weight();
        let mut waiting = on.waiting();
        if waiting.spans.len() >= SPANS_MAX || waiting.bytes + weight > BYTES_MAX {
            drop(waiting);
            dropped("queue_full", 1);
            return;
        }
        waiting.bytes += weight;
        waiting.spans.push_back(span);
        drop(waiting);
        on.more.notify_one();
    }

    /// Says that a task has ended, so that its spans can be made from its record.
    pub fn ended(&self, task: TaskId) {
        let Some(on) = self.on.as_ref().filter(|_| self.trace_of(task).is_some()) else { return };
        let mut waiting = on.waiting();
        if waiting.tasks.len() >= TASKS_MAX {
            drop(waiting);
            dropped("queue_full", 1);
            return;
        }
        waiting.tasks.push_back(task);
        drop(waiting);
        on.ended.notify_one();
    }

    /// The next task that has ended; waits for one, for ever when this is off.
    pub async fn next_ended(&self) -> TaskId {
        let Some(on) = &self.on else { return std::future::pending().await };
        loop {
            let ended = on.ended.notified();
            if let Some(task) = on.waiting().tasks.pop_front() {
                return task;
            }
            ended.await;
        }
    }

    /// A task that has ended, if there is one now.
    pub fn try_ended(&self) -> Option<TaskId> {
        self.on.as_ref()?.waiting().tasks.pop_front()
    }
}

impl On {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Waits until something is there, or returns at once.
    pub async fn more(&self) {
        loop {
            let more = self.on.more.notified();
            if !self.on.waiting().spans.is_empty() {
                return;
            }
            more.await;
        }
    }

    /// The oldest spans, at most so many and about so many bytes; at least one when there is one.
    pub fn take(&self, most: usize, bytes: usize) -> Vec<Span> {
        let mut waiting = self.on.waiting();
        let mut taken = Vec::new();
        let mut sum = 0;
        while taken.len() < most
            && let Some(span) = waiting.spans.front()
        {
            let weight = span.weight();
            if !taken.is_empty() && sum + weight > bytes {
                break;
            }
            sum += weight;
            waiting.bytes -= weight;
            taken.extend(waiting.spans.pop_front());
        }
        taken
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.on.waiting().spans.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Counts spans that are not sent, by why.
pub fn dropped(reason: &'static str, spans: u64) {
    metrics::counter!("bgagent_spans_dropped_total", "reason" => reason).increment(spans);
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::id::SpanId;
    use crate::span::Kind;

    fn span(words: &str) -> Span {
        let task = TaskId::from_bits(7);
        let mut span = Span {
            trace: TraceId::of_task(task),
            id: SpanId::root(task),
            parent: None,
            name: "x".into(),
            kind: Kind::Internal,
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            attributes: Vec::new(),
            moments: Vec::new(),
            links: Vec::new(),
            error: None,
        };
        span.set("words", words);
        span
    }

    fn all() -> Settings {
        Settings { sample_ratio: 1.0, content: Content::Withheld }
    }

    #[test]
    fn a_queue_that_nobody_empties_keeps_so_many_and_no_more() {
        let (traces, queue) = Traces::new(all());
        for _ in 0..SPANS_MAX + 100 {
            traces.give(span(""));
        }
        assert_eq!(queue.len(), SPANS_MAX);
        for n in 0..TASKS_MAX + 100 {
            traces.ended(TaskId::from_bits(n as u128));
        }
        assert_eq!(std::iter::from_fn(|| traces.try_ended()).count(), TASKS_MAX);
    }

    #[test]
    fn a_queue_keeps_so_many_bytes_and_no_more() {
        let (traces, queue) = Traces::new(all());
        let large = "x".repeat(BYTES_MAX / 10);
        for _ in 0..20 {
            traces.give(span(&large));
        }
        assert_eq!(queue.len(), 9);
        assert_eq!(queue.take(5, usize::MAX).len(), 5);
        traces.give(span(&large));
        assert_eq!(queue.take(100, BYTES_MAX / 4).len(), 2, "a request is bounded in bytes too");
        assert_eq!(queue.take(100, 1).len(), 1, "what is too large for it goes alone");
        assert_eq!(queue.take(100, usize::MAX).len(), 2);
        assert!(queue.is_empty() && queue.on.waiting().bytes == 0);
    }

    #[test]
    fn off_nothing_is_wanted_or_kept() {
        let off = Traces::default();
        off.give(span(""));
        off.ended(TaskId::from_bits(1));
        assert!(!off.on() && off.trace_of(TaskId::from_bits(1)).is_none() && off.try_ended().is_none());
        let (none, queue) = Traces::new(Settings { sample_ratio: 0.0, ..all() });
        none.ended(TaskId::from_bits(1));
        assert!(none.trace_of(TaskId::from_bits(1)).is_none() && none.try_ended().is_none());
        assert!(queue.is_empty());
    }
}
