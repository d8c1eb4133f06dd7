//! A shorter transcript before the window overflows.
//!
//! Kept: the task with the repository's guidance, the list of steps, the last turns. The middle becomes a summary the
//! model writes; when it cannot, a digest of what was called, so that a run goes on either way. The cut lies before a
//! message of the model, so a tool call is never parted from its result.

use domain::event::EventKind;
use redact::Redactor;
use serde_json::json;

use super::call::{CallError, Purpose};
use super::transcript::{Block, Message, Part, Role};
use super::{End, Run, preview, prompt};
use crate::harness::Work;
use crate::tool::{text, todo};

/// The share of the window that may fill up.
const THRESHOLD_PERCENT: u64 = 80;
/// The share of the window the kept turns may take.
const KEPT_PERCENT: u64 = 25;
/// A kept tool result that alone is larger than this share is cut.
const RESULT_PERCENT: u64 = 5;
/// The share of the window the results of one turn may take.
const TURN_PERCENT: u64 = 40;
/// What is left of a result at least.
const RESULT_MIN_BYTES: u64 = 400;
const DIGEST_LINES: usize = 200;

/// Tokens from which on the transcript is shortened: room for a reply must be left, too.
pub fn threshold(work: &Work) -> u64 {
    let share = work.context_window * THRESHOLD_PERCENT / 100;
    let room = work.context_window.saturating_sub(work.max_output_tokens);
    if room > work.context_window / 2 { share.min(room) } else { share }
}

impl Run<'_> {
    /// Shortens the transcript.
    pub(super) async fn compact(&mut self) -> Result<(), End> {
        let before = self.transcript.tokens();
        let split = split(&self.transcript.messages, self.work.context_window * KEPT_PERCENT / 100);
        let summary = if split > 1 { Some(self.summarise(split).await?) } else { None };
        let mut messages = std::mem::take(&mut self.transcript.messages);
        let mut kept = messages.split_off(split);
        messages.truncate(1);
        if let (Some(summary), Some(first)) = (summary, messages.first_mut()) {
            let todos = todo::render(&self.tools.workspace().todos());
            drop_summary(first);
            first.content.push(Block::text(prompt::summary(&summary, &todos)));
        }
        let result_max = self.work.context_window * RESULT_PERCENT / 100 * 4;
        kept.iter_mut().for_each(|message| cut_results(message, result_max as usize));
        messages.append(&mut kept);
        self.transcript.replace(messages);
        if self.transcript.tokens() > threshold(self.work) {
            let window = self.work.context_window;
            let mut messages = std::mem::take(&mut self.transcript.messages);
            messages.iter_mut().skip(1).for_each(|message| fit(&mut message.content, window / 4));
            self.transcript.replace(messages);
        }
        self.tools.guidance().forget_folders();
        let details = format!("about {before} tokens became {}", self.transcript.tokens());
        self.ctx.events.emit(
            EventKind::AgentMilestone,
            json!({ "milestone": "context_compacted", "details": details, "turn": self.attempted }),
        );
        Ok(())
    }

    /// What is said instead of the messages between the task and `split`.
    async fn summarise(&mut self, split: usize) -> Result<String, End> {
        match self.call(Purpose::Compaction).await {
            Ok(reply) if !reply.text().trim().is_empty() => Ok(reply.text()),
            Ok(_) | Err(CallError::TooLong(_)) => {
                Ok(digest(&self.transcript.messages[1..split], self.work.preview_max))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Where the kept tail begins: the earliest message of the model from which on at most `room` tokens were said, at
/// least the last exchange when there is one.
fn split(messages: &[Message], room: u64) -> usize {
    let mut at = messages.len();
    let mut said = 0;
    for (n, message) in messages.iter().enumerate().skip(1).rev() {
        said += message.tokens();
        let first_found = at == messages.len();
        if said > room && !first_found {
            break;
        }
        if message.role == Role::Assistant {
            at = n;
        }
    }
    at
}

/// A second compaction replaces the summary of the first.
fn drop_summary(first: &mut Message) {
    let marker = prompt::summary("", "").lines().next().unwrap_or_default().to_owned();
    first.content.retain(|block| !matches!(block, Block::Text { text } if text.starts_with(&marker)));
}

/// Cuts the results of one turn so that together they take about a share of the window, however many there are.
pub(super) fn fit_window(results: &mut [Block], work: &Work) {
    fit(results, work.context_window * TURN_PERCENT / 100);
}

fn fit(results: &mut [Block], room: u64) {
    let tokens: u64 = results.iter().map(Block::tokens).sum();
    if tokens > room {
        let each = (room * 4 / results.len().max(1) as u64).max(RESULT_MIN_BYTES);
        results.iter_mut().for_each(|block| cut_result(block, each as usize));
    }
}

fn cut_results(message: &mut Message, max: usize) {
    message.content.iter_mut().for_each(|block| cut_result(block, max));
}

fn cut_result(block: &mut Block, max: usize) {
    if let Block::ToolResult { content, .. } = block {
        for part in content {
            if let Part::Text { text } = part
                && text.len() > max
            {
                *text = text::cut_middle(text, max);
            }
        }
    }
}

/// What can be said of the middle without a model: the calls, and the words between them.
fn digest(messages: &[Message], max: usize) -> String {
    let mut lines = Vec::new();
    for block in messages.iter().flat_map(|message| &message.content) {
        match block {
            Block::Text { text } => lines.push(domain::event::preview(text, max)),
            Block::ToolUse { name, input, .. } => {
                lines.push(format!("- {name} {}", preview::input(input, max, &Redactor::default())))
            }
            Block::Image { .. } | Block::Thinking { .. } | Block::ToolResult { .. } | Block::Other(_) => (),
        }
    }
    let skipped = lines.len().saturating_sub(DIGEST_LINES);
    format!("(No summary could be written. The last of the steps left out:)\n{}", lines[skipped..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: Role, tokens: usize) -> Message {
        Message { role, content: vec![Block::text("x".repeat(4 * tokens))] }
    }

    #[test]
    fn the_tail_begins_with_the_model_and_has_at_least_one_exchange() {
        let (user, model) = (Role::User, Role::Assistant);
        let said = [(user, 10), (model, 100), (user, 100), (model, 100), (user, 100)];
        let messages: Vec<Message> = said.iter().map(|(role, tokens)| message(*role, *tokens)).collect();
        assert_eq!(split(&messages, 1_000), 1, "all fits");
        assert_eq!(split(&messages, 300), 3, "one exchange fits");
        assert_eq!(split(&messages, 10), 3, "none fits: the last one is kept all the same");
        assert_eq!(split(&messages[..1], 10), 1, "only the task");
    }
}
