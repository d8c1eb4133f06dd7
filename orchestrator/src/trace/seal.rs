//! One object from parts, events, work and outcome. Read and written piece by piece: a trace is never in memory whole.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use domain::event::{Event, EventKind, NewEvent};
use domain::{Task, TaskId, limit};
use forge::mirror::BranchWork;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use objects::{Body, Key, Meta};
use serde_json::json;
use store::{EventCursor, EventQuery, TraceRecord};
use tracing::{info, warn};

use super::{SealError, TRACES, parts_of};
use crate::Orchestrator;
use ::trace::line::{self, End, FileChange, Header, Outcome};
use ::trace::pack::{Packer, unpack_one};
use ::trace::{Entry, Line};

/// Bytes of one part that are read; a request is at most as large as the gateway takes it.
const PART_MAX_BYTES: usize = limit::MODEL_BODY_MAX_BYTES + 1024 * 1024;
/// Compressed bytes that are handed on at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Events read at once.
const PAGE: u32 = 500;

impl Orchestrator {
    /// Makes the trace of a task that has ended, from what was recorded. Without a recorded model call there is none.
    pub async fn seal_trace(&self, id: TaskId) -> Result<(), SealError> {
        let objects = &self.parts().objects;
        let parts = objects.list(&parts_of(id)).await?;
        let Some(task) = self.store().task_get(id).await? else { return Ok(()) };
        if self.store().trace_get(id).await?.is_none() && !parts.is_empty() {
            self.make_trace(task, parts.clone()).await?;
        }
        for part in parts {
            objects.delete(&part.key).await?;
        }
        Ok(())
    }

    async fn make_trace(&self, task: Task, parts: Vec<Meta>) -> Result<(), SealError> {
        let objects = &self.parts().objects;
        let key: Key =
            format!("{TRACES}/{}/{}.jsonl.gz", objects::segment(task.user.as_str()), task.id).parse()?;
        let found = self.found_in_events(task.id).await?;
        let header = Line::Header(Box::new(self.header(&task, found.base_sha.clone())));
        let last = [self.work(&task).await.map(|work| Line::Work(Box::new(work)))];
        let mut last: Vec<Line> = last.into_iter().flatten().collect();
        last.push(Line::Outcome(Box::new(outcome(&task))));
        let (now, this, id) = (self.now(), self.clone(), task.id);
        let body = this.lines(id, parts, header, last, found.truncated, now);
        let bytes = objects.put(&key, body).await?;
        crate::fault::point("trace.stored");
        let uri = objects.uri(&key);
        let data = json!({ "milestone": "trajectory_uploaded", "uri": uri, "bytes": bytes });
        let mut event = NewEvent::new(EventKind::AgentMilestone, data);
        self.parts().policy.masks.event(&mut event);
        let record = TraceRecord { task: id, key: key.to_string(), uri, bytes, sealed_at: now };
        self.store().trace_record(record, vec![event], now).await?;
        info!(task.id = %id, bytes, "the trace is whole");
        Ok(())
    }

    /// What the events say of the trace as a whole.
    async fn found_in_events(&self, task: TaskId) -> Result<Found, SealError> {
        let mut found = Found::default();
        let mut from = EventCursor::Start;
        loop {
            let events = self.store().events_read(EventQuery { task, from, limit: PAGE }).await?;
            let Some(last) = events.last().map(|e| e.seq) else { return Ok(found) };
            for event in events.iter().filter(|e| e.kind == EventKind::AgentMilestone) {
                match event.metadata["milestone"].as_str() {
                    Some("repo_setup_complete") => {
                        let sha = event.metadata["base_sha"].as_str().unwrap_or_default();
                        let good = matches!(sha.len(), 40 | 64) && sha.bytes().all(|b| b.is_ascii_hexdigit());
                        found.base_sha = good.then(|| sha.to_owned()).or(found.base_sha);
                    }
                    Some("trace_truncated") => found.truncated = true,
                    Some(_) | None => (),
                }
            }
            from = EventCursor::AfterSeq(last);
        }
    }

    fn header(&self, task: &Task, base_sha: Option<String>) -> Header {
        let spec = &task.spec;
        let model = task.results.model.as_deref().or(spec.model.as_deref());
        let choice = self.parts().models.choose(model, None).ok();
        Header {
            schema: line::SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            task_id: task.id.to_string(),
            user_id: task.user.to_string(),
            repo: spec.repo.to_string(),
            workflow: spec.workflow.as_str().into(),
            description: spec.description.clone(),
            issue_number: spec.issue_number,
            branch: task.branch.clone(),
            base_branch: task.results.base_branch.clone(),
            base_sha,
            model: model.map(str::to_owned),
            prompt_version: task.results.prompt_version.as_ref().map(ToString::to_string),
            context_window: choice.as_ref().map(|c| c.context_window),
            max_output_tokens: choice.as_ref().map(|c| c.max_output_tokens),
            max_turns: spec.turns(),
            build_command: spec.build_command.clone(),
            lint_command: spec.lint_command.clone(),
            isolation: task.results.isolation.map(|tier| tier.as_str().to_owned()),
            attempt: task.attempt.0,
            created_at: task.created_at,
        }
    }

    /// What was pushed, when something was. Without it the trace is as good.
    async fn work(&self, task: &Task) -> Option<line::Work> {
        let (mirrors, repo) = (&self.parts().mirrors, &task.spec.repo);
        let told = self.store().pull_request_get(task.id).await.ok().flatten();
        let work = match told {
            Some(pr) => BranchWork { head_sha: pr.head_sha, base_sha: pr.base_sha, commits: 1 },
            None => {
                let base = task.results.base_branch.as_deref()?;
                mirrors.branch_work(task.id, repo, &task.branch, base).await.ok().flatten()?
            }
        };
        if work.commits == 0 {
            return None;
        }
        let changes = match mirrors.changes(task.id, repo, &work, limit::TRACE_FILES_MAX).await {
            Ok(changes) => changes,
            Err(failure) => {
                warn!(task.id = %task.id, error = %failure, "the trace goes without the files of the work");
                return None;
            }
        };
        let masks = self.parts().policy.masks.all();
        let file = |f: forge::mirror::change::ChangedFile| FileChange {
            path: masks.mask(&f.path).into_owned(),
            status: f.status,
            mode: f.mode,
            blob: f.blob,
        };
        Some(line::Work {
            base_sha: work.base_sha,
            head_sha: work.head_sha,
            tree: changes.tree,
            files: changes.files.into_iter().map(file).collect(),
            files_left_out: changes.left_out,
        })
    }

    /// All lines, compressed: the header, parts and events by time, what comes last, the end.
    fn lines(
        self,
        task: TaskId,
        parts: Vec<Meta>,
        header: Line,
        last: Vec<Line>,
        truncated: bool,
        now: Timestamp,
    ) -> Body {
        let body = async_stream::try_stream! {
            let mut writer = Writer { packer: Packer::new(), lines: 0 };
            let first = self.store().events_read(EventQuery { task, from: EventCursor::Start, limit: 1 });
            let begun = first.await.map_err(io::Error::other)?.first().map_or(now, |e| e.at);
            writer.push(begun, header)?;
            let mut events = Events { orchestrator: &self, task, page: Vec::new().into_iter(), after: Some(0) };
            let mut next = events.next().await?;
            let (mut known, mut truncated) = (BTreeSet::new(), truncated);
            for part in parts {
                // What hangs on a part that is missing cannot be read without it.
                let part = self.part(&part.key).await?.filter(|entry| follows(entry, &mut known));
                let Some(entry) = part else {
                    truncated = true;
                    continue;
                };
                while let Some(event) = next.take_if(|event| event.at < entry.time) {
                    writer.push(event.at, line_of(event))?;
                    next = events.next().await?;
                }
                writer.push(entry.time, entry.line)?;
                if let Some(piece) = writer.packer.take(PIECE_BYTES) {
                    yield Bytes::from(piece);
                }
            }
            while let Some(event) = next {
                writer.push(event.at, line_of(event))?;
                next = events.next().await?;
                if let Some(piece) = writer.packer.take(PIECE_BYTES) {
                    yield Bytes::from(piece);
                }
            }
            for line in last {
                writer.push(now, line)?;
            }
            let lines = writer.lines + 1;
            writer.push(now, Line::End(End { lines, truncated }))?;
            yield Bytes::from(writer.packer.finish()?);
        };
        body.boxed()
    }

    /// A part; one that cannot be read is left out, and said so in the log.
    async fn part(&self, key: &Key) -> io::Result<Option<Entry>> {
        let found = self.parts().objects.get(key).await.map_err(io::Error::other)?;
        let Some(object) = found else { return Ok(None) };
        let read = object.whole(PART_MAX_BYTES).await;
        match read.and_then(|packed| unpack_one(&packed)) {
            Ok(entry) => Ok(Some(entry)),
            Err(failure) => {
                warn!(object.key = %key, error = %failure, "a part of a trace cannot be read and is left out");
                Ok(None)
            }
        }
    }
}

/// What the events say of a trace.
#[derive(Debug, Default)]
struct Found {
    base_sha: Option<String>,
    truncated: bool,
}

struct Writer {
    packer: Packer,
    lines: u64,
}

impl Writer {
    fn push(&mut self, time: Timestamp, line: Line) -> io::Result<()> {
        self.lines += 1;
        self.packer.push(&Entry { seq: self.lines, time, line })
    }
}

/// The events of a task, page by page.
struct Events<'a> {
    orchestrator: &'a Orchestrator,
    task: TaskId,
    page: std::vec::IntoIter<Event>,
    /// `None` after the last page.
    after: Option<u64>,
}

impl Events<'_> {
    async fn next(&mut self) -> io::Result<Option<Event>> {
        if let Some(event) = self.page.next() {
            return Ok(Some(event));
        }
        let Some(after) = self.after else { return Ok(None) };
        let query = EventQuery { task: self.task, from: EventCursor::AfterSeq(after), limit: PAGE };
        let page = self.orchestrator.store().events_read(query).await.map_err(io::Error::other)?;
        self.after = page.last().map(|e| e.seq);
        self.page = page.into_iter();
        Ok(self.page.next())
    }
}

/// Whether what a part refers to is there. `known` are the calls whose request is.
fn follows(entry: &Entry, known: &mut BTreeSet<String>) -> bool {
    match &entry.line {
        Line::ModelRequest(request) => {
            let good = request.continues.as_ref().is_none_or(|before| known.contains(&before.call_id));
            good && known.insert(request.call_id.clone())
        }
        Line::ModelResponse(response) => known.contains(&response.call_id),
        Line::Header(_) | Line::Event(_) | Line::Work(_) | Line::Outcome(_) | Line::End(_) => false,
    }
}

fn line_of(event: Event) -> Line {
    Line::Event(Box::new(line::Event {
        event_id: event.id.to_string(),
        event_seq: event.seq,
        event_type: event.kind.as_str(),
        metadata: event.metadata,
    }))
}

fn outcome(task: &Task) -> Outcome {
    let (results, failure) = (&task.results, task.state.failure());
    let gate = |gate: Option<domain::report::GateResult>| {
        gate.and_then(|g| serde_json::to_value(g).ok()?.as_str().map(str::to_owned))
    };
    Outcome {
        status: task.status().to_string(),
        error_code: failure.map(|f| f.code.as_str().to_owned()),
        error_message: failure.map(ToString::to_string),
        build: gate(results.build),
        lint: gate(results.lint),
        turns_attempted: results.turns_attempted,
        turns_completed: results.turns_completed,
        code_changed: results.code_changed,
        cost_usd: task.spent.cost.usd(),
        model_calls: task.spent.calls,
    }
}
